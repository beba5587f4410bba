package ledgertest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/ledger"
)

// selectRows is the model that queries must agree with: the documentation of [ledger.Query], read literally.
func selectRows(rows []ledger.Row, q ledger.Query) []ledger.Row {
	var found []ledger.Row
	for _, r := range rows {
		after := q.After == nil || before(*q.After, ledger.Cursor{Time: r.Time, Key: r.Key}) == q.Oldest &&
			(*q.After != ledger.Cursor{Time: r.Time, Key: r.Key})
		labelled := true
		for name, value := range q.Labels {
			labelled = labelled && r.Labels[name] == value
		}
		after = after && (q.ChangedAfter == 0 || r.Seq > q.ChangedAfter)
		if after && labelled && r.Table == q.Table && (q.Owner == "" || q.Owner == r.Owner) &&
			(len(q.States) == 0 || slices.Contains(q.States, r.State)) && strings.HasPrefix(r.Key, q.KeyPrefix) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b ledger.Row) int {
		if q.ChangedAfter > 0 {
			return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Key, b.Key))
		}
		if before(ledger.Cursor{Time: a.Time, Key: a.Key}, ledger.Cursor{Time: b.Time, Key: b.Key}) == q.Oldest {
			return -1
		}
		return 1
	})
	return found[:min(len(found), cmp.Or(q.Limit, 100))]
}

func before(a, b ledger.Cursor) bool {
	return a.Time.Before(b.Time) || a.Time.Equal(b.Time) && a.Key < b.Key
}

func testQueries(t *testing.T, s Suite) {
	f := open(t, s)
	start := f.clock.Now()
	pick := func(i int, of ...string) string { return of[i%len(of)] }
	var rows []ledger.Row
	for i := range 300 {
		rows = append(rows, ledger.Row{
			Table: pick(i, "run", "run", "node"), Key: fmt.Sprintf("%s/%03d", pick(i/2, "a", "ab", "b"), i),
			Owner: pick(i/3, "", "o1", "o2"), State: pick(i/5, "", "Running", "Failed"),
			Time:   start.Add(time.Duration(i*7919%40) * time.Second),
			Labels: map[string]string{"repo": pick(i/4, "x", "y"), "branch": pick(i/7, "main", "topic", "t2")},
			Body:   raw(i),
		})
	}
	f.put(rows...)
	rapid.Check(t, func(r *rapid.T) {
		q := ledger.Query{
			Table:     rapid.SampledFrom([]string{"run", "node", "none"}).Draw(r, "table"),
			Owner:     rapid.SampledFrom([]string{"", "", "o1", "o3"}).Draw(r, "owner"),
			States:    rapid.SliceOfN(rapid.SampledFrom([]string{"Running", "Failed", "Never", ""}), 0, 3).Draw(r, "states"),
			KeyPrefix: rapid.SampledFrom([]string{"", "", "a", "a/", "ab/0", "c"}).Draw(r, "prefix"),
			Oldest:    rapid.Bool().Draw(r, "oldest"),
			Limit:     rapid.SampledFrom([]int{0, 1, 7, 1000}).Draw(r, "limit"),
		}
		for name, values := range map[string][]string{"repo": {"", "", "x", "z"}, "branch": {"", "", "main", "t2"}} {
			if v := rapid.SampledFrom(values).Draw(r, name); v != "" {
				if q.Labels == nil {
					q.Labels = map[string]string{}
				}
				q.Labels[name] = v
			}
		}
		if i := rapid.IntRange(-1, len(rows)-1).Draw(r, "after"); i >= 0 {
			q.After = &ledger.Cursor{Time: rows[i].Time, Key: rows[i].Key}
		}
		want := selectRows(rows, q)
		got, err := f.List(f.ctx, q)
		f.must(err)
		f.same(got, want, cmpopts.EquateEmpty())
		f.must(f.Write(f.ctx, here, func(tx ledger.Tx) error { got, err = tx.List(q); return err }))
		f.same(got, want, cmpopts.EquateEmpty())
	})
}

func testPages(t *testing.T, s Suite) {
	f := open(t, s)
	var rows []ledger.Row
	for i := range 250 {
		rows = append(rows, ledger.Row{Table: "run", Key: fmt.Sprintf("k%03d", i), Time: f.clock.Now().Add(time.Duration(i/9) * time.Second)})
	}
	f.put(rows...)
	for _, oldest := range []bool{false, true} {
		q, seen := ledger.Query{Table: "run", Oldest: oldest, Limit: 40}, []string(nil)
		for {
			page, err := f.List(f.ctx, q)
			f.must(err)
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				seen = append(seen, r.Key)
			}
			last := page[len(page)-1]
			q.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
		}
		if !oldest {
			slices.Reverse(seen)
		}
		if len(seen) != 250 || !slices.IsSorted(seen) {
			f.Fatalf("paging (oldest %v) gave %d rows: %v", oldest, len(seen), seen)
		}
	}
}

