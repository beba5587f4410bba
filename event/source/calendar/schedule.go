package calendar

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/tiphys/tiphys/manifest"
)

// maxCatchUp is how far back ticks are made up for where the definition does not say (Argo's default).
const maxCatchUp = 5 * time.Minute

// maxExcluded bounds how many excluded ticks in a row are looked at.
const maxExcluded = 10_000

// schedule says when a calendar ticks. It is pure.
type schedule struct {
	spec         cron.Schedule
	excluded     map[int64]bool  // unix seconds
	excludedDays map[string]bool // YYYYMMDD in the zone
	zone         *time.Location
	// catchUp is how far back missed ticks are made up for; 0 for none.
	catchUp time.Duration
}

func newSchedule(def manifest.CalendarSource) (*schedule, error) {
	zone, err := time.LoadLocation(def.Timezone)
	if err != nil {
		return nil, fmt.Errorf("invalid timezone %q", def.Timezone)
	}
	c := &schedule{zone: zone, excluded: map[int64]bool{}, excludedDays: map[string]bool{}}
	switch {
	case def.Schedule != "":
		c.spec, err = cron.ParseStandard(def.Schedule)
	case def.Interval != "":
		var every time.Duration
		if every, err = time.ParseDuration(def.Interval); err == nil && every <= 0 {
			err = fmt.Errorf("interval %s is not positive", def.Interval)
		}
		c.spec = cron.Every(every)
	default:
		err = errors.New("it must have either schedule or interval")
	}
	if err != nil {
		return nil, err
	}
	for _, line := range def.ExclusionDates {
		if err := c.exclude(line); err != nil {
			return nil, err
		}
	}
	if p := def.Persistence; p != nil && p.Catchup != nil && p.Catchup.Enabled {
		c.catchUp = maxCatchUp
		if p.Catchup.MaxDuration != "" {
			if c.catchUp, err = time.ParseDuration(p.Catchup.MaxDuration); err != nil {
				return nil, fmt.Errorf("catchup: %w", err)
			}
		}
	}
	return c, nil
}

// exclude reads a line of RFC 5545: EXDATE with dates or times, in UTC, in TZID or in the calendar's zone.
func (c *schedule) exclude(line string) error {
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

// next is the first tick after a time; the zero time if there is none.
func (c *schedule) next(after time.Time) time.Time {
	t := after.In(c.zone)
	for range maxExcluded {
		if t = c.spec.Next(t); t.IsZero() {
			return time.Time{}
		}
		if !c.excluded[t.Unix()] && !c.excludedDays[t.Format("20060102")] {
			return t
		}
	}
	return time.Time{}
}
