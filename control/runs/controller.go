// Package runs drives runs: it takes commands to the engine, writes its decisions to the ledger, carries out
// the effects through executors, and brings back what they report. `tiphys run` and `tiphys serve` use it alike.
package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/control/actor"
	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/admission"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/workflow"
)

// ErrNotFound says that there is no such run.
var ErrNotFound = failure.New(failure.NotFound, "run not found")

// AnnotationExecutor chooses the executor of a run or template.
const AnnotationExecutor = "tiphys.dev/executor"

// Objects gives the objects that runs refer to: templates, ConfigMaps, Secrets. A missing one is
// [ErrNoObject].
type Objects interface {
	Object(ctx context.Context, ref workflow.Ref) (json.RawMessage, error)
}

// ErrNoObject says that a referenced object does not exist.
var ErrNoObject = failure.New(failure.NotFound, "object not found")

// Claims settles whom and what a run acts for, from the record alone. An error is one of the record, which may be read later.
type Claims interface {
	Settle(ctx context.Context, m claims.Made) (claims.Record, error)
}

// Folders lists folders of the built-in store.
type Folders interface {
	// Keys gives the keys below a folder, or refuses it to the caller.
	Keys(ctx context.Context, caller artifact.Caller, folder string) ([]string, error)
}

// Tokens makes the tokens by which steps prove what they are.
type Tokens interface {
	// Token is that of one attempt. An error means that the start is tried again.
	Token(ctx context.Context, run workflow.Run, id executor.ID) (secret.Value, error)
}

// Orphans takes the reports of pods that belong to no run that goes on.
type Orphans interface {
	// Take takes one report, and acknowledges it in its time; of what it does not take a final one is acknowledged as nobody's.
	Take(ctx context.Context, rep executor.Report) (taken bool)
}

// Options of a Controller. Ledger, Executors and Objects are required.
type Options struct {
	Ledger ledger.Ledger
	// Executors execute pods: the default one, or the one that a run or template names.
	Executors *executor.Registry
	Objects   Objects
	// Secrets reads what Objects has; nil makes a reader.
	Secrets *Secrets
	// Folders lists folders of the built-in store, on behalf of a run's node; nil for no store.
	Folders Folders
	// Egress makes the requests of http templates; nil refuses what is to be refused.
	Egress *egress.Client
	// Claims settles whom and what a submitted run acts for; nil has all act for nobody.
	Claims Claims
	// Tokens makes the steps' own tokens; nil for none.
	Tokens Tokens
	// Env is added to every step.
	Env map[string]string
	// Validator judges a manifest before it is submitted; nil lets everything through to the engine.
	Validator Validator
	// Defaults is merged under every workflow (Argo's workflowDefaults); may be nil.
	Defaults json.RawMessage
	// Places bounds how many pods are live; pods that find no place wait. nil is no bound.
	Places *admission.Gate
	Now    func() time.Time
	// NewSeed feeds the engine's chance; nil uses the clock.
	NewSeed func() int64
	Log     *slog.Logger
	// Pushed has what pods pushed; nil for none.
	Pushed Pushed
	// Patience is how long Run waits for the executor to say which attempts it has, before it goes on without; 10 s if 0.
	Patience time.Duration
	// Orphans is given reports of pods that belong to no run that goes on; nil acknowledges them.
	Orphans Orphans
	// Keep is how many entries a run has at least between two times that its state is kept in the ledger; 2000 if 0, and negative for never.
	Keep int64
	// Quarantine has what is computed on; nil lets everything happen.
	Quarantine *quarantine.Book
	// Fault is called at named points in test builds.
	Fault func(point string)
}

// Controller drives all runs of one ledger. Create it with New, start it with Run; methods are safe for
// concurrent use.
//
// Each run has one owner, its actor in runs. What a decision asks of the world is done by others: pods has the starts, stops and
// acknowledgements of each node in their order, asks the questions, requests those of http templates, locks the one owner of mutexes and
// semaphores.
// A run's actor never waits for these; they may wait for it.
type Controller struct {
	o Options

	runs *actor.System[string, *live, *message]
	pods *actor.System[nodeKey, struct{}, *errand]
	asks *actor.System[string, struct{}, *errand]
	// requests wait for servers that others chose, for as long as a manifest says: what they wait for must hold up nothing else.
	requests *actor.System[requestKey, struct{}, *errand]
	locks    *actor.System[struct{}, *lockTable, lockWish]

	// troubles are what does not succeed at the moment.
	troubles troubles

	mu sync.Mutex
	// uids has the runs that have not ended: uid to key.
	uids map[string]string
	// starts are those that are under way, by the key of their effect.
	starts map[string]*starting
	// underWay has what is done once, however often it is asked for.
	underWay map[string]bool
	// listed says that the executor told which attempts it has; ended are those that ended before.
	listed bool
	ended  map[executor.ID]bool
	// checked says that the attempts on record were compared with those of the executor.
	checked bool

	// claims is held for writing while claims of runs are deleted, and for reading while a pod is given some.
	claims sync.RWMutex

	started chan struct{} // closed by Run: nothing is done before
	stopped chan struct{} // closed when Run ends
}

// Bounds of what is done at the same time.
const (
	// starters is how many nodes have pods started or stopped; starting is mostly waiting for the kernel.
	starters = 16
	// askers is how many questions are under way: they wait for the ledger and the store.
	askers = 64
	// requesters is how many requests of http templates are under way, and ownRequests how many of one run.
	requesters  = 256
	ownRequests = 16
	// endless is a mailbox whose senders never wait: it has a message for each node at most.
	endless = 1 << 20
)

