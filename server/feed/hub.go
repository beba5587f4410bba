package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// Limits of a hub, where its options name none.
const (
	// pace is the least time between two looks at the ledger, so that many small commits make one batch.
	pace = 100 * time.Millisecond
	// beat keeps proxies from closing a quiet stream.
	beat = 20 * time.Second
	// mostKept is how many bytes of rows wait for one slow subscriber.
	mostKept = 4 << 20
	// mostOpen is how many may look on at once.
	mostOpen = 2000
	// mostBehind is how many rows are read for one subscriber who comes late.
	mostBehind = 20_000
)

// Options of a Hub. Ledger and Deletions are required.
type Options struct {
	Ledger    ledger.Reader
	Deletions Deletions
	// Brief shortens the rows of those who ask for it; nil shortens nothing.
	Brief func(ledger.Row) (json.RawMessage, error)
	// Banner is what all screens show above everything; nil for nothing.
	Banner Banner
	// Pace and Beat are the least time between two looks and the most between two signs of life; 0 for the usual.
	Pace, Beat time.Duration
	// Kept is how many bytes of rows wait for one slow subscriber, Open how many may look on, Behind how many rows are
	// read for one who comes late before it must read anew; 0 for the usual.
	Kept, Open, Behind int
}

// Banner says for people what keeps the server from recording anything; empty if nothing does.
type Banner interface{ Shown() string }

// Hub reads what changes in the ledger, once for all its subscribers. It reads only while there are any.
type Hub struct {
	o Options

	mu      sync.Mutex
	subs    map[*Subscription]struct{}
	running bool
	closed  bool
	idle    *sync.Cond // the loop has ended
	wake    chan struct{}
	stop    chan struct{}
}

// New returns a hub; Close it.
func New(o Options) *Hub {
	o.Pace, o.Beat = or(o.Pace, pace), or(o.Beat, beat)
	o.Kept, o.Open, o.Behind = or(o.Kept, mostKept), or(o.Open, mostOpen), or(o.Behind, mostBehind)
	h := &Hub{o: o, subs: map[*Subscription]struct{}{}, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	h.idle = sync.NewCond(&h.mu)
	return h
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Now subscribes to what changes from now on.
const Now int64 = -1

// Subscribe begins to tell of rows. Since is the sequence up to which the subscriber knows everything: 0 for nothing, so
// that it is told every row there is, or Now. It is told what the viewer sees: the rest is neither told nor counted. The error is
// ErrClosed, ErrTooMany or that of ctx.
func (h *Hub) Subscribe(ctx context.Context, viewer Viewer, since int64, brief bool, interests ...Interest) (*Subscription, error) {
	s := &Subscription{hub: h, viewer: viewer, since: since, interests: interests, signal: make(chan struct{}, 1), joined: make(chan struct{}), ended: make(chan struct{})}
	if brief && h.o.Brief != nil {
		s.short = h.o.Brief
	}
	if err := h.add(s); err != nil {
		return nil, err
	}
	select {
	case <-s.joined:
	case <-s.ended:
	case <-ctx.Done():
		s.Close()
		return nil, ctx.Err()
	}
	if err := s.failure(); err != nil {
		return nil, err
	}
	return s, nil
}

func (h *Hub) add(s *Subscription) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return ErrClosed
	case len(h.subs) >= h.o.Open:
		return ErrTooMany
	}
	h.subs[s] = struct{}{}
	if !h.running {
		h.running = true
		go h.run()
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return nil
}

func (h *Hub) remove(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Close ends every subscription with ErrClosed, at once, and returns when nothing reads the ledger any more. Nobody can
// subscribe afterwards.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.stop)
	}
	h.end(ErrClosed)
	for h.running {
		h.idle.Wait()
	}
}

// end ends every subscription; the lock is held.
func (h *Hub) end(err error) {
	for s := range h.subs {
		s.finish(err)
		delete(h.subs, s)
	}
}

// run looks at the ledger whenever it changed, until nobody looks on.
func (h *Hub) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-h.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	beat := time.NewTicker(h.o.Beat)
	defer beat.Stop()
	r, going := &reader{o: h.o, at: Now}, true
	var err error
	for going && err == nil {
		changed := h.o.Ledger.Changed()
		if err = h.look(ctx, r); err == nil {
			going = h.wait(r.found, changed, beat.C)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = false
	if err != nil {
		h.end(fmt.Errorf("read what changed: %w", err))
	}
	h.idle.Broadcast()
	// Somebody came between the last look and here.
	if err == nil && !h.closed && len(h.subs) > 0 {
		h.running = true
		go h.run()
	}
}

// look tells every subscriber what changed since the last look. Who has come meanwhile joins before it, so that they are
// told all that comes after the place where they joined.
func (h *Hub) look(ctx context.Context, r *reader) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	subs := make([]*Subscription, 0, len(h.subs))
	var wanted []Interest
	for s := range h.subs {
		s.begin(r.at)
		subs = append(subs, s)
		wanted = append(wanted, s.interests...)
	}
	h.mu.Unlock()
	err := r.read(ctx, tables(wanted), func(rows []*Row) {
		seen := map[Viewer][]*Row{}
		for _, s := range subs {
			mine, known := seen[s.viewer]
			if !known {
				mine = visible(s.viewer, rows)
				seen[s.viewer] = mine
			}
			s.tell(mine)
		}
	})
	if err != nil {
		return err
	}
	trouble := ""
	if h.o.Banner != nil {
		trouble = h.o.Banner.Shown()
	}
	for _, s := range subs {
		s.reach(r.at, trouble)
	}
	return nil
}

// visible gives the rows that a viewer sees.
func visible(viewer Viewer, rows []*Row) []*Row {
	out := make([]*Row, 0, len(rows))
	for _, row := range rows {
		if viewer.Sees(row.Row) {
			out = append(out, row)
		}
	}
	return out
}

// wait waits for the next look: not before the pace allows, then for a change. It reports whether anybody is left.
func (h *Hub) wait(found bool, changed <-chan struct{}, beat <-chan time.Time) bool {
	if found {
		rest := time.NewTimer(h.o.Pace)
		defer rest.Stop()
		select {
		case <-rest.C:
		case <-h.wake:
			return h.any()
		case <-h.stop:
			return false
		}
	}
	select {
	case <-changed:
	case <-h.wake:
	case <-beat:
		h.beat()
	case <-h.stop:
		return false
	}
	return h.any()
}

func (h *Hub) any() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs) > 0
}

func (h *Hub) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		s.ping()
	}
}
