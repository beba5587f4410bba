// Package apps keeps Applications as Git and their releases want them: it resolves what should run, renders, compares,
// syncs through the pure planner, and records what happened with its cause, so that a running object leads back to
// the push. ApplicationSets are expanded here too.
//
// Every Application and every ApplicationSet is an actor: one owner of its state, which is a cache of the ledger and is loaded
// again after any error that is not a clean refusal. What cannot be handled concerns only itself, is shown on the object and is
// tried again with growing waits.
package apps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/actor"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/render"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// ErrNotFound says that there is no such Application.
var ErrNotFound = failure.New(failure.NotFound, "no such application")

// Rights finds out for whom the pods of an Application are.
type Rights interface {
	// Application says it of one by its name, namespace/name, the URLs of its sources, the merge request that it is a preview of (0 for
	// none), and the repository that this one comes from if it is another.
	Application(name string, sources []string, mr int, fork string) podpolicy.Subject
}

// Options of a [Controller].
type Options struct {
	Ledger  ledger.Ledger
	Targets *deploy.Targets
	// Render renders a source: render.Child{}.Render.
	Render func(context.Context, render.Source) (render.Result, error)
	// Scripts runs the programs by which an operator judges kinds; nil runs none, and what is judged by them is Unknown.
	Scripts      health.Scripts
	Definitions  definitions.Reader
	Repositories Repositories
	Forges       Forges
	Front        Front
	// Rights finds out for whom the pods of Applications are; nil has them be for the Application alone.
	Rights Rights
	// Poll is how often Git and the forges are asked where no event tells; 3 minutes if 0.
	Poll time.Duration
	// Deadline and HookDeadline bound a sync; the planner's defaults if 0.
	Deadline, HookDeadline time.Duration
	// Timeout bounds how long one checkout, one rendering or one look at a target may take; 2 minutes if 0.
	Timeout time.Duration
	// Quarantine has what is computed on; nil lets everything happen.
	Quarantine *quarantine.Book
	Now        func() time.Time
	Log        *slog.Logger
}

// Controller looks after every Application. It is a control.Service.
type Controller struct {
	o       Options
	kick    chan struct{}
	renders chan struct{} // a token for each rendering at a time
	apps    *agency[*worker]
	sets    *agency[*set]
	wanted  board
	seen    int64 // the last entry that was looked at; Run's goroutine alone has it

	health     atomic.Pointer[custom]
	verdicts   verdicts
	customized string // which definition they were read from; Run's goroutine alone has it

	// troubles are Applications and ApplicationSets that could not be looked after, which is tried again.
	troubles failure.Troubles

	mu      sync.Mutex
	trouble error // why the definitions or the news could not be read
	since   time.Time
}

var _ control.Service = (*Controller)(nil)

const (
	// maxRenders is the most renderings at a time.
	maxRenders = 2
	// maxExpansions is the most sets that are expanded at a time.
	maxExpansions = 4
	// handling bounds one look at an Application. It is long because many may wait for a rendering; what waits for somebody else has a
	// deadline of its own.
	handling = 30 * time.Minute
)

// New returns a controller; Start and Run have it work.
func New(o Options) *Controller {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Poll == 0 {
		o.Poll = 3 * time.Minute
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	c := &Controller{o: o, kick: make(chan struct{}, 1), renders: make(chan struct{}, maxRenders)}
	c.wanted.clear()
	c.apps = newAgency(c, "application", actor.Options[string, *worker, message]{Load: c.load, Handle: c.handle, Refused: isRefusal,
		Ended: func(w *worker) bool { return !w.known }, Batch: 1, Timeout: handling})
	c.sets = newAgency(c, "ApplicationSet", actor.Options[string, *set, message]{Load: c.loadSet, Handle: c.handleSet, Batch: 1,
		Workers: maxExpansions, Timeout: handling})
	return c
}

// Name implements control.Service.
func (c *Controller) Name() string { return "applications" }

// Start reads what is declared, and has everything looked at. The error is one of reading the ledger.
func (c *Controller) Start(ctx context.Context) error {
	head, err := c.o.Ledger.Head(ctx)
	if err != nil {
		return fmt.Errorf("start applications: %w", err)
	}
	c.seen = head.Seq
	if err := c.look(ctx); err != nil {
		return fmt.Errorf("start applications: %w", err)
	}
	return nil
}

// Health implements control.Service: it is failing while what is declared cannot be read, and waits while something cannot be looked after.
func (c *Controller) Health() control.Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble == nil {
		if one := c.troubles.Text(); one != "" {
			return control.Health{State: control.Waiting, Reason: "not looked after, and tried again: " + one}
		}
		return control.Health{}
	}
	return control.Health{State: control.Failing, Reason: c.trouble.Error(), Since: c.since}
}

// note keeps why the whole does not go on, for Health; nil that it does. It gives the error back.
func (c *Controller) note(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if (err == nil) != (c.trouble == nil) {
		c.since = c.o.Now().UTC()
	}
	c.trouble = err
	return err
}

