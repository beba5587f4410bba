package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

func testAppend(t *testing.T, s Suite) {
	f := open(t, s)
	head, err := f.Head(f.ctx)
	f.must(err)
	f.same(head, ledger.Entry{})
	_, err = f.Entry(f.ctx, 1)
	f.wantError(err, ledger.ErrNotFound)
	f.wholeWith(0, 0)

	long := strings.Repeat("long ", 4000)
	first := f.append(ledger.Draft{Actor: "user:ada", Kind: "event.received", Subject: "event/e1", Body: map[string]any{"n": 1}})
	f.clock.Move(1500 * time.Microsecond)
	var second, third ledger.Ref
	f.must(f.Write(f.ctx, ledger.On("run/default/r"), func(tx ledger.Tx) (err error) {
		if second, err = tx.Append(ledger.Draft{Actor: "system", Kind: "run.submitted", Subject: "run/default/r", Cause: ledger.At(first.Seq), Body: raw(long)}); err != nil {
			return err
		}
		third, err = tx.Append(ledger.Draft{Actor: "system", Kind: "run.started", Subject: "run/default/r", Cause: second})
		return err
	}))
	start := NewClock().Now()
	want := []ledger.Entry{
		{Seq: 1, Time: start, Actor: "user:ada", Kind: "event.received", Subject: "event/e1", Body: raw(map[string]any{"n": 1})},
		{Seq: 2, Time: start.Add(1500 * time.Microsecond), Actor: "system", Kind: "run.submitted", Subject: "run/default/r", Cause: 1, Body: raw(long)},
		{Seq: 3, Time: start.Add(1500 * time.Microsecond), Actor: "system", Kind: "run.started", Subject: "run/default/r", Cause: 2},
	}
	f.same([]int64{first.Seq, second.Seq(), third.Seq()}, []int64{1, 2, 3})
	for i, e := range f.all() {
		want[i].Hash = e.Hash
	}
	f.same(f.all(), want)
	for i := range want {
		got, err := f.Entry(f.ctx, int64(i+1))
		f.must(err)
		f.same(got, want[i])
	}
	head, err = f.Head(f.ctx)
	f.must(err)
	f.same(head, want[2])
	f.wholeWith(3, 0)
}

func testRefusedDrafts(t *testing.T, s Suite) {
	f := open(t, s)
	f.append(ledger.Draft{})
	good := ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/s/1"}
	for name, change := range map[string]func(*ledger.Draft){
		"no actor":     func(d *ledger.Draft) { d.Actor = "" },
		"no kind":      func(d *ledger.Draft) { d.Kind = "" },
		"no subject":   func(d *ledger.Draft) { d.Subject = "" },
		"own cause":    func(d *ledger.Draft) { d.Cause = ledger.At(2) },
		"later cause":  func(d *ledger.Draft) { d.Cause = ledger.At(99) },
		"before start": func(d *ledger.Draft) { d.Cause = ledger.At(-1) },
		"not JSON":     func(d *ledger.Draft) { d.Body = []byte(nil); d.Body = raw("x")[:2] },
		"no marshal":   func(d *ledger.Draft) { d.Body = func() {} },
	} {
		d := good
		change(&d)
		err := f.Write(f.ctx, here, func(tx ledger.Tx) error { _, err := tx.Append(d); return err })
		if err == nil {
			f.Errorf("%s: the draft was taken", name)
		}
	}
	f.wholeWith(1, 0)
}

