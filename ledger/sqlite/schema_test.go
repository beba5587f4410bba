package sqlite_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/ledger/sqlite"
)

// TestSchemaIsThatOfTheMigrations compares a new file with one that began with the first migration.
func TestSchemaIsThatOfTheMigrations(t *testing.T) {
	t.Parallel()
	first, err := os.ReadFile("migrations/0001_ledger.sql")
	if err != nil {
		t.Fatal(err)
	}
	made, migrated := filepath.Join(t.TempDir(), "ledger.db"), filepath.Join(t.TempDir(), "ledger.db")
	withFile(t, migrated, func(db *sql.DB) {
		if _, err := db.ExecContext(t.Context(), string(first)+"\nPRAGMA user_version = 1;"); err != nil {
			t.Fatal(err)
		}
	})
	for _, path := range []string{made, migrated} {
		if err := open(t, sqlite.Options{Path: path}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(schemaOf(t, migrated), schemaOf(t, made)); diff != "" {
		t.Errorf("schema.sql is not what the migrations come to (-migrations +schema):\n%s", diff)
	}
}

func withFile(t *testing.T, path string, do func(db *sql.DB)) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	do(db)
}

// schemaOf describes a file: tables with their columns and indexes, the text of indexes, what is in the tables, and the version.
func schemaOf(t *testing.T, path string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	withFile(t, path, func(db *sql.DB) {
		for name, text := range map[string]string{
			"version":  "PRAGMA user_version",
			"tables":   "SELECT name, type, ncol, wr, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name",
			"columns":  `SELECT s.name, c.* FROM sqlite_schema s, pragma_table_xinfo(s.name) c WHERE s.type = 'table' ORDER BY s.name, c.cid`,
			"indexes":  `SELECT s.name, i.name, i."unique", i.origin, i.partial FROM sqlite_schema s, pragma_index_list(s.name) i WHERE s.type = 'table' ORDER BY s.name, i.name`,
			"made":     "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql <> '' ORDER BY name",
			"others":   "SELECT type, name FROM sqlite_schema WHERE type NOT IN ('table', 'index')",
			"counters": "SELECT name, value FROM counters",
		} {
			found[name] = rowsOf(t, db, text)
		}
	})
	return found
}

func rowsOf(t *testing.T, db *sql.DB, text string) (found []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		found = append(found, fmt.Sprint(values...))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}
