package feed

import (
	"context"
	"fmt"
	"slices"

	"github.com/tiphys/tiphys/ledger"
)

// page is how many rows or entries are read at a time.
const page = 500

// reader reads what changed in the ledger, place by place. It has an owner that calls it from one goroutine.
type reader struct {
	o Options
	// at is the sequence up to which everything has been read; Now before the first look.
	at, head int64
	// found says that the last look met something new.
	found bool
}

// begin finds out how far the ledger is. The first look begins there.
func (r *reader) begin(ctx context.Context) error {
	head, err := r.o.Ledger.Head(ctx)
	if err != nil {
		return err
	}
	r.head = head.Seq
	if r.at == Now {
		r.at = head.Seq
	}
	return nil
}

// read hands on, page by page, the rows of these tables that went away or changed after at, up to the head that begin found, and moves
// at there. A row that changed again meanwhile comes at the next look. However many they are, only a page is held here: what is
// kept for a subscriber, and so what he must read anew, depends on what he himself is told.
func (r *reader) read(ctx context.Context, tables []string, tell func([]*Row)) error {
	r.found = r.head != r.at
	if !r.found {
		return nil
	}
	gone, err := deletions(ctx, r.o, tables, r.at, r.head)
	if err != nil {
		return err
	}
	tell(gone)
	for w := (&walk{after: r.at, until: r.head, tables: tables}); !w.done(); {
		rows, err := w.next(ctx, r.o.Ledger)
		if err != nil {
			return err
		}
		tell(rows)
	}
	r.at = r.head
	return nil
}

// deletions gives the rows of these tables that went away after one sequence and up to another.
func deletions(ctx context.Context, o Options, tables []string, after, until int64) ([]*Row, error) {
	q := ledger.EntryQuery{After: after, Kinds: o.Deletions.Kinds(tables), Limit: page}
	if len(q.Kinds) == 0 {
		return nil, nil
	}
	var out []*Row
	for {
		entries, err := o.Ledger.Entries(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read deletions: %w", err)
		}
		for _, e := range entries {
			q.After = e.Seq
			if e.Seq > until || e.Pruned {
				continue
			}
			gone, err := o.Deletions.Rows(e)
			if err != nil {
				return nil, err
			}
			for _, row := range gone {
				if row.Seq = e.Seq; slices.Contains(tables, row.Table) {
					out = append(out, &Row{Row: row, Deleted: true})
				}
			}
		}
		if len(entries) < q.Limit || q.After >= until {
			return out, nil
		}
	}
}

// walk reads the rows of some tables that changed after one sequence and up to another, table by table and page by page: in
// order of sequence, or after 0, which is all rows, the oldest first.
type walk struct {
	after, until int64
	tables       []string // that are left; the first is being read
	at           *ledger.Query
}

func (w *walk) done() bool { return len(w.tables) == 0 }

// next gives a page of rows.
func (w *walk) next(ctx context.Context, l ledger.Reader) ([]*Row, error) {
	if w.at == nil {
		w.at = &ledger.Query{Table: w.tables[0], ChangedAfter: max(w.after, 0), Oldest: true, Limit: page}
	}
	rows, err := l.List(ctx, *w.at)
	if err != nil {
		return nil, err
	}
	rows = w.move(rows)
	out := make([]*Row, 0, len(rows))
	for _, row := range rows {
		if row.Seq <= w.until {
			out = append(out, &Row{Row: row})
		}
	}
	return out, nil
}

// move goes on to the next page, or to the next table, and gives the rows of this page that are final. One entry may change
// many rows: those of the last sequence of a full page may go on in the next, so they come with it.
func (w *walk) move(rows []ledger.Row) []ledger.Row {
	last := len(rows) - 1
	switch {
	case len(rows) < w.at.Limit, w.at.ChangedAfter > 0 && rows[last].Seq > w.until:
		w.tables, w.at = w.tables[1:], nil
	case w.at.ChangedAfter == 0:
		w.at.After = &ledger.Cursor{Time: rows[last].Time, Key: rows[last].Key}
	case rows[0].Seq == rows[last].Seq:
		w.at.Limit *= 2
		return nil
	default:
		seq := rows[last].Seq
		w.at.ChangedAfter = seq - 1
		return slices.DeleteFunc(rows, func(r ledger.Row) bool { return r.Seq == seq })
	}
	return rows
}
