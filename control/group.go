package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Waits before a service that gave up is started again.
const (
	firstWait = 100 * time.Millisecond
	mostWait  = time.Minute
	// steady is how long a service must have run for the waits to begin anew.
	steady = 5 * time.Minute
)

// GroupOptions of a Group.
type GroupOptions struct {
	Now func() time.Time
	Log *slog.Logger
	// Wait waits for a time or for the context's end; nil uses the clock. Tests move it.
	Wait func(ctx context.Context, d time.Duration) error
}

// Group starts services in order, watches them, and stops them in the opposite order. A service that gives up is
// started again after a growing wait: one room that fails keeps no other from its work, and is shown as failing
// meanwhile. Create it with NewGroup; methods are safe for concurrent use.
type Group struct {
	o     GroupOptions
	tasks []*task
}

// task is a service and how it is.
type task struct {
	service Service
	cancel  context.CancelFunc
	ended   chan struct{}

	mu     sync.Mutex
	health Health
}

// NewGroup returns a group of services; nothing happens until Start.
func NewGroup(o GroupOptions, services ...Service) *Group {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	g := &Group{o: o}
	for _, s := range services {
		g.tasks = append(g.tasks, &task{service: s, health: Health{State: Starting, Since: o.Now().UTC()}})
	}
	return g
}

// Start starts the services one after the other and has them run. If one cannot start, those before it are stopped
// and its error is returned. The services run until Stop, not until ctx ends.
func (g *Group) Start(ctx context.Context) error {
	for _, t := range g.tasks {
		if err := t.service.Start(ctx); err != nil {
			g.Stop()
			return fmt.Errorf("start %s: %w", t.service.Name(), err)
		}
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		t.cancel, t.ended = cancel, make(chan struct{})
		t.set(Health{State: Running, Since: g.o.Now().UTC()})
		go func() {
			defer close(t.ended)
			g.keep(run, t)
		}()
	}
	return nil
}

// keep runs a service, again and again if it gives up, until ctx ends.
func (g *Group) keep(ctx context.Context, t *task) {
	pause := firstWait
	for again := false; ; again = true {
		began := g.o.Now()
		err := g.run(ctx, t, again)
		if ctx.Err() == nil {
			if g.o.Now().Sub(began) >= steady {
				pause = firstWait
			}
			t.set(Health{State: Failing, Reason: err.Error(), Since: g.o.Now().UTC()})
			g.o.Log.Error("a part of the server gave up; it is started again", "part", t.service.Name(), "after", pause.String(), "error", err)
			if g.o.Wait(ctx, pause) == nil {
				pause = min(2*pause, mostWait)
				continue
			}
		}
		t.set(Health{State: Stopped, Since: g.o.Now().UTC()})
		return
	}
}

// errEnded is the error of a service that ended though nobody asked it to.
var errEnded = errors.New("it ended by itself")

// run runs a service once; one that gave up before is started first.
func (g *Group) run(ctx context.Context, t *task, again bool) error {
	if again {
		if err := t.service.Start(ctx); err != nil {
			return err
		}
		t.set(Health{State: Running, Since: g.o.Now().UTC()})
	}
	if err := t.service.Run(ctx); err != nil {
		return err
	}
	return errEnded
}

// Stop ends the services, the last started first, and waits for each. It may be called more than once.
func (g *Group) Stop() {
	for i := len(g.tasks) - 1; i >= 0; i-- {
		t := g.tasks[i]
		if t.cancel == nil {
			continue
		}
		t.cancel()
		<-t.ended
	}
}

// Status gives the health of every service, in the order of their start.
func (g *Group) Status() []Status {
	list := make([]Status, len(g.tasks))
	for i, t := range g.tasks {
		list[i] = Status{Name: t.service.Name(), Health: t.status()}
	}
	return list
}

func (t *task) set(h Health) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.health = h
}

// status is what the group knows, or what the service itself says while it runs.
func (t *task) status() Health {
	t.mu.Lock()
	h := t.health
	t.mu.Unlock()
	if h.State != Running {
		return h
	}
	own := t.service.Health()
	if own.State == "" {
		own.State = Running
	}
	if own.Since.IsZero() && own.State == Running {
		own.Since = h.Since
	}
	return own
}

// wait waits for a time, or for the context's end.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
