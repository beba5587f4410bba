// Package quarantine keeps a piece of work that ends the process from ending it again at each start.
//
// A room that computes on what came from outside (an event before a sensor, a firing, a message for a run, an application) does so within
// [Book.Try], which has the item on record meanwhile, in memory that outlives the process. After an unclean end the items that were
// in hand are suspects. A suspect is tried alone: nothing else is in hand at that time, and its memory and time are watched. Only if the
// process then ends by its own fault, and that twice, the item is quarantined: on record in the ledger, left out by its room, shown to
// people, who try it again or drop it. Everything else goes on.
//
// A process that is killed, by an operator or by a machine without memory or power, leaves no trace of a fault of its own, so that
// nothing is quarantined, however often it happens.
package quarantine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Item is a piece of work.
type Item struct {
	// Kind is what it is: one of the kinds below.
	Kind string `json:"kind"`
	// Key tells it from others of its kind. It is the same after a restart.
	Key string `json:"key"`
}

// The kinds of items.
const (
	// KindEvent is an event before a sensor: NAMESPACE/SENSOR@SEQUENCE.
	KindEvent = "event"
	// KindFiring is a firing of a trigger, by its key.
	KindFiring = "firing"
	// KindRun is a run, with the messages for it: NAMESPACE/NAME.
	KindRun = "run"
	// KindCron is a slot of a schedule: NAMESPACE/NAME@TIME.
	KindCron = "cron"
	// KindApplication is an Application, by the digest of its definition: NAMESPACE/NAME@DIGEST. KindApplicationSet likewise.
	KindApplication    = "application"
	KindApplicationSet = "applicationset"
	// KindDefinition is a version of a Sensor or an EventSource: KIND/NAMESPACE/NAME@DIGEST.
	KindDefinition = "definition"
)

// Version is an item of a kind that is one version, one slot or one event of something: KEY is OF@VERSION.
func Version(kind, of, version string) Item { return Item{Kind: kind, Key: of + "@" + version} }

// Parts are what [Version] was given; version is empty for an item of another kind.
func (i Item) Parts() (of, version string) {
	of, version, _ = strings.Cut(i.Key, "@")
	return of, version
}

// String is KIND/KEY.
func (i Item) String() string { return i.Kind + "/" + i.Key }

// ParseItem reads what String gives.
func ParseItem(s string) (Item, error) {
	kind, key, ok := strings.Cut(s, "/")
	if !ok || kind == "" || key == "" {
		return Item{}, failure.Invalidf("item %q: KIND/KEY is wanted, as `tiphys quarantine list` shows it", s)
	}
	return Item{Kind: kind, Key: key}, nil
}

// enough is how many deaths in trials quarantine an item.
const enough = 2

// Limits of a trial.
const (
	// DefaultMemory is how much more memory than before may be in use during a trial, in bytes.
	DefaultMemory = 512 << 20
	// DefaultTime is how long a trial may take.
	DefaultTime = time.Minute
)

// Options of a Book. Folder and Ledger are required.
type Options struct {
	// Folder is the data folder, whose lock this process has.
	Folder string
	Ledger ledger.Ledger
	// Memory and Time bound a trial; 0 for the defaults.
	Memory uint64
	Time   time.Duration
	// Fault is called while an item is in hand, in test builds: as Fault("try"), which may kill the process, and as Fault("try ITEM"),
	// which may end it as an item would that it cannot bear.
	Fault func(string)
}

// Book knows what is in hand, what is suspect, and what is quarantined. Its methods are safe for concurrent use. A nil Book lets
// everything happen.
type Book struct {
	o    Options
	hand *hand
	// alone is held for reading by whoever has an item in hand, and for writing by a trial.
	alone sync.RWMutex
	free  chan int // slots

	mu       sync.RWMutex
	suspects map[Item]suspect
	out      map[Item]Quarantined
	failed   error
	// news are items that are quarantined and not yet on record.
	news chan Quarantined
}

