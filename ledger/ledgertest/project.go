package ledgertest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/ledger"
)

// counting counts entries of kind count.up in one row.
type counting struct{}

func (counting) Tables() []string { return []string{"count"} }

func (counting) Version() int { return 1 }

func (counting) Wants(kind string) bool { return kind == "count.up" }

func (counting) Apply(e ledger.Entry, rows ledger.Rows) error {
	row, err := rows.Get("count", "all")
	if errors.Is(err, ledger.ErrNotFound) {
		return rows.Put(ledger.Row{Table: "count", Key: "all", Time: e.Time, Body: raw(1)})
	}
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(row.Body))
	if err != nil {
		return err
	}
	row.Body = raw(n + 1)
	return rows.Put(row)
}

// things keeps one row per subject, with everything a row has, as its entries say.
type things struct{}

type thing struct {
	State  string            `json:"state"`
	Owner  string            `json:"owner"`
	Labels map[string]string `json:"labels"`
	Fail   bool              `json:"fail"`
}

func (things) Tables() []string { return []string{"thing"} }

func (things) Version() int { return 1 }

func (things) Wants(kind string) bool { return strings.HasPrefix(kind, "thing.") }

func (things) Apply(e ledger.Entry, rows ledger.Rows) error {
	key := strings.TrimPrefix(e.Subject, "object/")
	if e.Kind == "thing.removed" {
		return rows.Delete("thing", key)
	}
	row, err := rows.Get("thing", key)
	if errors.Is(err, ledger.ErrNotFound) {
		row = ledger.Row{Table: "thing", Key: key, Time: e.Time}
	} else if err != nil {
		return err
	}
	var t thing
	if e.Pruned {
		t.State = "Erased"
	} else if t, err = ledger.Read[thing](e); err != nil {
		return err
	}
	if t.Fail {
		return errOnPurpose
	}
	row.State, row.Owner, row.Labels, row.Body = t.State, t.Owner, t.Labels, e.Body
	if e.Kind == "thing.moved" {
		row.Time = e.Time
	}
	return rows.Put(row)
}

func testFailingProjection(t *testing.T, s Suite) {
	f := open(t, s, things{})
	// The error of a projection fails the write even where fn swallows it: the entry must not stand without its row.
	err := f.Write(f.ctx, here, func(tx ledger.Tx) error {
		_, _ = tx.Append(ledger.Draft{Actor: "a", Kind: "thing.made", Subject: "object/x", Body: thing{Fail: true}})
		return nil
	})
	f.wantError(err, errOnPurpose)
	f.wholeWith(0, 0)
}

// snapshot reads all there is to read of the things, by every index.
func (f *fixture) snapshot() map[string][]ledger.Row {
	f.Helper()
	found := map[string][]ledger.Row{}
	for name, q := range map[string]ledger.Query{
		"all":     {Table: "thing"},
		"oldest":  {Table: "thing", Oldest: true},
		"running": {Table: "thing", States: []string{"Running"}},
		"done":    {Table: "thing", States: []string{"Failed", "Succeeded", ""}},
		"owned":   {Table: "thing", Owner: "o1"},
		"label":   {Table: "thing", Labels: map[string]string{"repo": "harbour"}},
		"labels":  {Table: "thing", Labels: map[string]string{"repo": "harbour", "branch": "main"}},
		"prefix":  {Table: "thing", KeyPrefix: "a/"},
		"count":   {Table: "count"},
	} {
		q.Limit = 10_000
		rows, err := f.List(f.ctx, q)
		f.must(err)
		found[name] = rows
	}
	return found
}

func testReplay(t *testing.T, s Suite) {
	rapid.Check(t, func(r *rapid.T) {
		// A ledger for each case, so that a case that fails can be made smaller and shown.
		f := open(t, s, things{}, counting{})
		defer func() { f.must(f.Ledger.Close()) }()
		for range rapid.IntRange(1, 6).Draw(r, "writes") {
			f.clock.Move(time.Duration(rapid.IntRange(-2, 3).Draw(r, "seconds")) * time.Second)
			f.writeOrUndo(r, rapid.SliceOfN(drawDraft(), 1, 8).Draw(r, "drafts"), rapid.IntRange(0, 4).Draw(r, "undo") == 0)
		}
		live := f.snapshot()
		f.must(f.Rebuild(f.ctx))
		if diff := cmp.Diff(live, f.snapshot()); diff != "" {
			r.Fatalf("the rebuilt rows differ (-live +rebuilt)\n%s", diff)
		}
		report := f.verify(ledger.Head{})
		f.same(len(report.Faults), 0)
		// The rebuilt rows are what writes go on from.
		f.append(ledger.Draft{Kind: "thing.made", Subject: "object/a/0", Body: thing{State: "Running"}})
		row, err := f.Row(f.ctx, "thing", "a/0")
		f.must(err)
		f.same([]any{row.Seq, row.State}, []any{report.Entries + 1, "Running"})
	})
}

// writeOrUndo appends the drafts in one write, which fails at its end if undo is set.
func (f *fixture) writeOrUndo(r *rapid.T, drafts []ledger.Draft, undo bool) {
	err := f.Write(f.ctx, here, func(tx ledger.Tx) error {
		for _, d := range drafts {
			if _, err := tx.Append(d); err != nil {
				return err
			}
		}
		if undo {
			return errOnPurpose
		}
		return nil
	})
	if undo != errors.Is(err, errOnPurpose) || err != nil && !undo {
		r.Fatal(err)
	}
}

func drawDraft() *rapid.Generator[ledger.Draft] {
	return rapid.Custom(func(r *rapid.T) ledger.Draft {
		kind := rapid.SampledFrom([]string{"thing.made", "thing.made", "thing.changed", "thing.moved", "thing.removed", "count.up", "other.noted"}).Draw(r, "kind")
		t := thing{
			State:  rapid.SampledFrom([]string{"", "Running", "Succeeded", "Failed"}).Draw(r, "state"),
			Owner:  rapid.SampledFrom([]string{"", "o1", "o2"}).Draw(r, "owner"),
			Labels: map[string]string{},
		}
		for name, values := range map[string][]string{"repo": {"", "harbour", "other"}, "branch": {"", "main", "topic"}} {
			if v := rapid.SampledFrom(values).Draw(r, name); v != "" {
				t.Labels[name] = v
			}
		}
		key := fmt.Sprintf("%s/%d", rapid.SampledFrom([]string{"a", "b"}).Draw(r, "space"), rapid.IntRange(0, 5).Draw(r, "key"))
		return ledger.Draft{Actor: "a", Kind: kind, Subject: "object/" + key, Body: t}
	})
}
