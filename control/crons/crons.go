// Package crons submits CronWorkflows when they are due. A slot is a unique key in the ledger: it is taken once
// however often the server starts.
package crons

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/cron"
	"github.com/tiphys/tiphys/workflow/expression"
)

// LabelCron is Argo's label of runs that a CronWorkflow made.
const LabelCron = "workflows.argoproj.io/cron-workflow"

// KindSlot is the kind of the entries that say what became of a slot.
const KindSlot = "cron.slot"

// Options of a Controller; all are required.
type Options struct {
	Ledger      ledger.Ledger
	Runs        *runs.Controller
	Definitions definitions.Reader
	Now         func() time.Time
	Log         *slog.Logger
}

// Controller looks after the schedules.
type Controller struct{ o Options }

// New returns a controller; nothing happens until Run.
func New(o Options) *Controller { return &Controller{o} }

// Slot is the body of a cron.slot entry and of a row of the "cron" table: the latest slot of a CronWorkflow.
type Slot struct {
	Cron string    `json:"cron"` // namespace/name
	Time time.Time `json:"time"`
	// Outcome is submitted, skipped, missed, stopped or failed; Reason says why.
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"`
	Run     string `json:"run,omitempty"`
	// LateSeconds is how long after Time its run was submitted, where that is worth a word.
	LateSeconds int64 `json:"lateSeconds,omitempty"`
	// Missed counts the slots of one gap, of which Time is the last.
	Missed int `json:"missed,omitempty"`
}

const tableCron = "cron"

// Projection keeps the "cron" table.
type Projection struct{}

// Tables implements ledger.Projection.
func (Projection) Tables() []string { return []string{tableCron} }

// Version implements ledger.Projection.
func (Projection) Version() int { return 1 }

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool { return kind == KindSlot }

// Apply implements ledger.Projection.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	var s Slot
	if err := json.Unmarshal(e.Body, &s); err != nil {
		return fmt.Errorf("decode slot: %w", err)
	}
	return rows.Put(ledger.Row{Table: tableCron, Key: s.Cron, State: s.Outcome, Time: e.Time, Body: e.Body})
}

// scheduled is a CronWorkflow ready to be looked at.
type scheduled struct {
	key       string
	def       manifest.CronWorkflow
	schedules cron.Schedules
	spec      json.RawMessage
	seq       int64
	origin    string // who declared it
	// problem says why nothing is submitted: the definition cannot be read.
	problem string
}

// idle is the longest sleep: definitions may change meanwhile, which a commit tells.
const idle = time.Minute

// Run submits what is due until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		changed := c.o.Ledger.Changed()
		list, err := c.list(ctx)
		if err != nil && ctx.Err() == nil {
			c.o.Log.Error("read schedules", "error", err)
		}
		now := c.o.Now()
		next := now.Add(idle)
		for _, s := range list {
			if s.def.Spec.Suspend || s.problem != "" {
				continue
			}
			if err := c.look(ctx, s, now); err != nil && ctx.Err() == nil {
				c.o.Log.Error("schedule", "cron", s.key, "error", err)
			}
			if n := s.schedules.Next(now); !n.IsZero() && n.Before(next) {
				next = n
			}
		}
		if len(list) == 0 {
			next = now.Add(time.Hour)
		}
		c.sleep(ctx, changed, next)
	}
	return nil
}

// settle keeps a busy ledger from making this loop busy: changes of definitions wait this long.
const settle = 500 * time.Millisecond

func (c *Controller) sleep(ctx context.Context, changed <-chan struct{}, until time.Time) {
	t := time.NewTimer(max(until.Sub(c.o.Now()), time.Millisecond))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return
	case <-t.C:
		return
	case <-changed:
	}
	q := time.NewTimer(min(settle, max(until.Sub(c.o.Now()), time.Millisecond)))
	defer q.Stop()
	select {
	case <-ctx.Done():
	case <-q.C:
	}
}

func (c *Controller) list(ctx context.Context) ([]scheduled, error) {
	defs, err := definitions.All[manifest.CronWorkflow](ctx, c.o.Definitions, "")
	if err != nil {
		return nil, err
	}
	out := make([]scheduled, 0, len(defs))
	for _, d := range defs {
		s := scheduled{key: d.Namespace + "/" + d.Name, def: d.Value, seq: d.Seq, origin: d.Origin}
		s.def.Namespace, s.def.Name = d.Namespace, d.Name
		err := d.Problem
		if err == nil {
			s.schedules, err = cron.ParseAll(d.Value.Spec)
		}
		if err == nil {
			s.spec, err = workflowSpec(d.Object)
		}
		if err != nil {
			s.problem = err.Error()
		}
		out = append(out, s)
	}
	return out, nil
}

// workflowSpec is the spec of the runs that a CronWorkflow makes, as it was written: its tags are replaced in each run.
func workflowSpec(object json.RawMessage) (json.RawMessage, error) {
	tree, err := manifest.ParseTree(object)
	if err != nil {
		return nil, err
	}
	return tree.Lookup("spec.workflowSpec").JSON(), nil
}

