package runs

import (
	"encoding/json"
	"fmt"

	"github.com/tiphys/tiphys/ledger"
)

// kindMemo is the kind of entries that store a memoised result.
const kindMemo = "memo.stored"

// Projection keeps the "memo" table, takes deleted runs out of the engine's tables, and shows on a run what of it cannot go on.
type Projection struct{}

// Tables implements ledger.Projection.
func (Projection) Tables() []string { return []string{tableMemo, tableRun, tableNode, tableAttempt} }

// Version implements ledger.Projection.
func (Projection) Version() int { return 1 }

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool {
	switch kind {
	case kindMemo, KindDeleted, KindSetAside, KindStalled, KindResumed:
		return true
	}
	return false
}

// Apply implements ledger.Projection.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	switch e.Kind {
	case KindDeleted:
		return applyDeleted(e, rows)
	case KindSetAside, KindStalled, KindResumed:
		return applyAside(e, rows)
	}
	var m memoEntry
	if err := json.Unmarshal(e.Body, &m); err != nil {
		return fmt.Errorf("decode memoised result: %w", err)
	}
	return rows.Put(ledger.Row{Table: tableMemo, Key: memoKey(m.Scope, m.Cache, m.Key), Owner: m.Run, Time: e.Time, Body: e.Body})
}

// Deleted gives the keys of the rows that an entry of [KindDeleted] takes away, by table.
func Deleted(e ledger.Entry) (map[string][]string, error) {
	var d deletedRows
	if err := json.Unmarshal(e.Body, &d); err != nil {
		return nil, fmt.Errorf("decode deletion of %s: %w", e.Subject, err)
	}
	return d.Tables, nil
}

func applyDeleted(e ledger.Entry, rows ledger.Rows) error {
	tables, err := Deleted(e)
	if err != nil {
		return err
	}
	for table, keys := range tables {
		for _, key := range keys {
			if err := rows.Delete(table, key); err != nil {
				return err
			}
		}
	}
	return nil
}
