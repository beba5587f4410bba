package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// The rows that are read are proved by making them again from the entries; of one that was changed by hand, that is gone or that nobody wrote the
// table and key are told. Nothing of the proof stays.
func TestRowsAreProved(t *testing.T) {
	t.Parallel()
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "ledger.db")
	o := sqlite.Options{Path: path, Projections: []ledger.Projection{marked{}}}
	const entries = 700 // more than one transaction of a rebuild
	again := func() *sqlite.Ledger { return open(t, o) }
	l := again()
	for i := range entries {
		if err := note(l, fmt.Sprintf("%0*d", i+1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(l *sqlite.Ledger, want ...string) {
		t.Helper()
		report, err := l.Verify(ctx, ledger.Check{Rows: true})
		if err != nil || report.Entries != entries || report.Whole() != (len(want) == 0) || len(report.Differences) != len(want) {
			t.Fatalf("%d entries, %d rows, %q, %v; want %q", report.Entries, report.Rows, report.Differences, err, want)
		}
		for i, text := range want {
			if !strings.Contains(report.Differences[i], text) {
				t.Errorf("it says %q, want %q", report.Differences[i], text)
			}
		}
	}
	verify(l)
	if rows, err := l.List(ctx, ledger.Query{Table: "marked", Limit: 1000}); err != nil || len(rows) != entries {
		t.Errorf("after a proof there are %d rows, %v", len(rows), err)
	}
	for _, c := range []struct {
		change string
		want   string
	}{
		{`UPDATE projected SET body = '{"only":"a lie"}' WHERE key LIKE '3__' AND key = (SELECT min(key) FROM projected WHERE key LIKE '3__')`, "the entries make another one"},
		{`UPDATE projected SET state = 'Succeeded' WHERE rowid = (SELECT max(rowid) FROM projected)`, "the entries make another one"},
		{`DELETE FROM projected WHERE rowid = (SELECT max(rowid) FROM projected)`, "it is missing"},
		{`INSERT INTO projected (kind, key, owner, state, time, seq, labels, body) SELECT kind, 'nobody', owner, state, time, seq, labels, body FROM projected LIMIT 1`, "row nobody of table marked: no entry makes it"},
		{`INSERT INTO projected_labels (kind, name, value, time, key) SELECT kind, 'team', 'tide', time, key FROM projected LIMIT 1`, "its label team"},
	} {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		change(t, path, c.change)
		l = again()
		verify(l, c.want)
		if err := l.Rebuild(ctx); err != nil {
			t.Fatal(err)
		}
		verify(l)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var kinds, drops int
	query(t, path, "SELECT count(DISTINCT kind) FROM projected", &kinds)
	query(t, path, "SELECT count(*) FROM drops", &drops)
	if kinds != 1 || drops != 0 {
		t.Errorf("%d kinds of rows and %d to drop are left", kinds, drops)
	}
}

// With an earlier head everything before it is checked as well, and the head with it.
func TestVerifySinceWalksFromTheStart(t *testing.T) {
	t.Parallel()
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, sqlite.Options{Path: path})
	for i := range 20 {
		if err := note(l, fmt.Sprint("entry ", i)); err != nil {
			t.Fatal(err)
		}
	}
	e, err := l.Entry(ctx, 15)
	if err != nil {
		t.Fatal(err)
	}
	head := ledger.HeadOf(e)
	report, err := l.Verify(ctx, ledger.Check{Since: head})
	if err != nil || !report.Whole() || report.Entries != 20 {
		t.Errorf("whole: %+v %v", report, err)
	}
	other := head
	other.Hash = strings.Repeat("0", len(head.Hash))
	for name, since := range map[string]ledger.Head{"rewritten": other, "before the given head": {Seq: 21, Hash: head.Hash}} {
		report, err := l.Verify(ctx, ledger.Check{Since: since})
		if err != nil || len(report.Faults) != 1 || !strings.Contains(report.Faults[0].What, name) {
			t.Errorf("%s: %+v %v", name, report, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, path, "UPDATE entries SET body = CAST('\"changed\"' AS BLOB) WHERE seq = 3")
	l = open(t, sqlite.Options{Path: path})
	report, err = l.Verify(ctx, ledger.Check{Since: head})
	if err != nil || len(report.Faults) != 1 || report.Faults[0].Seq != 3 {
		t.Errorf("an entry before the head was changed: %+v %v", report, err)
	}
}
