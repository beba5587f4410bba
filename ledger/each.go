package ledger

import (
	"context"
	"iter"
)

// eachPage is how many rows or entries are read at a time where the query has no limit.
const eachPage = 1000

// Each walks all rows that a query selects, in its order, page by page; Limit is the size of a page (0: 1000). What changes meanwhile may or
// may not be seen. After an error, which comes with a zero Row, the walk has ended.
func Each(ctx context.Context, from Reader, q Query) iter.Seq2[Row, error] {
	return pages(q, func(q Query) ([]Row, error) { return from.List(ctx, q) })
}

// EachIn is [Each] within a transaction, whose own changes it sees.
func EachIn(tx Tx, q Query) iter.Seq2[Row, error] { return pages(q, tx.List) }

func pages(q Query, list func(Query) ([]Row, error)) iter.Seq2[Row, error] {
	if q.Limit <= 0 {
		q.Limit = eachPage
	}
	return func(yield func(Row, error) bool) {
		for {
			rows, err := list(q)
			if err != nil {
				yield(Row{}, err)
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
			if len(rows) < q.Limit {
				return
			}
			last := rows[len(rows)-1]
			q.After = &Cursor{Time: last.Time, Key: last.Key, Seq: last.Seq}
		}
	}
}

// EachEntry walks all entries that a query selects, in its order, page by page; Limit is the size of a page (0: 1000). After an error, which
// comes with a zero Entry, the walk has ended.
func EachEntry(ctx context.Context, from Reader, q EntryQuery) iter.Seq2[Entry, error] {
	if q.Limit <= 0 {
		q.Limit = eachPage
	}
	return func(yield func(Entry, error) bool) {
		for {
			list, err := from.Entries(ctx, q)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
			}
			if len(list) < q.Limit {
				return
			}
			if last := list[len(list)-1].Seq; q.Newest {
				q.Before = last
			} else {
				q.After = last
			}
		}
	}
}
