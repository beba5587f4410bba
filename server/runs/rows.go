package runs

import (
	"encoding/json"
	"fmt"

	"github.com/tiphys/tiphys/ledger"
)

// kindMemo is the kind of entries that store a memoised result.
const kindMemo = "memo.stored"

// Projection keeps the "memo" table, and takes deleted runs out of the engine's tables.
type Projection struct{}

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool { return kind == kindMemo || kind == kindDeleted }

// Apply implements ledger.Projection.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	if e.Kind == kindDeleted {
		return applyDeleted(e, rows)
	}
	var m memoEntry
	if err := json.Unmarshal(e.Body, &m); err != nil {
		return fmt.Errorf("decode memoised result: %w", err)
	}
	return rows.Put(ledger.Row{Table: tableMemo, Key: m.Cache + "/" + m.Key, Owner: m.Run, Time: e.Time, Body: e.Body})
}

func applyDeleted(e ledger.Entry, rows ledger.Rows) error {
	var d deletedRows
	if err := json.Unmarshal(e.Body, &d); err != nil {
		return fmt.Errorf("decode deletion of %s: %w", e.Subject, err)
	}
	for table, keys := range d.Tables {
		for _, key := range keys {
			if err := rows.Delete(table, key); err != nil {
				return err
			}
		}
	}
	return nil
}
