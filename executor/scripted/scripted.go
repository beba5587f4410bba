// Package scripted is an executor for tests: the test says what each node does, and pods end in the order of a
// clock that only the test moves. Nothing is executed, so it does not run the suite of executor/executortest,
// which is about commands; Start, Stop, Acknowledge and Reports keep the same promises.
package scripted

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
)

// Annotations by which a pod names its node and template, as Argo's pods do.
const (
	NodeNameAnnotation = "workflows.argoproj.io/node-name"
	TemplateAnnotation = "workflows.argoproj.io/template-name"
)

// Step is what a pod does.
type Step struct {
	// Code is the main container's exit code; the phase is Failed if it is not 0.
	Code int
	// Phase, Reason and Message replace what Code implies, e.g. Error and ReasonLost.
	Phase   executor.Phase
	Reason  string
	Message string
	// Duration is how long it runs on the clock.
	Duration time.Duration
	// Result and Parameters are its outputs. Parameters that the pod asks for and that are not here are missing.
	Result     string
	Parameters map[string]string
	// Saved are its artifacts by name; those that the pod asks for and that are not here are missing.
	Saved map[string]manifest.Artifact
	// Log is what the main container wrote.
	Log string
	// StartError makes Start fail.
	StartError error
}

// Options say what happens.
type Options struct {
	// Steps by a name of the pod: its node name ("wf(0).a"), the last part of it ("a"), its template's name, its
	// node's id, its own name, or "*" for any; the first that is there counts. The n-th attempt does the n-th step
	// of the list, further ones the last. A pod without a step succeeds at once.
	Steps map[string][]Step
	// Begin is the clock's first time; 2000-01-01 UTC if zero.
	Begin time.Time
	// Auto lets each pod end as soon as it is started, moving the clock to its end.
	Auto bool
}

// Executor follows a script.
type Executor struct {
	o       Options
	out     chan executor.Report
	queue   chan struct{}
	stop    chan struct{}
	stopped sync.Once
	done    chan struct{}

	mu    sync.Mutex
	now   time.Time
	order int
	pods  map[executor.ID]*pod
	list  []executor.Pod
	held  []executor.Report
}

type pod struct {
	pod          executor.Pod
	step         Step
	begin, end   time.Time
	order        int
	final        *executor.Report
	acknowledged bool
}

var _ executor.Executor = (*Executor)(nil)

