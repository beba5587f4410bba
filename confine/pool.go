package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/failure"
)

// PoolOptions say how a pool's processes are confined, and how many there are.
type PoolOptions struct {
	// Child says how each process is confined. Its Timeout is of one request, by the clock on the wall: long enough for a busy machine.
	Child Child
	// Processor is the processor time of one request; 0 means no limit but Timeout.
	Processor time.Duration
	// Most is how many processes there are at a time; 0 means 2. Who finds none waits.
	Most int
	// Serves is how many requests a process answers before it is replaced; 0 means 1000.
	Serves int
	// Idle ends a process that nobody asks; 0 means a minute.
	Idle time.Duration
	// Wait is how long a request waits for a process; 0 means Child.Timeout.
	Wait time.Duration
}

// Pool keeps processes that answer many requests, one after the other. None is there before the first request. What a request leaves in
// the memory of its process the next one's code could find if it took the process over, so a pool is for work that computes on what it
// is given by an interpreter that we trust, and whose requests need no files. Its methods are safe for concurrent use.
type Pool struct {
	o      PoolOptions
	places chan struct{}
	ctx    context.Context //nolint:containedctx // the life of the processes, which is longer than that of a request
	end    context.CancelFunc

	mu     sync.Mutex
	idle   []*process // the one used last is taken first, so that the others can end
	all    map[*process]bool
	closed bool
	// shared says that this machine allows no namespaces: the processes run without.
	shared bool
}

// NewPool makes a pool. [Pool.Close] ends its processes.
func NewPool(o PoolOptions) *Pool {
	if o.Most <= 0 {
		o.Most = 2
	}
	if o.Serves <= 0 {
		o.Serves = 1000
	}
	if o.Idle <= 0 {
		o.Idle = time.Minute
	}
	if o.Wait <= 0 {
		o.Wait = o.Child.Timeout
	}
	ctx, end := context.WithCancel(context.Background())
	return &Pool{o: o, places: make(chan struct{}, o.Most), ctx: ctx, end: end, all: map[*process]bool{}}
}

// again is when a request may be tried again that no process could answer.
const again = 5 * time.Second

// tries is how many processes are asked if they end and nobody knows why.
const tries = 2

// Ask gives a request to a process and decodes the answer. A request that is to blame itself is an *[EndedError], [ErrTooLarge] or
// [ErrTooLong]. Any other error says nothing about the request: the process could not be started, or was ended from outside, or the machine
// is too busy. Its kind is failure.RetryAfter, or it is that of ctx.
func (p *Pool) Ask(ctx context.Context, ask, answer any) error {
	body, err := encode(ask)
	if err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	if len(body) > maxRequest {
		return fmt.Errorf("%w: the request has more than %d MiB", ErrTooLarge, maxRequest>>20)
	}
	release, err := p.place(ctx)
	if err != nil {
		return err
	}
	defer release()
	for try := 1; ; try++ {
		got, err := p.once(ctx, body, try > 1)
		var gone *goneError
		switch {
		case err == nil:
			return decode(got, answer)
		case ctx.Err() != nil:
			return fmt.Errorf("ask process: %w", context.Cause(ctx))
		case errors.As(err, &gone) && try < tries && p.ctx.Err() == nil:
		case gone != nil && gone.charge != nil:
			return gone.charge
		case errors.Is(err, ErrTooLarge), errors.Is(err, ErrTooLong), errors.As(err, new(*EndedError)):
			return err
		default:
			return failure.Later(again, err)
		}
	}
}

func decode(got reply, answer any) error {
	switch got.word {
	case answered:
		if err := json.Unmarshal(got.body, answer); err != nil {
			return failure.Later(again, fmt.Errorf("read answer: %w", err))
		}
		return nil
	case failed:
		return failure.Later(again, fmt.Errorf("the process cannot do it: %s", got.body))
	case tooLarge:
		return ErrTooLarge
	case tooLong:
		return ErrTooLong
	}
	return failure.Later(again, fmt.Errorf("the process gave an answer of an unknown kind, %q", string(rune(got.word))))
}

// place waits for one of the places.
func (p *Pool) place(ctx context.Context) (release func(), err error) {
	wait, cancel := context.WithTimeout(ctx, p.o.Wait)
	defer cancel()
	select {
	case p.places <- struct{}{}:
		return func() { <-p.places }, nil
	case <-p.ctx.Done():
		return nil, failure.Later(again, errClosed)
	case <-wait.Done():
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("wait for a process: %w", context.Cause(ctx))
	}
	return nil, failure.Later(again, fmt.Errorf("all %d processes were busy for %s", p.o.Most, p.o.Wait))
}

// errClosed is what a request gets that comes too late.
var errClosed = failure.New(failure.RetryAfter, "the processes were ended")

