package actor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/control/actor"
)

var (
	errRefused = errors.New("refused")
	errBroken  = errors.New("broken")
	errUnread  = errors.New("cannot be read")
)

// record is what a ledger is to an actor: states are loaded from it and written to it.
type record struct {
	mu     sync.Mutex
	totals map[string]int
	loads  int
	unread bool
	// batches has what was handled, as "key: messages".
	batches []string
}

// counter is the state of a key: a copy of its total.
type counter struct{ total int }

// The messages of the tests: a number is added, and these are not.
const (
	refuse = -1 // changes nothing
	spoil  = -2 // changes the state and is not recorded
)

func (r *record) load(_ context.Context, key string) (*counter, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loads++
	if r.unread {
		return nil, errUnread
	}
	return &counter{r.totals[key]}, nil
}

func (r *record) handle(_ context.Context, key string, c *counter, batch []int) []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, fmt.Sprint(key, ": ", batch))
	answers := make([]error, len(batch))
	if c.total != r.totals[key] {
		return repeat(fmt.Errorf("the state is %d, the record %d", c.total, r.totals[key]), len(batch))
	}
	for i, m := range batch {
		switch m {
		case refuse:
			answers[i] = errRefused
		case spoil:
			c.total += 1000
			return repeat(errBroken, len(batch))
		default:
			c.total += m
		}
	}
	r.totals[key] = c.total
	return answers
}

func repeat(err error, n int) []error {
	out := make([]error, n)
	for i := range out {
		out[i] = err
	}
	return out
}

func newRecord() *record { return &record{totals: map[string]int{}} }

func (r *record) options() actor.Options[string, *counter, int] {
	return actor.Options[string, *counter, int]{Load: r.load, Handle: r.handle,
		Refused: func(err error) bool { return errors.Is(err, errRefused) }}
}

