// Package sourcetest is the suite that every kind of event source passes: what is acknowledged is durable, what was not recorded is
// not acknowledged and comes again, and what is wrong with a definition has its place.
package sourcetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// Outside is the world that a source takes events from, as a fixture plays it. Things are numbered from 1.
type Outside interface {
	// Happen makes the n-th thing happen, or the outside repeat it if it happened before and was not acknowledged. It returns
	// when the source has dealt with it.
	Happen(ctx context.Context, n int)
	// Acknowledged tells whether the outside knows that the n-th thing was taken.
	Acknowledged(n int) bool
}

// Fixture is a kind made ready for the suite.
type Fixture struct {
	Kind source.Kind
	// Good is an EventSource of this kind with one event.
	Good string
	// Bad are EventSources that the kind's check refuses, by the place of the fault: "6:21".
	Bad map[string]string
	// Outside plays the world for a source that runs. The clock is the one in its tools.
	Outside func(t *testing.T, s source.Source, clock *Clock) Outside
}

// Start is the time at which the clock of each test stands at first.
func Start() time.Time { return time.Date(2026, 9, 14, 12, 0, 0, 0, time.UTC) }

// Run runs the suite.
func Run(t *testing.T, f Fixture) {
	t.Helper()
	t.Run("recorded before it is acknowledged", func(t *testing.T) { testAcknowledged(t, f) })
	t.Run("not recorded, not acknowledged", func(t *testing.T) { testFailed(t, f) })
	t.Run("the end of the context ends it", func(t *testing.T) { testEnd(t, f) })
	t.Run("a bad definition has a place", func(t *testing.T) { testBad(t, f) })
	t.Run("a bad definition is not opened", func(t *testing.T) { testBadOpen(t, f) })
}

// sink records what is delivered, or refuses it.
type sink struct {
	// asked is called while a delivery is not durable yet.
	asked func()

	mu     sync.Mutex
	fail   bool
	events []event.Event
	tries  []event.Event
}

var errSink = errors.New("the disk is full")

// Deliver implements source.Sink. A delivery that was recorded before is recorded once.
func (s *sink) Deliver(_ context.Context, e event.Event) (source.Receipt, error) {
	if s.asked != nil {
		s.asked()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries = append(s.tries, e)
	if s.fail {
		return source.Receipt{}, errSink
	}
	for i, before := range s.events {
		if e.Delivery != "" && before.Delivery == e.Delivery {
			return source.Receipt{Seq: int64(i + 1), ID: before.ID}, nil
		}
	}
	s.events = append(s.events, e)
	return source.Receipt{Seq: int64(len(s.events)), ID: e.ID}, nil
}

func (s *sink) set(fail bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *sink) seen() (events, tries []event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event.Event{}, s.events...), append([]event.Event{}, s.tries...)
}

// Last implements source.History.
func (s *sink) Last(context.Context, string, string, string) (event.Event, error) {
	events, _ := s.seen()
	if len(events) == 0 {
		return event.Event{}, fmt.Errorf("last event: %w", ledger.ErrNotFound)
	}
	return events[len(events)-1], nil
}

// Secrets is a source.Secrets in which every Secret has the value "NAMESPACE-NAME-KEY", and none has the key "gone".
type Secrets struct{}

// Secret implements source.Secrets.
func (Secrets) Secret(_ context.Context, namespace, name, key string) (secret.Value, error) {
	if key == "gone" {
		return secret.Value{}, fmt.Errorf("secret %s/%s: %w", namespace, name, ledger.ErrNotFound)
	}
	return secret.New(namespace + "-" + name + "-" + key), nil
}

// running is a source at work.
type running struct {
	source.Definition
	sink    *sink
	clock   *Clock
	outside Outside
	stop    context.CancelFunc
	done    chan error
}

func start(t *testing.T, ctx context.Context, f Fixture) *running {
	t.Helper()
	r := &running{sink: &sink{}, clock: NewClock(Start()), done: make(chan error, 1)}
	es, found := Load(t, f.Kind, f.Good)
	if err := manifest.FirstError(found); err != nil {
		t.Fatal(err)
	}
	r.Definition = es.Definition
	var ids int
	tools := source.Tools{Sink: r.sink, Secrets: Secrets{}, History: r.sink, Clock: r.clock, NewID: func() string { ids++; return fmt.Sprint("id", ids) }}
	s, err := f.Kind.Open(es.Definition, tools)
	if err != nil {
		t.Fatal(err)
	}
	ctx, r.stop = context.WithCancel(ctx)
	r.outside = f.Outside(t, s, r.clock)
	go func() { r.done <- s.Run(ctx) }()
	t.Cleanup(r.stop)
	return r
}

