package sourcetest

import (
	"context"
	"sync"
	"time"
)

// Clock is a source.Clock that stands still until the test moves it.
type Clock struct {
	mu      sync.Mutex
	now     time.Time
	waiting map[int]time.Time
	count   int
	changed chan struct{}
}

// NewClock returns a clock that stands at a time.
func NewClock(now time.Time) *Clock {
	return &Clock{now: now, waiting: map[int]time.Time{}, changed: make(chan struct{})}
}

// Now implements source.Clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// tell wakes everybody who waits for a change; the caller holds the lock.
func (c *Clock) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Wait implements source.Clock.
func (c *Clock) Wait(ctx context.Context, until time.Time) error {
	c.mu.Lock()
	c.count++
	id := c.count
	c.waiting[id] = until
	c.tell()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.tell()
		c.mu.Unlock()
	}()
	for c.now.Before(until) {
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		c.mu.Lock()
	}
	c.mu.Unlock()
	return nil
}

// Move sets the time.
func (c *Clock) Move(to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = to
	c.tell()
}

// Sleepers blocks until so many wait for a time that is yet to come, and gives the earliest of these times. The context's end gives
// the zero time.
func (c *Clock) Sleepers(ctx context.Context, n int) time.Time {
	for {
		c.mu.Lock()
		var first time.Time
		waiting := 0
		for _, until := range c.waiting {
			if c.now.Before(until) {
				waiting++
				if first.IsZero() || until.Before(first) {
					first = until
				}
			}
		}
		changed := c.changed
		c.mu.Unlock()
		if waiting >= n {
			return first
		}
		select {
		case <-ctx.Done():
			return time.Time{}
		case <-changed:
		}
	}
}
