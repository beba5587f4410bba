// Package admission bounds how many pods are live on a machine. What does not fit waits its turn: scarcity is not failure.
package admission

import (
	"container/heap"
	"sync"

	"github.com/tiphys/tiphys/executor"
)

// Gate has a number of places for pods. A place that becomes free goes to the owner that has the fewest live pods, and among
// those to the one whose pod has waited longest, so that a run with thousands of steps does not keep another from its first.
// Methods are safe for concurrent use.
type Gate struct {
	limit int

	mu      sync.Mutex
	live    map[executor.ID]bool
	waiting map[executor.ID]*waiter
	owners  map[string]*owner
	line    line
	arrived int
}

// waiter is a pod that waits for a place.
type waiter struct {
	id      executor.ID
	arrival int
	granted func()
	gone    bool
}

// owner is what a run, or an application, has and wants.
type owner struct {
	live int
	// queue has the owner's waiters in order; those that are gone are passed over.
	queue []*waiter
	// at is its index in the line, -1 while it does not wait.
	at int
}

// New returns a gate with so many places; 0 or less is no bound.
func New(limit int) *Gate {
	return &Gate{limit: limit, live: map[executor.ID]bool{}, waiting: map[executor.ID]*waiter{}, owners: map[string]*owner{}}
}

// Ask wants a place for a pod and has granted called once the pod has one, at once if there is one. granted is called on the
// goroutine of whoever made the place free, outside of any lock, and must not wait. A pod that has a place gets it again. One that
// waits goes on waiting, for the newer granted.
func (g *Gate) Ask(id executor.ID, granted func()) {
	g.mu.Lock()
	if w := g.waiting[id]; w != nil {
		w.granted = granted
		g.mu.Unlock()
		return
	}
	if g.live[id] || g.limit <= 0 || len(g.live) < g.limit {
		g.hold(id)
		g.mu.Unlock()
		granted()
		return
	}
	defer g.mu.Unlock()
	g.arrived++
	w := &waiter{id: id, arrival: g.arrived, granted: granted}
	g.waiting[id] = w
	o := g.owner(id.Owner)
	o.queue = append(o.queue, w)
	if o.at < 0 {
		heap.Push(&g.line, o)
	}
}

// Withdraw takes back what a pod asked for; false if it does not wait.
func (g *Gate) Withdraw(id executor.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.waiting[id]
	if w == nil {
		return false
	}
	g.forget(w)
	return true
}

// forget takes a waiter out. The lock is held.
func (g *Gate) forget(w *waiter) {
	w.gone = true
	delete(g.waiting, w.id)
	g.settle(w.id.Owner)
}

// Hold counts a pod that is live whatever the limit: one that runs already, or that must not wait.
func (g *Gate) Hold(id executor.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.waiting[id]; w != nil {
		g.forget(w)
	}
	g.hold(id)
}

func (g *Gate) hold(id executor.ID) {
	if g.live[id] {
		return
	}
	g.live[id] = true
	g.owner(id.Owner).live++
	g.settle(id.Owner)
}

// Leave gives a pod's place to the next; a pod without one is no error.
func (g *Gate) Leave(id executor.ID) {
	g.mu.Lock()
	if g.live[id] {
		delete(g.live, id)
		g.owner(id.Owner).live--
		g.settle(id.Owner)
	}
	var granted []func()
	for len(g.line) > 0 && len(g.live) < g.limit {
		w := g.line[0].queue[0]
		g.forget(w)
		g.hold(w.id)
		granted = append(granted, w.granted)
	}
	g.mu.Unlock()
	for _, f := range granted {
		f()
	}
}

// Count is how many pods there are.
type Count struct {
	// Live have a place, Waiting wait for one. Limit is how many places there are; 0 for no bound.
	Live, Waiting, Limit int
}

// Count tells how many pods there are now.
func (g *Gate) Count() Count {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Count{Live: len(g.live), Waiting: len(g.waiting), Limit: max(g.limit, 0)}
}

func (g *Gate) owner(name string) *owner {
	o := g.owners[name]
	if o == nil {
		o = &owner{at: -1}
		g.owners[name] = o
	}
	return o
}

// settle puts an owner where it belongs after a change: in its place in the line, out of it, or out of memory.
func (g *Gate) settle(name string) {
	o := g.owners[name]
	for len(o.queue) > 0 && o.queue[0].gone {
		o.queue = o.queue[1:]
	}
	switch {
	case len(o.queue) > 0 && o.at >= 0:
		heap.Fix(&g.line, o.at)
	case len(o.queue) == 0 && o.at >= 0:
		heap.Remove(&g.line, o.at)
	}
	if len(o.queue) == 0 && o.live == 0 {
		delete(g.owners, name)
	}
}

// line is a heap of the owners that wait: the next place is for the first.
type line []*owner

func (l line) Len() int { return len(l) }

func (l line) Less(i, j int) bool {
	if l[i].live != l[j].live {
		return l[i].live < l[j].live
	}
	return l[i].queue[0].arrival < l[j].queue[0].arrival
}

func (l line) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].at, l[j].at = i, j
}

// Push implements heap.Interface.
func (l *line) Push(x any) {
	o := x.(*owner) //nolint:forcetypeassert // only this file pushes
	o.at = len(*l)
	*l = append(*l, o)
}

// Pop implements heap.Interface.
func (l *line) Pop() any {
	old := *l
	o := old[len(old)-1]
	old[len(old)-1] = nil
	*l = old[:len(old)-1]
	o.at = -1
	return o
}