// Load reads an EventSource with one event of a kind, and what the kind's check says.
func Load(t testing.TB, kind source.Kind, text string) (source.Event, []manifest.Diagnostic) {
	t.Helper()
	objects, diagnostics := manifest.Decode("es.yaml", []byte(text))
	if err := manifest.FirstError(diagnostics); err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	kinds, err := source.NewKinds(kind)
	if err != nil {
		t.Fatal(err)
	}
	es, _ := manifest.LoadEventSource(objects[0])
	events := kinds.Events(es)
	if len(events) != 1 {
		t.Fatalf("%d events, want one", len(events))
	}
	return events[0], kinds.Check(objects[0])
}

func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func testAcknowledged(t *testing.T, f Fixture) {
	ctx := limit(t)
	r := start(t, ctx, f)
	n := 1
	r.sink.asked = func() {
		if r.outside.Acknowledged(n) {
			t.Errorf("thing %d is acknowledged before it is recorded", n)
		}
	}
	for ; n <= 3; n++ {
		r.outside.Happen(ctx, n)
		if !r.outside.Acknowledged(n) {
			t.Errorf("thing %d is recorded and not acknowledged", n)
		}
	}
	events, _ := r.sink.seen()
	if len(events) != 3 {
		t.Fatalf("three things are %d events", len(events))
	}
	for i, e := range events {
		if e.ID == "" || e.Type != f.Kind.Name() || e.Namespace != r.Namespace || e.Source != r.Source || e.Subject != r.Event || e.Time.IsZero() || e.Seq != 0 {
			t.Errorf("event %d is %+v, of %+v", i+1, e, r.Definition)
		}
		if !json.Valid(e.Data) {
			t.Errorf("the data of event %d is no JSON: %s", i+1, e.Data)
		}
		for _, other := range events[:i] {
			if e.Delivery == "" || other.Delivery == e.Delivery {
				t.Errorf("deliveries %q and %q do not tell two things apart", other.Delivery, e.Delivery)
			}
		}
	}
}

func testFailed(t *testing.T, f Fixture) {
	ctx := limit(t)
	r := start(t, ctx, f)
	r.sink.set(true)
	r.outside.Happen(ctx, 1)
	if _, tries := r.sink.seen(); r.outside.Acknowledged(1) || len(tries) == 0 {
		t.Fatalf("%d deliveries failed, and it is acknowledged: %v", len(tries), r.outside.Acknowledged(1))
	}
	r.sink.set(false)
	r.outside.Happen(ctx, 1)
	events, tries := r.sink.seen()
	if len(events) != 1 || !r.outside.Acknowledged(1) {
		t.Fatalf("what came again is %d events, and acknowledged: %v", len(events), r.outside.Acknowledged(1))
	}
	for _, e := range tries {
		if e.Delivery != events[0].Delivery {
			t.Errorf("one thing has the deliveries %q and %q", events[0].Delivery, e.Delivery)
		}
	}
}

func testEnd(t *testing.T, f Fixture) {
	ctx := limit(t)
	r := start(t, ctx, f)
	r.outside.Happen(ctx, 1)
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("the end of the context is the error %v", err)
		}
	case <-ctx.Done():
		t.Error("it did not end")
	}
	if _, tries := r.sink.seen(); len(tries) != 1 {
		t.Errorf("one thing was delivered %d times", len(tries))
	}
}

func testBad(t *testing.T, f Fixture) {
	if len(f.Bad) == 0 {
		t.Fatal("the fixture has no bad definition")
	}
	for place, text := range f.Bad {
		_, found := Load(t, f.Kind, text)
		var at []string
		for _, d := range found {
			if d.Severity == manifest.SeverityError {
				at = append(at, fmt.Sprintf("%d:%d", d.Position.Line, d.Position.Column))
			}
		}
		if len(at) != 1 || at[0] != place {
			t.Errorf("errors at %v, want one at %s: %v", at, place, found)
		}
	}
}

func testBadOpen(t *testing.T, f Fixture) {
	for _, text := range f.Bad {
		e, _ := Load(t, f.Kind, text)
		if _, err := f.Kind.Open(e.Definition, source.Tools{}); err == nil {
			t.Errorf("a definition with errors was opened:\n%s", text)
		}
	}
}
