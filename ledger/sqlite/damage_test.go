package sqlite_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// marked keeps rows whose bodies are nowhere else in the file.
type marked struct{}

func (marked) Tables() []string { return []string{"marked"} }

func (marked) Version() int { return 1 }

func (marked) Wants(kind string) bool { return kind == "thing.noted" }

func (marked) Apply(e ledger.Entry, rows ledger.Rows) error {
	n := len(e.Body)
	return rows.Put(ledger.Row{Table: "marked", Key: fmt.Sprint(n), Time: e.Time, Body: fmt.Appendf(nil, `{"only":"in the rows %d"}`, n)})
}

// TestDamagedPage overwrites a page of the rows: the chain is whole, the check of the storage finds it, and a repair makes a whole copy.
func TestDamagedPage(t *testing.T) {
	t.Parallel()
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "ledger.db")
	o := sqlite.Options{Path: path, Projections: []ledger.Projection{marked{}}}
	l := open(t, o)
	const entries = 300
	for i := range entries {
		if err := note(l, fmt.Sprintf("%0*d", i+1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := l.List(ctx, ledger.Query{Table: "marked", Limit: 1000})
	if err != nil || len(want) != entries {
		t.Fatalf("%d rows, %v", len(want), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	damagePage(t, path, `{"only":"in the rows 152"}`)
	l = open(t, sqlite.Options{Path: path})
	report, err := l.Verify(ctx, ledger.Check{})
	if err != nil || !report.Whole() {
		t.Errorf("the chain is not whole: %+v %v", report, err)
	}
	report, err = l.Verify(ctx, ledger.Check{Storage: true})
	if err != nil || report.Whole() || len(report.Damage) == 0 || len(report.Faults) > 0 {
		t.Errorf("the damage is not found: %+v %v", report, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	repaired := filepath.Join(filepath.Dir(path), "repaired.db")
	if err := sqlite.Repair(ctx, path, repaired); err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Repair(ctx, path, repaired); err == nil {
		t.Error("a repair overwrote a file")
	}
	o.Path = repaired
	l = open(t, o)
	if err := l.Rebuild(ctx); err != nil { // it is under way; this waits for it
		t.Fatal(err)
	}
	report, err = l.Verify(ctx, ledger.Check{Storage: true})
	if err != nil || !report.Whole() || report.Entries != entries {
		t.Errorf("the copy is not whole: %+v %v", report, err)
	}
	got, err := l.List(ctx, ledger.Query{Table: "marked", Limit: 1000})
	if err != nil || len(got) != len(want) || !bytes.Equal(got[7].Body, want[7].Body) {
		t.Errorf("%d rows in the copy, %v", len(got), err)
	}
}

// damagePage overwrites the beginning of the page that holds the text.
func damagePage(t *testing.T, path, text string) {
	t.Helper()
	const page = 4096
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte(text))
	if at < 0 || bytes.Count(data, []byte(text)) != 1 {
		t.Fatalf("the file holds %q %d times, want once", text, bytes.Count(data, []byte(text)))
	}
	at -= at % page
	copy(data[at:at+100], bytes.Repeat([]byte{0xa5}, 100))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestUnclean: a ledger that was not closed says so at the next opening, and only then.
func TestUnclean(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	l := open(t, sqlite.Options{Path: path})
	if err := note(l, "x"); err != nil || l.Unclean() {
		t.Fatalf("a new ledger: %v %v", l.Unclean(), err)
	}
	// What a killed process leaves is the files as they are.
	left := filepath.Join(dir, "left.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(left+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, unclean := range []bool{true, false} {
		l := open(t, sqlite.Options{Path: left})
		if l.Unclean() != unclean {
			t.Errorf("unclean is %v, want %v", l.Unclean(), unclean)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
