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

// Missed is the latest time after the last scheduled one and not after now, if it is not older than
// startingDeadlineSeconds. It is for the start of a server: of several missed runs only the latest is made up for, and
// none without a deadline or where nothing was scheduled before, as in Argo.
func (s Schedules) Missed(last, now time.Time, startingDeadlineSeconds *int64) (time.Time, bool) {
	if last.IsZero() || startingDeadlineSeconds == nil || *startingDeadlineSeconds <= 0 {
		return time.Time{}, false
	}
	window := now.Add(-time.Duration(min(*startingDeadlineSeconds, 10*365*24*3600)) * time.Second)
	from := last
	if window.After(from) {
		// What is older than the window does not matter; a slot exactly at its start does.
		from = window.Add(-time.Nanosecond)
	}
	var latest time.Time
	for range maxSlots {
		next := s.Next(from)
		if next.IsZero() || next.After(now) {
			break
		}
		latest, from = next, next
	}
	return latest, !latest.IsZero()
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
