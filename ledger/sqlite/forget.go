package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/ledger"
)

// forgetChunk is about how many entries one transaction forgets; a subject is never divided.
const forgetChunk = 2000

var _ ledger.Forgetter = (*Ledger)(nil)

// forgetting is one transaction's part of a Forget.
type forgetting struct {
	seqs []int64
	held []string
	made int64 // the entry that commits to it
}

// Forget implements [ledger.Forgetter]. What is deleted is overwritten in the file.
func (l *Ledger) Forget(ctx context.Context, actor, reason string, subjects []string) (ledger.Forgotten, error) {
	var out ledger.Forgotten
	if l.key == nil {
		return out, errors.New("forget entries: the ledger was opened without a key to sign with")
	}
	// While rows are derived anew it cannot be seen which are left.
	l.rebuilding.Lock()
	defer l.rebuilding.Unlock()
	for len(subjects) > 0 {
		part := &forgetting{}
		rest := subjects
		err := l.exclusively(ctx, true, func(b *batch) (err error) {
			*part = forgetting{}
			rest, err = b.forget(part, actor, reason, subjects)
			return err
		})
		if err != nil {
			return out, fmt.Errorf("forget entries: %w", l.explain(err))
		}
		subjects = rest
		out.Entries += int64(len(part.seqs))
		out.Held = append(out.Held, part.held...)
		out.Entry = max(out.Entry, part.made)
	}
	return out, nil
}

// forget forgets some of the subjects and returns those that are left.
func (b *batch) forget(f *forgetting, actor, reason string, subjects []string) ([]string, error) {
	for len(subjects) > 0 && len(f.seqs) < forgetChunk {
		subject := subjects[0]
		subjects = subjects[1:]
		seqs, err := b.forgettable(subject)
		if err != nil {
			return nil, err
		}
		if len(seqs) == 0 {
			f.held = append(f.held, subject)
			continue
		}
		for _, seq := range seqs {
			if !slices.Contains(f.seqs, seq) {
				f.seqs = append(f.seqs, seq)
			}
		}
		if err := b.s.exec("DELETE FROM snapshots WHERE subject = ?", subject); err != nil {
			return nil, err
		}
	}
	if len(f.seqs) == 0 {
		return subjects, nil
	}
	slices.Sort(f.seqs)
	gaps, err := b.makeGaps(f.seqs)
	if err != nil {
		return nil, err
	}
	commitment, err := ledger.SignGaps(reason, int64(len(f.seqs)), gaps, b.w.ledger.key)
	if err != nil {
		return nil, err
	}
	err = b.decide(b.w.ledger.own, ledger.Anyone(ledger.SubjectForgotten), func(t ledger.Tx) error {
		_, err := t.Append(ledger.Draft{Actor: actor, Kind: ledger.KindForgotten, Subject: ledger.SubjectForgotten, Body: commitment})
		return err
	})
	if err != nil {
		return nil, err
	}
	f.made = b.head.seq
	for _, g := range gaps {
		hash, err := ledger.ParseHash(g.Hash)
		if err != nil {
			return nil, err
		}
		if err := b.s.exec("INSERT INTO gaps (first, last, time, hash, entry) VALUES (?, ?, ?, ?, ?)", g.First, g.Last, g.Time.UnixMicro(), hash[:], f.made); err != nil {
			return nil, err
		}
	}
	return subjects, b.deleteEntries(f.seqs)
}

// forgettable are the entries of a subject, or none if it is held.
func (b *batch) forgettable(subject string) ([]int64, error) {
	var seqs []int64
	err := each(context.Background(), b.s, "SELECT seq FROM entries WHERE subject = ? ORDER BY seq", []any{subject}, func(r *sql.Rows) error {
		var seq int64
		err := r.Scan(&seq)
		seqs = append(seqs, seq)
		return err
	})
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(subject, "entry/") {
		if held, err := b.rested(subject); err != nil || held {
			return nil, err
		}
	}
	kinds, err := b.kinds()
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		for _, seq := range seqs {
			if _, held, err := b.s.integer("SELECT seq FROM projected WHERE kind = ? AND seq = ? LIMIT 1", kind, seq); err != nil || held {
				return nil, err
			}
		}
	}
	return seqs, nil
}

