package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// replicas opens a ledger with two owners, as two processes have it. The clock is one.
func replicas(t *testing.T, s Suite) (a, b *fixture) {
	t.Helper()
	if s.Replica == nil {
		t.Skip("this implementation has no second handle")
	}
	a = openWith(t, s, Options{Owner: "a"})
	other := *a
	b = &other
	b.Ledger = s.Replica(t, a.Ledger, "b")
	return a, b
}

func (f *fixture) acquire(d time.Duration, partitions ...int) []ledger.Lease {
	f.Helper()
	got, err := f.Leases().Acquire(f.ctx, partitions, d)
	f.must(err)
	return got
}

// decide appends one entry as the owner of its subject.
func (f *fixture) decide(about ledger.Scope) error {
	_, err := f.appendIn(about, ledger.Draft{Actor: f.Leases().Owner(), Kind: "thing.noted", Subject: about.Subject()})
	return err
}

func (f *fixture) wantFenced(err error, current int64, owner string) {
	f.Helper()
	var fenced *ledger.FencedError
	if !errors.As(err, &fenced) || !errors.Is(err, ledger.ErrFenced) || fenced.Current != current || fenced.Owner != owner {
		f.Fatalf("error is %v (%+v), want a refusal: fence %d of %q", err, fenced, current, owner)
	}
}

// A partition has one owner at a time. Who was paused for longer than its lease comes back and is refused.
func testPausedOwner(t *testing.T, s Suite) {
	a, b := replicas(t, s)
	one := ledger.On("run/default/one")
	p := ledger.Partition(one.Subject())
	a.wantFenced(a.decide(one), 0, "")
	first := a.acquire(time.Minute, p)
	until := a.clock.Now().Add(time.Minute)
	a.same(first, []ledger.Lease{{Partition: p, Fence: 1, Owner: "a", Until: until}})
	a.must(a.decide(one))
	a.same(len(b.acquire(time.Minute, p)), 0)
	b.wantFenced(b.decide(one), 1, "a")
	// Its end is moved by renewing, and nobody gets it meanwhile.
	a.clock.Move(50 * time.Second)
	a.must(a.Leases().Renew(a.ctx, time.Minute))
	a.clock.Move(50 * time.Second)
	a.same(len(b.acquire(time.Minute, p)), 0)

	// a pauses, b takes over, a comes back.
	a.clock.Move(2 * time.Minute)
	a.same(len(a.Leases().Held()), 0)
	b.same(b.acquire(time.Minute, p)[0].Fence, int64(2))
	b.must(b.decide(one))
	a.wantFenced(a.decide(one), 2, "b")
	a.wantFenced(a.decide(one.Under(1)), 2, "b")
	a.wantFenced(a.Leases().Renew(a.ctx, time.Minute), 2, "b")
	a.must(a.Leases().Renew(a.ctx, time.Minute)) // what was lost is given up
	a.same(len(a.Leases().Held()), 0)
	a.same(len(a.acquire(time.Minute, p)), 0)

	// b gives it up, a takes it at once. State that a had loaded before is older than its lease.
	b.must(b.Leases().Release(b.ctx, []int{p}))
	b.wantFenced(b.decide(one), 2, "")
	a.same(a.acquire(0, p), []ledger.Lease{{Partition: p, Fence: 3, Owner: "a"}})
	a.wantFenced(a.decide(one.Under(1)), 3, "a")
	a.must(a.decide(one.Under(3)))
	a.same(a.Leases().Held(), []ledger.Lease{{Partition: p, Fence: 3, Owner: "a"}})
	b.wantFenced(b.decide(one), 3, "a")
	b.must(b.decide(ledger.Anyone(one.Subject()))) // a fact from outside needs no owner
	a.wholeWith(4, 0)

	if _, err := a.Leases().Acquire(a.ctx, []int{ledger.Partitions}, 0); err == nil {
		t.Error("a partition that there is not was acquired")
	}
	// Of many who want a partition at once one gets it.
	a.clock.Move(time.Hour)
	q, got := (p+1)%ledger.Partitions, make([]int, 10)
	each(len(got), func(i int) {
		r := s.Replica(t, a.Ledger, fmt.Sprint("r", i))
		leases, err := r.Leases().Acquire(a.ctx, []int{q}, time.Minute)
		if err != nil {
			t.Error(err)
		}
		got[i] = len(leases)
	})
	n := 0
	for _, one := range got {
		n += one
	}
	a.same(n, 1)
}

