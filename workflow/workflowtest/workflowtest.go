// Package workflowtest runs workflows through the engine with a world that the test makes up: it answers what
// steps do, in virtual time, checks that entries replay to the same state, and keeps rows as the ledger would.
package workflowtest

import (
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

// Outcome is what a pod does.
type Outcome struct {
	Exit       int               `json:"exit,omitempty"`
	Result     string            `json:"result,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	// Missing names outputs whose file is not there; all others declared are saved or, as parameters, empty.
	Missing []string `json:"missing,omitempty"`
	// Error makes it an infrastructure failure with this message.
	Error string `json:"error,omitempty"`
	// Lost loses the first so many attempts with their machine.
	Lost int `json:"lost,omitempty"`
	// Takes is how long it runs; it is a second if not said. Forever runs until it is stopped.
	Takes   time.Duration `json:"takes,omitempty"`
	Forever bool          `json:"forever,omitempty"`
	// Pending never lets it run at all.
	Pending bool `json:"pending,omitempty"`
	// Containers are exit codes of a container set's containers.
	Containers map[string]int `json:"containers,omitempty"`
	// Unrun names containers of a set that were not started.
	Unrun []string `json:"unrun,omitempty"`
	// Status and Headers are of the answer to an http template's request, whose body is Result; 200 if not said.
	Status  int                 `json:"status,omitempty"`
	Headers map[string][]string `json:"headers,omitempty"`
}

// World is where a run happens.
type World struct {
	// Outcome says what a pod does; nil means that everything succeeds.
	Outcome func(n workflow.Node, p executor.Pod) Outcome
	// Objects are the WorkflowTemplates, ConfigMaps and so on that exist.
	Objects map[workflow.Ref]json.RawMessage
	// Limits of semaphores by "namespace/ConfigMap/name/key"; others are read from Objects.
	Limits map[string]int
	// Start is when the run is submitted.
	Start time.Time
	// Random, if not nil, answers effects in any order that time allows.
	Random *rand.Rand
	// NoReplay leaves out the comparison with a replayed state, which costs as much again.
	NoReplay bool
	// Restart says, after each command, whether the state goes on as one that was kept and read again; nil is never.
	Restart func() bool
	// Defaults are Argo's workflowDefaults.
	Defaults json.RawMessage
	// Memoised counts how often a result was stored, by key.
	Memoised map[string]int
	// Deleted are the claims that runs asked to have deleted.
	Deleted []string
	// Keys are the artifacts that exist in the built-in store.
	Keys []string
	// Stuck is how many commands a run may take before it counts as stuck; 0 means a million.
	Stuck int

	locks *lock.Table
	memos map[string]json.RawMessage
	// runs are those that were submitted, by their names.
	runs map[string]*Run
}

// Run is one run in a World.
type Run struct {
	World   *World
	State   *workflow.State
	Replay  *workflow.State
	Rows    Rows
	Entries []workflow.Entry
	Now     time.Time
	// Started counts starts by node and attempt: more than one is a fault of the engine.
	Started map[string]int
	// Stopped lists pods that were asked to end.
	Stopped []string
	// Commands counts the commands that the run took.
	Commands int

	events events
	seq    int
	timers map[string]*event
	pods   map[executor.ID]*event
}

type event struct {
	at      time.Time
	seq     int
	command workflow.Command
	gone    bool
	index   int
}

type events []*event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i]; e[i].index, e[j].index = i, j }
func (e *events) Push(x any)   { v := x.(*event); v.index = len(*e); *e = append(*e, v) }
func (e *events) Pop() any     { old := *e; v := old[len(old)-1]; *e = old[:len(old)-1]; return v }

// Load reads manifests (YAML or JSON, several documents): the first Workflow, and everything else as Objects.
func (w *World) Load(file string, data []byte) (wf json.RawMessage, positions map[string]manifest.Position, err error) {
	objects, diagnostics := manifest.Decode(file, data)
	if manifest.Failed(diagnostics) {
		return nil, nil, manifest.FirstError(diagnostics)
	}
	if w.Objects == nil {
		w.Objects = map[workflow.Ref]json.RawMessage{}
	}
	for _, o := range objects {
		raw := json.RawMessage(o.Tree.JSON())
		if o.Kind == "Workflow" && wf == nil {
			wf, positions = raw, workflow.Positions(o.Tree)
			continue
		}
		var meta struct {
			Metadata struct {
				Name      string `json:"name"`
				Namespace string `json:"namespace"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(raw, &meta); err != nil {
			return nil, nil, err
		}
		ref := workflow.Ref{Kind: o.Kind, Namespace: "default", Name: meta.Metadata.Name}
		if strings.HasPrefix(o.Kind, "Cluster") {
			ref.Namespace = ""
		}
		w.Objects[ref] = raw
	}
	return wf, positions, nil
}

