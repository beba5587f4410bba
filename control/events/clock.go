package events

import (
	"context"
	"time"

	"github.com/tiphys/tiphys/event/source"
)

// clock is the time of the options; it waits by the machine's timers.
type clock struct{ now func() time.Time }

var _ source.Clock = clock{}

// Now implements source.Clock.
func (c clock) Now() time.Time { return c.now() }

// longestLook is how long a wait goes without looking at the time again: a machine's clock may be put forward.
const longestLook = time.Minute

// Wait implements source.Clock.
func (c clock) Wait(ctx context.Context, until time.Time) error {
	for ctx.Err() == nil {
		rest := until.Sub(c.now())
		if rest <= 0 {
			return nil
		}
		wait(ctx, nil, min(max(rest, time.Millisecond), longestLook))
	}
	return ctx.Err()
}

// wait ends with the context, with the channel or after some time.
func wait(ctx context.Context, changed <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-t.C:
	}
}
