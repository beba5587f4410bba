package sensor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/script"
)

// Result is what one sensor makes of one event.
type Result struct {
	Decisions []event.Decision
	Firings   []Firing
	// States are the triggers whose state has changed, by trigger name.
	States map[string]State
}

// considered is what the transform and filters of a dependency say of the event, found once for all triggers.
type considered struct {
	raw     event.Event
	event   event.Event
	outcome string // empty: it passes
	reason  string
}

// Decide follows the algorithm of argo-events 1.9 (JetStream bus): each trigger by itself; an event may satisfy
// several dependencies; a condition without "&" fires at once; otherwise the newest event of each dependency is
// saved until the condition holds, and a firing clears all of them. earlier holds the events that [Sensor.Needs]
// names; one that is gone counts as not there. States given are not changed. The error says that it cannot be decided now, and may be
// later: a transform could not be run; see [Scripts].
func (s *Sensor) Decide(ctx context.Context, states map[string]State, doc *Document, earlier map[int64]event.Event, now time.Time) (Result, error) {
	result := Result{States: map[string]State{}}
	e := *doc.event
	if !s.Listens(e.Namespace, e.Source, e.Subject) {
		result.Decisions = []event.Decision{s.Unheard(e)}
		return result, nil
	}
	d := deciding{s: s, ctx: ctx, states: states, doc: doc, earlier: earlier, now: now, seen: map[string]considered{},
		restored: map[restorable]restored{}, budget: budget.New(), result: &result}
	for i := range s.triggers {
		if err := d.trigger(&s.triggers[i]); err != nil {
			return Result{}, err
		}
	}
	return result, nil
}

// deciding is what one event needs to be decided on.
type deciding struct {
	s       *Sensor
	ctx     context.Context //nolint:containedctx // it lives as long as the call of Decide
	states  map[string]State
	doc     *Document
	earlier map[int64]event.Event
	now     time.Time
	seen    map[string]considered
	// restored are the saved events as they were when they were saved, for all triggers.
	restored map[restorable]restored
	// budget is for all that the sensor makes of the event.
	budget *budget.Budget
	result *Result
}

// restorable is an event that was saved for a dependency.
type restorable struct {
	dependency string
	event      int64
}

// restored is what a dependency's transform made of a saved event: ok is false if it could not.
type restored struct {
	event event.Event
	ok    bool
}

// Unheard is the decision on an event that the sensor does not listen to.
func (s *Sensor) Unheard(e event.Event) event.Decision {
	var listens []string
	for _, d := range s.dependencies {
		listens = append(listens, d.EventSourceName+"/"+d.EventName)
	}
	return event.Decision{Sensor: s.Key, EventSeq: e.Seq, Outcome: "no-dependency", Digest: s.Digest,
		Reason: fmt.Sprintf("the sensor listens to %s in namespace %s, this is %s/%s in %s", strings.Join(listens, ", "), s.Namespace,
			e.Source, e.Subject, e.Namespace)}
}

func (g *deciding) trigger(t *trigger) (err error) {
	s, result, e := g.s, g.result, g.doc.event
	concerned := false
	for i := range s.dependencies {
		d := &s.dependencies[i]
		if d.EventSourceName != e.Source || d.EventName != e.Subject || !slices.Contains(t.condition.names, d.Name) {
			continue
		}
		concerned = true
		decision := event.Decision{Sensor: s.Key, Trigger: t.name, EventSeq: e.Seq, Dependency: d.Name, Digest: s.Digest}
		if s.Suspended {
			decision.Outcome, decision.Reason = "suspended", "the sensor is suspended; resume it and replay the event"
			result.Decisions = append(result.Decisions, decision)
			continue
		}
		c, done := g.seen[d.Name]
		if !done {
			if c, err = g.consider(d); err != nil {
				return err
			}
			g.seen[d.Name] = c
		}
		if c.outcome != "" {
			decision.Outcome, decision.Reason = c.outcome, c.reason
			result.Decisions = append(result.Decisions, decision)
			continue
		}
		state, changed := result.States[t.name]
		if !changed {
			state = g.states[t.name]
		}
		if result.States[t.name], err = g.satisfied(t, d, state, c, decision); err != nil {
			return err
		}
	}
	if !concerned {
		result.Decisions = append(result.Decisions, event.Decision{Sensor: s.Key, Trigger: t.name, EventSeq: e.Seq,
			Outcome: "no-dependency", Digest: s.Digest,
			Reason: fmt.Sprintf("condition `%s` uses no dependency on %s/%s", t.condition.text, e.Source, e.Subject)})
	}
	return nil
}