// New makes an executor; Close ends it.
func New(o Options) *Executor {
	if o.Begin.IsZero() {
		o.Begin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	e := &Executor{
		o: o, now: o.Begin, pods: map[executor.ID]*pod{}, out: make(chan executor.Report),
		queue: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go e.deliver()
	return e
}

// Now is the clock.
func (e *Executor) Now() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

// Next is when the next pod ends; false if none runs.
func (e *Executor) Next() (time.Time, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.earliest(); p != nil {
		return p.end, true
	}
	return time.Time{}, false
}

// Advance moves the clock to t; pods whose end is not later end on the way, in order. The clock never goes back.
func (e *Executor) Advance(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for p := e.earliest(); p != nil && !p.end.After(t); p = e.earliest() {
		e.finish(p, e.outcome(p))
	}
	if t.After(e.now) {
		e.now = t
	}
}

// Started lists the pods in the order in which they were started.
func (e *Executor) Started() []executor.Pod {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}

// Check implements executor.Executor: everything can be had.
func (e *Executor) Check(executor.Pod) []executor.Problem { return nil }

// Start implements executor.Executor.
func (e *Executor) Start(_ context.Context, p executor.Pod) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.pods[p.ID]; known != nil {
		if known.final != nil {
			e.send(*known.final)
		}
		return nil
	}
	step := e.step(p)
	if step.StartError != nil {
		return step.StartError
	}
	started := &pod{pod: p, step: step, begin: e.now, end: e.now.Add(step.Duration), order: e.order}
	e.order++
	e.pods[p.ID] = started
	e.list = append(e.list, p)
	e.send(executor.Report{ID: p.ID, Phase: executor.Running, Host: "scripted", StartedAt: e.now})
	if e.o.Auto {
		e.finish(started, e.outcome(started))
	}
	return nil
}

// step finds what the script says of a pod.
func (e *Executor) step(p executor.Pod) Step {
	name := p.Pod.Annotations[NodeNameAnnotation]
	last := name[strings.LastIndexByte(name, '.')+1:]
	for _, key := range []string{name, last, p.Pod.Annotations[TemplateAnnotation], p.ID.Node, p.Pod.Name, "*"} {
		if steps := e.o.Steps[key]; key != "" && len(steps) > 0 {
			return steps[min(p.ID.Attempt, len(steps)-1)]
		}
	}
	return Step{}
}

func (e *Executor) earliest() *pod {
	var first *pod
	for _, p := range e.pods {
		if p.final != nil {
			continue
		}
		if first == nil || p.until().Before(first.until()) || p.until().Equal(first.until()) && p.order < first.order {
			first = p
		}
	}
	return first
}

// until is when the pod ends by itself or by its deadline.
func (p *pod) until() time.Time {
	if d := p.pod.Deadline; !d.IsZero() && d.Before(p.end) {
		p.end = d
		p.step = Step{Code: 143, Phase: executor.Failed, Reason: executor.ReasonDeadline, Message: "Pod was active on the node longer than the specified deadline", Log: p.step.Log}
	}
	return p.end
}

func (e *Executor) outcome(p *pod) executor.Report {
	end := p.until()
	s := p.step
	code := s.Code
	r := executor.Report{
		ID: p.pod.ID, Phase: executor.Succeeded, Reason: s.Reason, ExitCode: &code, Host: "scripted", StartedAt: p.begin, FinishedAt: end,
	}
	if code != 0 {
		r.Phase, r.Message = executor.Failed, fmt.Sprintf("main: Error (exit code %d)", code)
	}
	if s.Phase != "" {
		r.Phase = s.Phase
	}
	if s.Message != "" {
		r.Message = s.Message
	}
	if r.Phase == executor.Error && code == 0 {
		r.ExitCode = nil
	}
	e.outputs(p, &r)
	return r
}

func (e *Executor) outputs(p *pod, r *executor.Report) {
	want := p.pod.Outputs
	if want.Result {
		result := p.step.Result
		r.Result = &result
	}
	for _, o := range want.Parameters {
		value, ok := p.step.Parameters[o.Name]
		if !ok {
			r.Missing = append(r.Missing, o.Name)
			continue
		}
		if r.Parameters == nil {
			r.Parameters = map[string]string{}
		}
		r.Parameters[o.Name] = value
	}
	for _, o := range want.Artifacts {
		saved, ok := p.step.Saved[o.Name]
		if ok {
			saved.Name = o.Name
			r.Saved = append(r.Saved, saved)
			continue
		}
		r.Missing = append(r.Missing, o.Name)
		if !o.Optional && r.Phase == executor.Succeeded {
			r.Phase, r.Reason = executor.Error, executor.ReasonOutput
			r.Message = fmt.Sprintf("artifact %s: open %s: no such file or directory", o.Name, o.Path)
		}
	}
	slices.Sort(r.Missing)
}

func (e *Executor) finish(p *pod, r executor.Report) {
	p.final = &r
	if r.FinishedAt.After(e.now) {
		e.now = r.FinishedAt
	}
	e.send(r)
}

// Stop implements executor.Executor; the pod ends at once.
func (e *Executor) Stop(_ context.Context, id executor.ID, _ time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.pods[id]
	if p == nil || p.final != nil {
		return nil
	}
	code := 143
	e.finish(p, executor.Report{
		ID: id, Phase: executor.Failed, Reason: executor.ReasonStopped, Message: "main: Error (exit code 143)", ExitCode: &code,
		Host: "scripted", StartedAt: p.begin, FinishedAt: e.now,
	})
	return nil
}

// List gives the latest report of each pod that was started and is not acknowledged.
func (e *Executor) List(context.Context) ([]executor.Report, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []executor.Report
	for _, p := range e.pods {
		switch {
		case p.acknowledged:
		case p.final != nil:
			out = append(out, *p.final)
		default:
			out = append(out, executor.Report{ID: p.pod.ID, Phase: executor.Running, Host: "scripted", StartedAt: p.begin})
		}
	}
	return out, nil
}

// Reports implements executor.Executor.
func (e *Executor) Reports() <-chan executor.Report { return e.out }

// Restart repeats the final reports that are not acknowledged, as an executor does after its server has died.
func (e *Executor) Restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	var again []*pod
	for _, p := range e.pods {
		if p.final != nil && !p.acknowledged {
			again = append(again, p)
		}
	}
	slices.SortFunc(again, func(a, b *pod) int { return a.order - b.order })
	e.held = nil
	for _, p := range again {
		e.send(*p.final)
	}
}

// Acknowledge implements executor.Executor.
func (e *Executor) Acknowledge(_ context.Context, id executor.ID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.pods[id]
	if p == nil {
		return nil
	}
	if p.final == nil {
		return fmt.Errorf("acknowledge pod %s: it has not ended", id.Node)
	}
	p.acknowledged = true
	return nil
}

// Logs implements executor.Executor.
func (e *Executor) Logs(_ context.Context, id executor.ID, _ string, o executor.LogOptions) (io.ReadCloser, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.pods[id]
	if p == nil {
		return nil, fmt.Errorf("read log of %s: %w", id.Node, executor.ErrNotFound)
	}
	lines := strings.SplitAfter(p.step.Log, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	from := o.FromLine
	if from < 0 {
		from = max(0, len(lines)+from)
	}
	var b bytes.Buffer
	for _, l := range lines[min(from, len(lines)):] {
		if o.Timestamps {
			b.WriteString(p.begin.Format(time.RFC3339Nano) + " ")
		}
		b.WriteString(l)
	}
	return io.NopCloser(&b), nil
}

// Exec implements executor.Executor: there is nothing to run a command in.
func (e *Executor) Exec(_ context.Context, id executor.ID, _ string, _ []string) (int, []byte, error) {
	return 0, nil, fmt.Errorf("run command in %s: scripted pods have no processes", id.Node)
}

// send queues a report; the lock is held.
func (e *Executor) send(r executor.Report) {
	e.held = append(e.held, r)
	select {
	case e.queue <- struct{}{}:
	default:
	}
}

func (e *Executor) deliver() {
	defer close(e.done)
	defer close(e.out)
	for {
		select {
		case <-e.stop:
			return
		case <-e.queue:
		}
		for {
			e.mu.Lock()
			if len(e.held) == 0 {
				e.mu.Unlock()
				break
			}
			r := e.held[0]
			e.held = e.held[1:]
			e.mu.Unlock()
			select {
			case e.out <- r:
			case <-e.stop:
				return
			}
		}
	}
}

// Close implements executor.Executor.
func (e *Executor) Close() error {
	e.stopped.Do(func() { close(e.stop) })
	<-e.done
	return nil
}
