package plan

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
)

// The phases of an operation, Argo CD's and Superseded.
const (
	Running    = "Running"
	Succeeded  = "Succeeded"
	Failed     = "Failed"
	Error      = "Error"
	Superseded = "Superseded"
)

// Operation is one sync and how far it got. It is plain data: keep it where it survives a restart.
type Operation struct {
	Revision  string    `json:"revision"`
	Phase     string    `json:"phase"`
	Message   string    `json:"message,omitempty"`
	StartedAt time.Time `json:"startedAt"`
	// FinishedAt is zero while it runs.
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	// Results are by task.
	Results map[string]TaskResult `json:"results,omitempty"`
	// Planned says that Prunes is what this operation removes: decided at its first step, because the order
	// depends on what was there then.
	Planned bool           `json:"planned,omitempty"`
	Prunes  []PlannedPrune `json:"prunes,omitempty"`
}

// PlannedPrune is one object that an operation removes, and in which wave of the Sync phase.
type PlannedPrune struct {
	Key  deploy.Key `json:"key"`
	Wave int        `json:"wave"`
}

// Done reports whether the operation has ended.
func (o Operation) Done() bool { return o.Phase != "" && o.Phase != Running }

// TaskResult is how far one task got.
type TaskResult struct {
	// Phase is Running, Succeeded or Failed. A task that is not listed has not begun.
	Phase   string     `json:"phase"`
	Message string     `json:"message,omitempty"`
	At      time.Time  `json:"at"`
	Key     deploy.Key `json:"key"`
	Hook    bool       `json:"hook,omitempty"`
	Pruned  bool       `json:"pruned,omitempty"`
	// Cleared says that the hook's delete policy was carried out.
	Cleared bool `json:"cleared,omitempty"`
}

// Begin is a new operation.
func Begin(revision string, now time.Time) Operation {
	return Operation{Revision: revision, Phase: Running, StartedAt: now, Results: map[string]TaskResult{}}
}

// Record notes how an action went; the caller does so for every action that it carried out.
func (o *Operation) Record(a Action, err error, now time.Time) {
	if a.Task == "" {
		if err != nil && o.Phase == Running {
			o.Phase, o.Message, o.FinishedAt = Error, err.Error(), now
		}
		return
	}
	if o.Results == nil {
		o.Results = map[string]TaskResult{}
	}
	r := TaskResult{Phase: Running, At: now, Key: a.Key, Hook: a.Hook, Pruned: a.Delete}
	if err != nil {
		r.Phase, r.Message = Failed, err.Error()
	}
	o.Results[a.Task] = r
}

// Input is what a step is decided from.
type Input struct {
	Desired []*unstructured.Unstructured
	// Live is everything of the application that is on the target, children included.
	Live []*unstructured.Unstructured
	// OutOfSync are the objects that differ; used with Options.OutOfSyncOnly. Nil means not known.
	OutOfSync map[deploy.Key]bool
	// Made is the namespace that is made for the others and that nobody wrote; the zero key is none. It may be among Desired.
	Made deploy.Key
	// KeepObjects has a deletion run its hooks alone.
	KeepObjects bool
	Options     Options
	Operation   Operation
	// Newest is the revision that should be deployed now; if it is another than the operation's, the operation
	// ends at the next safe point.
	Newest string
	// Health are the operator's rules beside the built-in ones.
	Health health.Rules
	Now    time.Time
}

// Action is something to do on the target, now.
type Action struct {
	// Task is the task's id; empty for a deletion on the way (a hook's delete policy).
	Task   string
	Key    deploy.Key
	Delete bool
	Hook   bool
	Object *unstructured.Unstructured
	// Release says that the object stays and is to be nobody's.
	Release bool
	// Replace and Force are for the application of the object.
	Replace, Force bool
}

// Step is what to do next. Carry out the actions in order, stop at the first that fails, Record each, and ask
// again: at once if there were actions, else when something changed or at Wake.
type Step struct {
	Operation Operation
	Actions   []Action
	// Wake is when a deadline falls due; zero if there is none.
	Wake time.Time
	// Stuck says what holds a deletion up that does not end by itself; empty if nothing does.
	Stuck string
}

// Next decides the next step of a sync.
func Next(in Input) Step {
	p := newPlanner(in)
	if !p.op.Done() {
		p.decide()
	}
	return Step{Operation: p.op, Actions: p.actions, Wake: p.wake}
}

