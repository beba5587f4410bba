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

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
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

// Options of a Controller. Ledger, Executors and Objects are required.
type Options struct {
	Ledger ledger.Ledger
	// Executors execute pods: the default one, or the one that a run or template names.
	Executors *executor.Registry
	// RefuseHost says why a run that is submitted may not use an executor that shows pods the files of its machine, and
	// what to do about it; an empty reason allows it, and nil allows it to all.
	RefuseHost func(ctx context.Context, s Submission) (reason, hint string)
	Objects    Objects
	// List gives the keys below a folder of the built-in store, on behalf of a run's node, or refuses it; nil has none.
	List func(ctx context.Context, caller artifact.Caller, folder string) ([]string, error)
	// Token makes the step's own token for an attempt; nil for none.
	Token func(run workflow.Run, id executor.ID) secret.Value
	// Env is added to every step.
	Env map[string]string
	// Validate judges a manifest before it is submitted; lenient lets arguments be missing. nil lets everything
	// through to the engine.
	Validate func(ctx context.Context, o manifest.Object, namespace string, lenient bool) []manifest.Diagnostic
	// Defaults is merged under every workflow (Argo's workflowDefaults); may be nil.
	Defaults json.RawMessage
	Now      func() time.Time
	// NewSeed feeds the engine's chance; nil uses the clock.
	NewSeed func() int64
	Log     *slog.Logger
	// Orphan is given reports of pods that belong to no run in memory; nil drops them.
	Orphan func(ctx context.Context, rep executor.Report)
	// Fault is called at named points in test builds.
	Fault func(point string)
}

// Controller drives all runs of one ledger. Create it with New, start it with Run; methods are safe for
// concurrent use.
type Controller struct {
	o Options

	mu   sync.Mutex
	live map[string]*live  // by run key
	uids map[string]string // uid to run key

	pending chan func(context.Context)
	ended   chan struct{}
}

// live is a run in memory: a cache of its entries.
type live struct {
	key string

	mu    sync.Mutex
	state *workflow.State
	// root is the sequence of the entry that submitted the run.
	root int64
}

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
	return &Controller{
		o:       o,
		live:    map[string]*live{},
		uids:    map[string]string{},
		pending: make(chan func(context.Context), 1024),
		ended:   make(chan struct{}),
	}
}

// starters is how many pods are started at the same time; starting is mostly waiting for the kernel.
const starters = 16

// Run loads the runs that have not ended, takes up what they were doing, and drives them until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	if err := c.recover(ctx); err != nil {
		return fmt.Errorf("take up unfinished runs: %w", err)
	}
	var wg sync.WaitGroup
	for range starters {
		wg.Go(func() { c.work(ctx) })
	}
	wg.Go(func() { c.receive(ctx) })
	wg.Go(func() { c.timers(ctx) })
	wg.Go(func() { c.retries(ctx) })
	<-ctx.Done()
	close(c.ended)
	wg.Wait()
	return nil
}

// work carries out effects until the controller ends.
func (c *Controller) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-c.pending:
			f(ctx)
		}
	}
}

// later queues an effect. If the controller has ended it is dropped: it is still in the outbox.
func (c *Controller) later(f func(context.Context)) {
	select {
	case c.pending <- f:
	default:
		go func() {
			select {
			case c.pending <- f:
			case <-c.ended:
			}
		}()
	}
}

// Key is a run's key in the ledger's tables: namespace/name.
func Key(namespace, name string) string { return namespace + "/" + name }

// subject is a run's subject in the ledger.
func subject(key string) string { return "run/" + key }

func (c *Controller) meta(actor string) workflow.Meta {
	return workflow.Meta{Now: c.o.Now().UTC(), Seed: c.o.NewSeed(), Actor: actor}
}
