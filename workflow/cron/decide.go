package cron

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// maxSlots bounds how many times are looked at to find the last one that was missed.
const maxSlots = 100_000

// Schedules are all schedules of a CronWorkflow.
type Schedules []Schedule

// ParseAll reads the schedules of a CronWorkflow, `schedule` of 3.x included.
func ParseAll(spec manifest.CronWorkflowSpec) (Schedules, error) {
	var list Schedules
	for _, text := range spec.AllSchedules() {
		s, err := Parse(text, spec.Timezone)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("cron workflow must have at least one schedule")
	}
	return list, nil
}

// Next is the first time after t in any schedule; zero where there is none.
func (s Schedules) Next(t time.Time) time.Time {
	var first time.Time
	for _, schedule := range s {
		if next := schedule.Next(t); !next.IsZero() && (first.IsZero() || next.Before(first)) {
			first = next
		}
	}
	return first
}

// maxLate is how late a time is made up for at most where there is no startingDeadlineSeconds: a schedule that is seldom due is not
// made up for half a period later.
const maxLate = 5 * time.Minute

// Due says what is to become of the times that have passed since the last one that was decided on.
type Due struct {
	// Slot is the time to start a run for, Late how long ago it was. Slot is zero if there is none.
	Slot time.Time
	Late time.Duration
	// Missed counts the times that are not made up for, First and Last are the first and the last of them.
	Missed      int
	First, Last time.Time
}

// Due decides on the times after last and not after now. Of several only the latest is made up for, as in Argo, if it is not older than
// startingDeadlineSeconds; without that, if it is late by at most the smaller of half the time to the next one and five minutes, and
// not older than since, the moment from which the schedule is as it is.
func (s Schedules) Due(last, since, now time.Time, startingDeadlineSeconds *int64) Due {
	var d Due
	if last.IsZero() {
		return d
	}
	slots := 0
	var latest, before time.Time
	for next := s.Next(last); !next.IsZero() && !next.After(now); next = s.Next(next) {
		if slots == 0 {
			d.First = next
		}
		slots++
		before, latest = latest, next
		if slots == maxSlots { // look at the end only: what lies between is missed whatever it is
			if near := now.Add(-24 * time.Hour); near.After(next) {
				next = near
			}
		}
	}
	if slots == 0 {
		return d
	}
	late := now.Sub(latest)
	if late <= s.allowed(latest, startingDeadlineSeconds) && (startingDeadlineSeconds != nil || !latest.Before(since)) {
		d.Slot, d.Late = latest, late
		slots--
		latest = before
	}
	if d.Missed, d.Last = slots, latest; slots == 0 {
		d.First = time.Time{}
	}
	return d
}

// allowed is how late the run of a slot may be started.
func (s Schedules) allowed(slot time.Time, startingDeadlineSeconds *int64) time.Duration {
	if n := startingDeadlineSeconds; n != nil && *n > 0 {
		return time.Duration(min(*n, 10*365*24*3600)) * time.Second
	}
	allowed := maxLate
	if next := s.Next(slot); !next.IsZero() {
		allowed = min(allowed, next.Sub(slot)/2)
	}
	return allowed
}

// Action is what to do when a run is due.
type Action string

// The actions.
const (
	Start   Action = "start"
	Skip    Action = "skip"    // leave this time out
	Replace Action = "replace" // end the active runs, then start
)

// Concurrency decides by concurrencyPolicy, with the number of runs that are active. An empty policy is Allow.
func Concurrency(policy string, active int) (Action, error) {
	switch policy {
	case "", "Allow":
		return Start, nil
	case "Forbid":
		if active > 0 {
			return Skip, nil
		}
		return Start, nil
	case "Replace":
		if active > 0 {
			return Replace, nil
		}
		return Start, nil
	}
	return Skip, fmt.Errorf("'%s' is not a valid concurrencyPolicy: want Allow, Forbid or Replace", policy)
}

// Facts are what the expressions of a CronWorkflow may read.
type Facts struct {
	Name, Namespace     string
	Labels, Annotations map[string]string
	// LastScheduled is zero if there was none.
	LastScheduled time.Time
	// Failed and Succeeded count the runs that ended.
	Failed, Succeeded int64
}

// Scope gives the facts as cronworkflow.*; of older manifests also failed and succeeded.
func (f Facts) Scope() expression.Scope {
	values := expression.Values{
		"cronworkflow.name": f.Name, "cronworkflow.namespace": f.Namespace,
		"cronworkflow.failed": f.Failed, "cronworkflow.succeeded": f.Succeeded,
		"cronworkflow.labels.json": asJSON(f.Labels), "cronworkflow.annotations.json": asJSON(f.Annotations),
		"failed": f.Failed, "succeeded": f.Succeeded,
	}
	for key, value := range f.Labels {
		values["cronworkflow.labels."+key] = value
	}
	for key, value := range f.Annotations {
		values["cronworkflow.annotations."+key] = value
	}
	if !f.LastScheduled.IsZero() {
		values["cronworkflow.lastScheduledTime"] = f.LastScheduled
	}
	return values
}

func asJSON(m map[string]string) string {
	if m == nil {
		return "{}"
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return "{}"
	}
	return string(raw)
}

// When decides by the `when` of a CronWorkflow; an empty one is true.
func When(e *expression.Evaluator, when string, f Facts, now time.Time) (bool, error) {
	if strings.TrimSpace(when) == "" {
		return true, nil
	}
	return evaluate(e, when, f, now)
}

// Stop decides by stopStrategy whether the schedule ends for good.
func Stop(e *expression.Evaluator, s *manifest.StopStrategy, f Facts, now time.Time) (bool, error) {
	if s == nil {
		return false, nil
	}
	code := s.Expression
	if code == "" {
		code = s.Condition
	}
	if strings.TrimSpace(code) == "" {
		return false, nil
	}
	return evaluate(e, code, f, now)
}

// evaluate takes an expression with or without braces around it, or a text with tags, as Argo does.
func evaluate(e *expression.Evaluator, code string, f Facts, now time.Time) (bool, error) {
	options := expression.Options{Now: now}
	code = strings.TrimSpace(code)
	if tags := expression.Tags(code); len(tags) == 1 && tags[0].Text == code && tags[0].Expression != "" {
		return e.EvalBool(tags[0].Expression, f.Scope(), options)
	}
	text, unresolved, err := e.SubstituteText(code, f.Scope(), options)
	if err != nil {
		return false, err
	}
	if len(unresolved) > 0 {
		return false, unresolved[0]
	}
	return e.EvalBool(text, f.Scope(), options)
}