type planner struct {
	in      Input
	op      Operation
	live    map[deploy.Key]*unstructured.Unstructured
	actions []Action
	wake    time.Time
	stuck   string
}

func newPlanner(in Input) *planner {
	op := in.Operation
	op.Results = map[string]TaskResult{}
	for id, r := range in.Operation.Results {
		op.Results[id] = r
	}
	p := &planner{in: in, op: op, live: map[deploy.Key]*unstructured.Unstructured{}}
	for _, o := range in.Live {
		p.live[deploy.KeyOf(o)] = o
	}
	return p
}

func (p *planner) finish(phase, format string, args ...any) {
	p.op.Phase, p.op.Message, p.op.FinishedAt = phase, fmt.Sprintf(format, args...), p.in.Now
}

func (p *planner) due(at time.Time) {
	if p.wake.IsZero() || at.Before(p.wake) {
		p.wake = at
	}
}

func deadline(given, standard time.Duration) time.Duration {
	if given > 0 {
		return given
	}
	return standard
}

func (p *planner) decide() {
	tasks := Tasks(p.in)
	if !p.op.Planned {
		p.op.Planned = true
		for _, t := range tasks {
			if t.Prune {
				p.op.Prunes = append(p.op.Prunes, PlannedPrune{Key: t.Key, Wave: t.Wave})
			}
		}
	}
	if p.wipes(tasks) {
		p.finish(Failed, "refused: an automated sync would remove every object, and allowEmpty is not set")
		return
	}
	end := p.op.StartedAt.Add(deadline(p.in.Options.Deadline, DefaultDeadline))
	if !p.in.Now.Before(end) {
		p.finish(Failed, "the sync did not end within %s", deadline(p.in.Options.Deadline, DefaultDeadline))
		return
	}
	p.due(end)
	groups := group(tasks)
	multi := len(groups) > 1
	p.update(tasks, multi)
	if p.clear(tasks); len(p.actions) > 0 {
		return
	}
	failed := p.failure(tasks)
	if failed == "" && p.superseded(tasks) {
		p.finish(Superseded, "superseded by %s", p.in.Newest)
		return
	}
	for _, g := range groups {
		if (g[0].Phase == SyncFail) != (failed != "") {
			continue
		}
		if done := p.group(g); !done {
			return
		}
	}
	if failed != "" {
		p.finish(Failed, "one or more objects failed to apply or to become ready: %s", failed)
		return
	}
	p.finish(Succeeded, "successfully synced (all tasks run)")
}

// wipes is the brake: an automated sync that would leave nothing. Hooks are nothing, and a namespace that is made for the objects neither.
func (p *planner) wipes(tasks []Task) bool {
	if !p.in.Options.Automated || p.in.Options.AllowEmpty || slices.ContainsFunc(p.in.Desired, func(o *unstructured.Unstructured) bool {
		return !IsHook(o) && deploy.KeyOf(o) != p.in.Made
	}) {
		return false
	}
	for _, t := range tasks {
		if t.Prune {
			return true
		}
	}
	return false
}

// group puts tasks of one phase and wave together.
func group(tasks []Task) [][]Task {
	var groups [][]Task
	for _, t := range tasks {
		if n := len(groups); n > 0 && groups[n-1][0].Phase == t.Phase && groups[n-1][0].Wave == t.Wave {
			groups[n-1] = append(groups[n-1], t)
			continue
		}
		groups = append(groups, []Task{t})
	}
	return groups
}

// superseded: a newer commit is there and no hook is running, which must not be left behind half-done.
func (p *planner) superseded(tasks []Task) bool {
	if p.in.Newest == "" || p.in.Newest == p.op.Revision {
		return false
	}
	for _, t := range tasks {
		if t.Hook && p.op.Results[t.ID()].Phase == Running {
			return false
		}
	}
	return true
}

// update settles running tasks from what is live.
func (p *planner) update(tasks []Task, multi bool) {
	for _, t := range tasks {
		r, begun := p.op.Results[t.ID()]
		if !begun || r.Phase != Running {
			continue
		}
		live := p.live[t.Key]
		switch {
		case t.Prune:
			if live == nil || live.GetDeletionTimestamp() != nil && !multi {
				r.Phase = Succeeded
			}
		case live == nil:
			r.Phase, r.Message = Failed, "it is no longer there"
		case !multi && !t.Hook:
			// A sync of one wave without hooks has succeeded when it is applied, as in Argo CD.
			r.Phase = Succeeded
		default:
			p.judge(t, live, &r)
		}
		if r.Phase != Running {
			r.At = p.in.Now
		}
		p.op.Results[t.ID()] = r
	}
}

