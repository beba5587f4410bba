package ledgertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

func decode(body []byte, v any) error { return json.Unmarshal(body, v) }

// Each and EachEntry walk everything once, in order, whatever the size of a page.
func testEach(t *testing.T, s Suite) {
	f := open(t, s, things{})
	var keys []string
	for i := range 25 {
		key := fmt.Sprintf("k%02d", i)
		f.append(ledger.Draft{Kind: "thing.made", Subject: "object/" + key, Body: thing{State: "Running", Owner: "o1"}})
		if f.clock.Move(time.Duration(i%3) * time.Second); true {
			keys = append(keys, key)
		}
	}
	walk := func(q ledger.Query) (got []string) {
		for row, err := range ledger.Each(f.ctx, f, q) {
			f.must(err)
			got = append(got, row.Key)
		}
		return got
	}
	for _, page := range []int{0, 1, 4, 5, 25, 26} {
		f.same(walk(ledger.Query{Table: "thing", Oldest: true, Limit: page}), keys)
		f.same(walk(ledger.Query{Table: "thing", ChangedAfter: 5, Limit: page}), keys[5:])
		newest := walk(ledger.Query{Table: "thing", Owner: "o1", Limit: page})
		f.same([]any{len(newest), newest[0], newest[24]}, []any{25, "k24", "k00"})
		for _, back := range []bool{false, true} {
			n := int64(0)
			for e, err := range ledger.EachEntry(f.ctx, f, ledger.EntryQuery{Newest: back, Limit: page}) {
				f.must(err)
				if n++; !back && e.Seq != n || back && e.Seq != 26-n {
					f.Fatalf("entry %d comes as number %d", e.Seq, n)
				}
			}
			f.same(n, int64(25))
		}
	}
	f.same(walk(ledger.Query{Table: "none"}), []string(nil))
	// Within a transaction its own changes are part of it; a walk may end early, and ends with an error.
	f.must(f.Write(f.ctx, here, func(tx ledger.Tx) error {
		if err := errors.Join(tx.Delete("thing", "k03"), tx.Put(ledger.Row{Table: "thing", Key: "k99", Time: f.clock.Now().Add(time.Hour)})); err != nil {
			return err
		}
		n, last := 0, ""
		for row, err := range ledger.EachIn(tx, ledger.Query{Table: "thing", Oldest: true, Limit: 3}) {
			if err != nil {
				return err
			}
			n, last = n+1, row.Key
			if row.Key == "k03" {
				return errors.New("a deleted row was met")
			}
		}
		if n != 25 || last != "k99" {
			return fmt.Errorf("%d rows up to %s", n, last)
		}
		for _, err := range ledger.EachIn(tx, ledger.Query{Table: "thing", Limit: 3}) {
			return err
		}
		return errors.New("nothing was met")
	}))
	n := 0
	for _, err := range ledger.Each(canceled(), f, ledger.Query{Table: "thing"}) {
		if n++; err == nil {
			f.Error("a canceled walk goes on")
		}
	}
	f.same(n, 1)
}

func testSnapshots(t *testing.T, s Suite) {
	f := open(t, s, things{})
	_, err := f.Snapshots().Load(f.ctx, "object/one")
	f.wantError(err, ledger.ErrNotFound)
	for range 3 {
		f.append(ledger.Draft{Kind: "thing.made", Subject: "object/one", Body: thing{State: "secret"}})
	}
	second := ledger.Snapshot{Subject: "object/one", Version: 7, Seq: 2, Body: []byte("\x00 any bytes")}
	f.must(f.Snapshots().Save(f.ctx, second))
	older := second
	older.Seq, older.Body = 1, []byte("old")
	f.must(f.Snapshots().Save(f.ctx, older))
	got, err := f.Snapshots().Load(f.ctx, "object/one")
	f.must(err)
	f.same(got, second)
	newer := second
	newer.Seq, newer.Version = 3, 8
	f.must(f.Snapshots().Save(f.ctx, newer))
	newer.Seq = 4
	if err := f.Snapshots().Save(f.ctx, newer); err == nil {
		f.Error("a snapshot of an entry that there is not was taken")
	}
	f.must(f.Ledger.Close())
	f.Ledger = s.Open(t, Options{Place: f.place, Projections: []ledger.Projection{things{}}, Now: f.clock.Now})
	got, err = f.Snapshots().Load(f.ctx, "object/one")
	f.must(err)
	f.same([]any{got.Seq, got.Version}, []any{int64(3), 8})
	// It may hold what is erased, and goes.
	if eraser, ok := f.Ledger.(ledger.Eraser); ok {
		_, err := eraser.Erase(f.ctx, 1, "user:ada", "leaked")
		f.must(err)
		_, err = f.Snapshots().Load(f.ctx, "object/one")
		f.wantError(err, ledger.ErrNotFound)
	}
	f.must(f.Snapshots().Save(f.ctx, second))
	f.must(f.Snapshots().Drop(f.ctx, "object/one"))
	f.must(f.Snapshots().Drop(f.ctx, "object/one"))
	_, err = f.Snapshots().Load(f.ctx, "object/one")
	f.wantError(err, ledger.ErrNotFound)
}

