package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/tiphys/tiphys/ledger"
)

// maxDifferences bounds the rows that a proof names for each table.
const maxDifferences = 10

// prove derives the rows of all projections anew beside those that are read, from the entries, and compares the two at one moment. What it made
// is taken away again.
func (l *Ledger) prove(ctx context.Context, progress func(checked int64)) (compared int64, found []string, err error) {
	l.rebuilding.Lock()
	defer l.rebuilding.Unlock()
	if err := l.Trouble(); err != nil {
		return 0, nil, err
	}
	r := &rebuild{groups: groups(l.projections), kinds: map[string]string{}, cache: newCache()}
	if err := l.exclusively(ctx, false, func(b *batch) error { return b.prepareProof(r) }); err != nil {
		return 0, nil, err
	}
	for {
		if err := l.replayAll(ctx, r, progress); err != nil {
			return 0, nil, err
		}
		view, err := l.viewAt(ctx, r.after)
		if err != nil {
			return 0, nil, err
		}
		if view == nil {
			continue // more was recorded meanwhile
		}
		compared, found, err = l.compareRows(ctx, view, r)
		_ = view.Rollback() // it only read
		if err != nil {
			return 0, nil, err
		}
		return compared, found, l.dropKinds(ctx, false)
	}
}

// prepareProof gives each table a kind that was never used. It is among those to be dropped from the beginning: a process that ends meanwhile
// leaves nothing that is not taken away.
func (b *batch) prepareProof(r *rebuild) error {
	return b.newKinds(r, func(_ group, table string) error {
		return b.s.exec("INSERT INTO drops (kind) VALUES (?) ON CONFLICT DO NOTHING", r.kinds[table])
	})
}

// replayAll applies the projections to all entries that there are, a few in each transaction.
func (l *Ledger) replayAll(ctx context.Context, r *rebuild, progress func(checked int64)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		list, err := readEntries(ctx, l.reads, ledger.EntryQuery{After: r.after}, rebuildChunk)
		if err != nil || len(list) == 0 {
			return err
		}
		err = l.exclusively(ctx, false, func(b *batch) error {
			now, live := b.layout, b.cache
			b.layout, b.cache = now.with(r.kinds), r.cache
			defer func() { b.layout, b.cache = now, live }()
			return b.replay(r, list)
		})
		if err != nil {
			return err
		}
		r.after = list[len(list)-1].Seq
		progress(r.after)
	}
}

// viewAt gives a view of the database in which an entry is the last; nil if it is not the last any more. Between two batches nothing is written,
// so the view holds what is on record and nothing half.
func (l *Ledger) viewAt(ctx context.Context, last int64) (view *sql.Tx, err error) {
	err = l.writer.submit(ctx, &intent{quiet: true, alone: func(*session) error {
		tx, err := l.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		var newest int64
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM entries").Scan(&newest); err != nil {
			_ = tx.Rollback()
			return err
		}
		if newest != last {
			return tx.Rollback()
		}
		view = tx
		return nil
	}})
	return view, err
}

// The comparisons of one table: rows that are only in one of two kinds or are different there, and labels likewise. The first parameter is the kind
// that is read, the second the one that was derived.
const (
	differentRows = `SELECT a.key, CASE WHEN b.key IS NULL THEN 'no entry makes it' ELSE 'the entries make another one' END
 FROM projected a LEFT JOIN projected b ON b.kind = ?2 AND b.key = a.key
 WHERE a.kind = ?1 AND (b.key IS NULL OR b.owner <> a.owner OR b.state <> a.state OR b.time <> a.time OR b.seq <> a.seq OR b.labels <> a.labels OR b.body IS NOT a.body)
 ORDER BY a.key LIMIT ?3`
	missingRows = `SELECT b.key, 'it is missing' FROM projected b WHERE b.kind = ?2 AND NOT EXISTS (SELECT 1 FROM projected a WHERE a.kind = ?1 AND a.key = b.key)
 ORDER BY b.key LIMIT ?3`
	differentLabels = `SELECT a.key, 'its label ' || a.name || ' is in the index and not among its own' FROM projected_labels a WHERE a.kind = ?1
 AND NOT EXISTS (SELECT 1 FROM projected_labels b WHERE b.kind = ?2 AND b.name = a.name AND b.value = a.value AND b.time = a.time AND b.key = a.key) LIMIT ?3`
	missingLabels = `SELECT b.key, 'its label ' || b.name || ' is not in the index' FROM projected_labels b WHERE b.kind = ?2
 AND NOT EXISTS (SELECT 1 FROM projected_labels a WHERE a.kind = ?1 AND a.name = b.name AND a.value = b.value AND a.time = b.time AND a.key = b.key) LIMIT ?3`
)

// compareRows compares the rows that are read with those that were derived.
func (l *Ledger) compareRows(ctx context.Context, view *sql.Tx, r *rebuild) (compared int64, found []string, err error) {
	layout := l.layout.Load()
	for _, g := range r.groups {
		for _, table := range g.tables {
			live, made := layout.kind(table), r.kinds[table]
			var n int64
			if err := view.QueryRowContext(ctx, "SELECT count(*) FROM projected WHERE kind = ?", live).Scan(&n); err != nil {
				return 0, nil, err
			}
			compared += n
			for _, text := range []string{differentRows, missingRows, differentLabels, missingLabels} {
				list, err := differences(ctx, view, table, text, live, made)
				if err != nil {
					return 0, nil, err
				}
				found = append(found, list...)
			}
		}
	}
	return compared, found, nil
}

// differences are what one comparison of a table finds.
func differences(ctx context.Context, view *sql.Tx, table, text, live, made string) (list []string, err error) {
	rows, err := view.QueryContext(ctx, text, live, made, maxDifferences)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var key, what string
		if err := rows.Scan(&key, &what); err != nil {
			return nil, err
		}
		list = append(list, fmt.Sprintf("row %s of table %s: %s", key, table, what))
	}
	return list, rows.Err()
}