func (p *planner) judge(t Task, live *unstructured.Unstructured, r *TaskResult) {
	h, known := p.in.Health.Of(live)
	if t.Hook {
		end := r.At.Add(deadline(p.in.Options.HookDeadline, DefaultHookDeadline))
		if !p.in.Now.Before(end) {
			r.Phase, r.Message = Failed, fmt.Sprintf("the hook did not end within %s", deadline(p.in.Options.HookDeadline, DefaultHookDeadline))
			return
		}
		p.due(end)
	}
	switch {
	case !known || h.Status == health.Healthy:
		r.Phase, r.Message = Succeeded, h.Message
	case h.Status == health.Degraded || (t.Hook && h.Status == health.Unknown):
		r.Phase, r.Message = Failed, h.Message
	case h.Status == health.Suspended && !t.Hook:
		r.Phase, r.Message = Succeeded, h.Message
	default:
		r.Message = h.Message
	}
}

// clear carries out the delete policies of hooks that have ended.
func (p *planner) clear(tasks []Task) {
	for _, t := range tasks {
		r := p.op.Results[t.ID()]
		if !t.Hook || r.Cleared || (r.Phase != Succeeded && r.Phase != Failed) {
			continue
		}
		r.Cleared = true
		p.op.Results[t.ID()] = r
		for _, policy := range t.Policies {
			if (policy == hookSucceeded && r.Phase == Succeeded) || (policy == hookFailed && r.Phase == Failed) {
				p.actions = append(p.actions, Action{Key: t.Key, Delete: true, Hook: true})
				break
			}
		}
	}
}

func (p *planner) failure(tasks []Task) string {
	for _, t := range tasks {
		if r := p.op.Results[t.ID()]; r.Phase == Failed && t.Phase != SyncFail {
			return fmt.Sprintf("%s %s: %s", t.Key.Kind, t.Key.Name, r.Message)
		}
	}
	return ""
}

// group advances one phase and wave and reports whether it is through.
func (p *planner) group(tasks []Task) bool {
	done := true
	var pruning bool
	for _, t := range tasks {
		r, begun := p.op.Results[t.ID()]
		if !begun {
			if t.Prune {
				p.actions = append(p.actions, Action{Task: t.ID(), Key: t.Key, Delete: true})
				pruning = true
			}
			done = false
		} else if r.Phase == Running {
			done = false
			pruning = pruning || t.Prune
		}
	}
	if done || pruning {
		return done
	}
	if p.waitsForOldHooks(tasks) {
		return false
	}
	for _, t := range tasks {
		if _, begun := p.op.Results[t.ID()]; begun || t.Prune {
			continue
		}
		if p.in.Options.OutOfSyncOnly && !t.Hook && p.in.OutOfSync != nil && !p.in.OutOfSync[t.Key] {
			p.op.Results[t.ID()] = TaskResult{Phase: Succeeded, At: p.in.Now, Key: t.Key, Message: "in sync already"}
			continue
		}
		p.actions = append(p.actions, Action{Task: t.ID(), Key: t.Key, Hook: t.Hook, Object: t.Object,
			Replace: t.Options.Replace, Force: t.Options.Force})
	}
	return len(p.actions) == 0 && p.settled(tasks)
}

func (p *planner) settled(tasks []Task) bool {
	for _, t := range tasks {
		if r := p.op.Results[t.ID()]; r.Phase == "" || r.Phase == Running {
			return false
		}
	}
	return true
}

// waitsForOldHooks deletes what an earlier run of a hook left, and waits until it is gone.
func (p *planner) waitsForOldHooks(tasks []Task) bool {
	waits := false
	for _, t := range tasks {
		old := p.live[t.Key]
		if _, begun := p.op.Results[t.ID()]; begun || !t.Hook || old == nil {
			continue
		}
		for _, policy := range t.Policies {
			if policy != beforeHookCreation {
				continue
			}
			waits = true
			if old.GetDeletionTimestamp() == nil {
				p.actions = append(p.actions, Action{Key: t.Key, Delete: true, Hook: true})
			}
		}
	}
	return waits
}
