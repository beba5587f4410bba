package crons

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/cron"
	"github.com/tiphys/tiphys/workflow/expression"
)

// look takes the latest slot that is due, if it was not taken before.
func (c *Controller) look(ctx context.Context, s scheduled, now time.Time) error {
	last, err := c.last(ctx, s)
	if err != nil {
		return err
	}
	if last.Outcome == "stopped" {
		return nil
	}
	from, back := c.from(s, last, now)
	if next := s.schedules.Next(from); next.IsZero() || next.After(now) {
		return nil
	}
	declared, err := c.o.Ledger.Entry(ctx, s.seq)
	if err != nil {
		return fmt.Errorf("read the declaration: %w", err)
	}
	since := declared.Time
	if since.After(now) {
		since = from
	}
	due := s.schedules.Due(from, since, now, s.def.Spec.StartingDeadlineSeconds)
	if back && !due.Slot.IsZero() {
		if taken, err := c.taken(ctx, s, due.Slot); err != nil || taken {
			return err
		}
	}
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

// from is the time after which slots are due: that of the latest one. Where that lies in the future, the clock was set back; the schedule goes on
// by the clock as it is now, from the last look on, and back says that some of its slots may have been taken before.
func (c *Controller) from(s scheduled, last Slot, now time.Time) (from time.Time, back bool) {
	looked, before := c.looked[s.key]
	c.looked[s.key] = now
	if !last.Time.After(now) {
		return last.Time, false
	}
	if !before || looked.After(now) {
		return now, true
	}
	return looked, true
}

// takenPage is how many of the latest slots are looked through.
const takenPage = 1000

// taken tells whether a slot was decided on before.
func (c *Controller) taken(ctx context.Context, s scheduled, slot time.Time) (bool, error) {
	entries, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{Subject: "cron/" + s.key, Kinds: []string{KindSlot}, Newest: true, Limit: takenPage})
	if err != nil {
		return false, fmt.Errorf("read the slots of %s: %w", s.key, err)
	}
	for _, e := range entries {
		if was, err := ledger.Read[Slot](e); err == nil && was.Time.Equal(slot) {
			return true, nil
		}
	}
	return false, nil
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
		if err := json.Unmarshal(row.Body, &slot); err != nil || slot.Time.IsZero() {
			// Of a damaged row it is known when it was written: no slot before that is due.
			slot = Slot{Cron: s.key, Time: row.Time, Outcome: row.State, Reason: "the record of its last time is damaged"}
		}
		return slot, nil
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

// ran is a run of a schedule.
type ran struct{ Namespace, Name string }

// historyPage is how many runs of a schedule are looked at.
const historyPage = 1000

// facts are what is known of a schedule's runs, and those that are active. The rows themselves tell that: a run that cannot be read counts, too.
func (c *Controller) facts(ctx context.Context, s scheduled, last Slot) (active []ran, facts cron.Facts, err error) {
	facts = cron.Facts{Name: s.def.Name, Namespace: s.def.Namespace, Labels: s.def.Labels, Annotations: s.def.Annotations}
	if last.Outcome != "" {
		facts.LastScheduled = last.Time
	}
	rows, err := c.o.Ledger.List(ctx, ledger.Query{Table: "run", Labels: map[string]string{LabelCron: s.def.Name}, KeyPrefix: s.def.Namespace + "/", Limit: historyPage})
	if err != nil {
		return nil, facts, err
	}
	for _, row := range rows {
		switch phase := workflow.Phase(row.State); {
		case !phase.Done():
			r := ran{}
			r.Namespace, r.Name, _ = strings.Cut(row.Key, "/")
			active = append(active, r)
		case phase == workflow.Succeeded:
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

// Metadata are the labels and annotations of a run that a CronWorkflow of a name and workflowMetadata makes for a time, by its schedule or by
// hand (ConvertCronWorkflowToWorkflow in workflow/common/convert.go of Argo).
func Metadata(name string, m *metav1.ObjectMeta, at time.Time) (labels, annotations map[string]string) {
	labels = map[string]string{LabelCron: name}
	annotations = map[string]string{"workflows.argoproj.io/scheduled-time": at.UTC().Format(time.RFC3339)}
	if m != nil {
		maps.Copy(labels, m.Labels)
		maps.Copy(annotations, m.Annotations)
	}
	return labels, annotations
}

func (c *Controller) submit(ctx context.Context, s scheduled, due cron.Due) error {
	slot := due.Slot
	meta := map[string]any{"namespace": s.def.Namespace}
	labels, annotations := Metadata(s.def.Name, s.def.Spec.WorkflowMetadata, slot)
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
		Item: quarantine.Version(quarantine.KindCron, s.key, slot.UTC().Format(time.RFC3339)),
	})
	if errors.Is(err, ledger.ErrExists) {
		run.Name, err = name, nil
	}
	if passes(err) || errors.As(err, new(*quarantine.PanicError)) {
		return fmt.Errorf("submit %s: %w", name, err)
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

// passes reports whether an error is one of the moment, at which a slot is not lost: it is tried again as long as it may be late.
func passes(err error) bool {
	switch failure.KindOf(err) {
	case failure.RetryAfter, failure.Waiting, failure.TimedOut, failure.NoSpace:
		return true
	}
	return errors.Is(err, context.Canceled)
}
