package events

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// health notes which of the room's work does not succeed now. Its methods are safe for concurrent use; the zero value is well.
type health struct {
	mu     sync.Mutex
	failed map[string]trouble
}

// fails notes that some work fails, and tells whether that is news.
func (h *health) fails(what string, err error, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.failed = map[string]trouble{}
	}
	before, again := h.failed[what]
	t := trouble{err.Error(), now}
	if again {
		t.since = before.since
	}
	h.failed[what] = t
	return before.problem != t.problem
}

// fine notes that some work has succeeded.
func (h *health) fine(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.failed, what)
}

// worst says what fails now, and since when; empty if nothing does.
func (h *health) worst() (string, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(h.failed)) {
		t := h.failed[what]
		return what + ": " + t.problem, t.since
	}
	return "", time.Time{}
}
