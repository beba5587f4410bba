// Package admission bounds how many pods are live on a machine. What does not fit waits its turn: scarcity is not failure.
package admission

import (
	"container/heap"
	"strings"
	"sync"

	"github.com/tiphys/tiphys/executor"
)

// Gate has a number of places for pods. A place that becomes free goes to the owner that has the fewest live pods, and among
// those to the one whose pod has waited longest, so that a run with thousands of steps does not keep another from its first.
//
// A gate that knows applications from runs keeps a share of its places for either, which the other cannot have ([Shared]): a flood of
// runs does not keep production from a restart, and applications that come and go without end do not keep runs from going on.
// Methods are safe for concurrent use.
type Gate struct {
	limit int
	// share is how many places are kept for either side.
	share int
	// applications begins the names of the owners of applications' pods; empty if there is one side only.
	applications string

	mu      sync.Mutex
	live    map[executor.ID]bool
	waiting map[executor.ID]*waiter
	owners  map[string]*owner
	sides   [2]side
	arrived int
}

// side is what runs, or applications, have and want.
type side struct {
	live int
	line line
}

// The sides.
const (
	runs = iota
	applications
)

// A share is one of so many parts of all places, and at least one place.
const shareOf = 10

// waiter is a pod that waits for a place.
type waiter struct {
	id      executor.ID
	arrival int
	granted func()
	gone    bool
}

// owner is what a run, or an application, has and wants.
type owner struct {
	live, side int
	// queue has the owner's waiters in order; those that are gone are passed over.
	queue []*waiter
	// at is its index in the line, -1 while it does not wait.
	at int
}

// New returns a gate with so many places; 0 or less is no bound.
func New(limit int) *Gate {
	return &Gate{limit: limit, live: map[executor.ID]bool{}, waiting: map[executor.ID]*waiter{}, owners: map[string]*owner{}}
}

// Shared returns a gate with so many places of which a tenth, at least one, is kept for applications, and as much for runs. With a
// single place nothing is kept. prefix begins the names of the owners of applications' pods.
func Shared(limit int, prefix string) *Gate {
	g := New(limit)
	g.applications = prefix
	if limit > 1 {
		g.share = max(limit/shareOf, 1)
	}
	return g
}

// sideOf tells on which side a pod is.
func (g *Gate) sideOf(id executor.ID) int {
	if g.applications != "" && strings.HasPrefix(id.Owner, g.applications) {
		return applications
	}
	return runs
}

// most is how many places one side may have.
func (g *Gate) most() int { return g.limit - g.share }

// room reports whether a side may have another place. The lock is held.
func (g *Gate) room(side int) bool {
	return g.limit <= 0 || len(g.live) < g.limit && g.sides[side].live < g.most()
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
	if g.live[id] || g.room(g.sideOf(id)) {
		g.hold(id)
		g.mu.Unlock()
		granted()
		return
	}
	defer g.mu.Unlock()
	g.arrived++
	w := &waiter{id: id, arrival: g.arrived, granted: granted}
	g.waiting[id] = w
	o := g.owner(id)
	o.queue = append(o.queue, w)
	if o.at < 0 {
		heap.Push(&g.sides[o.side].line, o)
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
	o := g.owner(id)
	o.live++
	g.sides[o.side].live++
	g.settle(id.Owner)
}

// Leave gives a pod's place to the next; a pod without one is no error.
func (g *Gate) Leave(id executor.ID) {
	g.mu.Lock()
	if g.live[id] {
		delete(g.live, id)
		o := g.owner(id)
		o.live--
		g.sides[o.side].live--
		g.settle(id.Owner)
	}
	var granted []func()
	for w := g.next(); w != nil; w = g.next() {
		g.forget(w)
		g.hold(w.id)
		granted = append(granted, w.granted)
	}
	g.mu.Unlock()
	for _, f := range granted {
		f()
	}
}

// next is who gets the next place; nil if nobody waits, or none is free for who does. The lock is held.
func (g *Gate) next() *waiter {
	var first *owner
	for side := range g.sides {
		line := g.sides[side].line
		if len(line) > 0 && g.room(side) && (first == nil || before(line[0], first)) {
			first = line[0]
		}
	}
	if first == nil {
		return nil
	}
	return first.queue[0]
}

// Count is how many pods there are.
type Count struct {
	// Live have a place, Waiting wait for one. Limit is how many places there are; 0 for no bound.
	Live, Waiting, Limit int
	// Applications are those of the live ones that are applications' pods. Most is how many places runs may have, and as many
	// applications; the Limit where nothing is kept for either.
	Applications, Most int
}

// Count tells how many pods there are now.
func (g *Gate) Count() Count {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Count{Live: len(g.live), Waiting: len(g.waiting), Limit: max(g.limit, 0), Applications: g.sides[applications].live, Most: max(g.most(), 0)}
}

func (g *Gate) owner(id executor.ID) *owner {
	o := g.owners[id.Owner]
	if o == nil {
		o = &owner{at: -1, side: g.sideOf(id)}
		g.owners[id.Owner] = o
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
		heap.Fix(&g.sides[o.side].line, o.at)
	case len(o.queue) == 0 && o.at >= 0:
		heap.Remove(&g.sides[o.side].line, o.at)
	}
	if len(o.queue) == 0 && o.live == 0 {
		delete(g.owners, name)
	}
}

// line is a heap of the owners that wait: the next place is for the first.
type line []*owner

func (l line) Len() int { return len(l) }

func (l line) Less(i, j int) bool { return before(l[i], l[j]) }

// before says who of two owners that wait is first.
func before(a, b *owner) bool {
	if a.live != b.live {
		return a.live < b.live
	}
	return a.queue[0].arrival < b.queue[0].arrival
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
