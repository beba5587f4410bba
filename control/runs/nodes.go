package runs

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// rowPage is how many rows are read at a time.
const rowPage = 1000

// Rows gives the rows of a table that belong to a run ([Key]): all of them, oldest first, at most so many; or those that
// changed after a sequence, in the order of their changes. The second result is a sequence that all changes which are
// not among them come after.
func Rows(ctx context.Context, l ledger.Reader, table, run string, after int64, most int) ([]ledger.Row, int64, error) {
	q := ledger.Query{Table: table, Owner: run, ChangedAfter: after, Oldest: true, Limit: rowPage}
	if after <= 0 {
		head, err := l.Head(ctx) // what changes while the pages are read may be missed, and comes after this
		if err != nil {
			return nil, 0, fmt.Errorf("read %ss of %s: %w", table, run, err)
		}
		q.ChangedAfter, after = 0, head.Seq
	}
	var found []ledger.Row
	for len(found) < most {
		rows, err := l.List(ctx, q)
		if err != nil {
			return nil, 0, fmt.Errorf("read %ss of %s: %w", table, run, err)
		}
		found = append(found, rows...)
		if len(rows) < q.Limit {
			break
		}
		last := rows[len(rows)-1]
		if q.ChangedAfter > 0 {
			q.ChangedAfter = last.Seq
		} else {
			q.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
		}
	}
	if q.ChangedAfter > 0 && len(found) > 0 {
		after = found[len(found)-1].Seq
	}
	return found, after, nil
}

// Nodes gives a run's nodes as [Rows] does. They have no children: [workflow.Link] knows them once all nodes are there.
func Nodes(ctx context.Context, l ledger.Reader, run string, after int64, most int) ([]workflow.Node, int64, error) {
	rows, seq, err := Rows(ctx, l, tableNode, run, after, most)
	if err != nil {
		return nil, 0, err
	}
	nodes, err := DecodeNodes(rows)
	return nodes, seq, err
}

// DecodeNodes reads rows of table "node".
func DecodeNodes(rows []ledger.Row) ([]workflow.Node, error) {
	nodes := make([]workflow.Node, len(rows))
	for i, row := range rows {
		if err := json.Unmarshal(row.Body, &nodes[i]); err != nil {
			return nil, fmt.Errorf("decode node %s: %w", row.Key, err)
		}
	}
	return nodes, nil
}
