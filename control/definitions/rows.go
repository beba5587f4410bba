package definitions

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/ledger"
)

// Projection keeps the "definition" table: the owner of a row is its origin.
type Projection struct{}

// Tables implements ledger.Projection.
func (Projection) Tables() []string { return []string{table} }

// Version implements ledger.Projection.
func (Projection) Version() int { return 1 }

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool { return kind == kindSet || kind == KindDeleted }

// Apply implements ledger.Projection.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	if e.Kind == KindDeleted {
		return rows.Delete(table, strings.TrimPrefix(e.Subject, subjectPrefix))
	}
	var d Definition
	if err := json.Unmarshal(e.Body, &d); err != nil {
		return fmt.Errorf("decode %s: %w", e.Subject, err)
	}
	row := ledger.Row{Table: table, Key: d.Key(), Owner: d.Origin, State: d.Kind, Time: e.Time, Body: e.Body}
	old, err := rows.Get(table, row.Key)
	if err == nil {
		row.Time = old.Time // lists stay in the order of creation
	} else if !errors.Is(err, ledger.ErrNotFound) {
		return err
	}
	return rows.Put(row)
}