// The kinds of entries that may change what should run.
var wakes = []string{kindDefined, kindUndefined, deploy.KindReleaseRecorded, event.KindReceived}

const (
	// breath is the least time between two looks for news: many deliveries a second need not be looked at one by one.
	breath = 50 * time.Millisecond
	// again is the wait before what failed for all is tried again.
	again = 5 * time.Second
)

// Run works until the context ends, and returns nil then.
func (c *Controller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var forwards sync.WaitGroup
	defer forwards.Wait()
	defer cancel()
	c.apps.open(ctx)
	c.sets.open(ctx)
	defer c.sets.close()
	defer c.apps.close()
	changes := c.changes(ctx, &forwards)
	c.poke()
	poll := time.NewTicker(c.o.Poll)
	defer poll.Stop()
	var rest <-chan time.Time // until then nobody looks for news
	for {
		var changed <-chan struct{}
		if rest == nil {
			changed = c.o.Ledger.Changed()
			if err := c.news(ctx); err != nil {
				rest = time.After(again)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			rest = time.After(breath)
		case <-rest:
			rest = nil
		case change := <-changes:
			c.apps.wake(change.Application, false)
		case <-poll.C:
			c.poke()
		case <-c.kick:
			if err := c.note(c.look(ctx)); err != nil && ctx.Err() == nil {
				c.o.Log.Error("what is declared could not be read; the applications stay as they are", "wait", again, "error", err)
				time.AfterFunc(again, c.poke)
			}
		}
	}
}

// changes are those of every cluster.
func (c *Controller) changes(ctx context.Context, forwards *sync.WaitGroup) <-chan deploy.Change {
	all := make(chan deploy.Change)
	for _, cluster := range c.o.Targets.All() {
		forwards.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case change := <-cluster.Target.Changes():
					select {
					case all <- change:
					case <-ctx.Done():
						return
					}
				}
			}
		})
	}
	return all
}

func (c *Controller) poke() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// news has everything looked at if something was recorded since the last look that matters here.
func (c *Controller) news(ctx context.Context) error {
	kinds := append(append([]string{}, wakes...), c.o.Forges.Wakes()...)
	entries, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{After: c.seen, Kinds: kinds, Newest: true, Limit: 1, Bare: true})
	if err != nil {
		return c.note(fmt.Errorf("read new entries: %w", err))
	}
	if len(entries) > 0 {
		c.seen = entries[0].Seq
		c.poke()
	}
	return nil
}

// look reads what is declared and has everything that is declared or on record looked at.
func (c *Controller) look(ctx context.Context) error {
	if err := errors.Join(c.customize(ctx), c.declare(ctx)); err != nil {
		return err
	}
	keys, err := c.keys(ctx, deploy.TableApplication)
	if err != nil {
		return err
	}
	sets, err := c.keys(ctx, deploy.TableSet)
	if err != nil {
		return err
	}
	for key := range c.wanted.sets(sets) {
		c.sets.wake(key, true)
	}
	for key := range c.wanted.applications(keys) {
		c.apps.wake(key, true)
	}
	return nil
}

// keys are the keys of a table.
func (c *Controller) keys(ctx context.Context, table string) ([]string, error) {
	rows, err := all(ctx, c.o.Ledger, ledger.Query{Table: table})
	keys := make([]string, len(rows))
	for i, row := range rows {
		keys[i] = row.Key
	}
	return keys, err
}

// all reads every row of a query, page by page.
func all(ctx context.Context, l ledger.Reader, q ledger.Query) ([]ledger.Row, error) {
	q.Limit = 500
	var rows []ledger.Row
	for {
		page, err := l.List(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", q.Table, err)
		}
		rows = append(rows, page...)
		if len(page) < q.Limit {
			return rows, nil
		}
		last := page[len(page)-1]
		q.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
	}
}

// Refresh has one Application (namespace/name) looked at again, Git included; empty means all, and the definitions.
func (c *Controller) Refresh(key string) {
	if key == "" {
		c.poke()
		return
	}
	c.apps.wake(key, true)
}

// SyncRequest is a sync that somebody asks for.
type SyncRequest = deploy.SyncRequest

// Sync begins a sync of an Application now; it returns when the sync is on record.
func (c *Controller) Sync(ctx context.Context, key string, r SyncRequest) error {
	return c.apps.ask(ctx, key, func(ctx context.Context, w *worker) error { return w.syncNow(ctx, r) })
}

// Rollback deploys an earlier release ("harbour#7"), or an earlier commit where the Application follows Git alone,
// and stays there. Empty goes back to the newest.
func (c *Controller) Rollback(ctx context.Context, key, to, actor string) error {
	return c.apps.ask(ctx, key, func(ctx context.Context, w *worker) error { return w.pin(ctx, to, actor) })
}

// custom are the operator's rules of health.
type custom struct {
	rules health.Rules
	// problems say what of them has no effect, and why none could be read.
	problems []string
}
