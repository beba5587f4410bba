package apps

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tiphys/tiphys/control/actor"
)

// message asks an actor for something.
type message struct {
	// refresh has Git and the forges asked too.
	refresh bool
	// order is what a person asks for; nil is a look.
	order func(context.Context, *worker) error
}

// refusal is an error that left everything as it was, so that the state of the actor is good.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func isRefusal(err error) bool {
	var r refusal
	return errors.As(err, &r)
}

// The waits before something that could not be handled is tried again.
const (
	firstRetry = 5 * time.Second
	maxRetry   = 5 * time.Minute
)

// agency wakes actors: at most one look waits for each, and each has one timer.
type agency[S any] struct {
	c       *Controller
	what    string
	options actor.Options[string, S, message]

	mu     sync.Mutex
	ctx    context.Context // nil while nobody works
	system *actor.System[string, S, message]
	due    map[string]*due
}

// due is when and why an actor is to be woken.
type due struct {
	waiting, refresh bool
	timer            *time.Timer
	failures         int
}

func newAgency[S any](c *Controller, what string, o actor.Options[string, S, message]) *agency[S] {
	return &agency[S]{c: c, what: what, options: o, due: map[string]*due{}}
}

// open has actors work until close.
func (a *agency[S]) open(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ctx, a.system = ctx, actor.New(a.options)
}

// close ends what is being handled. Nothing is lost: after a start everything is looked at.
func (a *agency[S]) close() {
	a.mu.Lock()
	system := a.system
	a.ctx, a.system = nil, nil
	for _, d := range a.due {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	clear(a.due)
	a.mu.Unlock()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = system.Stop(ended) // It says only that handling was cut short, as it was asked to.
}

func (a *agency[S]) of(key string) *due {
	if a.due[key] == nil {
		a.due[key] = &due{}
	}
	return a.due[key]
}

// wake has an actor look; it does nothing while nobody works.
func (a *agency[S]) wake(key string, refresh bool) {
	a.mu.Lock()
	if a.system == nil || key == "" {
		a.mu.Unlock()
		return
	}
	d := a.of(key)
	d.refresh = d.refresh || refresh
	if d.waiting {
		a.mu.Unlock()
		return
	}
	d.waiting = true
	ctx, system := a.ctx, a.system
	a.mu.Unlock()
	err := system.Send(ctx, key, message{}, func(err error) { a.looked(key, err) })
	if err != nil && ctx.Err() == nil && !errors.Is(err, actor.ErrStopped) {
		a.looked(key, err)
	}
}

// take gives what a look is to do, and lets the next one wait.
func (a *agency[S]) take(key string) message {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.of(key)
	m := message{refresh: d.refresh}
	d.waiting, d.refresh = false, false
	return m
}

// looked has a look that failed tried again.
func (a *agency[S]) looked(key string, err error) {
	a.mu.Lock()
	if a.system == nil {
		a.mu.Unlock()
		return
	}
	d := a.of(key)
	d.waiting = false
	if err == nil {
		d.failures = 0
		a.mu.Unlock()
		a.c.troubles.Over(a.what + " " + key)
		return
	}
	wait := firstRetry
	for range min(d.failures, 10) {
		wait = min(2*wait, maxRetry)
	}
	d.failures++
	d.refresh = true
	a.mu.Unlock()
	a.c.troubles.Note(a.what+" "+key, err)
	a.c.o.Log.Error(a.what+" could not be looked after; trying again", "name", key, "wait", wait, "error", err)
	a.at(key, wait)
}

// at has an actor woken after a wait, or before if something else wakes it.
func (a *agency[S]) at(key string, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.system == nil {
		return
	}
	d := a.of(key)
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer = time.AfterFunc(wait, func() { a.wake(key, false) })
}

// forget gives up the timer of an actor that is no more.
func (a *agency[S]) forget(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.c.troubles.Over(a.what + " " + key)
	if d := a.due[key]; d != nil && !d.waiting {
		if d.timer != nil {
			d.timer.Stop()
		}
		delete(a.due, key)
	}
}

// ask has an actor do something and waits for its answer.
func (a *agency[S]) ask(ctx context.Context, key string, order func(context.Context, *worker) error) error {
	a.mu.Lock()
	system := a.system
	a.mu.Unlock()
	if system == nil {
		return actor.ErrStopped
	}
	return system.Ask(ctx, key, message{order: order})
}