// New returns a controller; nothing happens until Run.
func New(o Options) *Controller {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fault == nil {
		o.Fault = func(string) {}
	}
	if o.NewSeed == nil {
		now := o.Now
		o.NewSeed = func() int64 { return now().UnixNano() }
	}
	if o.Keep == 0 {
		o.Keep = defaultKeep
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.Secrets == nil {
		o.Secrets = NewSecrets(o.Objects)
	}
	if o.Places == nil {
		o.Places = admission.New(0)
	}
	c := &Controller{o: o, uids: map[string]string{}, ended: map[executor.ID]bool{}, starts: map[string]*starting{}, underWay: map[string]bool{}, started: make(chan struct{}), stopped: make(chan struct{})}
	c.runs = actor.New(actor.Options[string, *live, *message]{Load: c.find, Handle: c.handle, Refused: refused, Ended: (*live).ended})
	c.pods = errands[nodeKey](c, starters, podTimeout)
	c.asks = errands[string](c, askers, askTimeout)
	c.requests = errands[requestKey](c, requesters, askTimeout)
	c.locks = actor.New(actor.Options[struct{}, *lockTable, lockWish]{Load: c.loadLocks, Handle: c.handleLocks, Mailbox: endless, Batch: lockBatch,
		Timeout: lockTimeout})
	return c
}

// Run takes up what was under way and drives runs until ctx ends. It is called once, and never gives up: what does not succeed is
// tried again, and Health shows it.
func (c *Controller) Run(ctx context.Context) error {
	defer c.stop()
	if !c.try(ctx, "take up unfinished runs", c.know) {
		return nil
	}
	close(c.started)
	var wg sync.WaitGroup
	listed, taken := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		known, ok := c.known(ctx)
		close(listed)
		select {
		case <-taken: // before, an attempt whose start is still to be carried out would count as lost
		case <-ctx.Done():
			return
		}
		if ok {
			c.compare(ctx, known)
		}
	})
	c.await(ctx, listed)
	if !c.try(ctx, "take up unfinished work", c.leftovers) {
		wg.Wait()
		return nil
	}
	close(taken)
	wg.Go(func() { c.receive(ctx) })
	wg.Go(func() { c.timers(ctx) })
	wg.Go(func() { c.retries(ctx) })
	wg.Go(func() { c.declared(ctx) })
	wg.Go(func() { c.wakeLocks(ctx) })
	wg.Go(func() { c.showWaiting(ctx) })
	wg.Go(func() { c.sweep(ctx) })
	<-ctx.Done()
	wg.Wait()
	return nil
}

// defaultPatience is Options.Patience if that is 0.
const defaultPatience = 10 * time.Second

// await waits until the executor has told which attempts it has, but not for ever: one that is away keeps no run of another from going
// on.
func (c *Controller) await(ctx context.Context, listed <-chan struct{}) {
	t := time.NewTimer(c.o.Patience)
	defer t.Stop()
	select {
	case <-listed:
	case <-t.C:
	case <-ctx.Done():
	}
}

// try does what all runs need until it succeeds; false means that ctx ended first.
func (c *Controller) try(ctx context.Context, what string, do func(context.Context) error) bool {
	for failed := 1; ; failed++ {
		err := do(ctx)
		if err == nil {
			c.troubles.over(what)
			return true
		}
		if ctx.Err() == nil {
			c.troubles.note(what, fmt.Sprintf("%s, tried %d times: %s", what, failed, err), c.o.Now(), true)
		}
		if !sleep(ctx, waitAfter(failed)) {
			return false
		}
	}
}

// stop ends the actors. What they have not done is in the outbox, or is reported again.
func (c *Controller) stop() {
	close(c.stopped)
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for _, stop := range []func(context.Context) error{c.pods.Stop, c.asks.Stop, c.requests.Stop, c.locks.Stop, c.runs.Stop} {
		_ = stop(now) // it always says that it did not wait
	}
}

// Runs are quiet when nothing happens to them, and forgotten until something does: sooner where there are many.
const (
	sweepEvery = 30 * time.Second
	quietTurns = 20
	manyLoaded = 1000
)

// sweep drops runs from memory that nothing has happened to.
func (c *Controller) sweep(ctx context.Context) {
	for n := 1; sleep(ctx, sweepEvery); n++ {
		if n%quietTurns == 0 || c.runs.Size().Loaded > manyLoaded {
			c.runs.Sweep()
		}
	}
}

// Size is what a controller has in memory and under way.
type Size struct {
	// Unfinished are the runs that have not ended; Loaded those whose state is in memory.
	Unfinished, Loaded int
	// Messages wait for runs; Errands are nodes with starts, stops or questions under way.
	Messages, Errands int
	// Live are pods that have a place, Waiting those that wait for one.
	Live, Waiting int
}

// Size tells what is in memory now.
func (c *Controller) Size() Size {
	c.mu.Lock()
	n := len(c.uids)
	c.mu.Unlock()
	runs, places := c.runs.Size(), c.o.Places.Count()
	return Size{Unfinished: n, Loaded: runs.Loaded, Messages: runs.Messages, Errands: c.pods.Size().Keys + c.asks.Size().Keys + c.requests.Size().Keys,
		Live: places.Live, Waiting: places.Waiting}
}

// Key is a run's key in the ledger's tables: namespace/name.
func Key(namespace, name string) string { return namespace + "/" + name }

// subject is a run's subject in the ledger.
func subject(key string) string { return "run/" + key }

func (c *Controller) meta(actor string) workflow.Meta {
	return workflow.Meta{Now: c.o.Now().UTC(), Seed: c.o.NewSeed(), Actor: actor}
}
