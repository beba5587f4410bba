// Package actor gives each subject (a run, a sensor, an application) one owner.
//
// A [System] has a mailbox for each key. Messages of one key are handled one batch after another, in the order in which
// they were sent; different keys are handled side by side. The state of a key is a cache of the ledger: it is loaded when
// a message needs it and dropped after any error that is not a clean refusal, so that memory never runs ahead of the
// record. A key without a state and without messages takes no memory, and one without messages has no goroutine.
package actor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tiphys/tiphys/failure"
)

// ErrStopped is the answer to a message that came after [System.Stop], or that a stop left undone.
var ErrStopped = failure.New(failure.RetryAfter, "stopped")

// errLate is the cause of a context that ended because of Options.Timeout.
var errLate = errors.New("handling took too long")

// Options of a System of keys K with states S, which takes messages M. Load and Handle are required.
type Options[K comparable, S, M any] struct {
	// Load reads the state of a key from the record. Its error is the answer to every message of the batch that needed it.
	Load func(ctx context.Context, key K) (S, error)
	// Handle takes the messages that waited, oldest first, and returns an answer for each, or nil if all went well. It is
	// the only user of the state until it returns; S is usually a pointer.
	//
	// An answer for which Refused holds leaves the state good. Any other error drops the state, and if the batch had several messages
	// each is then handled alone, with a freshly loaded state, so that one bad message harms no other. Handle must therefore record a
	// batch whole or not at all. It must not ask its own key, which would wait for itself.
	Handle func(ctx context.Context, key K, state S, batch []M) []error
	// Refused tells a clean refusal, which changed nothing, from an error after which the state cannot be trusted. nil means that
	// every error is of the second kind.
	Refused func(error) bool
	// Ended says that a state is no longer worth its memory: it is dropped when no message is left. nil means never.
	Ended func(S) bool
	// Mailbox is how many messages may wait for one key before senders have to wait; 0 means 1024.
	Mailbox int
	// Batch is how many messages are handled together at most; 0 means 64.
	Batch int
	// Workers is how many keys are handled at the same time; 0 means any number.
	Workers int
	// Timeout bounds the handling of one batch, loading included; 0 means one minute.
	Timeout time.Duration
}

// System handles messages for many keys. Create it with New; methods are safe for concurrent use.
type System[K comparable, S, M any] struct {
	o       Options[K, S, M]
	workers chan struct{} // nil for any number

	// base is the context of every handler; cut ends it.
	base context.Context
	cut  context.CancelCauseFunc

	mu      sync.Mutex
	boxes   map[K]*box[S, M]
	stopped bool
	// busy counts the goroutines of keys that have messages.
	busy sync.WaitGroup
}

// box is one key in memory.
type box[S, M any] struct {
	queue []letter[M]
	// room has an element for each message that waits.
	room chan struct{}
	// senders is how many wait for room: the box must stay.
	senders int
	running bool
	// used says that there was a message since the last Sweep.
	used bool

	// The state belongs to the goroutine of the box while running, and else to whoever holds the lock.
	state  S
	loaded bool
}

// letter is a message on its way.
type letter[M any] struct {
	ctx     context.Context
	message M
	done    func(error)
}

