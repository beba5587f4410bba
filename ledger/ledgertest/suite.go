// Package ledgertest is the suite that every implementation of [ledger.Ledger] runs. What it expects is written
// from the interface's documentation and from docs/ledger.md.
package ledgertest

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/ledger"
)

// patience is the deadline of every wait; a test that reaches it has failed.
const patience = 2 * time.Minute

// Options are what the suite asks of a ledger.
type Options struct {
	// Place is where the ledger is: opening the same place again opens the same ledger.
	Place       string
	Projections []ledger.Projection
	Now         func() time.Time
	// Owner is the name of the handle's owner; empty for one that owns everything.
	Owner string
	// Key is what it signs with; nil for none.
	Key ed25519.PrivateKey
}

// Suite is what an implementation provides to be tested.
type Suite struct {
	// Open opens a ledger. The suite closes it.
	Open func(t testing.TB, o Options) ledger.Ledger
	// Exec runs one statement on the storage behind the ledger's back, as somebody would who wants to deceive. The tables
	// are those of ledger/sqlite/migrations.
	Exec func(t testing.TB, l ledger.Ledger, statement string)
	// Replica opens another handle of an open ledger, with an owner of its own, as another process would; the suite leaves it open. nil skips the
	// tests of several owners.
	Replica func(t testing.TB, l ledger.Ledger, owner string) ledger.Ledger
	// Restore opens what Backup wrote; nil skips that test.
	Restore func(t testing.TB, backup string) ledger.Ledger
}

// Run runs every test of the suite.
func Run(t *testing.T, s Suite) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Suite)
	}{
		{"append", testAppend},
		{"drafts that are refused", testRefusedDrafts},
		{"unique keys", testUnique},
		{"unique keys expire", testExpire},
		{"failed writes leave nothing", testRollback},
		{"panic and end of goroutine", testPanic},
		{"time stands still when the clock runs backwards", testClock},
		{"withdrawn writes", testWithdrawn},
		{"read own writes", testReadOwnWrites},
		{"failing projection", testFailingProjection},
		{"projections replay", testReplay},
		{"queries agree with a model", testQueries},
		{"query pages", testPages},
		{"entry queries", testEntryQueries},
		{"changed", testChanged},
		{"outbox", testOutbox},
		{"outbox release", testOutboxRelease},
		{"outbox lease", testOutboxLease},
		{"feed", testFeed},
		{"outbox next", testOutboxNext},
		{"outbox under many workers", testOutboxWorkers},
		{"verify", testVerify},
		{"erase", testErase},
		{"forget", testForget},
		{"forgotten entries verify", testVerifyForgotten},
		{"forget and rebuild", testForgetRebuild},
		{"reopen", testReopen},
		{"backup", testBackup},
		{"close", testClose},
		{"trail", testTrail},
		{"paused owner", testPausedOwner},
		{"sole owner", testSoleOwner},
		{"outbox of owners", testOutboxOwners},
		{"crossing partitions", testCrossing},
		{"expected sequence", testExpect},
		{"opaque references", testReferences},
		{"reads within a write", testWithinWrite},
		{"unique keys have a horizon", testHorizon},
		{"each", testEach},
		{"snapshots", testSnapshots},
		{"versions of projections", testVersions},
		{"tables of projections", testStraying},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, s)
		})
	}
}

// here is what transactions are about that touch several subjects of one home.
var here = ledger.On("object/here")

// fixture is one open ledger with what the tests say often.
type fixture struct {
	*testing.T
	ledger.Ledger
	suite Suite
	ctx   context.Context
	clock *Clock
	place string
}

func open(t *testing.T, s Suite, projections ...ledger.Projection) *fixture {
	t.Helper()
	return openWith(t, s, Options{Projections: projections})
}

func openWith(t *testing.T, s Suite, o Options) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, errors.New("the test waited too long"))
	t.Cleanup(cancel)
	f := &fixture{T: t, suite: s, ctx: ctx, clock: NewClock(), place: t.TempDir()}
	o.Place, o.Now = f.place, f.clock.Now
	f.Ledger = s.Open(t, o)
	t.Cleanup(func() {
		if err := f.Ledger.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return f
}

// Clock is a clock that tests move by hand. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock starts at a fixed time in 2026.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Move moves the clock, backwards if d is negative.
func (c *Clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) wantError(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("error is %v, want %v", err, want)
	}
}

func (f *fixture) same(got, want any, options ...cmp.Option) {
	f.Helper()
	if diff := cmp.Diff(want, got, options...); diff != "" {
		f.Fatalf("(-want +got)\n%s", diff)
	}
}

// append writes one entry in a transaction of its own.
func (f *fixture) append(d ledger.Draft) ledger.Entry {
	f.Helper()
	e, err := f.tryAppend(d)
	f.must(err)
	return e
}

func (f *fixture) tryAppend(d ledger.Draft) (e ledger.Entry, err error) {
	if d.Actor == "" {
		d.Actor = "user:ada"
	}
	if d.Kind == "" {
		d.Kind = "thing.noted"
	}
	if d.Subject == "" {
		d.Subject = "object/default/one"
	}
	ref, err := f.appendIn(ledger.On(d.Subject), d)
	if err != nil {
		return ledger.Entry{}, err
	}
	return f.Entry(f.ctx, ref.Seq())
}

// appendIn writes one entry in a transaction of its own, with a scope of its own.
func (f *fixture) appendIn(about ledger.Scope, d ledger.Draft) (ref ledger.Ref, err error) {
	err = f.Write(f.ctx, about, func(tx ledger.Tx) error {
		ref, err = tx.Append(d)
		return err
	})
	return ref, err
}

func (f *fixture) put(rows ...ledger.Row) {
	f.Helper()
	f.must(f.Write(f.ctx, here, func(tx ledger.Tx) error {
		for _, r := range rows {
			if err := tx.Put(r); err != nil {
				return err
			}
		}
		return nil
	}))
}

// verify checks the whole ledger from the start, or from a head taken earlier.
func (f *fixture) verify(since ledger.Head) ledger.Report {
	f.Helper()
	r, err := f.Verify(f.ctx, ledger.Check{Since: since})
	f.must(err)
	return r
}

func (f *fixture) wholeWith(entries, pruned int64) {
	f.Helper()
	r := f.verify(ledger.Head{})
	if len(r.Faults) > 0 || r.Entries != entries || r.Pruned != pruned {
		f.Fatalf("verify: %+v, want %d entries, %d pruned, no faults", r, entries, pruned)
	}
}

func (f *fixture) all() []ledger.Entry {
	f.Helper()
	list, err := f.Entries(f.ctx, ledger.EntryQuery{Limit: 1_000_000})
	f.must(err)
	return list
}

func raw(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage(fmt.Sprintf("%q", err))
	}
	return text
}