// kinds are all kinds of rows; each is found by one step along the index.
func (b *batch) kinds() (kinds []string, err error) {
	text := "WITH RECURSIVE k (kind) AS (SELECT min(kind) FROM projected UNION ALL" +
		" SELECT (SELECT min(p.kind) FROM projected p WHERE p.kind > k.kind) FROM k WHERE k.kind IS NOT NULL) SELECT kind FROM k WHERE kind IS NOT NULL"
	err = each(context.Background(), b.s, text, nil, func(r *sql.Rows) error {
		var kind string
		err := r.Scan(&kind)
		kinds = append(kinds, kind)
		return err
	})
	return kinds, err
}

// rested says whether something still rests on the entries of a subject "entry/…": an erased body, or a gap.
func (b *batch) rested(subject string) (bool, error) {
	if subject == ledger.SubjectForgotten {
		_, found, err := b.s.integer("SELECT g.first FROM gaps g JOIN entries e ON e.seq = g.entry WHERE e.subject = ? LIMIT 1", subject)
		return found, err
	}
	seq, err := strconv.ParseInt(strings.TrimPrefix(subject, "entry/"), 10, 64)
	if err != nil {
		return true, nil //nolint:nilerr // not a subject of ours: nothing is known of what rests on it
	}
	_, found, err := b.s.integer("SELECT seq FROM entries WHERE seq = ?", seq)
	return found, err
}

// makeGaps gives the gaps that the entries, in order, leave, together with the neighbouring gaps that there are, which it takes away.
func (b *batch) makeGaps(seqs []int64) ([]ledger.Gap, error) {
	var gaps []ledger.Gap
	for i := 0; i < len(seqs); {
		last := i
		for last+1 < len(seqs) && seqs[last+1] == seqs[last]+1 {
			last++
		}
		g := ledger.Gap{First: seqs[i], Last: seqs[last]}
		i = last + 1
		var micros int64
		var hash []byte
		err := each(context.Background(), b.s, "SELECT time, hash FROM entries WHERE seq = ?", []any{g.Last}, func(r *sql.Rows) error { return r.Scan(&micros, &hash) })
		if err != nil {
			return nil, err
		}
		g.Time, g.Hash = fromMicros(micros), fmt.Sprintf("%x", hash)
		if before, ok, err := b.takeGap("last = ?", g.First-1); err != nil {
			return nil, err
		} else if ok {
			g.First = before.First
		}
		if n := len(gaps); n > 0 && gaps[n-1].Last == g.First-1 { // a gap between two runs joined the first of them already
			g.First = gaps[n-1].First
			gaps = gaps[:n-1]
		}
		if after, ok, err := b.takeGap("first = ?", g.Last+1); err != nil {
			return nil, err
		} else if ok {
			g.Last, g.Time, g.Hash = after.Last, after.Time, after.Hash
		}
		gaps = append(gaps, g)
	}
	return gaps, nil
}

// takeGap reads a gap and deletes it.
func (b *batch) takeGap(where string, arg int64) (g ledger.Gap, found bool, err error) {
	list, err := readGaps(context.Background(), b.s, where, arg)
	if err != nil || len(list) == 0 {
		return g, false, err
	}
	return list[0].Gap, true, b.s.exec("DELETE FROM gaps WHERE first = ?", list[0].First)
}

// storedGap is a gap with the entry that commits to it.
type storedGap struct {
	ledger.Gap
	entry int64
}

func readGaps(ctx context.Context, from queryer, where string, args ...any) (list []storedGap, err error) {
	err = each(ctx, from, "SELECT first, last, time, hash, entry FROM gaps WHERE "+where+" ORDER BY first", args, func(r *sql.Rows) error {
		var g storedGap
		var micros int64
		var hash []byte
		err := r.Scan(&g.First, &g.Last, &micros, &hash, &g.entry)
		g.Time, g.Hash = fromMicros(micros), fmt.Sprintf("%x", hash)
		list = append(list, g)
		return err
	})
	return list, err
}

func (b *batch) deleteEntries(seqs []int64) error {
	for _, seq := range seqs {
		content, err := b.contentOf(seq)
		if err != nil {
			return err
		}
		if err := b.s.exec("DELETE FROM entries WHERE seq = ?", seq); err != nil {
			return err
		}
		if err := b.dropContent(content); err != nil {
			return err
		}
	}
	return nil
}

// dropContent deletes a body in contents that no entry has any more; nil is none.
func (b *batch) dropContent(content []byte) error {
	if content == nil {
		return nil
	}
	return b.s.exec("DELETE FROM contents WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.place = 2 AND e.content = contents.digest)", content)
}
