package api

import (
	"slices"
	"strings"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// deleting lists the kinds of entries that take rows away, by the tables of those rows. A row that is deleted is in no
// list any more, so who has it on a screen learns of it from these entries.
func deleting() map[string][]string {
	return map[string][]string{
		runs.KindDeleted:              {"run", "node", "attempt"},
		workflow.KindRemoved:          {"node"},
		definitions.KindDeleted:       {"definition"},
		deploy.KindApplicationDeleted: {deploy.TableApplication},
		deploy.KindSetDeleted:         {deploy.TableSet},
		deploy.KindObjectDeleted:      {deploy.TableObject},
	}
}

// deletingKinds are the kinds of entries that take away rows of these tables.
func deletingKinds(tables []string) []string {
	var kinds []string
	for kind, of := range deleting() {
		if slices.ContainsFunc(of, func(t string) bool { return slices.Contains(tables, t) }) {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// deletedRows are the rows that an entry took away, with table, key, and owner where it is known.
func deletedRows(e ledger.Entry) ([]ledger.Row, error) {
	switch e.Kind {
	case runs.KindDeleted:
		tables, err := runs.Deleted(e)
		var rows []ledger.Row
		for table, keys := range tables {
			for _, key := range keys {
				row := ledger.Row{Table: table, Key: key}
				if table != "run" {
					row.Owner = strings.TrimPrefix(e.Subject, "run/")
				}
				rows = append(rows, row)
			}
		}
		return rows, err
	case workflow.KindRemoved:
		key, run, err := workflow.Removed(e)
		return []ledger.Row{{Table: "node", Key: key, Owner: run}}, err
	}
	// The others name the row in their subject: definition/KEY, application/KEY, applicationset/KEY, object/KEY.
	table, key, _ := strings.Cut(e.Subject, "/")
	row := ledger.Row{Table: table, Key: key}
	if e.Kind == deploy.KindObjectDeleted && len(e.Body) > 0 { // older entries have no body
		gone, err := ledger.Read[deploy.ObjectGone](e)
		if err != nil {
			return nil, err
		}
		row.Owner = gone.Application
	}
	return []ledger.Row{row}, nil
}