// suspect is an item that was in hand when a process ended, or that panicked.
type suspect struct {
	slot   int
	deaths int
	// trials are those that it has survived in this process.
	trials int
}

// proof is how many trials clear an item: what is asked of it first need not be what ended the process.
const proof = 1000

// Error says that an item is quarantined, so that nothing was done.
type Error struct {
	Item Item
	Why  string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s is quarantined, because it ended the server while it was tried alone (%s)", e.Item, e.Why)
}

// FailureKind implements [failure.Classified]: nothing mends it but a person.
func (*Error) FailureKind() failure.Kind { return failure.Stalled }

// Hint says what to do.
func (e *Error) Hint() string {
	return fmt.Sprintf("tiphys quarantine retry '%s', or tiphys quarantine drop '%s'", e.Item, e.Item)
}

// PanicError says that the computing on an item met a fault of this program. What it changed in memory cannot be trusted.
type PanicError struct {
	Item  Item
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("%s met a fault of this program: %v\n%s", e.Item, e.Value, e.Stack)
}

// IsQuarantined reports whether an error says that an item is quarantined.
func IsQuarantined(err error) bool { return errors.As(err, new(*Error)) }

// Try computes on an item. compute must not call Try, and must wait only for what has a deadline far below the time
// of a trial, which keeps everybody else waiting. Its error is passed on; a quarantined item is an *[Error], and a panic a *[PanicError].
func (b *Book) Try(item Item, compute func() error) error {
	if b == nil {
		return compute()
	}
	b.mu.RLock()
	q, out := b.out[item]
	_, suspected := b.suspects[item]
	b.mu.RUnlock()
	switch {
	case out:
		return &Error{item, q.Why}
	case suspected:
		return b.try(item, compute)
	}
	b.alone.RLock()
	slot := <-b.free
	b.hand.set(slot, mark{state: inHand, item: item})
	err := b.compute(item, compute)
	var fault *PanicError
	if errors.As(err, &fault) {
		b.suspect(slot, item)
	} else {
		b.hand.clear(slot)
		b.free <- slot
	}
	b.alone.RUnlock()
	return err
}

// Value is [Book.Try] of what gives a value.
func Value[T any](b *Book, item Item, compute func() (T, error)) (value T, err error) {
	err = b.Try(item, func() (err error) {
		value, err = compute()
		return err
	})
	return value, err
}

func (b *Book) compute(item Item, compute func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{item, v, debug.Stack()}
		}
	}()
	if b.o.Fault != nil {
		b.o.Fault("try")
		b.o.Fault("try " + item.String())
	}
	return compute()
}

// suspect keeps an item and its slot for a trial. If there are many suspects already it is forgotten: it will be found again.
func (b *Book) suspect(slot int, item Item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.suspects[item]; ok || len(b.suspects) >= maxSuspects {
		b.hand.clear(slot)
		b.free <- slot
		return
	}
	b.suspects[item] = suspect{slot: slot}
	b.hand.set(slot, mark{state: suspectedState, item: item})
}

// try is a trial.
func (b *Book) try(item Item, compute func() error) error {
	b.alone.Lock()
	defer b.alone.Unlock()
	b.mu.RLock()
	s, ok := b.suspects[item]
	q, out := b.out[item]
	b.mu.RUnlock()
	if out {
		return &Error{item, q.Why}
	}
	if !ok { // another of its kind was tried meanwhile, and is innocent
		return b.compute(item, compute)
	}
	b.hand.set(s.slot, mark{state: onTrial, deaths: s.deaths, item: item})
	stop := b.watch(item)
	err := b.compute(item, compute)
	stop()
	var fault *PanicError
	if !errors.As(err, &fault) {
		b.survived(item, s)
		return err
	}
	s.deaths++
	b.hand.set(s.slot, mark{state: suspectedState, deaths: s.deaths, item: item})
	b.mu.Lock()
	b.suspects[item] = s
	b.mu.Unlock()
	if s.deaths < enough {
		return err
	}
	// A trial must not wait, and the ledger may: Run records it, or the next start.
	q = Quarantined{Item: item, Why: reason(fmt.Sprint("panic: ", fault.Value)), Deaths: s.deaths}
	b.mu.Lock()
	b.out[item] = q
	b.mu.Unlock()
	b.news <- q
	return &Error{item, q.Why}
}