// A ledger that is opened without an owner owns everything, under numbers that grow with each opening.
func testSoleOwner(t *testing.T, s Suite) {
	f := open(t, s)
	before := f.Leases().Held()
	f.same(len(before), ledger.Partitions)
	f.must(f.decide(ledger.On("run/default/one").Under(before[ledger.Partition("run/default/one")].Fence)))
	f.must(f.Ledger.Close())
	f.Ledger = s.Open(t, Options{Place: f.place, Now: f.clock.Now})
	after := f.Leases().Held()
	for i := range after {
		if after[i].Fence <= before[i].Fence || !after[i].Until.IsZero() {
			f.Fatalf("lease %+v after %+v", after[i], before[i])
		}
	}
	f.wantError(f.decide(ledger.On("run/default/one").Under(before[0].Fence)), ledger.ErrFenced)
}

// An owner claims what is for its own partitions, and what one owner has claimed another cannot settle.
func testOutboxOwners(t *testing.T, s Suite) {
	a, b := replicas(t, s)
	mine, theirs := "run/default/mine", "run/default/theirs"
	p, q := ledger.Partition(mine), ledger.Partition(theirs)
	if p == q {
		t.Fatal("the two subjects share a partition: choose other names")
	}
	a.acquire(time.Hour, p)
	b.acquire(time.Hour, q)
	a.must(a.Write(a.ctx, ledger.On(mine), func(tx ledger.Tx) error {
		ref, err := tx.Append(ledger.Draft{Actor: "a", Kind: "lock.asked", Subject: mine})
		if err != nil {
			return err
		}
		// What crosses partitions goes by the outbox.
		return errors.Join(tx.Enqueue(ledger.Work{Queue: "q", Key: "for b", Subject: theirs, Cause: ref}), tx.Enqueue(ledger.Work{Queue: "q", Key: "for a"}))
	}))
	at, err := b.Outbox().Next(b.ctx, "q")
	b.must(err)
	b.same(at, b.clock.Now())
	a.same(keys(a.claim("q", 10)), []string{"for a:1"})
	got := b.claim("q", 10)
	b.same(keys(got), []string{"for b:1"})
	b.same([]any{got[0].Subject, got[0].Cause.Seq()}, []any{theirs, int64(1)})
	// A transaction elsewhere does not take it away.
	a.must(a.Write(a.ctx, ledger.On(mine), func(tx ledger.Tx) error { return tx.Cancel("q", "for b") }))
	a.clock.Move(time.Minute)
	got = b.claim("q", 10)
	b.same(keys(got), []string{"for b:2"})

	// a takes over from b, with what b had claimed, once that lease ends or somebody who knows gives it back.
	b.must(b.Leases().Release(b.ctx, []int{q}))
	a.acquire(time.Hour, q)
	a.same(keys(a.claim("q", 10)), []string{"for a:2"})
	a.must(a.Outbox().Release(a.ctx, "nobody"))
	a.same(len(a.claim("q", 10)), 0)
	a.must(a.Outbox().Release(a.ctx, "b"))
	taken := a.claim("q", 10)
	a.same(keys(taken), []string{"for b:3"})
	b.same(len(b.claim("q", 10)), 0)
	b.must(b.Outbox().Done(b.ctx, got[0].ID))
	b.must(b.Outbox().Retry(b.ctx, got[0].ID, a.clock.Now()))
	a.same(len(a.claim("q", 10)), 0)
	a.must(a.Outbox().Release(a.ctx, "a"))
	a.same(len(a.claim("q", 10)), 2)
}

