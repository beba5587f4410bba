package events

import (
	"context"
	"time"

	"github.com/tiphys/tiphys/event/source"
)

// tick makes the events of calendars when they are due. A slot is recorded once however often a server starts.
func (c *Controller) tick(ctx context.Context) {
	last := c.o.Now()
	for ctx.Err() == nil {
		c.mu.RLock()
		calendars, reloaded := c.calendars, c.reloaded
		c.mu.RUnlock()
		now := c.o.Now()
		var next time.Time
		for _, cal := range calendars {
			c.due(ctx, cal, last, now)
			if n := cal.Next(now); !n.IsZero() && (next.IsZero() || n.Before(next)) {
				next = n
			}
		}
		last = now
		d := time.Hour
		if !next.IsZero() {
			d = min(d, max(next.Sub(c.o.Now()), time.Millisecond))
		}
		wait(ctx, reloaded, d)
	}
}

// due records every tick of a calendar after last up to now.
func (c *Controller) due(ctx context.Context, cal *source.Calendar, last, now time.Time) {
	for at := cal.Next(last); !at.IsZero() && !at.After(now); at = cal.Next(at) {
		e, ok, err := cal.Event(at, c.newID(), now)
		if err == nil && ok {
			_, _, err = c.Record(ctx, e, 0)
		}
		if err != nil && ctx.Err() == nil {
			c.o.Log.Error("calendar", "source", cal.Source, "event", cal.Subject, "error", err)
		}
	}
}
