package local

import (
	"context"
	"sync"

	"github.com/tiphys/tiphys/deploy"
)

// hints hands changes on without ever making the one who changes something wait. Several changes of an object that nobody has
// taken yet are one hint, so that no more wait than there are objects and none is lost.
type hints struct {
	out  chan deploy.Change
	wake chan struct{}

	mu      sync.Mutex
	waiting map[hintKey]deploy.Change
	order   []hintKey
}

// hintKey is what is told apart: an object that was taken over is told to both its owners.
type hintKey struct {
	application string
	key         deploy.Key
}

func newHints() *hints {
	return &hints{out: make(chan deploy.Change), wake: make(chan struct{}, 1), waiting: map[hintKey]deploy.Change{}}
}

// add leaves a hint.
func (h *hints) add(c deploy.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := hintKey{c.Application, c.Key}
	if _, there := h.waiting[key]; !there {
		h.order = append(h.order, key)
	}
	h.waiting[key] = c
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run hands hints on until the context ends.
func (h *hints) run(ctx context.Context) {
	for {
		c, ok := h.next()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-h.wake:
			}
			continue
		}
		select {
		case h.out <- c:
		case <-ctx.Done():
			return
		}
	}
}

func (h *hints) next() (deploy.Change, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.order) == 0 {
		h.order = nil
		return deploy.Change{}, false
	}
	key := h.order[0]
	h.order = h.order[1:]
	c := h.waiting[key]
	delete(h.waiting, key)
	return c, true
}