func testUnique(t *testing.T, s Suite) {
	f := open(t, s)
	first := f.append(ledger.Draft{Unique: "delivery/gitlab/1"})
	_, err := f.tryAppend(ledger.Draft{Unique: "delivery/gitlab/1"})
	f.wantError(err, ledger.ErrExists)
	var exists *ledger.ExistsError
	if !errors.As(err, &exists) || exists.Seq() != first.Seq {
		f.Fatalf("error %v does not name entry %d", err, first.Seq)
	}
	// fn may handle the error; what it wrote before and after is kept.
	f.must(f.Write(f.ctx, here, func(tx ledger.Tx) error {
		for i, key := range []string{"a", "delivery/gitlab/1", "b", "b"} {
			_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: fmt.Sprint("object/s/", i), Unique: key})
			if want := i == 1 || i == 3; errors.Is(err, ledger.ErrExists) != want {
				return fmt.Errorf("append %d: %w", i, err)
			}
		}
		return nil
	}))
	f.wholeWith(3, 0)
	// A key that was used by a write that failed is free.
	f.wantError(f.Write(f.ctx, here, func(tx ledger.Tx) error {
		if _, err := tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/s/1", Unique: "c"}); err != nil {
			return err
		}
		return errOnPurpose
	}), errOnPurpose)
	f.append(ledger.Draft{Unique: "c"})
	// What is known by several keys exists by each of them; a draft of which one key is used takes none of the others.
	both := f.append(ledger.Draft{Unique: "id/1", Also: []string{"content/1", ""}})
	for _, d := range []ledger.Draft{{Unique: "content/1"}, {Unique: "id/2", Also: []string{"content/1"}}, {Also: []string{"content/2", "id/1"}}} {
		_, err := f.tryAppend(d)
		f.wantError(err, ledger.ErrExists)
		if !errors.As(err, &exists) || exists.Seq() != both.Seq {
			f.Fatalf("%+v: error %v does not name entry %d", d, err, both.Seq)
		}
	}
	f.append(ledger.Draft{Unique: "id/2", Also: []string{"content/2"}})
	// Of many at once exactly one wins.
	won := 0
	var mu sync.Mutex
	each(50, func(int) {
		if _, err := f.tryAppend(ledger.Draft{Unique: "slot"}); err == nil {
			mu.Lock()
			defer mu.Unlock()
			won++
		}
	})
	if won != 1 {
		f.Fatalf("%d writers got the key, want 1", won)
	}
	f.wholeWith(7, 0)
}

var errOnPurpose = errors.New("failed on purpose")

// each runs fn n times at once.
func each(n int, fn func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { fn(i) })
	}
	all.Wait()
}

func testRollback(t *testing.T, s Suite) {
	f := open(t, s, counting{})
	const writers, each1 = 40, 25
	each(writers, func(w int) {
		for i := range each1 {
			key := fmt.Sprintf("w%d/%d", w, i)
			err := f.Write(f.ctx, here, func(tx ledger.Tx) error {
				if _, err := tx.Append(ledger.Draft{Actor: "a", Kind: "count.up", Subject: "object/count/" + key}); err != nil {
					return err
				}
				if err := tx.Put(ledger.Row{Table: "direct", Key: key, Labels: map[string]string{"w": fmt.Sprint(w)}}); err != nil {
					return err
				}
				if err := tx.Enqueue(ledger.Work{Queue: "q", Key: key}); err != nil {
					return err
				}
				if i%2 == 1 {
					return errOnPurpose
				}
				return nil
			})
			if (i%2 == 1) != errors.Is(err, errOnPurpose) {
				f.Errorf("write %s: %v", key, err)
			}
		}
	})
	want := int64(writers * (each1 + 1) / 2)
	f.wholeWith(want, 0)
	rows, err := f.List(f.ctx, ledger.Query{Table: "direct", Limit: 10_000})
	f.must(err)
	total, err := f.Row(f.ctx, "count", "all")
	f.must(err)
	work, err := f.Outbox().Claim(f.ctx, "q", 10_000, time.Minute)
	f.must(err)
	f.same([]any{int64(len(rows)), string(total.Body), int64(len(work))}, []any{want, fmt.Sprint(want), want})
	for _, r := range rows {
		var w, i int
		if _, err := fmt.Sscanf(r.Key, "w%d/%d", &w, &i); err != nil || i%2 == 1 {
			f.Errorf("row %s was to be undone", r.Key)
		}
	}
	of7, err := f.List(f.ctx, ledger.Query{Table: "direct", Labels: map[string]string{"w": "7"}, Limit: 1000})
	f.must(err)
	f.same(len(of7), 13)
}