// goneError says that a process ended and it is not known why. charge is what is said of the request if it happens again; nil leaves
// the request alone: it was a signal from outside.
type goneError struct {
	reason string
	charge error
}

func (e *goneError) Error() string { return e.reason }

// once asks one process; fresh asks for one that has answered nothing yet.
func (p *Pool) once(ctx context.Context, body []byte, fresh bool) (reply, error) {
	proc, err := p.take(fresh)
	if err != nil {
		return reply{}, err
	}
	deadline := time.Now().Add(p.o.Child.Timeout)
	got, err := proc.ask(ctx, deadline, body, p.o.Child.Answer)
	if err == nil {
		if proc.served++; got.word == tooLong || got.worn || proc.served >= p.o.Serves {
			p.drop(proc)
		} else {
			p.give(proc)
		}
		return got, nil
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		// Its end of the pipe is closed: what it says of why it ends is worth a moment.
		end := time.NewTimer(time.Second)
		defer end.Stop()
		select {
		case <-proc.ended:
		case <-end.C:
		}
	}
	p.drop(proc)
	return reply{}, p.judge(proc, err)
}

// judge says why a process gave no answer, after it is gone.
func (p *Pool) judge(proc *process, err error) error {
	said := proc.complaints.String()
	switch {
	case p.ctx.Err() != nil:
		return errClosed
	case errors.Is(err, ErrTooLarge):
		return err
	case p.o.Processor > 0 && proc.spent() >= p.o.Processor:
		return ErrTooLong
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("there was no answer within %s: the machine is busy", p.o.Child.Timeout)
	case proc.signalled(), proc.waited == nil, strings.Contains(said, "create new OS thread"):
		return &goneError{reason: fmt.Sprintf("the process ended: %v", proc.waited)}
	}
	ended := p.o.Child.ended(proc.waited, said)
	if known := errors.As(ended, new(*EndedError)) && metLimit(said); known {
		return ended
	}
	return &goneError{reason: ended.Error(), charge: ended}
}

// take gives a process that is idle, or a new one.
func (p *Pool) take(fresh bool) (*process, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 && !fresh {
		proc := p.idle[n-1]
		p.idle = p.idle[:n-1]
		proc.idle.Stop()
		p.mu.Unlock()
		return proc, nil
	}
	shared := p.shared
	// One that is idle makes room: there are never more processes than places.
	var old *process
	if len(p.all) >= p.o.Most && len(p.idle) > 0 {
		old, p.idle = p.idle[0], p.idle[1:]
	}
	p.mu.Unlock()
	if old != nil {
		p.drop(old)
	}
	proc, err := p.o.Child.begin(p.ctx, !shared, p.setup())
	if errors.Is(err, os.ErrPermission) && !shared {
		// This machine lets us have no namespaces; what the process does must need none to be harmless.
		if proc, err = p.o.Child.begin(p.ctx, false, p.setup()); err == nil {
			shared = true
		}
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shared = shared
	p.all[proc] = true
	return proc, nil
}

func (p *Pool) setup() request {
	r := p.o.Child.limits()
	r.Each, r.Answer = p.o.Processor, p.o.Child.Answer
	if p.o.Processor > 0 {
		// The kernel's own limit is of all requests together.
		r.CPUSeconds = uint64((p.o.Processor*time.Duration(p.o.Serves+1) + p.o.Child.Timeout) / time.Second)
	}
	return r
}

// give takes a process back.
func (p *Pool) give(proc *process) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.drop(proc)
		return
	}
	proc.idle = time.AfterFunc(p.o.Idle, func() { p.retire(proc) })
	p.idle = append(p.idle, proc)
	p.mu.Unlock()
}

// retire ends a process that is still idle.
func (p *Pool) retire(proc *process) {
	p.mu.Lock()
	n := slices.Index(p.idle, proc)
	if n >= 0 {
		p.idle = slices.Delete(p.idle, n, n+1)
	}
	p.mu.Unlock()
	if n >= 0 {
		p.drop(proc)
	}
}

// drop ends a process that belongs to the caller.
func (p *Pool) drop(proc *process) {
	proc.kill()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, proc)
}

// Processes are the ids of the processes that there are.
func (p *Pool) Processes() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]int, 0, len(p.all))
	for proc := range p.all {
		ids = append(ids, proc.cmd.Process.Pid)
	}
	slices.Sort(ids)
	return ids
}

// Close ends all processes, those that are at work too, and returns when they are gone. Requests that come later, or wait, get an error.
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	idle := p.idle
	p.idle = nil
	for _, proc := range idle {
		proc.idle.Stop()
	}
	p.mu.Unlock()
	p.end()
	for _, proc := range idle {
		p.drop(proc)
	}
	// Who asks has a place, and gives it back when its process is gone.
	for range p.o.Most {
		p.places <- struct{}{}
	}
	return nil
}
