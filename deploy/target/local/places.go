package local

import (
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
)

// reasonPlace is why a container waits whose pod has no place on this machine.
const reasonPlace = "WaitingForPlace"

// unbounded has a place for every pod.
type unbounded struct{}

func (unbounded) Ask(_ executor.ID, granted func()) { granted() }
func (unbounded) Hold(executor.ID)                  {}
func (unbounded) Withdraw(executor.ID) bool         { return false }
func (unbounded) Leave(executor.ID)                 {}

// grants are pods that were given a place: whoever made it free does not wait for the target.
type grants struct {
	mu   sync.Mutex
	list map[executor.ID]bool
}

func (g *grants) add(id executor.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.list == nil {
		g.list = map[executor.ID]bool{}
	}
	g.list[id] = true
}

// take reports whether a pod was given a place since it was asked last.
func (g *grants) take(id executor.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.list[id]
	delete(g.list, id)
	return was
}

// all takes those that are left.
func (g *grants) all() []executor.ID {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := make([]executor.ID, 0, len(g.list))
	for id := range g.list {
		ids = append(ids, id)
	}
	clear(g.list)
	return ids
}

// begin starts the present attempt, or attaches to it, as soon as there are its claims and a place for it. t.mu is held.
func (t *Target) begin(p *pod) {
	if t.waits(p) {
		return
	}
	id := p.id()
	t.o.Places.Ask(id, func() {
		t.granted.add(id)
		t.poke()
	})
	if t.granted.take(id) {
		t.launch(p)
		return
	}
	p.asked = true
	p.waiting = &corev1.ContainerStateWaiting{Reason: reasonPlace, Message: "waits for a place: as many pods are live as this server takes (--pods)"}
}

// mayRun reports whether a pod of an earlier server had a place, as far as its status tells.
func (p *pod) mayRun() bool {
	status := p.spec().Status
	for _, c := range status.ContainerStatuses {
		if w := c.State.Waiting; w != nil && (w.Reason == reasonPlace || w.Reason == reasonClaim) {
			return false
		}
	}
	return len(status.ContainerStatuses) > 0 && !p.Ended && p.RestartAt.IsZero()
}

// admit launches pods that were given a place. One that nobody wants any more gives it back. t.mu is held.
func (t *Target) admit() {
	for _, id := range t.granted.all() {
		p := t.pods[strings.TrimPrefix(id.Owner, OwnerPrefix)]
		if p == nil || !p.asked || p.id() != id || p.deleting() {
			t.o.Places.Leave(id)
			continue
		}
		p.asked, p.waiting = false, nil
		t.launch(p)
	}
}

// withdraw takes back what a pod asked for, and reports whether it waited. t.mu is held.
func (t *Target) withdraw(p *pod) bool {
	if !p.asked {
		return false
	}
	p.asked = false
	return t.o.Places.Withdraw(p.id())
}
