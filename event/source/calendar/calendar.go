// Package calendar is the source that makes events by schedule or at an interval.
package calendar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// name is the key under an EventSource's spec.
const name = "calendar"

// Kind is the source.Kind of calendars.
type Kind struct{}

// Name implements source.Kind.
func (Kind) Name() string { return name }

// Limits implements source.Kind.
func (Kind) Limits() map[string]manifest.Limit {
	return map[string]manifest.Limit{"CalendarPersistence": {NoEffect: []string{"configMap"}}}
}

// Check implements source.Kind.
func (Kind) Check(d source.Definition) []manifest.Diagnostic {
	if _, err := open(d); err != nil {
		return []manifest.Diagnostic{{Severity: manifest.SeverityError, Path: d.Path(name), Message: err.Error()}}
	}
	return nil
}

// Open implements source.Kind.
func (Kind) Open(d source.Definition, tools source.Tools) (source.Source, error) {
	c, err := open(d)
	if err != nil {
		return nil, err
	}
	c.tools = tools
	return c, nil
}

// calendar makes the ticks of one event.
type calendar struct {
	source.Definition
	*schedule
	metadata map[string]string
	filter   *source.Filter
	tools    source.Tools
}

func open(d source.Definition) (*calendar, error) {
	def := d.Spec.Calendar[d.Event]
	c := &calendar{Definition: d, metadata: def.Metadata}
	var err error
	if c.schedule, err = newSchedule(def); err == nil {
		c.filter, err = source.CompileFilter(def.Filter)
	}
	if err != nil {
		return nil, fmt.Errorf("calendar %q: %w", d.Event, err)
	}
	return c, nil
}

// Run implements source.Source. Each tick is recorded once however often it is run, since its delivery names it. A tick that
// cannot be recorded is tried again until it is; those that come meanwhile follow it.
func (c *calendar) Run(ctx context.Context) error {
	last, err := c.begin(ctx)
	if err != nil {
		return quiet(ctx, err)
	}
	for {
		tick := c.next(last)
		if tick.IsZero() {
			<-ctx.Done()
			return nil
		}
		if err := c.tools.Clock.Wait(ctx, tick); err != nil {
			return quiet(ctx, err)
		}
		e, err := c.event(tick)
		if err != nil {
			return err
		}
		if err := c.tools.Insist(ctx, e); err != nil {
			return quiet(ctx, err)
		}
		last = tick
	}
}

// quiet is nil where the context has ended.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end of the context is no error of the calendar
	}
	return err
}

// begin is the time behind which ticks are made: now, or with catch-up that of the last tick that was recorded. A new calendar has
// missed nothing.
func (c *calendar) begin(ctx context.Context) (time.Time, error) {
	now := c.tools.Clock.Now()
	if c.catchUp <= 0 {
		return now, nil
	}
	last, err := c.tools.History.Last(ctx, c.Namespace, c.Source, c.Event)
	if errors.Is(err, ledger.ErrNotFound) {
		return now, nil
	}
	if err != nil {
		return now, fmt.Errorf("find the last tick of calendar %q: %w", c.Event, err)
	}
	at, err := time.Parse(time.RFC3339, strings.TrimPrefix(last.Delivery, deliveryPrefix))
	if err != nil { // a replay, or an event that was recorded when a source of another type had this name
		at = last.Time
	}
	if earliest := now.Add(-c.catchUp); at.Before(earliest) {
		at = earliest
	}
	if at.After(now) { // the clock was put back
		at = now
	}
	return at, nil
}

// deliveryPrefix begins the names of ticks as deliveries; the tick's time follows.
const deliveryPrefix = "calendar/"

// event is the event of a tick. Its Delivery names the tick.
func (c *calendar) event(tick time.Time) (e event.Event, err error) {
	data, err := json.Marshal(struct {
		EventTime string            `json:"eventTime"`
		Metadata  map[string]string `json:"metadata,omitempty"`
	}{tick.String(), c.metadata})
	if err != nil {
		return e, fmt.Errorf("make calendar event: %w", err)
	}
	return event.Event{ID: c.tools.NewID(), Type: name, Source: c.Source, Subject: c.Event, Namespace: c.Namespace, Time: c.tools.Clock.Now().UTC(),
		Data: data, Delivery: deliveryPrefix + tick.UTC().Format(time.RFC3339), Actor: "system", Verified: "local",
		Filtered: c.filter.Leaves(data)}, nil
}
