package source

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
)

// maxCatchUp is how far back ticks are made up for where the definition does not say (Argo's default).
const maxCatchUp = 5 * time.Minute

// maxMissed bounds the ticks that are made up for at once.
const maxMissed = 10_000

// Calendar makes ticks of one event of an EventSource. Everything but its definition is given by the caller.
type Calendar struct {
	Namespace, Source, Subject string
	schedule                   cron.Schedule
	excluded                   map[int64]bool  // unix seconds
	excludedDays               map[string]bool // YYYYMMDD in the zone
	zone                       *time.Location
	metadata                   map[string]string
	filter                     *filter
	catchUp                    time.Duration
}

// NewCalendars makes the calendars of an EventSource, in the order of their names.
func NewCalendars(es *manifest.EventSource) ([]*Calendar, []manifest.Diagnostic) {
	var calendars []*Calendar
	var diagnostics []manifest.Diagnostic
	for _, name := range es.Spec.Names()["calendar"] {
		c, err := newCalendar(es, name)
		if err != nil {
			diagnostics = append(diagnostics, manifest.Diagnostic{Severity: manifest.SeverityError,
				Path: manifest.JoinPath("spec.calendar", name), Message: err.Error()})
			continue
		}
		calendars = append(calendars, c)
	}
	return calendars, diagnostics
}

func newCalendar(es *manifest.EventSource, name string) (*Calendar, error) {
	def := es.Spec.Calendar[name]
	zone, err := time.LoadLocation(def.Timezone)
	if err != nil {
		return nil, fmt.Errorf("calendar %q: invalid timezone %q", name, def.Timezone)
	}
	c := &Calendar{Namespace: namespaceOf(es), Source: es.Name, Subject: name, zone: zone, metadata: def.Metadata,
		excluded: map[int64]bool{}, excludedDays: map[string]bool{}}
	switch {
	case def.Schedule != "":
		c.schedule, err = cron.ParseStandard(def.Schedule)
	case def.Interval != "":
		var every time.Duration
		if every, err = time.ParseDuration(def.Interval); err == nil && every <= 0 {
			err = fmt.Errorf("interval %s is not positive", def.Interval)
		}
		c.schedule = cron.Every(every)
	default:
		err = fmt.Errorf("it must have either schedule or interval")
	}
	if err != nil {
		return nil, fmt.Errorf("calendar %q: %w", name, err)
	}
	for _, line := range def.ExclusionDates {
		if err := c.exclude(line); err != nil {
			return nil, fmt.Errorf("calendar %q: %w", name, err)
		}
	}
	if p := def.Persistence; p != nil && p.Catchup != nil && p.Catchup.Enabled {
		c.catchUp = maxCatchUp
		if p.Catchup.MaxDuration != "" {
			if c.catchUp, err = time.ParseDuration(p.Catchup.MaxDuration); err != nil {
				return nil, fmt.Errorf("calendar %q: catchup: %w", name, err)
			}
		}
	}
	if c.filter, err = compileFilter(def.Filter); err != nil {
		return nil, fmt.Errorf("calendar %q: %w", name, err)
	}
	return c, nil
}

// exclude reads a line of RFC 5545: EXDATE with dates or times, in UTC, in TZID or in the calendar's zone.
func (c *Calendar) exclude(line string) error {
	head, values, found := strings.Cut(strings.TrimSpace(line), ":")
	if !found {
		head, values = "EXDATE", head
	}
	name, parameters, _ := strings.Cut(head, ";")
	if !strings.EqualFold(name, "EXDATE") {
		return fmt.Errorf("exclusionDates: %s is not supported; list the dates with EXDATE", name)
	}
	zone := c.zone
	for _, p := range strings.Split(parameters, ";") {
		if id, isZone := strings.CutPrefix(p, "TZID="); isZone {
			var err error
			if zone, err = time.LoadLocation(id); err != nil {
				return fmt.Errorf("exclusionDates: invalid timezone %q", id)
			}
		}
	}
	for _, v := range strings.Split(values, ",") {
		v = strings.TrimSpace(v)
		if t, err := time.ParseInLocation("20060102T150405Z", v, time.UTC); err == nil {
			c.excluded[t.Unix()] = true
		} else if t, err := time.ParseInLocation("20060102T150405", v, zone); err == nil {
			c.excluded[t.Unix()] = true
		} else if _, err := time.Parse("20060102", v); err == nil {
			c.excludedDays[v] = true
		} else {
			return fmt.Errorf("exclusionDates: %q is neither a date (20060102) nor a time (20060102T150405Z)", v)
		}
	}
	return nil
}

// Next is the first tick after a time; the zero time if there is none.
func (c *Calendar) Next(after time.Time) time.Time {
	t := after.In(c.zone)
	for range maxMissed {
		if t = c.schedule.Next(t); t.IsZero() {
			return time.Time{}
		}
		if !c.excluded[t.Unix()] && !c.excludedDays[t.Format("20060102")] {
			return t
		}
	}
	return time.Time{}
}

// Missed are the ticks after last up to and including now that catch-up asks for, oldest first; at most 10,000,
// the newest. With a zero last, or without catch-up, there are none.
func (c *Calendar) Missed(last, now time.Time) []time.Time {
	if c.catchUp <= 0 || last.IsZero() {
		return nil
	}
	if earliest := now.Add(-c.catchUp); last.Before(earliest) {
		last = earliest
	}
	var missed []time.Time
	for t := c.Next(last); !t.IsZero() && !t.After(now); t = c.Next(t) {
		if missed = append(missed, t); len(missed) > maxMissed {
			missed = missed[1:]
		}
	}
	return missed
}

// Event is the event of a tick. Its Delivery names the tick, so that it is recorded once. ok is false where the
// source's filter drops it.
func (c *Calendar) Event(tick time.Time, id string, now time.Time) (e event.Event, ok bool, err error) {
	data, err := json.Marshal(struct {
		EventTime string            `json:"eventTime"`
		Metadata  map[string]string `json:"metadata,omitempty"`
	}{tick.String(), c.metadata})
	if err != nil {
		return e, false, fmt.Errorf("make calendar event: %w", err)
	}
	e = event.Event{ID: id, Type: "calendar", Source: c.Source, Subject: c.Subject, Namespace: c.Namespace, Time: now.UTC(),
		Data: data, Delivery: "calendar/" + tick.UTC().Format(time.RFC3339), Actor: "system", Verified: "local"}
	if ok, err = c.filter.pass(data); err != nil {
		return e, false, fmt.Errorf("make calendar event: %w", err)
	}
	return e, ok, nil
}
