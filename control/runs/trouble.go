package runs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tiphys/tiphys/control"
)

// troubles are what a controller cannot do at the moment, for its Health. Each has a key, so that whoever succeeds at last takes it
// back. The zero value is ready for use.
type troubles struct {
	mu   sync.Mutex
	list map[string]trouble
	// aside counts the pieces of work that were set aside since the start; last says what the newest was.
	aside int
	last  string
}

// trouble is one thing that does not succeed.
type trouble struct {
	reason string
	since  time.Time
	// all says that it keeps every run from going on, and not one of them.
	all bool
}

// knownTroubles bounds how many are told apart; a disk that is full gives each run one.
const knownTroubles = 10_000

// note says that something does not succeed, and reports whether that is new.
func (t *troubles) note(key, reason string, now time.Time, all bool) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, ok := t.list[key]
	if !ok && len(t.list) >= knownTroubles {
		return true
	}
	if t.list == nil {
		t.list = map[string]trouble{}
	}
	if !ok {
		was.since = now.UTC()
	}
	was.reason, was.all = reason, all
	t.list[key] = was
	return !ok
}

// over takes a trouble back, and reports whether there was one.
func (t *troubles) over(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.list[key]
	delete(t.list, key)
	return ok
}

// put counts a piece of work that was set aside.
func (t *troubles) put(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.aside++
	t.last = what
}

// health is the worst: what keeps all runs from going on before what keeps one, and the oldest of them first.
func (t *troubles) health() control.Health {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(t.list), func(a, b string) int {
		x, y := t.list[a], t.list[b]
		if x.all != y.all {
			if x.all {
				return -1
			}
			return 1
		}
		return x.since.Compare(y.since)
	})
	if len(keys) == 0 {
		if t.aside == 0 {
			return control.Health{}
		}
		return control.Health{State: control.Waiting, Reason: fmt.Sprintf("%d pieces of work were set aside since the start, the last: %s", t.aside, t.last)}
	}
	worst := t.list[keys[0]]
	h := control.Health{State: control.Waiting, Reason: worst.reason, Since: worst.since}
	if worst.all {
		h.State = control.Failing
	}
	if more := len(keys) - 1; more > 0 {
		h.Reason += fmt.Sprintf(" (and %d more)", more)
	}
	return h
}

var _ control.Service = (*Controller)(nil)

// Name implements control.Service.
func (*Controller) Name() string { return "runs" }

// Start implements control.Service: Run does all.
func (*Controller) Start(context.Context) error { return nil }

// Health implements control.Service. It fails while the ledger or the executor keeps runs from going on. What concerns one run only,
// or waits for a place, has it waiting.
func (c *Controller) Health() control.Health {
	h := c.troubles.health()
	if places := c.o.Places.Count(); h.State == "" && places.Waiting > 0 {
		return control.Health{State: control.Waiting, Reason: fmt.Sprintf("%d pods wait for a place: %d are live, of %d places", places.Waiting, places.Live, places.Limit)}
	}
	return h
}