func testEntryQueries(t *testing.T, s Suite) {
	f := open(t, s)
	pick := func(i int, of ...string) string { return of[i%len(of)] }
	for i := range 60 {
		cause := int64(0)
		if i > 0 {
			cause = int64(i%7 + 1)
			cause = min(cause, int64(i))
		}
		f.append(ledger.Draft{Kind: pick(i, "run.made", "run.done", "event.received"), Subject: pick(i/2, "run/a/1", "run/a/2", "run/b/1", "event/1"), Cause: ledger.At(cause),
			Body: map[string]string{"large": strings.Repeat("x", i%4*2000)}})
		f.clock.Move(time.Duration(i%3) * time.Second)
	}
	entries := f.all()
	rapid.Check(t, func(r *rapid.T) {
		q := ledger.EntryQuery{
			After:         int64(rapid.SampledFrom([]int{0, 0, 5, 30, 99}).Draw(r, "after")),
			Before:        int64(rapid.SampledFrom([]int{0, 0, 20, 55}).Draw(r, "before")),
			Subject:       rapid.SampledFrom([]string{"", "", "run/a/1", "none"}).Draw(r, "subject"),
			SubjectPrefix: rapid.SampledFrom([]string{"", "", "run/", "run/a/"}).Draw(r, "prefix"),
			Kinds:         rapid.SliceOfN(rapid.SampledFrom([]string{"run.made", "run.done", "none"}), 0, 3).Draw(r, "kinds"),
			Cause:         int64(rapid.SampledFrom([]int{0, 0, 1, 3, 50}).Draw(r, "cause")),
			Newest:        rapid.Bool().Draw(r, "newest"),
			Limit:         rapid.SampledFrom([]int{0, 1, 5}).Draw(r, "limit"),
			Bare:          rapid.Bool().Draw(r, "bare"),
		}
		if i := rapid.IntRange(-1, len(entries)-1).Draw(r, "until"); i >= 0 {
			q.Until = entries[i].Time.Add(time.Duration(rapid.IntRange(-1, 1).Draw(r, "off")) * time.Second)
		}
		got, err := f.Entries(f.ctx, q)
		f.must(err)
		f.same(got, selectEntries(entries, q), cmpopts.EquateEmpty())
	})
	early, err := f.Entries(f.ctx, ledger.EntryQuery{Until: entries[0].Time.Add(-time.Hour)})
	f.must(err)
	f.same(len(early), 0)
}

func selectEntries(entries []ledger.Entry, q ledger.EntryQuery) []ledger.Entry {
	var found []ledger.Entry
	for _, e := range entries {
		if e.Seq > q.After && (q.Before == 0 || e.Seq < q.Before) && (q.Subject == "" || e.Subject == q.Subject) &&
			strings.HasPrefix(e.Subject, q.SubjectPrefix) && (len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) &&
			(q.Cause == 0 || e.Cause == q.Cause) && (q.Until.IsZero() || !e.Time.After(q.Until)) {
			if q.Bare {
				e.Body = nil
			}
			found = append(found, e)
		}
	}
	if q.Newest {
		slices.Reverse(found)
	}
	return found[:min(len(found), cmp.Or(q.Limit, 1000))]
}

func testTrail(t *testing.T, s Suite) {
	f := open(t, s)
	// 1 ─┬─ 2 ─── 4 ─── 5
	//    └─ 3 ─── 6          7 stands alone
	for _, cause := range []int64{0, 1, 1, 2, 4, 3, 0} {
		f.append(ledger.Draft{Cause: ledger.At(cause)})
	}
	trail, err := ledger.ReadTrail(f.ctx, f, 4, 0)
	f.must(err)
	f.same([]string{seqs(trail.Up), steps(trail.Down)}, []string{"4 2 1", "1:5"})
	down, truncated, err := ledger.Down(f.ctx, f, 1, 0)
	f.must(err)
	f.same([]any{steps(down), truncated}, []any{"1:2 2:4 3:5 1:3 2:6", false})
	down, truncated, err = ledger.Down(f.ctx, f, 1, 3)
	f.must(err)
	f.same([]any{steps(down), truncated}, []any{"1:2 2:4 1:3", true})
	up, err := ledger.Up(f.ctx, f, 7)
	f.must(err)
	f.same(seqs(up), "7")
	_, err = ledger.Up(f.ctx, f, 8)
	f.wantError(err, ledger.ErrNotFound)
}

func seqs(list []ledger.Entry) string {
	var words []string
	for _, e := range list {
		words = append(words, fmt.Sprint(e.Seq))
	}
	return strings.Join(words, " ")
}

func steps(list []ledger.TrailStep) string {
	var words []string
	for _, s := range list {
		words = append(words, fmt.Sprintf("%d:%d", s.Depth, s.Entry.Seq))
	}
	return strings.Join(words, " ")
}

// testFeed follows rows by the sequence of their last change.
func testFeed(t *testing.T, s Suite) {
	f := open(t, s, things{})
	var seqs []int64
	for i := range 5 {
		e := f.append(ledger.Draft{Kind: "thing.made", Subject: fmt.Sprint("object/k", i%3), Body: thing{State: fmt.Sprint(i)}})
		seqs = append(seqs, e.Seq)
	}
	rows, err := f.List(f.ctx, ledger.Query{Table: "thing", ChangedAfter: seqs[1]})
	f.must(err)
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%s=%s@%d", r.Key, r.State, r.Seq))
	}
	f.same(got, []string{fmt.Sprintf("k2=2@%d", seqs[2]), fmt.Sprintf("k0=3@%d", seqs[3]), fmt.Sprintf("k1=4@%d", seqs[4])})
}