func testPanic(t *testing.T, s Suite) {
	f := open(t, s)
	err := f.Write(f.ctx, here, func(tx ledger.Tx) error {
		if _, err := tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/s/1"}); err != nil {
			return err
		}
		var none *ledger.Entry
		return fmt.Errorf("subject %s", none.Subject)
	})
	if err == nil || !strings.Contains(err.Error(), "panicked") || !strings.Contains(err.Error(), "write.go:") {
		f.Fatalf("error of a panic: %v, want one that says where", err)
	}
	f.append(ledger.Draft{})
	err = f.Write(f.ctx, here, func(ledger.Tx) error { runtime.Goexit(); return nil })
	if err == nil {
		f.Fatal("a decision that ended its goroutine succeeded")
	}
	f.append(ledger.Draft{})
	f.wholeWith(2, 0)
}

func testClock(t *testing.T, s Suite) {
	f := open(t, s)
	first := f.append(ledger.Draft{})
	f.clock.Move(-time.Hour)
	second := f.append(ledger.Draft{})
	f.must(f.Write(f.ctx, here, func(tx ledger.Tx) error {
		if !tx.Now().Equal(first.Time) {
			return fmt.Errorf("now is %v", tx.Now())
		}
		return nil
	}))
	f.must(f.Ledger.Close())
	f.Ledger = s.Open(t, Options{Place: f.place, Now: f.clock.Now})
	third := f.append(ledger.Draft{})
	f.clock.Move(2 * time.Hour)
	fourth := f.append(ledger.Draft{})
	f.same([]time.Time{second.Time, third.Time, fourth.Time}, []time.Time{first.Time, first.Time, first.Time.Add(time.Hour)})
	f.wholeWith(4, 0)
}

func testWithdrawn(t *testing.T, s Suite) {
	f := open(t, s)
	f.wantError(f.Write(canceled(), here, func(ledger.Tx) error { return nil }), context.Canceled)

	// While one write holds the writer, another waits and is withdrawn; the first is waited for.
	began, proceed := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(f.ctx)
	held := make(chan error, 1)
	go func() {
		held <- f.Write(ctx, here, func(tx ledger.Tx) error {
			close(began)
			<-proceed
			_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/s/held"})
			return err
		})
	}()
	<-began
	waiting, cancelWaiting := context.WithCancel(f.ctx)
	withdrawn := make(chan error, 1)
	go func() {
		withdrawn <- f.Write(waiting, here, func(tx ledger.Tx) error {
			_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/s/withdrawn"})
			return err
		})
	}()
	cancel()
	cancelWaiting()
	f.wantError(<-withdrawn, context.Canceled)
	close(proceed)
	f.must(<-held)
	f.append(ledger.Draft{Subject: "object/s/after"})
	var subjects []string
	for _, e := range f.all() {
		subjects = append(subjects, e.Subject)
	}
	f.same(subjects, []string{"object/s/held", "object/s/after"})
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func testReadOwnWrites(t *testing.T, s Suite) {
	f := open(t, s)
	at := f.clock.Now()
	f.put(ledger.Row{Table: "run", Key: "a", State: "Running", Time: at}, ledger.Row{Table: "run", Key: "b", State: "Running", Time: at})
	keys := func(tx ledger.Tx, q ledger.Query) (keys []string) {
		rows, err := tx.List(q)
		if err != nil {
			return []string{err.Error()}
		}
		for _, r := range rows {
			keys = append(keys, r.Key)
		}
		return keys
	}
	var got [][]string
	var kept ledger.Tx
	f.must(f.Write(f.ctx, here, func(tx ledger.Tx) error {
		kept = tx
		running := ledger.Query{Table: "run", States: []string{"Running"}}
		if err := errors.Join(tx.Put(ledger.Row{Table: "run", Key: "c", State: "Running", Time: at.Add(1)}), tx.Put(ledger.Row{Table: "other", Key: "z", State: "Running"})); err != nil {
			return err
		}
		got = append(got, keys(tx, running))
		if err := errors.Join(tx.Put(ledger.Row{Table: "run", Key: "b", State: "Failed", Time: at}), tx.Delete("run", "none")); err != nil {
			return err
		}
		got = append(got, keys(tx, running))
		if err := tx.Delete("run", "a"); err != nil {
			return err
		}
		got = append(got, keys(tx, running), keys(tx, ledger.Query{Table: "run", Limit: 1}))
		if _, err := tx.Get("run", "a"); !errors.Is(err, ledger.ErrNotFound) {
			return fmt.Errorf("read of a deleted row: %w", err)
		}
		row, err := tx.Get("run", "b")
		if err == nil && row.State != "Failed" {
			err = fmt.Errorf("state is %s", row.State)
		}
		return err
	}))
	f.same(got, [][]string{{"c", "b", "a"}, {"c", "a"}, {"c"}, {"c"}})
	if _, err := kept.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/s/1"}); err == nil {
		f.Fatal("a transaction took an entry after its end")
	}
	_, err := f.Row(f.ctx, "run", "a")
	f.wantError(err, ledger.ErrNotFound)
}

