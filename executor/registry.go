package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/access/podpolicy"
)

// Named is an executor of a [Registry], and what goes with it.
type Named struct {
	// Name is what manifests call it, by the annotation tiphys.dev/executor.
	Name string
	Executor
	// Claims, Logs, Commands and Volumes may be nil where there is no such thing.
	Claims   Claims
	Logs     Logs
	Commands Commands
	Volumes  Volumes
	// NeedsGrant says that pods reach further here than what they say of themselves: they see the files or the network of their
	// machine. A [Registry] lets only those in whose subject was granted this executor by its name.
	NeedsGrant bool
}

// UnknownError says that a server has no executor of that name.
type UnknownError struct {
	Name string
	// Known are the names that there are.
	Known []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("this server has no executor %q (it has %s)", e.Name, strings.Join(e.Known, ", "))
}

// Registry has executors by name, and is an executor itself: a pod goes to the executor that it names, and what concerns
// an attempt goes to the executor that has it. Who consumes it need not know how many there are. It is the door of all of them:
// no pod goes in that its policy refuses.
type Registry struct {
	list   []Named
	policy podpolicy.Policy
	out    chan Report
	stop   chan struct{}
	work   sync.WaitGroup
	once   sync.Once

	mu   sync.Mutex
	have map[ID]int // which of the list has an attempt, as far as it was seen
}

var (
	_ Executor = (*Registry)(nil)
	_ Logs     = (*Registry)(nil)
	_ Commands = (*Registry)(nil)
)

// NewRegistry gathers executors behind a policy; the first is the default. Close closes them all.
func NewRegistry(policy podpolicy.Policy, first Named, others ...Named) *Registry {
	r := &Registry{policy: policy, out: make(chan Report), stop: make(chan struct{}), have: map[ID]int{}}
	for _, n := range append([]Named{first}, others...) {
		n.Executor = door{Executor: n.Executor, name: n.Name, policy: policy, needsGrant: n.NeedsGrant}
		r.list = append(r.list, n)
	}
	for i := range r.list { // once it is whole: they read it
		r.work.Go(func() { r.forward(i) })
	}
	return r
}

// forward passes on what one executor reports.
func (r *Registry) forward(i int) {
	for {
		select {
		case <-r.stop:
			return
		case rep, ok := <-r.list[i].Reports():
			if !ok {
				return
			}
			rep.Executor = r.list[i].Name
			r.note(rep.ID, i)
			select {
			case r.out <- rep:
			case <-r.stop:
				return
			}
		}
	}
}

// Names lists the executors, the default first.
func (r *Registry) Names() []string {
	names := make([]string, len(r.list))
	for i := range r.list {
		names[i] = r.list[i].Name
	}
	return names
}

// Named gives an executor by name, the default for an empty one; the error is an [UnknownError].
func (r *Registry) Named(name string) (Named, error) {
	i, err := r.index(name)
	if err != nil {
		return Named{}, err
	}
	return r.list[i], nil
}

// Policy is what the pods are held to now.
func (r *Registry) Policy(ctx context.Context) (podpolicy.Policy, error) { return r.policy.Now(ctx) }

// Judge says what of a pod goes beyond the rights of whom it is for, as Check and Start do. It asks no executor, so that it can be
// asked before anything is fetched or made for the pod.
func (r *Registry) Judge(ctx context.Context, p Pod) ([]Problem, error) {
	i, err := r.index(p.Executor)
	if err != nil {
		return []Problem{{Path: "metadata.annotations", Message: err.Error(), Fatal: true}}, nil //nolint:nilerr // it is the problem
	}
	d, _ := r.list[i].Executor.(door)
	return d.judge(ctx, &p)
}

func (r *Registry) index(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	for i := range r.list {
		if r.list[i].Name == name {
			return i, nil
		}
	}
	return 0, &UnknownError{Name: name, Known: r.Names()}
}

func (r *Registry) note(id ID, i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.have[id] = i
}

// holders are the executors that may have an attempt: the one that was seen to have it, or all.
func (r *Registry) holders(id ID) []Named {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, ok := r.have[id]; ok {
		return r.list[i : i+1]
	}
	return r.list
}

