package gate

import (
	"sync"
	"time"
)

// How many logins may fail: at first, and then one in so long.
const (
	oneFirst = 10
	oneEvery = 6 * time.Second
	allFirst = 300
	allEvery = 50 * time.Millisecond
	// maxClients bounds the addresses that are remembered.
	maxClients = 4096
)

// tries bounds the logins that fail, of one client and of all. A login that succeeds costs nothing.
type tries struct {
	mu  sync.Mutex
	one map[string]time.Time
	all time.Time
}

// A limit is kept as the time at which nothing of it is used any more: each failure moves it on.

// wait is how long a client has to wait before it may try again; 0 if it may now.
func (t *tries) wait(now time.Time, client string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, used(t.one[client], now)-(oneFirst-1)*oneEvery, used(t.all, now)-(allFirst-1)*allEvery)
}

// used is how much of a limit is used.
func used(until, now time.Time) time.Duration {
	if until.Before(now) {
		return 0
	}
	return until.Sub(now)
}

// miss counts a login that failed.
func (t *tries) miss(now time.Time, client string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	later := func(at time.Time, by time.Duration) time.Time { return now.Add(used(at, now) + by) }
	t.all = later(t.all, allEvery)
	if _, known := t.one[client]; !known && len(t.one) >= maxClients {
		for c, at := range t.one {
			if !at.After(now) {
				delete(t.one, c)
			}
		}
		if len(t.one) >= maxClients {
			return // the limit of all holds
		}
	}
	if t.one == nil {
		t.one = map[string]time.Time{}
	}
	t.one[client] = later(t.one[client], oneEvery)
}
