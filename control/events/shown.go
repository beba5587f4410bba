package events

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
)

// DryRun tells what the sensors would decide on a recorded event now, without recording anything.
func (c *Controller) DryRun(ctx context.Context, id string) ([]event.Decision, error) {
	e, err := c.Event(ctx, id)
	if err != nil {
		return nil, err
	}
	sensors := c.roster.sensors()
	doc := sensor.Read(e)
	var out []event.Decision
	for _, s := range sensors {
		states, err := c.minds.states(ctx, s.Key)
		if err != nil {
			return nil, err
		}
		earlier, err := c.minds.earlier(ctx, s.Needs(states, e))
		if err != nil {
			return nil, err
		}
		r, err := s.TryDecide(ctx, states, doc, earlier, c.o.Now())
		if sensor.Unsettled(ctx, err) {
			return nil, err
		}
		if err != nil {
			r.Decisions = []event.Decision{fault(s, e, err)}
		}
		out = append(out, r.Decisions...)
	}
	return out, nil
}

// Unheard are the decisions of the sensors that do not listen to an event; they are not recorded.
func (c *Controller) Unheard(e event.Event) []event.Decision {
	var out []event.Decision
	for _, s := range c.roster.sensors() {
		if !s.Listens(e.Namespace, e.Source, e.Subject) {
			out = append(out, s.Unheard(e))
		}
	}
	return out
}

// SensorState is where a sensor stands.
type SensorState struct {
	Sensor    string           `json:"sensor"`
	Suspended bool             `json:"suspended,omitempty"`
	Triggers  []sensor.Waiting `json:"triggers"`
	// Problem says what is wrong with the definition: an earlier version goes on where Triggers has any. Empty if nothing is.
	Problem string `json:"problem,omitempty"`
}

// Waiting tells where the condition of every sensor's trigger stands, and which sensors cannot be read.
func (c *Controller) Waiting(ctx context.Context) ([]SensorState, error) {
	wrong := map[string]string{}
	for _, w := range c.roster.wrong() {
		if key, ok := strings.CutPrefix(w.Definition, kindSensor+"/"); ok {
			wrong[key] = w.Problem
		}
	}
	out := []SensorState{}
	for _, s := range c.roster.sensors() {
		states, err := c.minds.states(ctx, s.Key)
		if err != nil && !errors.Is(err, errMind) {
			return nil, err
		}
		one := SensorState{Sensor: s.Key, Suspended: s.Suspended, Triggers: s.Triggers(states), Problem: wrong[s.Key]}
		if err != nil {
			one.Problem = err.Error()
		}
		out = append(out, one)
		delete(wrong, s.Key)
	}
	for _, key := range slices.Sorted(maps.Keys(wrong)) {
		out = append(out, SensorState{Sensor: key, Triggers: []sensor.Waiting{}, Problem: wrong[key]})
	}
	return out, nil
}

// Sources tells where each event of every EventSource stands.
func (c *Controller) Sources() []SourceState { return c.sources.states() }

// Conditions are what is wrong with declared EventSources and Sensors.
func (c *Controller) Conditions() []Condition { return c.roster.wrong() }
