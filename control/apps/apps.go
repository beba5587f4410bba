// Package apps keeps Applications as Git and their releases want them: it resolves what should run, renders, compares,
// syncs through the pure planner, and records what happened with its cause, so that a running object leads back to
// the push. ApplicationSets are expanded here too.
//
// Every Application has one worker, which alone changes its row; the controller tells workers to look again.
package apps

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/render"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// ErrNotFound says that there is no such Application.
var ErrNotFound = failure.New(failure.NotFound, "no such application")

// Options of a [Controller].
type Options struct {
	Ledger  ledger.Ledger
	Targets *deploy.Targets
	// Render renders a source: render.Child{}.Render.
	Render       func(context.Context, render.Source) (render.Result, error)
	Definitions  Definitions
	Repositories Repositories
	Forges       Forges
	Front        Front
	// Poll is how often Git and the forges are asked where no event tells; 3 minutes if 0.
	Poll time.Duration
	// Deadline and HookDeadline bound a sync; the planner's defaults if 0.
	Deadline, HookDeadline time.Duration
	// Timeout bounds how long one checkout or rendering may take; 2 minutes if 0.
	Timeout time.Duration
	Now     func() time.Time
	Log     *slog.Logger
}

// Controller looks after every Application.
type Controller struct {
	o       Options
	kick    chan struct{}
	renders chan struct{} // a token for each rendering at a time

	health     atomic.Pointer[health.Rules]
	customized string // which definition they were read from; Run's goroutine alone has it

	mu      sync.Mutex
	workers map[string]*worker
	running sync.WaitGroup
}

// The most renderings at a time.
const maxRenders = 2

// New returns a controller; Run starts it.
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
	return &Controller{o: o, kick: make(chan struct{}, 1), renders: make(chan struct{}, maxRenders),
		workers: map[string]*worker{}}
}

// The kinds of entries that may change what should run.
var wakes = []string{"definition.set", "definition.deleted", deploy.KindReleaseRecorded, event.KindReceived}

// breath is the least time between two looks for news: many deliveries a second need not be looked at one by one.
const breath = 50 * time.Millisecond

// Run works until the context ends. The error is one of reading the ledger at the start.
func (c *Controller) Run(ctx context.Context) error {
	defer c.running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	head, err := c.o.Ledger.Head(ctx)
	if err != nil {
		return fmt.Errorf("start applications: %w", err)
	}
	if err := c.load(ctx); err != nil {
		return fmt.Errorf("start applications: %w", err)
	}
	seen := head.Seq
	c.poke()
	poll := time.NewTicker(c.o.Poll)
	defer poll.Stop()
	changes := c.changes(ctx)
	var rest <-chan time.Time // until then nobody looks for news
	for {
		var changed <-chan struct{}
		if rest == nil {
			changed = c.o.Ledger.Changed()
			if c.news(ctx, &seen) {
				c.poke()
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
			c.wake(change.Application, false)
		case <-poll.C:
			c.poke()
		case <-c.kick:
			c.customize(ctx)
			c.definitions(ctx)
			c.wakeAll()
		}
	}
}

// changes are those of every cluster.
func (c *Controller) changes(ctx context.Context) <-chan deploy.Change {
	all := make(chan deploy.Change)
	for _, cluster := range c.o.Targets.All() {
		c.running.Go(func() {
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

// news says whether something was recorded since the last look that matters here.
func (c *Controller) news(ctx context.Context, seen *int64) bool {
	kinds := append(append([]string{}, wakes...), c.o.Forges.Wakes()...)
	entries, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{After: *seen, Kinds: kinds, Newest: true, Limit: 1, Bare: true})
	if err != nil || len(entries) == 0 {
		if err != nil && ctx.Err() == nil {
			c.o.Log.Error("new entries could not be read", "error", err)
		}
		return false
	}
	*seen = entries[0].Seq
	return true
}

// causeOf is the newest event that told of a commit; 0 if none did.
func (c *Controller) causeOf(ctx context.Context, sha string) int64 {
	if sha == "" {
		return 0
	}
	rows, err := c.o.Ledger.List(ctx, ledger.Query{Table: event.TableEvent, Labels: map[string]string{"commit": sha}, Limit: 1})
	if err != nil || len(rows) == 0 {
		return 0
	}
	var e event.EventRow
	if err := json.Unmarshal(rows[0].Body, &e); err != nil {
		c.o.Log.Error("the event of a commit could not be read", "commit", sha, "error", err)
	}
	return e.Seq
}

// load makes a worker for every Application that the ledger knows.
func (c *Controller) load(ctx context.Context) error {
	rows, err := all(ctx, c.o.Ledger, ledger.Query{Table: deploy.TableApplication})
	if err != nil {
		return err
	}
	for _, row := range rows {
		var a deploy.ApplicationRow
		if err := json.Unmarshal(row.Body, &a); err != nil {
			return fmt.Errorf("read application %s: %w", row.Key, err)
		}
		c.worker(ctx, a.Key(), &a)
	}
	return nil
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

// worker gives the worker of an Application, and starts one if there is none.
func (c *Controller) worker(ctx context.Context, key string, row *deploy.ApplicationRow) *worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.workers[key]; w != nil {
		return w
	}
	w := &worker{c: c, key: key, kick: make(chan struct{}, 1), orders: make(chan order)}
	if row != nil {
		w.row, w.known = *row, true
	}
	c.workers[key] = w
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		w.run(ctx)
		c.mu.Lock()
		delete(c.workers, key)
		c.mu.Unlock()
		if ctx.Err() == nil {
			c.poke() // It may have been declared again meanwhile.
		}
	}()
	return w
}

func (c *Controller) find(key string) *worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workers[key]
}

func (c *Controller) wake(key string, refresh bool) {
	if w := c.find(key); w != nil {
		w.wake(refresh)
	}
}

func (c *Controller) wakeAll() {
	c.mu.Lock()
	list := make([]*worker, 0, len(c.workers))
	for _, w := range c.workers {
		list = append(list, w)
	}
	c.mu.Unlock()
	for _, w := range list {
		w.wake(true)
	}
}

// Refresh has one Application (namespace/name) looked at again, Git included; empty means all, and the definitions.
func (c *Controller) Refresh(key string) {
	if key == "" {
		c.poke()
		return
	}
	c.wake(key, true)
}

// SyncRequest is a sync that somebody asks for.
type SyncRequest = deploy.SyncRequest

// Sync begins a sync of an Application now; it returns when the sync is on record.
func (c *Controller) Sync(ctx context.Context, key string, r SyncRequest) error {
	return c.order(ctx, key, func(ctx context.Context, w *worker) error { return w.syncNow(ctx, r) })
}

// Rollback deploys an earlier release ("harbour#7"), or an earlier commit where the Application follows Git alone,
// and stays there. Empty goes back to the newest.
func (c *Controller) Rollback(ctx context.Context, key, to, actor string) error {
	return c.order(ctx, key, func(ctx context.Context, w *worker) error { return w.pin(ctx, to, actor) })
}

type order struct {
	do   func(context.Context, *worker) error
	done chan error
}

func (c *Controller) order(ctx context.Context, key string, do func(context.Context, *worker) error) error {
	w := c.find(key)
	if w == nil {
		return fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	o := order{do: do, done: make(chan error, 1)}
	select {
	case w.orders <- o:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
