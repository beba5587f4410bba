package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

const (
	// maxBatch bounds what one transaction carries, and so how long the first of a batch waits for the last.
	maxBatch = 512
	// queueLength is how many decisions may wait before Write itself waits; two batches keep the writer busy.
	queueLength = 2 * maxBatch
)

// An intent's life: it waits, and then either begins or is withdrawn by whoever waits for it.
const (
	waiting int32 = iota
	begun
	withdrawn
)

// intent is one decision on its way through the writer.
type intent struct {
	// run does the work within a batch. Exactly one of run and alone is set.
	run func(*batch) error
	// alone does its work with the session to itself, outside any batch.
	alone func(*session) error
	// quiet leaves it to alone to say whether a waiting reader may find something.
	quiet bool

	state atomic.Int32
	err   error
	done  chan struct{}
}

// writer owns the only connection that writes, and everything that is known of the end of the ledger.
type writer struct {
	ledger *Ledger
	now    func() time.Time
	fault  func(string)
	faulty bool // fault is not the default

	intents chan *intent
	closing chan struct{}
	stopped chan struct{}

	// deciding is set while a decision runs on the writer's goroutine.
	deciding atomic.Bool

	// The rest belongs to the writer's goroutine.
	trespassed bool // the decision that runs called the ledger
	session    *session
	broken     bool // the session must be opened anew before it is used again
	held       *intent
	head       place
	lastWork   int64
	owners     *ownership
	signal     bool // a quiet intent changed what readers see
	cache      *cache
	layout     *layout
	wants      map[string][]deriver
	salts      []byte
	commits    int
	uncopied   int // bytes since the copier was woken
	packed     []byte
	inline     int // inlineBody, but for benchmarks
}

// place is the end of the ledger: what the next entry is chained to.
type place struct {
	seq  int64
	time time.Time
	hash ledger.Hash
}

func startWriter(ctx context.Context, l *Ledger, s *session, o Options) (*writer, error) {
	w := &writer{
		ledger: l, now: o.Now, fault: o.Fault, faulty: o.Fault != nil, session: s,
		intents: make(chan *intent, queueLength),
		closing: make(chan struct{}), stopped: make(chan struct{}),
		cache: newCache(), wants: map[string][]deriver{}, inline: cmp.Or(o.inline, inlineBody),
	}
	if w.fault == nil {
		w.fault = func(string) {}
	}
	if err := w.load(ctx); err != nil {
		return nil, err
	}
	go w.loop()
	return w, nil
}

// load reads where the ledger ends.
func (w *writer) load(ctx context.Context) error {
	w.cache.clear()
	w.head = place{}
	var micros int64
	var hash []byte
	row := w.session.conn.QueryRowContext(ctx, "SELECT seq, time, hash FROM entries ORDER BY seq DESC LIMIT 1")
	switch err := row.Scan(&w.head.seq, &micros, &hash); {
	case errors.Is(err, errNoRows):
	case err != nil:
		return fmt.Errorf("read the end of the ledger: %w", err)
	default:
		w.head.time = fromMicros(micros)
		copy(w.head.hash[:], hash)
	}
	row = w.session.conn.QueryRowContext(ctx, "SELECT value FROM counters WHERE name = 'work'")
	if err := row.Scan(&w.lastWork); err != nil {
		return fmt.Errorf("read the outbox counter: %w", err)
	}
	var err error
	if w.owners, err = loadOwnership(w.session); err != nil {
		return err
	}
	found, err := readTables(w.session)
	if err != nil {
		return err
	}
	y := &layout{kinds: map[string]string{}}
	for name, p := range found {
		y.kinds[name] = p.kind
	}
	w.layout = y
	w.ledger.layout.Store(y)
	return nil
}

