package executor

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/tiphys/tiphys/failure"
)

const (
	// foreignTimeout bounds one try to do something about a pod of another epoch, and the wait before the next.
	foreignTimeout   = time.Minute
	firstForeignWait = 100 * time.Millisecond
)

// InEpoch makes an executor's pods belong to an epoch. What is asked of the executor is about pods of that epoch alone, and so is what it
// tells: a pod that it still has of another one, from before a restore, is stopped and acknowledged, and the log says so. It is never
// taken for a pod of this epoch, whatever owner, node and attempt it has. Close closes the executor.
func InEpoch(n Named, epoch int64, log *slog.Logger) Named {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	e := &epochal{inner: n.Executor, epoch: epoch, log: log, out: make(chan Report), ended: make(chan struct{}), stopped: map[ID]bool{}}
	e.work.Go(e.forward)
	out := Named{Name: n.Name, Executor: e, Claims: n.Claims, NeedsGrant: n.NeedsGrant}
	if n.Logs != nil {
		out.Logs = epochalLogs{e, n.Logs}
	}
	if n.Commands != nil {
		out.Commands = epochalCommands{e, n.Commands}
	}
	if n.Volumes != nil {
		out.Volumes = epochalVolumes{e, n.Volumes}
	}
	return out
}

// epochal is an executor as the pods of one epoch see it.
type epochal struct {
	inner Executor
	epoch int64
	log   *slog.Logger
	out   chan Report
	ended chan struct{}
	once  sync.Once
	work  sync.WaitGroup

	mu sync.Mutex
	// stopped are pods of other epochs that are asked to end, until their end is acknowledged.
	stopped map[ID]bool
	// troubles are pods of other epochs that do not end.
	troubles failure.Troubles
}

// Troubled is an executor that tells what it tries again and does not succeed in; empty for nothing.
type Troubled interface {
	Trouble() string
}

// Trouble implements [Troubled], for pods of other epochs alone.
func (e *epochal) Trouble() string { return e.troubles.Text() }

// ours puts the epoch to an ID.
func (e *epochal) ours(id ID) ID { id.Epoch = e.epoch; return id }

// spawn does something beside, unless the executor is being closed.
func (e *epochal) spawn(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.ended:
	default:
		e.work.Go(do)
	}
}

// forward passes on what is reported of this epoch's pods, and ends those of others.
func (e *epochal) forward() {
	defer close(e.out)
	for {
		select {
		case <-e.ended:
			return
		case rep, ok := <-e.inner.Reports():
			if !ok {
				return
			}
			if rep.ID.Epoch != e.epoch {
				e.spawn(func() { e.end(rep) })
				continue
			}
			rep.ID.Epoch = 0
			select {
			case e.out <- rep:
			case <-e.ended:
				return
			}
		}
	}
}

// end stops a pod of another epoch, once, and acknowledges its end.
func (e *epochal) end(rep Report) {
	name := fmt.Sprintf("pod %s of epoch %d, from before a restore", rep.ID.Node, rep.ID.Epoch)
	if rep.Phase.Done() {
		if e.insist("acknowledge "+name, func(ctx context.Context) error { return e.inner.Acknowledge(ctx, rep.ID) }) {
			e.mu.Lock()
			delete(e.stopped, rep.ID)
			e.mu.Unlock()
		}
		return
	}
	e.mu.Lock()
	again := e.stopped[rep.ID]
	e.stopped[rep.ID] = true
	e.mu.Unlock()
	if again {
		return
	}
	e.log.Warn("a pod is left from before a restore and is stopped", "owner", rep.ID.Owner, "node", rep.ID.Node, "attempt", rep.ID.Attempt,
		"epoch", rep.ID.Epoch)
	e.insist("stop "+name, func(ctx context.Context) error { return e.inner.Stop(ctx, rep.ID, 0) })
}

// insist does something again and again, with growing waits, until it succeeds; meanwhile it is in trouble. False says that the executor was
// closed first.
func (e *epochal) insist(what string, do func(context.Context) error) bool {
	defer e.troubles.Over(what)
	for wait := firstForeignWait; ; wait = min(2*wait, foreignTimeout) {
		ctx, cancel := context.WithTimeout(context.Background(), foreignTimeout)
		err := do(ctx)
		cancel()
		if err == nil {
			return true
		}
		if e.troubles.Note(what, err) {
			e.log.Warn("a pod of another epoch does not end; it is tried again", "what", what, "error", err)
		}
		select {
		case <-e.ended:
			return false
		case <-time.After(wait):
		}
	}
}

// Capabilities implements [Executor].
func (e *epochal) Capabilities(ctx context.Context) (Capabilities, error) {
	return e.inner.Capabilities(ctx)
}

// Check implements [Executor].
func (e *epochal) Check(ctx context.Context, p Pod) ([]Problem, error) {
	p.ID = e.ours(p.ID)
	return e.inner.Check(ctx, p)
}

// Start implements [Executor].
func (e *epochal) Start(ctx context.Context, p Pod) error {
	p.ID = e.ours(p.ID)
	return e.inner.Start(ctx, p)
}

// Stop implements [Executor].
func (e *epochal) Stop(ctx context.Context, id ID, grace time.Duration) error {
	return e.inner.Stop(ctx, e.ours(id), grace)
}

// List implements [Executor]. Pods of other epochs are not in the list, and are ended.
func (e *epochal) List(ctx context.Context) ([]Report, error) {
	all, err := e.inner.List(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Report, 0, len(all))
	for _, rep := range all {
		if rep.ID.Epoch != e.epoch {
			e.spawn(func() { e.end(rep) })
			continue
		}
		rep.ID.Epoch = 0
		list = append(list, rep)
	}
	return list, nil
}

// Reports implements [Executor].
func (e *epochal) Reports() <-chan Report { return e.out }

// Acknowledge implements [Executor].
func (e *epochal) Acknowledge(ctx context.Context, id ID) error {
	return e.inner.Acknowledge(ctx, e.ours(id))
}

// Close implements [Executor].
func (e *epochal) Close() error {
	var err error
	e.once.Do(func() {
		e.mu.Lock()
		close(e.ended)
		e.mu.Unlock()
		e.work.Wait()
		err = e.inner.Close()
	})
	return err
}

// epochalLogs are the logs of one epoch's pods.
type epochalLogs struct {
	e     *epochal
	inner Logs
}

// Logs implements [Logs].
func (l epochalLogs) Logs(ctx context.Context, id ID, container string, o LogOptions) (io.ReadCloser, error) {
	return l.inner.Logs(ctx, l.e.ours(id), container, o)
}

// epochalCommands run in one epoch's pods.
type epochalCommands struct {
	e     *epochal
	inner Commands
}

// Exec implements [Commands].
func (c epochalCommands) Exec(ctx context.Context, id ID, container string, command []string) (int, []byte, error) {
	return c.inner.Exec(ctx, c.e.ours(id), container, command)
}

// epochalVolumes are those of one epoch's pods.
type epochalVolumes struct {
	e     *epochal
	inner Volumes
}

// Refresh implements [Volumes].
func (v epochalVolumes) Refresh(ctx context.Context, p Pod) error {
	p.ID = v.e.ours(p.ID)
	return v.inner.Refresh(ctx, p)
}