// Submit begins a run of a Workflow given as JSON. Objects that the run turns out to need are found in the World.
func (w *World) Submit(wf json.RawMessage, edit func(*workflow.Submit)) (*Run, error) {
	if w.locks == nil {
		w.locks, w.memos, w.Memoised, w.runs = lock.NewTable(), map[string]json.RawMessage{}, map[string]int{}, map[string]*Run{}
	}
	if w.Start.IsZero() {
		w.Start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	}
	r := &Run{
		World: w, Replay: workflow.NewState(), Rows: Rows{}, Now: w.Start, Started: map[string]int{},
		timers: map[string]*event{}, pods: map[executor.ID]*event{},
	}
	var meta struct {
		Metadata struct {
			Name         string `json:"name"`
			GenerateName string `json:"generateName"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(wf, &meta); err != nil {
		return nil, err
	}
	name := meta.Metadata.Name
	if name == "" {
		name = meta.Metadata.GenerateName + "abcde"
	}
	c := workflow.Submit{
		Meta: workflow.Meta{Now: r.Now, Seed: 1, Actor: "test"}, UID: "uid-" + name, Namespace: "default", Name: name, Workflow: wf,
		Objects: map[workflow.Ref]json.RawMessage{}, Defaults: w.Defaults,
	}
	if edit != nil {
		edit(&c)
	}
	for range 100 {
		r.State = workflow.NewState()
		d, err := workflow.Decide(r.State, c)
		var missing *workflow.MissingError
		if errors.As(err, &missing) {
			for _, ref := range missing.Refs {
				c.Objects[ref] = w.Objects[ref]
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		w.runs[c.Name] = r
		return r, r.took(d)
	}
	return nil, errors.New("submit: objects are missing without end")
}

// Do gives the run a command now.
func (r *Run) Do(c workflow.Command) error {
	r.Commands++
	d, err := workflow.Decide(r.State, c)
	if err != nil {
		return err
	}
	return r.took(d)
}

// Control gives the run a person's command now.
func (r *Run) Control(c workflow.Control) error {
	c.Meta = r.meta()
	return r.Do(c)
}

func (r *Run) meta() workflow.Meta {
	return workflow.Meta{Now: r.Now, Seed: int64(r.Commands), Actor: "test"}
}

// took records a decision, replays it through JSON, and sets its effects going.
func (r *Run) took(d workflow.Decision) error {
	for _, e := range d.Entries {
		if !r.World.NoReplay {
			if err := r.replay(e); err != nil {
				return err
			}
			r.Entries = append(r.Entries, e)
		}
	}
	for _, e := range d.Effects {
		if err := r.effect(e); err != nil {
			return err
		}
	}
	if r.World.Restart != nil && r.World.Restart() {
		return r.restart()
	}
	return nil
}

// restart goes on with what a snapshot kept.
func (r *Run) restart() error {
	raw, err := r.State.Snapshot()
	if err != nil {
		return err
	}
	r.State, err = workflow.RestoreState(raw)
	return err
}

func (r *Run) replay(e workflow.Entry) error {
	body, err := json.Marshal(e.Body)
	if err != nil {
		return err
	}
	back, err := workflow.DecodeEntry(e.Kind, "", body)
	if err != nil {
		return err
	}
	if back.Node != e.Node {
		return fmt.Errorf("entry %s of node %q came back as of node %q", e.Kind, e.Node, back.Node)
	}
	if err := workflow.Apply(r.Replay, back); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	run := r.State.Run()
	return workflow.Projection{}.Apply(ledger.Entry{Kind: e.Kind, Subject: workflow.Subject(run.Namespace, run.Name), Body: body}, r.Rows)
}

func (r *Run) at(d time.Duration, c workflow.Command) *event {
	r.seq++
	ev := &event{at: r.Now.Add(d), seq: r.seq, command: c}
	if r.World.Random != nil {
		ev.seq = r.World.Random.Int()
	}
	heap.Push(&r.events, ev)
	return ev
}

func (r *Run) effect(e workflow.Effect) error {
	switch e := e.(type) {
	case workflow.StartPod:
		return r.startPod(e)
	case workflow.StopPod:
		r.stopPod(e)
	case workflow.SetTimer:
		if old := r.timers[e.Key]; old != nil {
			old.gone = true
		}
		r.timers[e.Key] = r.at(max(0, e.At.Sub(r.Now)), workflow.Fired{Key: e.Key})
	case workflow.CancelTimer:
		if old := r.timers[e.Key]; old != nil {
			old.gone = true
			delete(r.timers, e.Key)
		}
	case workflow.Need:
		r.need(e)
	case workflow.DeleteClaims:
		r.World.Deleted = append(r.World.Deleted, e.Names...)
	case workflow.PutMemo:
		r.World.memos[e.Cache+"/"+e.Key] = e.Outputs
		r.World.Memoised[e.Key]++
	case workflow.Acquire:
		r.acquire(e)
	case workflow.Release:
		r.release(e)
	case workflow.Request:
		r.Started[e.EffectKey()]++
		r.answer(e, r.outcome(executor.Pod{ID: executor.ID{Owner: r.State.Run().UID, Node: e.Node, Attempt: e.Attempt}}))
	default:
		return fmt.Errorf("effect %T is not known", e)
	}
	return nil
}

func (r *Run) outcome(p executor.Pod) Outcome {
	n, _ := r.State.Node(p.ID.Node)
	var o Outcome
	if r.World.Outcome != nil {
		o = r.World.Outcome(n, p)
	}
	if o.Takes == 0 {
		o.Takes = time.Second
	}
	return o
}

func (r *Run) startPod(e workflow.StartPod) error {
	r.Started[e.EffectKey()]++
	if r.Started[e.EffectKey()] > 1 {
		return fmt.Errorf("pod %s was started twice", e.EffectKey())
	}
	p, err := workflow.Pod(r.State, e.Node, e.Attempt)
	if err != nil {
		return err
	}
	out := r.outcome(p)
	if out.Pending {
		return nil
	}
	r.at(0, workflow.Report{Report: executor.Report{ID: p.ID, Phase: executor.Running, IP: "10.0.0.1", Host: "test", StartedAt: r.Now}})
	if !out.Forever && !p.Deadline.IsZero() && r.Now.Add(out.Takes).After(p.Deadline) {
		out.Forever = true
	}
	if out.Forever {
		if !p.Deadline.IsZero() {
			rep := executor.Report{ID: p.ID, Phase: executor.Failed, Reason: executor.ReasonDeadline, FinishedAt: p.Deadline}
			r.pods[p.ID] = r.at(max(0, p.Deadline.Sub(r.Now)), workflow.Report{Report: rep})
		}
		return nil
	}
	r.final(p.ID, p, out)
	return nil
}

// final has the pod's end reported when its time is up.
func (r *Run) final(id executor.ID, p executor.Pod, o Outcome) {
	rep := executor.Report{ID: id, Phase: executor.Succeeded, ExitCode: &o.Exit, Host: "test", StartedAt: r.Now, FinishedAt: r.Now.Add(o.Takes)}
	if o.Exit != 0 {
		rep.Phase, rep.Message = executor.Failed, fmt.Sprintf("main: Error (exit code %d)", o.Exit)
	}
	if o.Error != "" {
		rep.Phase, rep.Message, rep.ExitCode = executor.Error, o.Error, nil
	}
	if id.Attempt < o.Lost {
		rep.Phase, rep.Reason, rep.Message, rep.ExitCode = executor.Error, executor.ReasonLost, "the machine went away", nil
	}
	rep.Result = &o.Result
	missing := map[string]bool{}
	for _, m := range o.Missing {
		missing[m] = true
	}
	rep.Missing = o.Missing
	rep.Parameters = map[string]string{}
	for _, q := range p.Outputs.Parameters {
		if v, ok := o.Parameters[q.Name]; ok {
			rep.Parameters[q.Name] = v
		} else if !missing[q.Name] && rep.Phase == executor.Succeeded {
			rep.Parameters[q.Name] = ""
		}
	}
	for _, a := range p.Outputs.Artifacts {
		if !missing[a.Name] && rep.Phase == executor.Succeeded {
			rep.Saved = append(rep.Saved, a)
		}
	}
	for _, c := range p.Pod.Spec.Containers {
		if slices.Contains(o.Unrun, c.Name) {
			continue
		}
		code := int32(o.Containers[c.Name])
		if c.Name == "main" {
			code = int32(o.Exit)
		}
		rep.Containers = append(rep.Containers, corev1.ContainerStatus{
			Name: c.Name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}},
		})
	}
	r.pods[id] = r.at(o.Takes, workflow.Report{Report: rep})
}

// answer gives the answer to a request when its time is up.
func (r *Run) answer(e workflow.Request, o Outcome) {
	if o.Forever {
		return
	}
	resp := workflow.Response{Status: o.Status, Headers: o.Headers, Body: o.Result, Error: o.Error, StartedAt: r.Now, FinishedAt: r.Now.Add(o.Takes)}
	if resp.Status == 0 {
		resp.Status = 200
	}
	r.at(o.Takes, workflow.Report{Report: workflow.Answer(e, resp)})
}

func (r *Run) stopPod(e workflow.StopPod) {
	id := executor.ID{Owner: r.State.Run().UID, Node: e.Node, Attempt: e.Attempt}
	if ev := r.pods[id]; ev != nil {
		ev.gone = true
	}
	r.Stopped = append(r.Stopped, e.Node)
	r.pods[id] = r.at(0, workflow.Report{Report: executor.Report{ID: id, Phase: executor.Failed, Reason: executor.ReasonStopped, Message: "stopped"}})
}

func (r *Run) need(e workflow.Need) {
	g := workflow.Got{Key: e.Key}
	if e.Earlier != nil {
		g.Memo = r.World.earlier(*e.Earlier)
		g.Earlier = g.Memo != nil
	}
	if e.Memo != nil && g.Memo == nil {
		g.Memo = r.World.memos[e.Memo.Cache+"/"+e.Memo.Key]
	}
	if e.List != nil {
		for _, k := range r.World.Keys {
			if strings.HasPrefix(k, e.List.Folder+"/") {
				g.Keys = append(g.Keys, k)
			}
		}
		if len(g.Keys) == 0 {
			g.Error = "nothing is in " + e.List.Folder // so that a test can see a fault
		}
	}
	if len(e.Refs) > 0 {
		g.Objects = map[workflow.Ref]json.RawMessage{}
		for _, ref := range e.Refs {
			g.Objects[ref] = r.World.Objects[ref]
		}
	}
	r.at(0, g)
}

// earlier is what a node of an earlier run left, if it succeeded.
func (w *World) earlier(e workflow.EarlierNode) json.RawMessage {
	n, ok := w.runs[e.Run].State.Node(e.ID)
	if !ok || n.Name != e.Name || n.Phase != workflow.Succeeded {
		return nil
	}
	if n.Outputs == nil {
		return json.RawMessage("{}")
	}
	raw, err := json.Marshal(n.Outputs)
	if err != nil {
		return nil
	}
	return raw
}

// Repeat submits a run that is made of what r was made of, under another name.
func (r *Run) Repeat(name string, memoized bool, parameters map[string]string) (*Run, error) {
	of, err := r.State.Repeat()
	if err != nil {
		return nil, err
	}
	maps.Copy(of.Parameters, parameters)
	return r.World.Submit(of.Workflow, func(c *workflow.Submit) {
		c.Name, c.UID, c.Given, c.Labels, c.Annotations, c.Parameters = name, "uid-"+name, of.Given, of.Labels, of.Annotations, of.Parameters
		if memoized {
			c.Earlier = &of.Earlier
		}
	})
}

func (r *Run) limits(l workflow.Lock) (int, error) {
	if n, ok := r.World.Limits[l.Name]; ok {
		return n, nil
	}
	var cm struct {
		Data map[string]string `json:"data"`
	}
	if raw := r.World.Objects[l.Ref]; raw != nil {
		if err := json.Unmarshal(raw, &cm); err != nil {
			return 0, err
		}
	}
	n := 0
	if _, err := fmt.Sscan(cm.Data[l.Key], &n); err != nil {
		return 0, fmt.Errorf("semaphore %s has no limit", l.Name)
	}
	return n, nil
}

func (r *Run) acquire(e workflow.Acquire) {
	_, a := r.World.locks.Acquire(e, r.limits)
	g := workflow.Got{Key: e.Key, Granted: a.Granted, Waiting: a.Waiting}
	if a.Err != nil {
		g.Error = a.Err.Error()
	}
	r.at(0, g)
}

func (r *Run) release(e workflow.Release) {
	_, answers := r.World.locks.Release(e.Holder, r.limits)
	for _, a := range answers {
		r.at(0, workflow.Got{Key: a.Key, Granted: true})
	}
}

// Step lets the next thing happen. It reports whether there was one.
func (r *Run) Step() (bool, error) {
	for r.events.Len() > 0 {
		ev := heap.Pop(&r.events).(*event)
		if ev.gone {
			continue
		}
		if ev.at.After(r.Now) {
			r.Now = ev.at
		}
		return true, r.Do(r.dated(ev.command))
	}
	return false, nil
}

func (r *Run) dated(c workflow.Command) workflow.Command {
	switch c := c.(type) {
	case workflow.Report:
		c.Meta = r.meta()
		return c
	case workflow.Fired:
		c.Meta = r.meta()
		delete(r.timers, c.Key)
		return c
	case workflow.Got:
		c.Meta = r.meta()
		return c
	}
	return c
}

// Until lets things happen until the condition holds; an error says that it never did.
func (r *Run) Until(what string, holds func(*workflow.State) bool) error {
	limit := r.World.Stuck
	if limit == 0 {
		limit = 1_000_000
	}
	for range limit {
		if holds(r.State) {
			return nil
		}
		more, err := r.Step()
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	if holds(r.State) {
		return nil
	}
	return fmt.Errorf("wait until %s: nothing more happens; phase %q", what, r.State.Run().Phase)
}

// Finish lets everything happen that is still to happen. It is an error if the run has not ended then.
func (r *Run) Finish() error {
	if err := r.Until("the run has ended", (*workflow.State).Done); err != nil {
		return err
	}
	for {
		more, err := r.Step()
		if err != nil || !more {
			return err
		}
	}
}

// Held lists who still holds or waits for locks, in order.
func (w *World) Held() []string { return w.locks.Names() }

// Node finds a node by its display name or, failing that, its name.
func (r *Run) Node(name string) (workflow.Node, bool) {
	for n := range r.State.Nodes() {
		if n.DisplayName == name {
			return n, true
		}
	}
	for n := range r.State.Nodes() {
		if n.Name == name {
			return n, true
		}
	}
	return workflow.Node{}, false
}

// Rows is a ledger.Rows in memory, by table and key.
type Rows map[[2]string]ledger.Row

// Get implements ledger.Rows.
func (r Rows) Get(table, key string) (ledger.Row, error) {
	row, ok := r[[2]string{table, key}]
	if !ok {
		return ledger.Row{}, ledger.ErrNotFound
	}
	return row, nil
}

// Put implements ledger.Rows.
func (r Rows) Put(row ledger.Row) error { r[[2]string{row.Table, row.Key}] = row; return nil }

// Delete implements ledger.Rows.
func (r Rows) Delete(table, key string) error { delete(r, [2]string{table, key}); return nil }