// submit hands an intent to the writer and waits for its outcome. One that has begun when ctx ends is waited
// for: whether it was recorded must be known.
func (w *writer) submit(ctx context.Context, i *intent) error {
	i.done = make(chan struct{})
	if err := w.outside(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.isClosing() {
		return ledger.ErrClosed
	}
	select {
	case w.intents <- i:
	case <-w.closing:
		return ledger.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-i.done:
		return i.err
	case <-w.stopped:
		if i.state.CompareAndSwap(waiting, withdrawn) {
			return ledger.ErrClosed
		}
	case <-ctx.Done():
		if i.state.CompareAndSwap(waiting, withdrawn) {
			return ctx.Err()
		}
	}
	<-i.done
	return i.err
}

func (w *writer) isClosing() bool {
	select {
	case <-w.closing:
		return true
	default:
		return false
	}
}

// stop ends the loop after the running batch and waits for that.
func (w *writer) stop() {
	close(w.closing)
	<-w.stopped
	_ = w.session.close() // the pool is closed next, and says what went wrong
}

// loop takes what waits, writes it, answers. A decision that ends its goroutine (runtime.Goexit, as
// testing.T.FailNow does) ends this one; its successor goes on.
func (w *writer) loop() {
	finished := false
	defer func() {
		if finished {
			close(w.stopped)
			return
		}
		go w.loop()
	}()
	for {
		list := w.gather()
		if len(list) == 0 {
			finished = true
			return
		}
		if list[0].alone != nil {
			w.runAlone(list[0])
		} else {
			w.runBatch(list)
		}
	}
}

// gather waits for a decision and takes all that wait by then; nothing means that the ledger closes.
func (w *writer) gather() []*intent {
	first := w.held
	w.held = nil
	if w.isClosing() {
		return nil // what was held is withdrawn by its submitter, as are those still queued
	}
	if first == nil {
		select {
		case first = <-w.intents:
		case <-w.closing:
			return nil
		}
	}
	list := []*intent{first}
	if first.alone != nil {
		return list
	}
	// Those who were just answered are about to come back: let them, so that they share this flush.
	runtime.Gosched()
	for len(list) < maxBatch {
		select {
		case i := <-w.intents:
			if i.alone != nil {
				w.held = i
				return list
			}
			list = append(list, i)
		default:
			return list
		}
	}
	return list
}

// runBatch writes the decisions in one transaction and answers each.
func (w *writer) runBatch(list []*intent) {
	running := list[:0]
	for _, i := range list {
		if i.state.CompareAndSwap(waiting, begun) {
			running = append(running, i)
		}
	}
	settled := false
	defer func() {
		if !settled {
			w.fail(running, errors.New("write ledger: another decision of the same batch ended its goroutine"))
		}
	}()
	b, err := w.begin()
	if err == nil {
		for _, i := range running {
			i.err = i.run(b)
		}
		err = b.commit()
	}
	settled = true
	if err != nil {
		w.fail(running, fmt.Errorf("write ledger: %w", w.ledger.explain(err)))
		return
	}
	w.fault("after-commit")
	for i := range b.entries {
		w.faultOf("after-commit", b.entries[i].entry.Kind)
	}
	for _, i := range running {
		close(i.done)
	}
	if b.signal {
		w.ledger.changed.send()
	}
	w.checkpoint(b.size())
}

// faultOf is the fault point of one kind of entries; only test builds pay for its name.
func (w *writer) faultOf(point, kind string) {
	if w.faulty {
		w.fault(point + " " + kind)
	}
}

// fail undoes the transaction and answers everybody who has no error of their own with err.
func (w *writer) fail(running []*intent, err error) {
	w.session.rollback()
	// What the failed transaction left in memory, or a failed flush in the file, is not trusted: the next batch
	// reads the end of the ledger again over a new connection.
	w.broken = true
	for _, i := range running {
		if i.err == nil {
			i.err = err
		}
		close(i.done)
	}
}

// runAlone runs an intent that needs the session to itself.
func (w *writer) runAlone(i *intent) {
	if !i.state.CompareAndSwap(waiting, begun) {
		return
	}
	settled := false
	defer func() {
		if !settled {
			w.fail([]*intent{i}, errors.New("write ledger: the decision ended its goroutine"))
		}
	}()
	err := w.mend()
	if err == nil {
		err = i.alone(w.session)
	}
	settled = true
	if err != nil {
		w.fail([]*intent{i}, w.ledger.explain(err))
		return
	}
	close(i.done)
	if !i.quiet || w.signal {
		w.signal = false
		w.ledger.changed.send()
	}
}

// mend opens the session anew after a failure.
func (w *writer) mend() error {
	if !w.broken {
		return nil
	}
	_ = w.session.close() // it has failed before; only the new one counts
	s, err := newSession(context.Background(), w.ledger.writes)
	if err != nil {
		return err
	}
	w.session = s
	if err := w.load(context.Background()); err != nil {
		return err
	}
	w.broken = false
	return nil
}

// time is the ledger's time now: the clock's, but never before the last entry's.
func (w *writer) time(last time.Time) time.Time {
	t := w.now().UTC().Truncate(time.Microsecond)
	if t.Before(last) {
		return last
	}
	return t
}

// protect runs a decision and turns its panic into an error that says where.
func protect(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the decision panicked: %v%s", p, panicSite())
		}
	}()
	return fn()
}

// panicSite names the function and line that panicked, as seen from a deferred function.
func panicSite() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for panicking := false; ; {
		f, more := frames.Next()
		inRuntime := strings.HasPrefix(f.Function, "runtime.")
		if panicking && !inRuntime {
			return fmt.Sprintf(" (in %s, %s:%d)", f.Function, f.File, f.Line)
		}
		panicking = panicking || f.Function == "runtime.gopanic"
		if !more {
			return ""
		}
	}
}