// A transaction appends to subjects of one home.
func testCrossing(t *testing.T, s Suite) {
	f := open(t, s)
	for _, c := range []struct {
		about, subject string
		allowed        bool
	}{
		{"run/default/one", "run/default/one", true},
		{"run/default/one", "run/default/one/memo/cache/key", true},
		{"run/default/one", "run/default/two", false},
		{"run/default/one", "application/default/one", false},
		{"repo/team/harbour", "mr/team/harbour/7", true},
		{"repo/team/harbour", "ref/team/harbour/refs/heads/main", true},
		{"repo/harbour", "ref/harbour/refs/heads/team/harbour", true},
		{"repo/harbour", "push/harbour/0123", true},
		{"repo/harbour", "repo/team/harbour", false},
		{"repo/harbour", "event/default/git/harbour", false},
		{"event/default/in/gitlab", "firing/e1/default/s/t/1", true},
		{"definition/Sensor/a/b", "definition/ConfigMap/c/d", true},
		{"release/default/shop/1", "release/default/shop/2", true},
		{"release/default/shop/1", "release/default/stop/1", false},
		{"release/default/shop/builtin/fleet%2Fshop/1", "release/default/shop/builtin/fleet%2Fshop/2", true},
		{"release/default/shop/builtin/fleet%2Fshop/1", "release/default/shop/builtin/shop/1", false},
		{"thing/a", "thing/b", false},
	} {
		err := f.Write(f.ctx, ledger.On(c.about), func(tx ledger.Tx) error {
			_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: c.subject})
			if c.allowed {
				return err
			}
			return nil // the refusal stands even where nobody looks at it
		})
		if c.allowed && err != nil || !c.allowed && !errors.Is(err, ledger.ErrCrossing) {
			f.Errorf("about %s to %s: %v", c.about, c.subject, err)
		}
	}
	if err := f.Write(f.ctx, ledger.On(""), func(ledger.Tx) error { return nil }); err == nil {
		f.Error("a decision about nothing was taken")
	}
}

// An append may name the entry that it expects to be its subject's last, and a decision those of other subjects.
func testExpect(t *testing.T, s Suite) {
	f := open(t, s)
	add := func(about ledger.Scope, e ledger.Expect) (ledger.Ref, error) {
		return f.appendIn(about, ledger.Draft{Actor: "a", Kind: "k.v", Subject: about.Subject(), Expect: e})
	}
	refused := func(err error, want ledger.ConflictError) {
		f.Helper()
		var conflict *ledger.ConflictError
		if !errors.As(err, &conflict) || !errors.Is(err, ledger.ErrConflict) || *conflict != want {
			f.Fatalf("error is %v, want %v", err, &want)
		}
	}
	one, two := ledger.On("object/1"), ledger.On("object/2")
	first, err := add(one, ledger.Nothing())
	f.must(err)
	_, err = add(one, ledger.Nothing())
	refused(err, ledger.ConflictError{Subject: "object/1", Last: 1})
	second, err := add(one, ledger.Last(first))
	f.must(err)
	_, err = add(one, ledger.Last(first))
	refused(err, ledger.ConflictError{Subject: "object/1", Expected: 1, Last: 2})
	_, err = add(two, ledger.Last(ledger.At(2)))
	refused(err, ledger.ConflictError{Subject: "object/2", Expected: 2})

	// Within one transaction its own entries count, and what is refused leaves the transaction as it was.
	f.must(f.Write(f.ctx, one, func(tx ledger.Tx) error {
		third, err := tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/1", Expect: ledger.Last(second)})
		if err != nil {
			return err
		}
		if _, err := tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/1", Expect: ledger.Last(second), Unique: "u"}); !errors.Is(err, ledger.ErrConflict) {
			return fmt.Errorf("stale: %w", err)
		}
		_, err = tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/1", Expect: ledger.Last(third), Unique: "u"})
		return err
	}))

	// A guard looks at any subject, of whatever partition.
	_, err = add(ledger.On("run/default/r").If("object/1", ledger.Last(ledger.At(4))).If("object/2", ledger.Nothing()), ledger.Expect{})
	f.must(err)
	_, err = add(ledger.On("run/default/r").If("object/1", ledger.Last(second)), ledger.Expect{})
	refused(err, ledger.ConflictError{Subject: "object/1", Expected: 2, Last: 4})
	// Of many who saw the same only one decides.
	won := make([]bool, 20)
	each(len(won), func(i int) {
		_, err := add(ledger.Anyone("object/1"), ledger.Last(ledger.At(4)))
		won[i] = err == nil
		if err != nil && !errors.Is(err, ledger.ErrConflict) {
			f.Error(err)
		}
	})
	n := 0
	for _, w := range won {
		if w {
			n++
		}
	}
	f.same(n, 1)
	f.wholeWith(6, 0)
}