// New returns a system without keys.
func New[K comparable, S, M any](o Options[K, S, M]) *System[K, S, M] {
	if o.Refused == nil {
		o.Refused = func(error) bool { return false }
	}
	if o.Ended == nil {
		o.Ended = func(S) bool { return false }
	}
	o.Mailbox = or(o.Mailbox, 1024)
	o.Batch = or(o.Batch, 64)
	o.Timeout = or(o.Timeout, time.Minute)
	s := &System[K, S, M]{o: o, boxes: map[K]*box[S, M]{}}
	if o.Workers > 0 {
		s.workers = make(chan struct{}, o.Workers)
	}
	s.base, s.cut = context.WithCancelCause(context.Background())
	return s
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Ask sends a message and returns its answer. If ctx ends first its cause is returned: a message that still waits then is
// never handled, one that is being handled may still take effect, and what it points to must no longer be looked at.
func (s *System[K, S, M]) Ask(ctx context.Context, key K, message M) error {
	answer := make(chan error, 1)
	if err := s.Send(ctx, key, message, func(err error) { answer <- err }); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Send puts a message into the mailbox of a key, waiting while it is full, and returns when it is there. done is then called
// exactly once with the answer, on the goroutine that handled the message, which it must not hold up; it may be nil.
// An error means that the message was not taken and done is not called. If ctx ends while the message waits its turn the
// answer is the context's cause and the message is not handled.
func (s *System[K, S, M]) Send(ctx context.Context, key K, message M, done func(error)) error {
	b, err := s.enter(key)
	if err != nil {
		return err
	}
	select {
	case b.room <- struct{}{}:
	default:
		select {
		case b.room <- struct{}{}:
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-s.base.Done():
			err = context.Cause(s.base)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.senders--
	if err == nil && s.stopped {
		<-b.room
		err = ErrStopped
	}
	if err != nil {
		s.tidy(key, b)
		return err
	}
	if done == nil {
		done = func(error) {}
	}
	b.queue = append(b.queue, letter[M]{ctx, message, done})
	b.used = true
	if !b.running {
		b.running = true
		s.busy.Add(1)
		go s.run(key, b)
	}
	return nil
}

// enter gives the box of a key, which stays while the caller is counted among its senders.
func (s *System[K, S, M]) enter(key K) (*box[S, M], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, ErrStopped
	}
	b := s.boxes[key]
	if b == nil {
		b = &box[S, M]{room: make(chan struct{}, s.o.Mailbox)}
		s.boxes[key] = b
	}
	b.senders++
	return b, nil
}

// tidy forgets a box that nobody needs. The lock is held.
func (s *System[K, S, M]) tidy(key K, b *box[S, M]) {
	if !b.running && !b.loaded && b.senders == 0 && len(b.queue) == 0 {
		delete(s.boxes, key)
	}
}

// run handles the messages of a key until none is left.
func (s *System[K, S, M]) run(key K, b *box[S, M]) {
	defer s.busy.Done()
	for {
		if s.workers != nil {
			s.workers <- struct{}{}
		}
		batch := s.take(key, b)
		if len(batch) > 0 {
			s.handle(key, b, batch)
		}
		if s.workers != nil {
			<-s.workers
		}
		if len(batch) == 0 {
			return
		}
	}
}

// take gives the next batch; none ends the goroutine of the box.
func (s *System[K, S, M]) take(key K, b *box[S, M]) []letter[M] {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(b.queue), s.o.Batch)
	if n == 0 {
		if b.loaded && s.o.Ended(b.state) {
			b.drop()
		}
		b.queue, b.running = nil, false
		s.tidy(key, b)
		return nil
	}
	batch := b.queue[:n:n]
	b.queue = b.queue[n:]
	for range n {
		<-b.room
	}
	return batch
}

func (b *box[S, M]) drop() {
	var none S
	b.state, b.loaded = none, false
}

// handle answers every message of a batch.
func (s *System[K, S, M]) handle(key K, b *box[S, M], batch []letter[M]) {
	batch = s.waiting(batch)
	if len(batch) == 0 {
		return
	}
	if s.try(key, b, batch) {
		return
	}
	for i := range batch {
		if rest := s.waiting(batch[i : i+1]); len(rest) == 1 {
			s.try(key, b, rest)
		}
	}
}

// waiting answers those whose sender has given up, and all once the system is cut off, and returns the others.
func (s *System[K, S, M]) waiting(batch []letter[M]) []letter[M] {
	rest := make([]letter[M], 0, len(batch))
	for _, l := range batch {
		switch {
		case s.base.Err() != nil:
			l.done(context.Cause(s.base))
		case l.ctx.Err() != nil:
			l.done(context.Cause(l.ctx))
		default:
			rest = append(rest, l)
		}
	}
	return rest
}

// try handles a batch and answers it. It returns false, having answered nothing, if each message has to be tried alone.
func (s *System[K, S, M]) try(key K, b *box[S, M], batch []letter[M]) bool {
	ctx, cancel := context.WithTimeoutCause(s.base, s.o.Timeout, errLate)
	defer cancel()
	if !b.loaded {
		state, err := s.o.Load(ctx, key)
		if err != nil {
			for _, l := range batch {
				l.done(err)
			}
			return true
		}
		b.state, b.loaded = state, true
	}
	messages := make([]M, len(batch))
	for i, l := range batch {
		messages[i] = l.message
	}
	answers := s.o.Handle(ctx, key, b.state, messages)
	good := true
	if answers != nil && len(answers) != len(batch) {
		wrong := fmt.Errorf("handle %v: %d answers to %d messages", key, len(answers), len(batch))
		answers, good = repeat(wrong, len(batch)), false
	}
	for _, err := range answers {
		good = good && (err == nil || s.o.Refused(err))
	}
	if !good {
		b.drop()
		if len(batch) > 1 {
			return false
		}
	}
	for i, l := range batch {
		if answers == nil {
			l.done(nil)
		} else {
			l.done(answers[i])
		}
	}
	return true
}

func repeat(err error, n int) []error {
	out := make([]error, n)
	for i := range out {
		out[i] = err
	}
	return out
}

// Sweep drops the states for which no message came since the last Sweep; they are loaded again when they are needed.
// An owner that calls it every ten minutes keeps a quiet state for ten to twenty.
func (s *System[K, S, M]) Sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, b := range s.boxes {
		if b.running {
			continue
		}
		if !b.used {
			b.drop()
		}
		b.used = false
		s.tidy(key, b)
	}
}

// Size is what a system holds in memory.
type Size struct {
	// Keys have a state, a message or a sender that waits; Loaded have a state; Busy have messages that are being handled or
	// wait; Messages wait.
	Keys, Loaded, Busy, Messages int
}

// Size tells what is in memory now. A key that is busy counts as loaded.
func (s *System[K, S, M]) Size() Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := Size{Keys: len(s.boxes)}
	for _, b := range s.boxes {
		size.Messages += len(b.queue)
		if b.running {
			size.Busy++
		}
		if b.running || b.loaded {
			size.Loaded++
		}
	}
	return size
}

// Stop takes no more messages and waits until those that are there have been handled. If ctx ends first the contexts of handlers
// end, what still waits is answered with ErrStopped, and the context's cause is returned once every handler has. A second call
// waits as the first does.
func (s *System[K, S, M]) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.busy.Wait()
	}()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = context.Cause(ctx)
		s.cut(ErrStopped)
		<-drained
	}
	s.cut(ErrStopped)
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, b := range s.boxes {
		b.drop()
		s.tidy(key, b)
	}
	return err
}
