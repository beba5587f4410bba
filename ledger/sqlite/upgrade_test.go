package sqlite_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// noted is the projection that the old ledger was written with, as it is now.
type noted struct{}

func (noted) Tables() []string { return []string{"thing"} }

func (noted) Version() int { return 1 }

func (noted) Wants(kind string) bool { return kind == "thing.noted" }

func (noted) Apply(e ledger.Entry, rows ledger.Rows) error {
	row := ledger.Row{Table: "thing", Key: e.Subject, State: "Noted", Time: e.Time, Labels: map[string]string{"a": "b"}, Body: e.Body}
	if e.Pruned {
		row = ledger.Row{Table: "thing", Key: e.Subject, State: "Erased", Time: e.Time}
	}
	return rows.Put(row)
}

// TestUpgrade opens a ledger that version 0.1.0 wrote: entries 1 to 12 of thing/1 … thing/0 with a unique key and an item of work each, every
// fourth item claimed for an hour; bodies in the row, packed (3) and apart (4 and 5, the same); 5 and 6 erased by entries 13 and 14. The hash of the last
// entry was printed by the program that wrote it.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	path := unpackFixture(t, "testdata/ledger-0.1.0.db.gz")
	ctx, now := context.Background(), time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)
	l := open(t, sqlite.Options{Path: path, Projections: []ledger.Projection{noted{}}, Now: func() time.Time { return now }})
	const last = "e7fb8deabae1bfdc4913ec6daf937dd6eaa7b313f5de7965525d58db2f47e55a"
	report, err := l.Verify(ctx, ledger.Check{Storage: true})
	if err != nil || !report.Whole() || report.Entries != 14 || report.Pruned != 2 || report.Head.Hash != last {
		t.Fatalf("verify: %+v %v", report, err)
	}
	var text string
	e, err := l.Entry(ctx, 4)
	if err = errors.Join(err, json.Unmarshal(e.Body, &text)); err != nil || text != strings.Repeat("large ", 4000) {
		t.Fatalf("entry 4 is %.30q… (%v)", text, err)
	}
	err = l.Write(ctx, ledger.On("thing/1"), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "thing.noted", Subject: "thing/1", Unique: "key/7"})
		return err
	})
	var exists *ledger.ExistsError
	if !errors.As(err, &exists) || exists.Seq() != 7 {
		t.Fatalf("a used key: %v", err)
	}
	// What was claimed has no process any more.
	work, err := l.Outbox().Claim(ctx, "q", 100, time.Minute)
	if err != nil || len(work) != 12 || work[0].Cause.Seq() != 1 {
		t.Fatalf("%d items of work, %v", len(work), err)
	}
	if err := l.Outbox().Done(ctx, work[0].ID); err != nil {
		t.Fatal(err)
	}
	err = l.Write(ctx, ledger.On("thing/1"), func(tx ledger.Tx) error { return tx.Cancel("q", work[1].Key) })
	if err != nil {
		t.Fatal(err)
	}
	var left int
	query(t, path, "SELECT count(*) FROM outbox", &left)
	if left != 10 {
		t.Errorf("%d items are left, want 10", left)
	}
	goOn(t, l, path, last)
}

// goOn writes to the old ledger: its rows are derived anew meanwhile, and what is new is chained to what is old.
func goOn(t *testing.T, l *sqlite.Ledger, path, last string) {
	t.Helper()
	ctx := context.Background()
	for i := range 5 {
		if err := note(l, fmt.Sprint("new ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Erase(ctx, 4, "user:ada", "leaked"); err != nil {
		t.Fatal(err)
	}
	old := ledger.Head{Seq: 14, Hash: last}
	for _, c := range []struct {
		since           ledger.Head
		entries, pruned int64
	}{{ledger.Head{}, 20, 3}, {old, 20, 3}} {
		report, err := l.Verify(ctx, ledger.Check{Since: c.since})
		if err != nil || !report.Whole() || report.Entries != c.entries || report.Pruned != c.pruned {
			t.Errorf("verify since %d: %+v %v", c.since.Seq, report, err)
		}
	}
	// Behind what was checked before, only what is new counts.
	if report, err := l.Verify(ctx, ledger.Check{From: old}); err != nil || !report.Whole() || report.Entries != 6 {
		t.Errorf("verify behind %d: %+v %v", old.Seq, report, err)
	}
	if err := l.Rebuild(ctx); err != nil {
		t.Fatal(err)
	}
	rows, err := l.List(ctx, ledger.Query{Table: "thing", Labels: map[string]string{"a": "b"}})
	if err != nil || len(rows) != 7 { // thing/0 to 7 without 5 and 6, which are erased, and object/1
		t.Errorf("%d rows, %v", len(rows), err)
	}
	if err := l.Trouble(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, path, "UPDATE entries SET tag = 2 WHERE seq = 7")
	l = open(t, sqlite.Options{Path: path})
	report, err := l.Verify(ctx, ledger.Check{})
	if err != nil || len(report.Faults) == 0 || report.Faults[0].Seq != 7 {
		t.Errorf("a changed tag is not found: %+v %v", report, err)
	}
}

func unpackFixture(t *testing.T, name string) string {
	t.Helper()
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ledger.db")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, z); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
