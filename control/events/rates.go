package events

import (
	"sync"
	"time"

	"github.com/tiphys/tiphys/event/sensor"
)

// rates keeps triggers to their rate limits: their firings are spread evenly over the unit, in the order in which they
// ask for a turn.
type rates struct {
	mu sync.Mutex
	// next is the first free turn of a trigger; given are turns that firings wait for.
	next  map[string]time.Time
	given map[string]time.Time
}

func newRates() rates { return rates{next: map[string]time.Time{}, given: map[string]time.Time{}} }

// turn says when a firing may be carried out. Who comes back at its turn has it.
func (r *rates) turn(f sensor.Firing, now time.Time) time.Time {
	if f.RateLimit == nil || f.RateLimit.RequestsPerUnit <= 0 {
		return now
	}
	unit := map[string]time.Duration{"Minute": time.Minute, "Hour": time.Hour}[f.RateLimit.Unit]
	if unit == 0 {
		unit = time.Second
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.given[f.Key]; ok {
		if !at.After(now) {
			delete(r.given, f.Key)
		}
		return at
	}
	key := f.Sensor + "/" + f.Trigger
	at := r.next[key]
	if at.Before(now) {
		at = now
	}
	r.next[key] = at.Add(unit / time.Duration(f.RateLimit.RequestsPerUnit))
	if at.After(now) {
		r.given[f.Key] = at
	}
	return at
}