// Capabilities implements [Executor] for the default executor; [Registry.Named] gives the others.
func (r *Registry) Capabilities(ctx context.Context) (Capabilities, error) {
	return r.list[0].Capabilities(ctx)
}

// Check implements [Executor]. A name that there is not is a fatal problem.
func (r *Registry) Check(ctx context.Context, p Pod) ([]Problem, error) {
	i, err := r.index(p.Executor)
	if err != nil {
		return []Problem{{Path: "metadata.annotations", Message: err.Error(), Fatal: true}}, nil //nolint:nilerr // it is the problem
	}
	return r.list[i].Check(ctx, p)
}

// Start implements [Executor].
func (r *Registry) Start(ctx context.Context, p Pod) error {
	i, err := r.index(p.Executor)
	if err != nil {
		return &RefusedError{Problems: []Problem{{Path: "metadata.annotations", Message: err.Error(), Fatal: true}}}
	}
	// Its end may be reported and acknowledged before Start returns, so it is noted before.
	r.mu.Lock()
	_, known := r.have[p.ID]
	r.have[p.ID] = i
	r.mu.Unlock()
	if err := r.list[i].Start(ctx, p); err != nil {
		if !known {
			r.mu.Lock()
			delete(r.have, p.ID)
			r.mu.Unlock()
		}
		return err
	}
	return nil
}

// Stop implements [Executor]. An attempt that was not seen yet is stopped wherever it may be started.
func (r *Registry) Stop(ctx context.Context, id ID, grace time.Duration) error {
	var failed error
	for _, n := range r.holders(id) {
		failed = errors.Join(failed, n.Stop(ctx, id, grace))
	}
	return failed
}

// List implements [Executor]. If one executor cannot tell, nothing is said of the others either: what is not in a list is
// taken for lost.
func (r *Registry) List(ctx context.Context) ([]Report, error) {
	var all []Report
	for i, n := range r.list {
		list, err := n.List(ctx)
		if err != nil {
			return nil, fmt.Errorf("executor %s: %w", n.Name, err)
		}
		for _, rep := range list {
			rep.Executor = n.Name
			r.note(rep.ID, i)
			all = append(all, rep)
		}
	}
	slices.SortFunc(all, func(a, b Report) int {
		return cmp.Or(strings.Compare(a.ID.Owner, b.ID.Owner), strings.Compare(a.ID.Node, b.ID.Node), a.ID.Attempt-b.ID.Attempt)
	})
	return all, nil
}

// Reports implements [Executor]: what all of them report, each with the executor's name.
func (r *Registry) Reports() <-chan Report { return r.out }

// Acknowledge implements [Executor].
func (r *Registry) Acknowledge(ctx context.Context, id ID) error {
	var failed error
	for _, n := range r.holders(id) {
		failed = errors.Join(failed, n.Acknowledge(ctx, id))
	}
	if failed == nil {
		r.mu.Lock()
		delete(r.have, id)
		r.mu.Unlock()
	}
	return failed
}

// Logs implements [Logs].
func (r *Registry) Logs(ctx context.Context, id ID, container string, o LogOptions) (io.ReadCloser, error) {
	for _, n := range r.holders(id) {
		if n.Logs == nil {
			continue
		}
		log, err := n.Logs.Logs(ctx, id, container, o)
		if !errors.Is(err, ErrNotFound) {
			return log, err
		}
	}
	return nil, fmt.Errorf("read log of %s: %w", id.Node, ErrNotFound)
}

// Exec implements [Commands].
func (r *Registry) Exec(ctx context.Context, id ID, container string, command []string) (int, []byte, error) {
	for _, n := range r.holders(id) {
		if n.Commands == nil {
			continue
		}
		code, output, err := n.Commands.Exec(ctx, id, container, command)
		if !errors.Is(err, ErrNotFound) {
			return code, output, err
		}
	}
	return 0, nil, fmt.Errorf("run command in %s: %w", id.Node, ErrNotFound)
}

// Close implements [Executor].
func (r *Registry) Close() error {
	var failed error
	r.once.Do(func() {
		close(r.stop)
		for _, n := range r.list {
			failed = errors.Join(failed, n.Executor.Close())
		}
		r.work.Wait()
		close(r.out)
	})
	return failed
}
