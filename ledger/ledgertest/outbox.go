package ledgertest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tiphys/tiphys/ledger"
)

func (f *fixture) enqueue(list ...ledger.Work) {
	f.Helper()
	f.must(f.Write(f.ctx, here, func(tx ledger.Tx) error {
		for _, w := range list {
			if err := tx.Enqueue(w); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (f *fixture) claim(queue string, n int) []ledger.Work {
	f.Helper()
	work, err := f.Outbox().Claim(f.ctx, queue, n, time.Minute)
	f.must(err)
	return work
}

// listed gives the items of a queue, in pages of n.
func (f *fixture) listed(queue string, n int) (all []string) {
	f.Helper()
	for after := int64(0); ; {
		work, err := f.Outbox().List(f.ctx, queue, after, n)
		f.must(err)
		all = append(all, keys(work)...)
		if len(work) < n {
			return all
		}
		after = work[len(work)-1].ID
	}
}

func keys(work []ledger.Work) (keys []string) {
	for _, w := range work {
		keys = append(keys, fmt.Sprintf("%s:%d", w.Key, w.Attempt))
	}
	return keys
}

func testOutbox(t *testing.T, s Suite) {
	f := open(t, s)
	now := f.clock.Now()
	e := ledger.At(f.append(ledger.Draft{}).Seq)
	f.enqueue(
		ledger.Work{Queue: "q", Key: "second", Due: now.Add(-time.Second), Cause: e, Body: raw("b")},
		ledger.Work{Queue: "q", Key: "later", Due: now.Add(time.Hour)},
		ledger.Work{Queue: "q", Key: "first", Due: now.Add(-time.Minute)},
		ledger.Work{Queue: "q", Key: "third", Due: now},
		ledger.Work{Queue: "other", Key: "first", Due: now},
		ledger.Work{Queue: "q", Key: "canceled", Due: now},
	)
	f.must(f.Write(f.ctx, here, func(tx ledger.Tx) error {
		for _, key := range []string{"canceled", "never"} {
			if err := tx.Cancel("q", key); err != nil {
				return err
			}
		}
		return nil
	}))
	f.same(f.listed("q", 10), []string{"second:0", "later:0", "first:0", "third:0"})
	first := f.claim("q", 2)
	f.same(keys(first), []string{"first:1", "second:1"})
	// A list shows what is claimed too, in pages, and claims nothing.
	f.same(f.listed("q", 3), []string{"second:1", "later:0", "first:1", "third:0"})
	f.same(f.listed("nobody", 3), []string(nil))
	f.same(first[1], ledger.Work{Queue: "q", Key: "second", Due: now.Add(-time.Second), Cause: e, Subject: here.Subject(), Attempt: 1, Body: raw("b")}, cmpopts.IgnoreFields(ledger.Work{}, "ID"))
	f.same(keys(f.claim("q", 10)), []string{"third:1"})
	f.same(len(f.claim("q", 10)), 0)
	f.same(len(f.claim("nobody", 10)), 0)

	// A settled item does not come back; one whose lease ends does, and one that was given back, when it is due.
	f.must(f.Outbox().Done(f.ctx, first[0].ID))
	f.must(f.Outbox().Done(f.ctx, first[0].ID))
	f.must(f.Outbox().Retry(f.ctx, first[1].ID, now.Add(10*time.Minute)))
	f.clock.Move(time.Minute)
	f.same(keys(f.claim("q", 10)), []string{"third:2"})
	f.clock.Move(9 * time.Minute)
	again := f.claim("q", 10)
	f.same(keys(again), []string{"third:3", "second:2"})

	// An item that replaces a claimed one is new: the old claim cannot settle it.
	f.enqueue(ledger.Work{Queue: "q", Key: "second", Due: f.clock.Now()})
	f.must(f.Outbox().Done(f.ctx, again[1].ID))
	f.must(f.Outbox().Retry(f.ctx, again[1].ID, now.Add(9*time.Hour)))
	f.same(keys(f.claim("q", 10)), []string{"second:1"})
	f.clock.Move(time.Hour)
	f.same(keys(f.claim("q", 10)), []string{"second:2", "third:4", "later:1"}, cmpopts.SortSlices(func(a, b string) bool { return a < b }))
}

func testOutboxRelease(t *testing.T, s Suite) {
	f := open(t, s)
	now := f.clock.Now()
	f.enqueue(ledger.Work{Queue: "q", Key: "a", Due: now}, ledger.Work{Queue: "q", Key: "b", Due: now.Add(time.Hour)})
	f.same(keys(f.claim("q", 10)), []string{"a:1"})
	f.must(f.Ledger.Close())
	f.Ledger = s.Open(t, Options{Place: f.place, Now: f.clock.Now})
	f.same(len(f.claim("q", 10)), 0)
	f.must(f.Outbox().Release(f.ctx, f.Leases().Owner()))
	f.same(keys(f.claim("q", 10)), []string{"a:2"})
}

func testOutboxLease(t *testing.T, s Suite) {
	f := open(t, s)
	now := f.clock.Now()
	f.enqueue(ledger.Work{Queue: "q", Key: "mine", Due: now, Lease: time.Minute}, ledger.Work{Queue: "q", Key: "anybody's", Due: now})
	f.same(keys(f.claim("q", 10)), []string{"anybody's:1"})
	f.must(f.Outbox().Release(f.ctx, f.Leases().Owner()))
	f.same(len(f.claim("q", 10)), 2)
}

func testOutboxNext(t *testing.T, s Suite) {
	f := open(t, s)
	next := func() time.Time {
		at, err := f.Outbox().Next(f.ctx, "q")
		f.must(err)
		return at
	}
	now := f.clock.Now()
	f.same(next(), time.Time{})
	f.enqueue(ledger.Work{Queue: "other", Key: "x", Due: now}, ledger.Work{Queue: "q", Key: "b", Due: now.Add(time.Hour)}, ledger.Work{Queue: "q", Key: "a", Due: now.Add(-time.Hour)})
	f.same(next(), now.Add(-time.Hour))
	claimed := f.claim("q", 1)
	f.same(next(), now.Add(time.Minute)) // the end of its lease
	f.must(f.Outbox().Done(f.ctx, claimed[0].ID))
	f.same(next(), now.Add(time.Hour))
}

func testOutboxWorkers(t *testing.T, s Suite) {
	f := open(t, s)
	const items = 400
	each(4, func(w int) {
		for i := range items / 4 {
			if err := f.Write(f.ctx, here, func(tx ledger.Tx) error {
				return tx.Enqueue(ledger.Work{Queue: "q", Key: fmt.Sprint(w, "/", i), Due: tx.Now()})
			}); err != nil {
				f.Error(err)
			}
		}
	})
	var mu sync.Mutex
	seen := map[string]int{}
	each(8, func(int) {
		for {
			work, err := f.Outbox().Claim(f.ctx, "q", 7, time.Hour)
			if err != nil {
				f.Error(err)
			}
			if len(work) == 0 {
				return
			}
			for _, w := range work {
				mu.Lock()
				seen[w.Key]++
				mu.Unlock()
				if err := f.Outbox().Done(f.ctx, w.ID); err != nil {
					f.Error(err)
				}
			}
		}
	})
	for key, n := range seen {
		if n != 1 {
			f.Errorf("%s was handed out %d times", key, n)
		}
	}
	f.same(len(seen), items)
}