func testChanged(t *testing.T, s Suite) {
	f := open(t, s)
	changed := f.Changed()
	select {
	case <-changed:
		f.Fatal("closed before anything changed")
	default:
	}
	f.append(ledger.Draft{})
	select {
	case <-changed:
	case <-f.ctx.Done():
		f.Fatal("not closed after a commit")
	}
	if _, err := f.Entry(f.ctx, 1); err != nil {
		f.Fatal(err)
	}
}

func testClose(t *testing.T, s Suite) {
	f := open(t, s)
	f.append(ledger.Draft{})
	began, proceed := make(chan struct{}), make(chan struct{})
	held, queued, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() {
		held <- f.Write(f.ctx, here, func(tx ledger.Tx) error {
			close(began)
			<-proceed
			_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/s/held"})
			return err
		})
	}()
	<-began
	changed := f.Changed()
	go func() { closed <- f.Ledger.Close() }()
	// The close is under way when a new write is refused; until then each waits behind the held one.
	go func() {
		queued <- f.Write(f.ctx, here, func(ledger.Tx) error { return nil })
	}()
	close(proceed)
	f.must(<-held)
	f.must(<-closed)
	if err := <-queued; err != nil {
		f.wantError(err, ledger.ErrClosed)
	}
	f.must(f.Ledger.Close())
	<-changed
	f.wantError(f.Write(f.ctx, here, func(ledger.Tx) error { return nil }), ledger.ErrClosed)
	_, err := f.Entry(f.ctx, 1)
	f.wantError(err, ledger.ErrClosed)
	_, err = f.List(f.ctx, ledger.Query{Table: "run"})
	f.wantError(err, ledger.ErrClosed)
	_, err = f.Outbox().Claim(f.ctx, "q", 1, time.Minute)
	f.wantError(err, ledger.ErrClosed)
	f.Ledger = s.Open(t, Options{Place: f.place})
	f.wholeWith(2, 0)
}

func testReopen(t *testing.T, s Suite) {
	f := open(t, s, counting{})
	first := f.append(ledger.Draft{Kind: "count.up", Unique: "k"})
	f.must(f.Write(f.ctx, here, func(tx ledger.Tx) error { return tx.Enqueue(ledger.Work{Queue: "q", Key: "w"}) }))
	f.must(f.Ledger.Close())
	f.Ledger = s.Open(t, Options{Place: f.place, Projections: []ledger.Projection{counting{}}, Now: f.clock.Now})
	got, err := f.Entry(f.ctx, 1)
	f.must(err)
	f.same(got, first)
	_, err = f.tryAppend(ledger.Draft{Unique: "k"})
	f.wantError(err, ledger.ErrExists)
	if next := f.append(ledger.Draft{Kind: "count.up"}); next.Seq != 2 {
		f.Fatalf("sequence after reopening is %d, want 2", next.Seq)
	}
	row, err := f.Row(f.ctx, "count", "all")
	f.must(err)
	f.same(string(row.Body), "2")
	work, err := f.Outbox().Claim(f.ctx, "q", 1, time.Minute)
	f.must(err)
	f.same(len(work), 1)
	f.wholeWith(2, 0)
}
