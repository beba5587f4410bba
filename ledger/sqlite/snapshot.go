package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"

	"github.com/tiphys/tiphys/ledger"
)

// snapshots is the ledger's [ledger.Snapshots].
type snapshots struct{ l *Ledger }

// Snapshots implements [ledger.Ledger].
func (l *Ledger) Snapshots() ledger.Snapshots { return snapshots{l} }

func (s snapshots) Save(ctx context.Context, snap ledger.Snapshot) error {
	body := bytes.Clone(snap.Body)
	err := checkSize(body)
	if err == nil {
		err = s.l.writer.submit(ctx, &intent{run: func(b *batch) error {
			if snap.Seq <= 0 || snap.Seq > b.head.seq {
				return fmt.Errorf("entry %d is not in the ledger", snap.Seq)
			}
			err := b.s.exec("INSERT INTO snapshots (subject, version, seq, body) VALUES (?, ?, ?, ?)"+
				" ON CONFLICT (subject) DO UPDATE SET version = excluded.version, seq = excluded.seq, body = excluded.body WHERE excluded.seq >= snapshots.seq",
				snap.Subject, snap.Version, snap.Seq, body)
			if err != nil {
				b.broken = err
			}
			return err
		}})
	}
	if err != nil {
		return fmt.Errorf("save snapshot of %s: %w", snap.Subject, s.l.explain(err))
	}
	return nil
}

func (s snapshots) Load(ctx context.Context, subject string) (ledger.Snapshot, error) {
	var snap ledger.Snapshot
	err := each(ctx, s.l.reads, "SELECT subject, version, seq, body FROM snapshots WHERE subject = ?", []any{subject}, func(r *sql.Rows) error {
		return r.Scan(&snap.Subject, &snap.Version, &snap.Seq, &snap.Body)
	})
	if err == nil && snap.Seq == 0 {
		err = ledger.ErrNotFound
	}
	if err != nil {
		return ledger.Snapshot{}, fmt.Errorf("load snapshot of %s: %w", subject, s.l.explain(err))
	}
	return snap, nil
}

func (s snapshots) Drop(ctx context.Context, subject string) error {
	err := s.l.writer.submit(ctx, &intent{run: func(b *batch) error {
		err := b.s.exec("DELETE FROM snapshots WHERE subject = ?", subject)
		if err != nil {
			b.broken = err
		}
		return err
	}})
	if err != nil {
		return fmt.Errorf("drop snapshot of %s: %w", subject, s.l.explain(err))
	}
	return nil
}