func stop[K comparable, S, M any](t *testing.T, s *actor.System[K, S, M]) {
	t.Helper()
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// gate lets a test hold a handler and know that it is held.
type gate struct{ entered, open chan struct{} }

func newGate() gate { return gate{make(chan struct{}, 16), make(chan struct{})} }

func (g gate) pass() { g.entered <- struct{}{}; <-g.open }

// held returns a system whose first message of key "held" waits in its handler for the gate.
func (r *record) held(change func(*actor.Options[string, *counter, int])) (*actor.System[string, *counter, int], gate) {
	g := newGate()
	var once sync.Once
	o := r.options()
	o.Handle = func(ctx context.Context, key string, c *counter, batch []int) []error {
		if key == "held" {
			once.Do(g.pass)
		}
		return r.handle(ctx, key, c, batch)
	}
	if change != nil {
		change(&o)
	}
	return actor.New(o), g
}

// answers collects what messages were answered.
type answers struct {
	wg  sync.WaitGroup
	mu  sync.Mutex
	all map[int]error
}

func (a *answers) send(t *testing.T, s *actor.System[string, *counter, int], ctx context.Context, key string, m int) {
	t.Helper()
	a.wg.Add(1)
	if err := s.Send(ctx, key, m, func(err error) {
		defer a.wg.Done()
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.all == nil {
			a.all = map[int]error{}
		}
		if _, twice := a.all[m]; twice {
			t.Errorf("message %d was answered twice", m)
		}
		a.all[m] = err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestMessagesThatWaitAreHandledTogetherInOrder(t *testing.T) {
	t.Parallel()
	r := newRecord()
	s, g := r.held(func(o *actor.Options[string, *counter, int]) { o.Batch = 3 })
	var a answers
	a.send(t, s, t.Context(), "held", 1)
	<-g.entered
	for m := 2; m <= 5; m++ {
		a.send(t, s, t.Context(), "held", m)
	}
	if err := s.Ask(t.Context(), "other", 7); err != nil {
		t.Error("another key had to wait: ", err)
	}
	close(g.open)
	a.wg.Wait()
	stop(t, s)
	want := []string{"other: [7]", "held: [1]", "held: [2 3 4]", "held: [5]"}
	if diff := cmp.Diff(want, r.batches); diff != "" {
		t.Error(diff)
	}
	if r.totals["held"] != 15 || r.loads != 2 {
		t.Errorf("total %d after %d loads, want 15 after 2", r.totals["held"], r.loads)
	}
}

// A message that breaks the state takes nothing of the others with it, and memory follows the record again.
func TestABadMessageHarmsNoOther(t *testing.T) {
	t.Parallel()
	r := newRecord()
	s, g := r.held(nil)
	var a answers
	a.send(t, s, t.Context(), "held", 1)
	<-g.entered
	for _, m := range []int{2, spoil, refuse, 3} {
		a.send(t, s, t.Context(), "held", m)
	}
	close(g.open)
	a.wg.Wait()
	if err := s.Ask(t.Context(), "held", 10); err != nil {
		t.Error(err)
	}
	stop(t, s)
	for m, want := range map[int]error{1: nil, 2: nil, 3: nil, refuse: errRefused, spoil: errBroken} {
		if got := a.all[m]; !errors.Is(got, want) {
			t.Errorf("message %d: %v, want %v", m, got, want)
		}
	}
	if r.totals["held"] != 16 {
		t.Errorf("total %d, want 16", r.totals["held"])
	}
}

func TestARefusalKeepsTheState(t *testing.T) {
	t.Parallel()
	r := newRecord()
	s := actor.New(r.options())
	for _, c := range []struct {
		message int
		err     error
		loads   int
	}{{1, nil, 1}, {refuse, errRefused, 1}, {2, nil, 1}, {spoil, errBroken, 1}, {4, nil, 2}} {
		if err := s.Ask(t.Context(), "a", c.message); !errors.Is(err, c.err) {
			t.Errorf("message %d: %v, want %v", c.message, err, c.err)
		}
		if r.loads != c.loads {
			t.Errorf("%d loads after message %d, want %d", r.loads, c.message, c.loads)
		}
	}
	stop(t, s)
}

func TestWhatCannotBeLoadedIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRecord()
	r.unread = true
	s := actor.New(r.options())
	if err := s.Ask(t.Context(), "a", 1); !errors.Is(err, errUnread) {
		t.Error(err)
	}
	stop(t, s)
	if size := s.Size(); size != (actor.Size{}) {
		t.Errorf("left in memory: %+v", size)
	}
}

// A handler that miscounts its answers is an error and not a panic.
func TestEveryMessageNeedsAnAnswer(t *testing.T) {
	t.Parallel()
	o := newRecord().options()
	o.Handle = func(context.Context, string, *counter, []int) []error { return make([]error, 2) }
	s := actor.New(o)
	if err := s.Ask(t.Context(), "a", 1); err == nil {
		t.Error("two answers to one message were taken")
	}
	stop(t, s)
}

func TestAFullMailboxHoldsItsSendersAndNoOthers(t *testing.T) {
	t.Parallel()
	r := newRecord()
	s, g := r.held(func(o *actor.Options[string, *counter, int]) { o.Mailbox = 2 })
	var a answers
	a.send(t, s, t.Context(), "held", 1)
	<-g.entered
	a.send(t, s, t.Context(), "held", 2)
	a.send(t, s, t.Context(), "held", 3)
	why := errors.New("waited long enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := s.Send(ctx, "held", 4, func(error) { t.Error("what was not taken was answered") }); !errors.Is(err, why) {
		t.Errorf("a full mailbox: %v", err)
	}
	if err := s.Ask(t.Context(), "other", 1); err != nil {
		t.Error(err)
	}
	close(g.open)
	a.wg.Wait()
	stop(t, s)
	if r.totals["held"] != 6 {
		t.Errorf("total %d, want 6", r.totals["held"])
	}
}

// Whoever gives up before the turn of the message has not sent it.
func TestAMessageIsNotHandledOnceItsSenderGaveUp(t *testing.T) {
	t.Parallel()
	r := newRecord()
	s, g := r.held(nil)
	var a answers
	a.send(t, s, t.Context(), "held", 1)
	<-g.entered
	ctx, cancel := context.WithCancel(t.Context())
	a.send(t, s, ctx, "held", 2)
	a.send(t, s, t.Context(), "held", 3)
	cancel()
	close(g.open)
	a.wg.Wait()
	stop(t, s)
	if r.totals["held"] != 4 || !errors.Is(a.all[2], context.Canceled) {
		t.Errorf("total %d, answer %v", r.totals["held"], a.all[2])
	}
}

func TestEndedStatesLeaveMemory(t *testing.T) {
	t.Parallel()
	r := newRecord()
	o := r.options()
	o.Ended = func(c *counter) bool { return c.total >= 2 }
	s := actor.New(o)
	const keys = 10_000
	for i := range keys {
		key := fmt.Sprint(i)
		for range 2 {
			if err := s.Send(t.Context(), key, 1, nil); err != nil {
				t.Fatal(err)
			}
		}
		if i%3 == 0 { // one that comes too late loads it again, and it goes again
			if err := s.Send(t.Context(), key, refuse, nil); err != nil {
				t.Fatal(err)
			}
		}
		if i%5 == 0 {
			if err := s.Send(t.Context(), key, spoil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Ask(t.Context(), "live", 1); err != nil {
		t.Fatal(err)
	}
	for size := s.Size(); size != (actor.Size{Keys: 1, Loaded: 1}); size = s.Size() {
		if err := t.Context().Err(); err != nil {
			t.Fatalf("left in memory: %+v", size)
		}
	}
	stop(t, s)
	if size := s.Size(); size != (actor.Size{}) {
		t.Errorf("left in memory after the stop: %+v", size)
	}
}

func TestSweepDropsWhatIsNotUsed(t *testing.T) {
	t.Parallel()
	r := newRecord()
	s, g := r.held(nil)
	ask := func(key string) {
		t.Helper()
		if err := s.Ask(t.Context(), key, 1); err != nil {
			t.Fatal(err)
		}
		for s.Size().Busy > 0 {
			if t.Context().Err() != nil {
				t.Fatal("the key does not come to rest")
			}
		}
	}
	ask("quiet")
	ask("busy")
	s.Sweep()
	ask("busy")
	s.Sweep()
	if size := s.Size(); size.Keys != 1 || r.loads != 2 {
		t.Errorf("in memory %+v after %d loads", size, r.loads)
	}
	ask("busy")
	ask("quiet")
	if r.loads != 3 || r.totals["quiet"] != 2 {
		t.Errorf("%d loads, total %d", r.loads, r.totals["quiet"])
	}
	var a answers
	a.send(t, s, t.Context(), "held", 1)
	<-g.entered
	for range 3 {
		s.Sweep() // what is being handled stays
	}
	close(g.open)
	a.wg.Wait()
	stop(t, s)
}

func TestStopDrains(t *testing.T) {
	t.Parallel()
	r := newRecord()
	s, g := r.held(nil)
	var a answers
	a.send(t, s, t.Context(), "held", 1)
	<-g.entered
	a.send(t, s, t.Context(), "held", 2)
	stopped := make(chan error)
	go func() { stopped <- s.Stop(t.Context()) }()
	for s.Ask(t.Context(), "other", 1) == nil { // until the stop is known
	}
	close(g.open)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	a.wg.Wait()
	if err := s.Send(t.Context(), "held", 3, nil); !errors.Is(err, actor.ErrStopped) {
		t.Errorf("after the stop: %v", err)
	}
	if r.totals["held"] != 3 || a.all[2] != nil {
		t.Errorf("total %d, answer %v", r.totals["held"], a.all[2])
	}
}

func TestAStopThatMayNotWaitCutsHandlersOff(t *testing.T) {
	t.Parallel()
	r := newRecord()
	o := r.options()
	entered := make(chan struct{})
	o.Handle = func(ctx context.Context, _ string, _ *counter, batch []int) []error {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a handler has no deadline")
		}
		close(entered)
		<-ctx.Done()
		return repeat(context.Cause(ctx), len(batch))
	}
	s := actor.New(o)
	var a answers
	a.send(t, s, t.Context(), "a", 1)
	<-entered
	a.send(t, s, t.Context(), "a", 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	a.wg.Wait()
	for m := 1; m <= 2; m++ {
		if !errors.Is(a.all[m], actor.ErrStopped) {
			t.Errorf("message %d: %v", m, a.all[m])
		}
	}
}

func TestWorkersBoundHowManyKeysAreHandled(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	o := newRecord().options()
	o.Workers = 3
	o.Handle = func(context.Context, string, *counter, []int) []error {
		most.Store(max(most.Load(), now.Add(1)))
		now.Add(-1)
		return nil
	}
	s := actor.New(o)
	for i := range 500 {
		if err := s.Send(t.Context(), fmt.Sprint(i), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	stop(t, s)
	if most.Load() > 3 {
		t.Errorf("%d keys were handled at the same time", most.Load())
	}
}

// Whatever is sent by however many, what was answered with nil is in the record once, and nothing else is.
func TestTheRecordHasWhatWasAnswered(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := newRecord()
		o := r.options()
		o.Mailbox = rapid.IntRange(1, 4).Draw(rt, "mailbox")
		o.Batch = rapid.IntRange(1, 4).Draw(rt, "batch")
		o.Workers = rapid.IntRange(0, 2).Draw(rt, "workers")
		o.Ended = func(c *counter) bool { return c.total%3 == 0 }
		s := actor.New(o)
		keys := []string{"a", "b"}
		plans := rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom([]int{1, 2, 5, refuse, spoil, 0}), 1, 12), 1, 4).Draw(rt, "senders")
		want := map[string]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for n, plan := range plans {
			wg.Go(func() {
				for i, m := range plan {
					key := keys[(n+i)%len(keys)]
					if m == 0 {
						s.Sweep()
						continue
					}
					err := s.Ask(context.Background(), key, m)
					mu.Lock()
					switch {
					case m == refuse && errors.Is(err, errRefused), m == spoil && errors.Is(err, errBroken):
					case m > 0 && err == nil:
						want[key] += m
					default:
						t.Errorf("message %d: %v", m, err)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if err := s.Stop(context.Background()); err != nil {
			rt.Fatal(err)
		}
		for _, key := range keys {
			if r.totals[key] != want[key] {
				rt.Errorf("key %s has %d, want %d", key, r.totals[key], want[key])
			}
		}
		if size := s.Size(); size != (actor.Size{}) {
			rt.Errorf("left in memory: %+v", size)
		}
	})
}