// look takes the latest slot that is due, if it was not taken before.
func (c *Controller) look(ctx context.Context, s scheduled, now time.Time) error {
	last, err := c.last(ctx, s)
	if err != nil {
		return err
	}
	if last.Outcome == "stopped" {
		return nil
	}
	if next := s.schedules.Next(last.Time); next.IsZero() || next.After(now) {
		return nil
	}
	declared, err := c.o.Ledger.Entry(ctx, s.seq)
	if err != nil {
		return fmt.Errorf("read the declaration: %w", err)
	}
	due := s.schedules.Due(last.Time, declared.Time, now, s.def.Spec.StartingDeadlineSeconds)
	if due.Missed > 0 {
		if err := c.record(ctx, s, missed(s, due)); err != nil {
			return err
		}
	}
	if due.Slot.IsZero() {
		return nil
	}
	return c.take(ctx, s, last, due, now)
}

// missed tells of the slots that passed while the server was stopped or busy and that are not made up for.
func missed(s scheduled, due cron.Due) Slot {
	reason := "it passed while the server was away or busy"
	if due.Missed > 1 {
		reason = fmt.Sprintf("%d times from %s on passed while the server was away or busy", due.Missed, due.First.UTC().Format(time.RFC3339))
	}
	return Slot{Cron: s.key, Time: due.Last, Outcome: "missed", Missed: due.Missed, Reason: reason}
}

// punctual is how late a run is without a word about it.
const punctual = 2 * time.Second

// last is the latest slot that was decided on; before the first one, the time of the declaration.
func (c *Controller) last(ctx context.Context, s scheduled) (Slot, error) {
	row, err := c.o.Ledger.Row(ctx, tableCron, s.key)
	if err == nil {
		var slot Slot
		err = json.Unmarshal(row.Body, &slot)
		return slot, err
	}
	if !errors.Is(err, ledger.ErrNotFound) {
		return Slot{}, err
	}
	e, err := c.o.Ledger.Entry(ctx, s.seq)
	return Slot{Cron: s.key, Time: e.Time}, err
}

func (c *Controller) take(ctx context.Context, s scheduled, last Slot, due cron.Due, now time.Time) error {
	slot := due.Slot
	active, facts, err := c.facts(ctx, s, last)
	if err != nil {
		return err
	}
	ev := expression.New()
	if stop, err := cron.Stop(ev, s.def.Spec.StopStrategy, facts, now); err != nil {
		return c.record(ctx, s, Slot{Cron: s.key, Time: slot, Outcome: "failed", Reason: "stopStrategy: " + err.Error()})
	} else if stop {
		return c.record(ctx, s, Slot{Cron: s.key, Time: slot, Outcome: "stopped", Reason: "stopStrategy is true"})
	}
	if ok, err := cron.When(ev, s.def.Spec.When, facts, now); err != nil {
		return c.record(ctx, s, Slot{Cron: s.key, Time: slot, Outcome: "failed", Reason: "when: " + err.Error()})
	} else if !ok {
		return c.record(ctx, s, Slot{Cron: s.key, Time: slot, Outcome: "skipped", Reason: fmt.Sprintf("when %q is false", s.def.Spec.When)})
	}
	action, err := cron.Concurrency(s.def.Spec.ConcurrencyPolicy, len(active))
	if err != nil {
		return c.record(ctx, s, Slot{Cron: s.key, Time: slot, Outcome: "failed", Reason: err.Error()})
	}
	switch action {
	case cron.Skip:
		return c.record(ctx, s, Slot{Cron: s.key, Time: slot, Outcome: "skipped", Reason: "concurrencyPolicy Forbid: " + active[0].Name + " still runs"})
	case cron.Replace:
		for _, r := range active {
			if err := c.o.Runs.Control(ctx, r.Namespace, r.Name, workflow.Control{Meta: workflow.Meta{Actor: "cron:" + s.key}, Verb: workflow.Terminate}); err != nil {
				return fmt.Errorf("replace %s: %w", r.Name, err)
			}
		}
	case cron.Start:
	}
	return c.submit(ctx, s, due)
}

// historyPage is how many runs of a schedule are looked at.
const historyPage = 1000

func (c *Controller) facts(ctx context.Context, s scheduled, last Slot) ([]workflow.Run, cron.Facts, error) {
	facts := cron.Facts{Name: s.def.Name, Namespace: s.def.Namespace, Labels: s.def.Labels, Annotations: s.def.Annotations}
	if last.Outcome != "" {
		facts.LastScheduled = last.Time
	}
	rows, err := c.o.Ledger.List(ctx, ledger.Query{Table: "run", Labels: map[string]string{LabelCron: s.def.Name}, KeyPrefix: s.def.Namespace + "/", Limit: historyPage})
	if err != nil {
		return nil, facts, err
	}
	var active []workflow.Run
	for _, row := range rows {
		var r workflow.Run
		if err := json.Unmarshal(row.Body, &r); err != nil {
			return nil, facts, fmt.Errorf("decode run %s: %w", row.Key, err)
		}
		switch {
		case !r.Phase.Done():
			active = append(active, r)
		case r.Phase == workflow.Succeeded:
			facts.Succeeded++
		default:
			facts.Failed++
		}
	}
	return active, facts, nil
}

