package crons

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/workflow/cron"
)

// planner tells which schedules start a run at once when a restored server is released.
type planner struct{ c *Controller }

// Planner implements what a plan asks of schedules.
func (c *Controller) Planner() hold.Planner { return planner{c} }

// Kind implements hold.Planner.
func (planner) Kind() string { return "cron" }

// due is a schedule with what it would do now.
type due struct {
	scheduled
	last Slot
	cron.Due
}

// due gives the schedules for which a slot is taken or is missed now.
func (p planner) due(ctx context.Context, now time.Time) ([]due, error) {
	list, err := p.c.list(ctx)
	if err != nil {
		return nil, err
	}
	var out []due
	for _, s := range list {
		if s.def.Spec.Suspend || s.problem != "" {
			continue
		}
		last, err := p.c.last(ctx, s)
		if err != nil {
			return nil, err
		}
		if next := s.schedules.Next(last.Time); last.Outcome == "stopped" || next.IsZero() || next.After(now) {
			continue
		}
		declared, err := p.c.o.Ledger.Entry(ctx, s.seq)
		if err != nil {
			return nil, fmt.Errorf("read the declaration: %w", err)
		}
		d := due{scheduled: s, last: last, Due: s.schedules.Due(last.Time, declared.Time, now, s.def.Spec.StartingDeadlineSeconds)}
		if d.Missed > 0 || !d.Slot.IsZero() {
			out = append(out, d)
		}
	}
	return out, nil
}

// Plan implements hold.Planner, all on one page: schedules are few.
func (p planner) Plan(ctx context.Context, _ string, _ int) (hold.Page, error) {
	var page hold.Page
	list, err := p.due(ctx, p.c.o.Now())
	for _, d := range list {
		item := hold.Item{ID: "cron/" + d.key, Since: d.Slot, What: fmt.Sprintf("a run is started for %s", d.Slot.UTC().Format(time.RFC3339))}
		if d.Slot.IsZero() {
			item.Since, item.What = d.Last, fmt.Sprintf("nothing is started: %d times up to %s are recorded as missed", d.Missed, d.Last.UTC().Format(time.RFC3339))
		} else if d.Missed > 0 {
			item.What += fmt.Sprintf(", and %d earlier times are recorded as missed", d.Missed)
		}
		page.Items = append(page.Items, item)
	}
	return page, err
}

// Leave implements hold.Planner: the slot is recorded as skipped. Later ones are started as scheduled.
func (p planner) Leave(ctx context.Context, id, _ string) error {
	list, err := p.due(ctx, p.c.o.Now())
	if err != nil {
		return err
	}
	for _, d := range list {
		if "cron/"+d.key != id {
			continue
		}
		if d.Missed > 0 {
			if err := p.c.record(ctx, d.scheduled, missed(d.scheduled, d.Due)); err != nil {
				return err
			}
		}
		if d.Slot.IsZero() {
			return nil
		}
		return p.c.record(ctx, d.scheduled, Slot{Cron: d.key, Time: d.Slot, Outcome: "skipped", Reason: hold.Reason})
	}
	return failure.NotFoundf("no run of %s is due", strings.TrimPrefix(id, "cron/"))
}