// Within a transaction entries have no sequence: references stand for them, in later drafts, work and rows.
func testReferences(t *testing.T, s Suite) {
	f := open(t, s, stamped{})
	var refs []ledger.Ref
	f.must(f.Write(f.ctx, here, func(tx ledger.Tx) error {
		refs = nil
		cause := ledger.Ref{}
		for i := range 3 {
			ref, err := tx.Append(ledger.Draft{Actor: "a", Kind: "stamp.made", Subject: "object/x", Cause: cause, Body: i})
			if err != nil {
				return err
			}
			if ref.Seq() != 0 || ref.IsZero() || ref.Equal(cause) {
				return fmt.Errorf("reference %d is %d", i, ref.Seq())
			}
			cause, refs = ref, append(refs, ref)
		}
		row, err := tx.Get("stamp", "first")
		if err != nil || row.Seq != 0 {
			return fmt.Errorf("row of the same transaction: %d %w", row.Seq, err)
		}
		return errors.Join(tx.Enqueue(ledger.Work{Queue: "q", Key: "k", Cause: refs[1]}),
			tx.Put(ledger.Row{Table: "direct", Key: "d", Body: raw(map[string]int{}), Stamp: ledger.Stamp{Field: "of", Of: refs[1]}}))
	}))
	for i, e := range f.all() {
		f.same([]int64{e.Seq, e.Cause, refs[i].Seq()}, []int64{int64(i + 1), int64(i), int64(i + 1)})
	}
	f.same(f.claim("q", 1)[0].Cause.Seq(), int64(2))
	stamps := func() (got []string) {
		for _, k := range [][2]string{{"stamp", "first"}, {"stamp", "last"}, {"direct", "d"}} {
			if row, err := f.Row(f.ctx, k[0], k[1]); err == nil {
				got = append(got, fmt.Sprintf("%s %s@%d", k[1], row.Body, row.Seq))
			}
		}
		return got
	}
	want := []string{`first {"n":2,"seq":1}@3`, `last {"seq":3}@3`, `d {"of":2}@3`}
	f.same(stamps(), want)
	f.must(f.Rebuild(f.ctx))
	f.same(stamps(), want[:2])

	// The references of a transaction that failed name nothing, and nothing may be caused by them.
	var lost ledger.Ref
	f.wantError(f.Write(f.ctx, here, func(tx ledger.Tx) (err error) {
		lost, err = tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/x"})
		return errors.Join(err, errOnPurpose)
	}), errOnPurpose)
	if lost.Seq() != 0 {
		f.Fatalf("a lost entry has sequence %d", lost.Seq())
	}
	if _, err := f.tryAppend(ledger.Draft{Cause: lost}); err == nil {
		f.Fatal("an entry was caused by one that was never recorded")
	}
	if _, err := f.tryAppend(ledger.Draft{Cause: refs[0]}); err != nil {
		f.Fatal(err)
	}
}

// stamped keeps a row that its first entry made and a row of the last, each with the number of that entry.
type stamped struct{}

func (stamped) Tables() []string { return []string{"stamp"} }

func (stamped) Version() int { return 1 }

func (stamped) Wants(kind string) bool { return kind == "stamp.made" }

