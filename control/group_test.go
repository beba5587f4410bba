package control_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control"
)

// scripted is a service that does at each run what the test says.
type scripted struct {
	name  string
	start func() error
	runs  chan func(context.Context) error
	say   control.Health
	note  func(string)
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Start(context.Context) error {
	s.note("start " + s.name)
	if s.start != nil {
		return s.start()
	}
	return nil
}

func (s *scripted) Run(ctx context.Context) error {
	defer s.note("end " + s.name)
	select {
	case run := <-s.runs:
		return run(ctx)
	case <-ctx.Done():
		return nil
	}
}

func (s *scripted) Health() control.Health { return s.say }

type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) add(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, s)
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}

// Services start in order, and stop in the opposite one.
func TestGroupOrder(t *testing.T) {
	t.Parallel()
	var n notes
	a, b := &scripted{name: "a", note: n.add}, &scripted{name: "b", note: n.add}
	g := control.NewGroup(control.GroupOptions{}, a, b)
	for _, s := range g.Status() {
		if s.Health.State != control.Starting || s.Health.Well() {
			t.Errorf("before the start: %s", s)
		}
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.say = control.Health{State: control.Waiting, Reason: "for room"}
	states := []string{}
	for _, s := range g.Status() {
		states = append(states, s.Name+" "+string(s.Health.State)+" "+s.Health.Reason)
	}
	if diff := cmp.Diff([]string{"a running ", "b waiting for room"}, states); diff != "" {
		t.Error(diff)
	}
	g.Stop()
	g.Stop()
	if diff := cmp.Diff([]string{"start a", "start b", "end b", "end a"}, n.all()); diff != "" {
		t.Error(diff)
	}
	if s := g.Status()[0]; s.Health.State != control.Stopped || s.Health.Well() {
		t.Errorf("after the end: %s", s)
	}
}

// If one cannot start, what had started is stopped, and the error names it.
func TestGroupStartFails(t *testing.T) {
	t.Parallel()
	var n notes
	broken := errors.New("no room")
	a := &scripted{name: "a", note: n.add}
	b := &scripted{name: "b", note: n.add, start: func() error { return broken }}
	err := control.NewGroup(control.GroupOptions{}, a, b).Start(t.Context())
	if !errors.Is(err, broken) || err.Error() != "start b: no room" {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"start a", "start b", "end a"}, n.all()); diff != "" {
		t.Error(diff)
	}
}

// A service that gives up is started again after growing waits, keeps no other from its work, and is shown as failing.
func TestGroupStartsAgain(t *testing.T) {
	t.Parallel()
	var n notes
	waits := make(chan time.Duration)
	resume := make(chan struct{})
	a := &scripted{name: "a", note: n.add, runs: make(chan func(context.Context) error)}
	b := &scripted{name: "b", note: n.add}
	g := control.NewGroup(control.GroupOptions{Wait: func(ctx context.Context, d time.Duration) error {
		select {
		case waits <- d:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-resume:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}, a, b)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	for i, want := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		a.runs <- func(context.Context) error {
			if i == 1 {
				return nil // that it ends by itself is no better
			}
			return errors.New("lost the disk")
		}
		if got := <-waits; got != want {
			t.Errorf("wait %d is %s, want %s", i, got, want)
		}
		s := g.Status()
		reason := "lost the disk"
		if i == 1 {
			reason = "it ended by itself"
		}
		if s[0].Health.State != control.Failing || s[0].Health.Reason != reason || s[0].Health.Well() {
			t.Errorf("while it waits: %s", s[0])
		}
		if !s[1].Health.Well() {
			t.Errorf("the other: %s", s[1])
		}
		resume <- struct{}{}
	}
	g.Stop()
	var starts int
	for _, what := range n.all() {
		if what == "start a" {
			starts++
		}
	}
	if starts < 3 {
		t.Errorf("started %d times", starts)
	}
}
