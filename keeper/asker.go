package keeper

import (
	"context"
	"os"
	"sync"
)

// asker is the side of a control connection that asks: the server's, or that of the keeper that has taken over.
type asker struct {
	link *link
	gone chan struct{} // closed when the other side has hung up

	mu     sync.Mutex
	number uint64
	drains map[uint64]chan struct{}
}

func newAsker(l *link) *asker {
	return &asker{link: l, gone: make(chan struct{}), drains: map[uint64]chan struct{}{}}
}

// hear takes in what is said until the other side hangs up; do gets all but answers to drains, in order, with its files.
func (a *asker) hear(do func(message, []*os.File)) {
	defer close(a.gone)
	defer a.link.forget()
	defer a.link.close()
	for {
		m, files, err := a.link.receive()
		if err != nil {
			return // whoever uses it sees that it is gone
		}
		if m.Op != opDrained {
			do(m, files)
			continue
		}
		a.mu.Lock()
		if done := a.drains[m.Number]; done != nil {
			close(done)
			delete(a.drains, m.Number)
		}
		a.mu.Unlock()
	}
}

// drained waits until nothing is under way to a backend. Of a keeper that is gone nothing is.
func (a *asker) drained(ctx context.Context, backend string) {
	done := make(chan struct{})
	a.mu.Lock()
	a.number++
	n := a.number
	a.drains[n] = done
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.drains, n)
		a.mu.Unlock()
	}()
	if err := a.link.send(message{Op: opDrain, Number: n, Backend: backend}); err != nil {
		return
	}
	select {
	case <-done:
	case <-a.gone:
	case <-ctx.Done():
	}
}