func (g *deciding) consider(d *manifest.EventDependency) (considered, error) {
	s, ctx, doc := g.s, g.ctx, g.doc
	seen := doc
	if d.Transform != nil {
		transformed, err := Transform(ctx, s.scripts, d.Transform, *doc.event)
		if Unsettled(ctx, err) {
			return considered{}, fmt.Errorf("decide by sensor %s, dependency %s: %w", s.Key, d.Name, err)
		}
		if err != nil {
			return considered{outcome: "transform-error", reason: script.OneLine(err)}, nil
		}
		seen = Read(transformed)
	}
	seen.scripts, seen.ctx, seen.budget = s.scripts, ctx, g.budget
	v := check(d.Filters, d.LogicalOperator, seen, s.patterns, s.strict)
	if err := seen.unsettled; err != nil {
		seen.unsettled = nil
		return considered{}, fmt.Errorf("decide by sensor %s, dependency %s: %w", s.Key, d.Name, err)
	}
	if !v.Pass {
		return considered{outcome: "filtered", reason: v.Reason}, nil
	}
	return considered{raw: *doc.event, event: *seen.event, reason: v.Reason}, nil
}

// satisfied takes an event that satisfies a dependency and gives the trigger's new state.
func (g *deciding) satisfied(t *trigger, d *manifest.EventDependency, state State, c considered, decision event.Decision) (_ State, err error) {
	s, result, now := g.s, g.result, g.now
	saved := s.current(t, state, now)
	events := map[string]event.Event{}
	if t.condition.waits {
		if events, err = g.restore(saved, c.raw); err != nil {
			return State{}, err
		}
	}
	events[d.Name] = c.event
	have := func(name string) bool { _, ok := events[name]; return ok }
	if t.condition.waits && !t.condition.root.holds(have) {
		saved[d.Name] = Saved{Event: c.event.Seq, Time: now}
		for _, name := range t.condition.names {
			if have(name) {
				decision.Satisfied = append(decision.Satisfied, name)
			} else {
				decision.Missing = append(decision.Missing, name)
			}
		}
		decision.Outcome = "waiting"
		decision.Reason = fmt.Sprintf("condition `%s` has %s and waits for %s", t.condition.text,
			strings.Join(decision.Satisfied, ", "), strings.Join(decision.Missing, ", "))
		result.Decisions = append(result.Decisions, decision)
		return State{Saved: saved, Fired: state.Fired}, nil
	}
	firing := s.fire(g.budget, &t.def, state.Fired+1, c.event, events)
	decision.Outcome, decision.Firing, decision.Events = "fired", firing.Number, firing.Events
	decision.Satisfied = sortedNames(events)
	decision.Reason = fmt.Sprintf("condition `%s` holds; %s", t.condition.text, c.reason)
	if firing.Problem != "" {
		decision.Reason += "; but it cannot be carried out: " + firing.Problem
	}
	result.Decisions = append(result.Decisions, decision)
	result.Firings = append(result.Firings, firing)
	next := State{Fired: firing.Number}
	if !t.condition.waits {
		next.Saved = state.Saved
	}
	return next, nil
}

// current are the saved events that no reset has cleared and whose dependency still exists, as a copy.
func (s *Sensor) current(t *trigger, state State, now time.Time) map[string]Saved {
	saved := maps.Clone(state.Saved)
	if saved == nil {
		saved = map[string]Saved{}
	}
	maps.DeleteFunc(saved, func(name string, v Saved) bool {
		cleared := slices.ContainsFunc(t.resets, func(r cron.Schedule) bool {
			next := r.Next(v.Time.UTC())
			return !next.IsZero() && !next.After(now)
		})
		return cleared || !slices.Contains(t.condition.names, name)
	})
	return saved
}

// restore gives the saved events as they were when they were saved: transformed.
func (g *deciding) restore(saved map[string]Saved, now event.Event) (map[string]event.Event, error) {
	s, earlier := g.s, g.earlier
	events := map[string]event.Event{}
	for i := range s.dependencies {
		d := &s.dependencies[i]
		v, ok := saved[d.Name]
		if !ok {
			continue
		}
		e, ok := earlier[v.Event]
		if v.Event == now.Seq {
			e, ok = now, true // one event that satisfies two dependencies
		}
		// A dependency that was pointed elsewhere since is not satisfied by what was saved for it.
		if !ok || e.Source != d.EventSourceName || e.Subject != d.EventName {
			continue
		}
		key := restorable{d.Name, v.Event}
		known, done := g.restored[key]
		if !done {
			transformed, err := Transform(g.ctx, s.scripts, d.Transform, e)
			if Unsettled(g.ctx, err) {
				return nil, fmt.Errorf("decide by sensor %s, dependency %s: %w", s.Key, d.Name, err)
			}
			known = restored{transformed, err == nil}
			g.restored[key] = known
		}
		if known.ok {
			events[d.Name] = known.event
		}
	}
	return events, nil
}

// TryDecide is [Sensor.Decide] for who must go on whatever an event is made of: what a library cannot bear is an error of this sensor
// and this event. [Unsettled] tells the other errors, those of Decide.
func (s *Sensor) TryDecide(ctx context.Context, states map[string]State, doc *Document, earlier map[int64]event.Event, now time.Time) (r Result, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			r, err = Result{}, fmt.Errorf("decide on event %d: %v", doc.event.Seq, fault)
		}
	}()
	return s.Decide(ctx, states, doc, earlier, now)
}
