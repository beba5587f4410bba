package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/ledgertest"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, ledgertest.Suite{
		Open: func(t testing.TB, o ledgertest.Options) ledger.Ledger {
			return open(t, sqlite.Options{Path: filepath.Join(o.Place, "ledger.db"), Synchronous: sqlite.Off, Projections: o.Projections, Now: o.Now, Owner: o.Owner, Key: o.Key})
		},
		Exec: func(t testing.TB, l ledger.Ledger, statement string) { tamper(t, l.(*sqlite.Ledger).Path(), statement) },
		Replica: func(_ testing.TB, l ledger.Ledger, owner string) ledger.Ledger {
			return l.(*sqlite.Ledger).Replica(owner)
		},
		Restore: func(t testing.TB, backup string) ledger.Ledger { return open(t, sqlite.Options{Path: backup}) },
	})
}

func open(t testing.TB, o sqlite.Options) *sqlite.Ledger {
	t.Helper()
	l, err := sqlite.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// tamper changes the file behind the ledger's back.
func tamper(t testing.TB, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}
