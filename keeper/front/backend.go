package front

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// backend counts what is under way to one pod.
type backend struct {
	uses   atomic.Int64
	leaves atomic.Bool
	mu     sync.Mutex
	idle   chan struct{} // closed when uses is 0 while somebody waits
	conns  map[carried]bool
}

// carried is a connection, or what is like one, through a Service.
type carried interface {
	// betweenRequests says that most likely nothing is under way; close ends it.
	betweenRequests() bool
	close()
}

// busy says whether anything is under way. A session of datagrams that says nothing is not.
func (b *backend) busy() bool {
	n := b.uses.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		if s, ok := c.(*session); ok && s.betweenRequests() {
			n--
		}
	}
	return n > 0
}

// take counts a use. It fails when the pod is leaving: asked after the count, so that drained cannot miss it.
func (b *backend) take() bool {
	b.uses.Add(1)
	if b.leaves.Load() {
		b.give()
		return false
	}
	return true
}

func (b *backend) give() {
	if b.uses.Add(-1) == 0 {
		b.mu.Lock()
		if b.idle != nil {
			close(b.idle)
			b.idle = nil
		}
		b.mu.Unlock()
	}
}

// drainLook is how often the connections of a pod that leaves are looked at.
const drainLook = 100 * time.Millisecond

// drained waits until nothing is under way. Connections through a Service that are between two requests are closed,
// because nobody can see whether another would follow.
func (b *backend) drained(ctx context.Context) {
	b.leaves.Store(true)
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for b.uses.Load() > 0 {
		b.mu.Lock()
		if b.idle == nil {
			b.idle = make(chan struct{})
		}
		idle := b.idle
		for f := range b.conns {
			if f.betweenRequests() {
				f.close()
			}
		}
		b.mu.Unlock()
		if b.uses.Load() == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-idle:
		case <-tick.C:
		}
	}
}