func (c *Controller) record(ctx context.Context, s scheduled, slot Slot) error {
	err := c.o.Ledger.Write(ctx, ledger.On("cron/"+s.key), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: "cron:" + s.key, Kind: KindSlot, Subject: "cron/" + s.key, Cause: ledger.At(s.seq), Unique: slotKey(s, slot.Time), Horizon: slotHorizon, Body: slot})
		return err
	})
	if errors.Is(err, ledger.ErrExists) {
		return nil
	}
	return err
}

// slotHorizon is how long a slot cannot be taken again. A slot that old is never looked at: it would be missed.
const slotHorizon = 400 * 24 * time.Hour

func slotKey(s scheduled, at time.Time) string {
	return "cron/" + s.key + "/" + at.UTC().Format(time.RFC3339)
}

func (c *Controller) submit(ctx context.Context, s scheduled, due cron.Due) error {
	slot := due.Slot
	meta := map[string]any{"namespace": s.def.Namespace}
	labels := map[string]string{LabelCron: s.def.Name}
	annotations := map[string]string{"workflows.argoproj.io/scheduled-time": slot.UTC().Format(time.RFC3339)}
	if m := s.def.Spec.WorkflowMetadata; m != nil {
		for k, v := range m.Labels {
			labels[k] = v
		}
		for k, v := range m.Annotations {
			annotations[k] = v
		}
	}
	raw, err := json.Marshal(map[string]any{"apiVersion": manifest.APIVersion, "kind": "Workflow", "metadata": meta, "spec": s.spec})
	if err != nil {
		return fmt.Errorf("make workflow: %w", err)
	}
	objects, diags := manifest.Decode("CronWorkflow/"+s.key, raw)
	if err := manifest.FirstError(diags); err != nil {
		return c.record(ctx, s, Slot{Cron: s.key, Time: slot, Outcome: "failed", Reason: err.Error()})
	}
	// The name follows from the slot, as in Argo: a second submission finds the first.
	name := fmt.Sprintf("%s-%d", s.def.Name, slot.Unix())
	run, err := c.o.Runs.Submit(ctx, runs.Submission{
		Object: objects[0], Namespace: s.def.Namespace, Name: name, Labels: labels, Annotations: annotations,
		Actor: "cron:" + s.key, Cause: s.seq, ScheduledTime: &slot, Origin: s.origin,
	})
	if errors.Is(err, ledger.ErrExists) {
		run.Name, err = name, nil
	}
	if err != nil {
		return c.record(ctx, s, Slot{Cron: s.key, Time: slot, Outcome: "failed", Reason: err.Error()})
	}
	done := Slot{Cron: s.key, Time: slot, Outcome: "submitted", Run: s.def.Namespace + "/" + run.Name}
	if due.Late > punctual {
		done.LateSeconds = int64(due.Late.Seconds())
		done.Reason = fmt.Sprintf("started %s late: the server was away or busy", due.Late.Round(time.Second))
	}
	return c.record(ctx, s, done)
}

// State is what a screen shows of a CronWorkflow.
type State struct {
	Namespace     string     `json:"namespace"`
	Name          string     `json:"name"`
	Schedules     []string   `json:"schedules"`
	Timezone      string     `json:"timezone,omitempty"`
	Suspended     bool       `json:"suspended"`
	LastScheduled *time.Time `json:"lastScheduled,omitempty"`
	Outcome       string     `json:"outcome,omitempty"`
	Reason        string     `json:"reason,omitempty"`
	Run           string     `json:"run,omitempty"`
	Next          *time.Time `json:"next,omitempty"`
	// Problem says why nothing is submitted: the definition cannot be read.
	Problem string `json:"problem,omitempty"`
}

// List tells of every CronWorkflow.
func (c *Controller) List(ctx context.Context) ([]State, error) {
	list, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]State, 0, len(list))
	for _, s := range list {
		st := State{Namespace: s.def.Namespace, Name: s.def.Name, Timezone: s.def.Spec.Timezone, Suspended: s.def.Spec.Suspend, Problem: s.problem}
		for _, one := range s.schedules {
			st.Schedules = append(st.Schedules, one.String())
		}
		last, err := c.last(ctx, s)
		if err != nil {
			return nil, err
		}
		if last.Outcome != "" {
			st.LastScheduled, st.Outcome, st.Reason, st.Run = &last.Time, last.Outcome, last.Reason, last.Run
		}
		if n := s.schedules.Next(c.o.Now()); !n.IsZero() && !s.def.Spec.Suspend && s.problem == "" {
			st.Next = &n
		}
		out = append(out, st)
	}
	return out, nil
}
