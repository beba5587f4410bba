package access

import (
	"context"
	"fmt"

	"github.com/tiphys/tiphys/ledger"
)

// View is a ledger as the identity in the context may see it: rows and entries about objects that it may not get are not
// there. Lists and streams that read it need not ask about each of their items. Writing, and what concerns the whole record
// (its head, its verification), is not changed by it: that is asked before.
type View struct {
	ledger.Ledger
	policy Policy
}

// NewView returns a view of a ledger by a policy. A context without an identity sees nothing.
func NewView(l ledger.Ledger, policy Policy) *View { return &View{Ledger: l, policy: policy} }

// viewPage is how much is read where a query does not say: as much as a ledger gives then.
const viewPage = 1000

// Row implements [ledger.Reader].
func (v *View) Row(ctx context.Context, table, key string) (ledger.Row, error) {
	row, err := v.Ledger.Row(ctx, table, key)
	if err == nil && !v.sight(ctx).Sees(row) {
		return ledger.Row{}, fmt.Errorf("%s %s: %w", table, key, ledger.ErrNotFound)
	}
	return row, err
}

// List implements [ledger.Reader]. A page is as long as was asked for, if there is that much to see.
func (v *View) List(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	if q.Limit <= 0 {
		q.Limit = viewPage
	}
	sight := v.sight(ctx)
	var seen []ledger.Row
	for {
		rows, err := v.Ledger.List(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if sight.Sees(row) {
				seen = append(seen, row)
			}
			if len(seen) == q.Limit {
				return seen, nil
			}
		}
		if len(rows) < q.Limit {
			return seen, nil
		}
		if last := rows[len(rows)-1]; q.ChangedAfter > 0 {
			q.ChangedAfter = last.Seq
		} else {
			q.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
		}
	}
}

// Entry implements [ledger.Reader].
func (v *View) Entry(ctx context.Context, seq int64) (ledger.Entry, error) {
	e, err := v.Ledger.Entry(ctx, seq)
	if err == nil && !v.sight(ctx).SeesEntry(e) {
		return ledger.Entry{}, fmt.Errorf("entry %d: %w", seq, ledger.ErrNotFound)
	}
	return e, err
}

// Entries implements [ledger.Reader]. A page is as long as was asked for, if there is that much to see.
func (v *View) Entries(ctx context.Context, q ledger.EntryQuery) ([]ledger.Entry, error) {
	if q.Limit <= 0 {
		q.Limit = viewPage
	}
	sight := v.sight(ctx)
	var seen []ledger.Entry
	for {
		entries, err := v.Ledger.Entries(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if sight.SeesEntry(e) {
				seen = append(seen, e)
			}
			if len(seen) == q.Limit {
				return seen, nil
			}
		}
		if len(entries) < q.Limit {
			return seen, nil
		}
		if last := entries[len(entries)-1].Seq; q.Newest {
			q.Before = last
		} else {
			q.After = last
		}
	}
}

func (v *View) sight(ctx context.Context) *Sight { return v.policy.Sight(From(ctx)) }
