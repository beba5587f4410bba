package access

import (
	"context"
	"fmt"
	"iter"

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
	return page(ledger.Each(ctx, v.Ledger, q), v.sight(ctx).Sees, q.Limit)
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
	return page(ledger.EachEntry(ctx, v.Ledger, q), v.sight(ctx).SeesEntry, q.Limit)
}

// page is as much of a walk as is seen and was asked for.
func page[T any](walk iter.Seq2[T, error], sees func(T) bool, limit int) ([]T, error) {
	if limit <= 0 {
		limit = viewPage
	}
	var seen []T
	for one, err := range walk {
		if err != nil {
			return nil, err
		}
		if !sees(one) {
			continue
		}
		if seen = append(seen, one); len(seen) == limit {
			break
		}
	}
	return seen, nil
}

func (v *View) sight(ctx context.Context) *Sight { return v.policy.Sight(From(ctx)) }