func (b *Book) survived(item Item, s suspect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.trials++; s.trials < proof {
		b.suspects[item] = s
		b.hand.set(s.slot, mark{state: suspectedState, deaths: s.deaths, item: item})
		return
	}
	b.acquit(item, s)
}

// acquit makes an item as any other; the caller holds the lock.
func (b *Book) acquit(item Item, s suspect) {
	delete(b.suspects, item)
	b.hand.clear(s.slot)
	b.free <- s.slot
}

// Open takes up what an earlier process left. crash is what that one said when it ended by its own fault, as [CatchCrashes] gives it.
func Open(ctx context.Context, o Options, crash string) (*Book, error) {
	o.Memory, o.Time = cmp.Or(o.Memory, DefaultMemory), cmp.Or(o.Time, DefaultTime)
	b := &Book{o: o, free: make(chan int, slots), suspects: map[Item]suspect{}, news: make(chan Quarantined, maxSuspects)}
	out, err := read(ctx, o.Ledger)
	if err != nil {
		return nil, err
	}
	b.out = out
	if b.hand, err = openHand(filepath.Join(o.Folder, handFile)); err != nil {
		return nil, err
	}
	if err := b.takeUp(ctx, crash); err != nil {
		return nil, errors.Join(err, b.hand.close())
	}
	return b, nil
}

// takeUp makes suspects of what was in hand, and quarantines what has ended the process often enough.
func (b *Book) takeUp(ctx context.Context, crash string) error {
	var left []mark
	clean := b.hand.clean()
	for slot := range slots {
		m := b.hand.get(slot)
		_, out := b.out[m.item]
		if m.state == onTrial && crash != "" {
			m.deaths++
		}
		switch {
		case m.state == empty || out || clean:
		case m.deaths >= enough:
			if err := b.put(ctx, Quarantined{Item: m.item, Why: reason(crash), Deaths: m.deaths}); err != nil {
				return err
			}
		default:
			left = append(left, m)
		}
	}
	// Those that ended a process before those that were only there.
	slices.SortStableFunc(left, func(x, y mark) int { return cmp.Compare(y.deaths, x.deaths) })
	b.hand.begin()
	for slot := range slots {
		if slot < min(len(left), maxSuspects) && !known(b.suspects, left[slot].item) {
			m := left[slot]
			b.suspects[m.item] = suspect{slot: slot, deaths: m.deaths}
			b.hand.set(slot, mark{state: suspectedState, deaths: m.deaths, item: m.item})
			continue
		}
		b.hand.clear(slot)
		b.free <- slot
	}
	return nil
}

func known(m map[Item]suspect, item Item) bool { _, ok := m[item]; return ok }

// lastWords is how long the closing takes at most to record what was quarantined a moment ago.
const lastWords = 2 * time.Second

// Close notes that the process ends cleanly. Run has returned.
func (b *Book) Close() error {
	if b == nil {
		return nil
	}
	b.alone.Lock() // nothing is in hand
	defer b.alone.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	var err error
	for len(b.news) > 0 {
		err = errors.Join(err, b.put(ctx, <-b.news)) // what fails is recorded at the next start
	}
	b.hand.end()
	return errors.Join(err, b.hand.close())
}

// Suspects are the items that will be tried alone, in order.
func (b *Book) Suspects() []Item {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.SortedFunc(maps.Keys(b.suspects), func(x, y Item) int { return cmp.Compare(x.String(), y.String()) })
}
