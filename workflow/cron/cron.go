// Package cron decides when a CronWorkflow runs. It is pure: the caller gives the time.
package cron

import (
	"fmt"
	"strings"
	"time"

	robfig "github.com/robfig/cron/v3"
)

// Schedule is a parsed schedule in its time zone.
type Schedule struct {
	text     string
	schedule robfig.Schedule
	location *time.Location
}

// Parse reads a schedule of five fields, a descriptor such as @daily, or "@every 1h30m", as robfig/cron has them.
// timezone is an IANA name; empty means UTC. A schedule may begin with CRON_TZ= or TZ= instead.
func Parse(text, timezone string) (Schedule, error) {
	location := time.UTC
	if timezone != "" {
		var err error
		if location, err = time.LoadLocation(timezone); err != nil {
			return Schedule{}, fmt.Errorf("timezone %q is not known: use an IANA name such as Europe/Berlin", timezone)
		}
	}
	schedule, err := parse(text)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %q: %w", text, err)
	}
	if spec, ok := schedule.(*robfig.SpecSchedule); ok && timezone != "" {
		spec.Location = location
	} else if ok && !strings.Contains(text, "TZ=") {
		spec.Location = time.UTC
	}
	return Schedule{text: text, schedule: schedule, location: location}, nil
}

func parse(text string) (s robfig.Schedule, err error) {
	defer func() {
		// The library slices past the end of "TZ=" without a schedule.
		if r := recover(); r != nil {
			err = fmt.Errorf("it cannot be read: %v", r)
		}
	}()
	return robfig.ParseStandard(text)
}

// String gives the schedule as written.
func (s Schedule) String() string { return s.text }

// Next is the first time after t; zero where there is none within five years. In a zone with summer time an hour
// that is left out does not run, and one that comes twice runs twice, as in Argo.
func (s Schedule) Next(t time.Time) time.Time {
	next := s.schedule.Next(t.In(s.location))
	if next.IsZero() {
		return next
	}
	return next.UTC()
}