// counts counts the entries of each subject, in the form of its version.
type counts struct{ version int }

type countBody struct {
	Version int `json:"v"`
	N       int `json:"n"`
}

func (counts) Tables() []string { return []string{"counts", "total"} }

func (c counts) Version() int { return c.version }

func (counts) Wants(kind string) bool { return kind == "tally.up" }

func (c counts) Apply(e ledger.Entry, rows ledger.Rows) error {
	for _, k := range [][2]string{{"counts", e.Subject}, {"total", "all"}} {
		body := countBody{Version: c.version}
		row, err := rows.Get(k[0], k[1])
		if errors.Is(err, ledger.ErrNotFound) {
			row = ledger.Row{Table: k[0], Key: k[1], Time: e.Time, Labels: map[string]string{"version": fmt.Sprint(c.version)}}
		} else if err != nil {
			return err
		} else if err := decode(row.Body, &body); err != nil {
			return err
		}
		body.N++
		row.Body = raw(body)
		if err := rows.Put(row); err != nil {
			return err
		}
	}
	return nil
}

// rowsOf counts what the table says, by version.
func (f *fixture) rowsOf(table string) map[int]int {
	f.Helper()
	n := map[int]int{}
	for row, err := range ledger.Each(f.ctx, f, ledger.Query{Table: table}) {
		f.must(err)
		var body countBody
		f.must(decode(row.Body, &body))
		n[body.Version] += body.N
	}
	return n
}

// The rows of a projection that changed are derived anew beside the old ones, while these are served and writes go on.
func testVersions(t *testing.T, s Suite) {
	const before, during = 1500, 400
	f := open(t, s, counts{1}, things{})
	f.append(ledger.Draft{Kind: "thing.made", Subject: "object/kept", Body: thing{State: "Running"}})
	count := func(n int) {
		each(4, func(w int) {
			for i := range n / 4 {
				subject := fmt.Sprint("object/", w, "/", i%50)
				if err := f.Write(f.ctx, here, func(tx ledger.Tx) error {
					_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "tally.up", Subject: subject})
					return err
				}); err != nil {
					f.Error(err)
				}
			}
		})
	}
	count(before)
	f.same([]map[int]int{f.rowsOf("counts"), f.rowsOf("total")}, []map[int]int{{1: before}, {1: before}})
	f.must(f.Ledger.Close())
	// It is interrupted, goes on after the next opening, and ends.
	for range 2 {
		f.Ledger = s.Open(t, Options{Place: f.place, Projections: []ledger.Projection{counts{2}, things{}}, Now: f.clock.Now})
		f.must(f.Ledger.Close())
	}
	f.Ledger = s.Open(t, Options{Place: f.place, Projections: []ledger.Projection{counts{2}, things{}}, Now: f.clock.Now})
	written := make(chan struct{})
	go func() { defer close(written); count(during) }()
	for {
		changed := f.Changed()
		// Both tables change in one moment, and at every moment all rows are there.
		rows := f.rowsOf("total")
		if rows[1]+rows[2] < before || len(rows) > 1 {
			f.Fatalf("rows while they are derived anew: %v", rows)
		}
		if rows[2] > 0 {
			break
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			f.Fatal("the rows were never derived anew")
		}
	}
	<-written
	f.same([]map[int]int{f.rowsOf("counts"), f.rowsOf("total")}, []map[int]int{{2: before + during}, {2: before + during}})
	labelled, err := f.List(f.ctx, ledger.Query{Table: "counts", Labels: map[string]string{"version": "2"}, Limit: 1000})
	f.must(err)
	f.same(len(labelled), 200)
	kept, err := f.Row(f.ctx, "thing", "kept")
	f.must(err)
	f.same(kept.Seq, int64(1))
	// The same version again changes nothing, and the rows are what a rebuild makes.
	f.must(f.Ledger.Close())
	f.Ledger = s.Open(t, Options{Place: f.place, Projections: []ledger.Projection{counts{2}, things{}}, Now: f.clock.Now})
	live := f.rowsOf("counts")
	f.must(f.Rebuild(f.ctx))
	f.same(f.rowsOf("counts"), live)
}

// A projection touches the tables that it names and no others.
type straying struct{ counts }

func (straying) Tables() []string { return []string{"counts"} }

func testStraying(t *testing.T, s Suite) {
	f := open(t, s, straying{counts{1}})
	if _, err := f.tryAppend(ledger.Draft{Kind: "tally.up"}); err == nil {
		f.Fatal("a projection changed a table that it does not name")
	}
	f.wholeWith(0, 0)
}