func (stamped) Apply(e ledger.Entry, rows ledger.Rows) error {
	if e.Seq != 0 || e.Cause != 0 || e.Hash != (ledger.Hash{}) {
		return fmt.Errorf("a projection was told sequence %d, cause %d, hash %s", e.Seq, e.Cause, e.Hash)
	}
	first, err := rows.Get("stamp", "first")
	if errors.Is(err, ledger.ErrNotFound) {
		first, err = ledger.Row{Table: "stamp", Key: "first", Time: e.Time, Body: raw(map[string]int{"n": 0}), Stamp: ledger.Stamp{Field: "seq"}}, nil
	} else if err == nil {
		var body map[string]int
		if err := decode(first.Body, &body); err != nil {
			return err
		}
		body["n"]++
		first.Body = raw(body)
	}
	if err != nil {
		return err
	}
	return errors.Join(rows.Put(first), rows.Put(ledger.Row{Table: "stamp", Key: "last", Time: e.Time, Body: raw(map[string]int{}), Stamp: ledger.Stamp{Field: "seq"}}))
}

// A decision reads by its transaction. A call of the ledger from within fails, and the decision with it, whatever it makes of the error.
func testWithinWrite(t *testing.T, s Suite) {
	f := open(t, s)
	f.append(ledger.Draft{})
	for name, call := range map[string]func() error{
		"row":     func() error { _, err := f.Row(f.ctx, "t", "k"); return err },
		"list":    func() error { _, err := f.List(f.ctx, ledger.Query{Table: "t"}); return err },
		"entry":   func() error { _, err := f.Entry(f.ctx, 1); return err },
		"entries": func() error { _, err := f.Entries(f.ctx, ledger.EntryQuery{}); return err },
		"head":    func() error { _, err := f.Head(f.ctx); return err },
		"write":   func() error { return f.Write(f.ctx, here, func(ledger.Tx) error { return nil }) },
		"claim":   func() error { _, err := f.Outbox().Claim(f.ctx, "q", 1, time.Minute); return err },
		"done":    func() error { return f.Outbox().Done(f.ctx, 1) },
		"acquire": func() error { _, err := f.Leases().Acquire(f.ctx, []int{1}, 0); return err },
		"verify":  func() error { _, err := f.Verify(f.ctx, ledger.Check{}); return err },
		"load":    func() error { _, err := f.Snapshots().Load(f.ctx, "s"); return err },
	} {
		var inner error
		err := f.Write(f.ctx, here, func(tx ledger.Tx) error {
			_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "k.v", Subject: "object/x"})
			func() { func() { inner = call() }() }()
			return err
		})
		if !errors.Is(err, ledger.ErrWithinWrite) || !errors.Is(inner, ledger.ErrWithinWrite) {
			f.Errorf("%s within a write: %v, and the write: %v", name, inner, err)
		}
	}
	// From elsewhere the ledger may be read at the same time.
	f.must(f.Write(f.ctx, here, func(ledger.Tx) error {
		read := make(chan error)
		go func() { _, err := f.Entry(context.WithoutCancel(f.ctx), 1); read <- err }()
		return <-read
	}))
	f.wholeWith(1, 0)
}

// A key counts until its horizon.
func testHorizon(t *testing.T, s Suite) {
	f := open(t, s)
	f.append(ledger.Draft{Unique: "short", Horizon: time.Hour})
	f.append(ledger.Draft{Unique: "ever"})
	f.clock.Move(time.Hour - 1)
	_, err := f.tryAppend(ledger.Draft{Unique: "short"})
	f.wantError(err, ledger.ErrExists)
	f.clock.Move(1)
	again := f.append(ledger.Draft{Unique: "short", Horizon: time.Hour})
	_, err = f.tryAppend(ledger.Draft{Unique: "short"})
	var exists *ledger.ExistsError
	if !errors.As(err, &exists) || exists.Seq() != again.Seq {
		f.Fatalf("error %v does not name entry %d", err, again.Seq)
	}
	f.clock.Move(1000 * time.Hour)
	_, err = f.tryAppend(ledger.Draft{Unique: "ever"})
	f.wantError(err, ledger.ErrExists)
	f.wholeWith(3, 0)
}
