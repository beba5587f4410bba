package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

var _ ledger.Expirer = (*Ledger)(nil)

// expireChunk is how many keys one transaction forgets; other writes go between two of them.
const expireChunk = 500

// ExpireKeys implements [ledger.Expirer].
func (l *Ledger) ExpireKeys(ctx context.Context, prefix string, before time.Time, keep func(key string) bool) (int64, error) {
	var gone int64
	last := ""
	for {
		keys, err := l.oldKeys(ctx, prefix, last, before)
		if err != nil {
			return gone, fmt.Errorf("expire unique keys: %w", l.explain(err))
		}
		if len(keys) == 0 {
			return gone, nil
		}
		last = keys[len(keys)-1]
		if keep != nil {
			rest := keys[:0]
			for _, k := range keys {
				if !keep(k) {
					rest = append(rest, k)
				}
			}
			keys = rest
		}
		if err := l.forget(ctx, keys); err != nil {
			return gone, fmt.Errorf("expire unique keys: %w", l.explain(err))
		}
		gone += int64(len(keys))
	}
}

// oldKeys gives the next keys behind last whose entries are older than before.
func (l *Ledger) oldKeys(ctx context.Context, prefix, last string, before time.Time) ([]string, error) {
	var keys []string
	text := "SELECT k.key FROM unique_keys k WHERE k.key > ? AND k.key >= ? AND k.key < ? AND k.time < ? ORDER BY k.key LIMIT ?"
	err := each(ctx, l.reads, text, []any{last, prefix, prefix + "\U0010FFFF", before.UnixMicro(), expireChunk}, func(r *sql.Rows) error {
		var key string
		err := r.Scan(&key)
		keys = append(keys, key)
		return err
	})
	return keys, err
}

func (l *Ledger) forget(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	return l.writer.submit(ctx, &intent{alone: func(*session) error {
		b, err := l.writer.begin()
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := b.s.exec("DELETE FROM unique_keys WHERE key = ?", key); err != nil {
				return err
			}
		}
		l.writer.fault("expire-keys")
		return b.commit()
	}})
}
