// Package crons submits CronWorkflows when they are due. A slot is a unique key in the ledger: it is taken once
// however often the server starts.
package crons

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/cron"
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

// Controller looks after the schedules. It is a control.Service.
type Controller struct {
	o        Options
	troubles failure.Troubles
	// looked is when each schedule was looked at last; Run's goroutine alone has it.
	looked map[string]time.Time
}

// New returns a controller; nothing happens until Run.
func New(o Options) *Controller { return &Controller{o: o, looked: map[string]time.Time{}} }

// Name implements control.Service.
func (c *Controller) Name() string { return "schedules" }

// Start implements control.Service.
func (c *Controller) Start(context.Context) error { return nil }

// Health implements control.Service: it waits while a schedule cannot be looked at, which is tried again.
func (c *Controller) Health() control.Health {
	if trouble := c.troubles.Text(); trouble != "" {
		return control.Health{State: control.Waiting, Reason: trouble}
	}
	return control.Health{}
}

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

const (
	// idle is the longest sleep: definitions may change meanwhile, which a commit tells.
	idle = time.Minute
	// again is the wait before what failed is tried again.
	again = 5 * time.Second
	// reading is what is in trouble while the schedules cannot be read.
	reading = "read the schedules"
)

// Run submits what is due until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		changed := c.o.Ledger.Changed()
		c.sleep(ctx, changed, c.round(ctx))
	}
	return nil
}

// round looks at every schedule, and says when to look again at the latest.
func (c *Controller) round(ctx context.Context) (next time.Time) {
	now := c.o.Now()
	list, err := c.list(ctx)
	if c.noted(ctx, reading, err) {
		return now.Add(again)
	}
	if len(list) == 0 {
		return now.Add(time.Hour)
	}
	next = now.Add(idle)
	for _, s := range list {
		due := s.schedules.Next(now)
		if s.def.Spec.Suspend || s.problem != "" {
			err, due = nil, time.Time{}
		} else if err = c.look(ctx, s, now); err != nil {
			due = now.Add(again)
		}
		c.noted(ctx, "schedule "+s.key, err)
		if !due.IsZero() && due.Before(next) {
			next = due
		}
	}
	c.forget(list)
	return next
}

// noted shows an error until there is none any more, and reports whether there is one.
func (c *Controller) noted(ctx context.Context, what string, err error) bool {
	if err == nil {
		c.troubles.Over(what)
		return false
	}
	if ctx.Err() == nil && c.troubles.Note(what, err) {
		c.o.Log.Error("a schedule cannot be looked at; it is tried again", "what", what, "error", err)
	}
	return true
}

// forget forgets schedules that are declared no more.
func (c *Controller) forget(list []scheduled) {
	there := make(map[string]bool, len(list))
	for _, s := range list {
		there[s.key] = true
	}
	for key := range c.looked {
		if !there[key] {
			delete(c.looked, key)
			c.troubles.Over("schedule " + key)
		}
	}
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
