// Package lock is the aggregate of mutexes and semaphores: who holds them and who waits. It is pure, over rows that
// the caller reads and writes in the same transaction as the runs' own entries.
//
// A request is for several locks, all or none. Waiters stand in order of priority, then of the time of their run,
// then of arrival, and only the head of a queue may take a lock, so that nobody is passed over (Argo,
// docs/synchronization.md).
package lock

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tiphys/tiphys/workflow"
)

// Lock is one mutex or semaphore.
type Lock struct {
	Name    string   `json:"name"`
	Holders []string `json:"holders,omitempty"`
	// Queue has the waiting holders, first in line first.
	Queue []string `json:"queue,omitempty"`
}

// Holder is what one run or node holds or waits for.
type Holder struct {
	// Key is the key of the Acquire, to be given back in the Got.
	Key      string          `json:"key"`
	Holder   string          `json:"holder"`
	Locks    []workflow.Lock `json:"locks"`
	Priority int32           `json:"priority,omitempty"`
	Since    time.Time       `json:"since"`
	Held     bool            `json:"held,omitempty"`
}

// Store has the rows. Get methods return nil for what is not there; a Lock without holders and queue, and a Holder
// that has released, are deleted.
type Store interface {
	Lock(name string) (*Lock, error)
	PutLock(Lock) error
	DeleteLock(name string) error
	Holder(name string) (*Holder, error)
	PutHolder(Holder) error
	DeleteHolder(name string) error
}

// Limits gives the limit of a semaphore as it is now: it is read when a lock is granted, so that a change of the
// ConfigMap takes effect at once.
type Limits func(workflow.Lock) (int, error)

// Grant tells a waiting holder that it has its locks: Got{Key: Key, Granted: true} to the run of Holder.
type Grant struct {
	Key    string
	Holder string
}

// Acquire puts a holder in line and grants its locks if it is its turn. If not, waiting says for which lock it
// waits, in Argo's words. A holder that asked before gets the same answer as things stand.
func Acquire(s Store, a workflow.Acquire, limits Limits) (granted bool, waiting string, err error) {
	h, err := s.Holder(a.Holder)
	if err != nil {
		return false, "", err
	}
	if h == nil {
		h = &Holder{Key: a.Key, Holder: a.Holder, Locks: a.Locks, Priority: a.Priority, Since: a.Since}
		if err := enqueue(s, h); err != nil {
			return false, "", err
		}
		if err := s.PutHolder(*h); err != nil {
			return false, "", err
		}
	}
	if h.Held {
		return true, "", nil
	}
	return try(s, h, limits)
}

// enqueue puts a holder into the queue of each of its locks.
func enqueue(s Store, h *Holder) error {
	for _, want := range h.Locks {
		l, err := s.Lock(want.Name)
		if err != nil {
			return err
		}
		if l == nil {
			l = &Lock{Name: want.Name}
		}
		at := len(l.Queue)
		for i, name := range l.Queue {
			other, err := s.Holder(name)
			if err != nil {
				return err
			}
			if other != nil && before(h, other) {
				at = i
				break
			}
		}
		l.Queue = slices.Insert(slices.Clone(l.Queue), at, h.Holder)
		if err := s.PutLock(*l); err != nil {
			return err
		}
	}
	return nil
}

// before reports whether a goes before b although it came later.
func before(a, b *Holder) bool {
	if a.Priority != b.Priority {
		return a.Priority > b.Priority
	}
	return a.Since.Before(b.Since)
}

// try grants a holder its locks if it is at the head of every queue and each has room.
func try(s Store, h *Holder, limits Limits) (bool, string, error) {
	locks := make([]*Lock, len(h.Locks))
	for i, want := range h.Locks {
		l, err := s.Lock(want.Name)
		if err != nil {
			return false, "", err
		}
		if l == nil {
			return false, "", fmt.Errorf("lock %s has no row though %s waits for it", want.Name, h.Holder)
		}
		limit, err := limitOf(want, limits)
		if err != nil {
			return false, "", err
		}
		if len(l.Holders) >= limit || len(l.Queue) == 0 || l.Queue[0] != h.Holder {
			return false, Waiting(want.Name, limit, len(l.Holders)), nil
		}
		locks[i] = l
	}
	for _, l := range locks {
		l.Queue = slices.Clone(l.Queue[1:])
		l.Holders = append(slices.Clone(l.Holders), h.Holder)
		if err := s.PutLock(*l); err != nil {
			return false, "", err
		}
	}
	h.Held = true
	return true, "", s.PutHolder(*h)
}

func limitOf(l workflow.Lock, limits Limits) (int, error) {
	if l.Limit > 0 {
		return l.Limit, nil
	}
	if limits == nil {
		return 0, fmt.Errorf("%w: %s", errLimit, l.Name)
	}
	n, err := limits(l)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", errLimit, l.Name, err)
	}
	return n, nil
}

// errLimit says that a semaphore's limit cannot be read.
var errLimit = errors.New("limit of semaphore is not known")

// Waiting is Argo's message of a node that waits for a lock.
func Waiting(name string, limit, held int) string {
	return fmt.Sprintf("Waiting for %s lock. Lock status: %d/%d", name, max(limit-held, 0), limit)
}

// Release takes a holder's locks, or its places in the queues, away, and says who has its locks now. Releasing what
// is not held is no error.
func Release(s Store, holder string, limits Limits) ([]Grant, error) {
	h, err := s.Holder(holder)
	if err != nil || h == nil {
		return nil, err
	}
	if err := s.DeleteHolder(holder); err != nil {
		return nil, err
	}
	for _, want := range h.Locks {
		l, err := s.Lock(want.Name)
		if err != nil {
			return nil, err
		}
		if l == nil {
			continue
		}
		is := func(name string) bool { return name == holder }
		l.Holders = slices.DeleteFunc(slices.Clone(l.Holders), is)
		l.Queue = slices.DeleteFunc(slices.Clone(l.Queue), is)
		if len(l.Holders)+len(l.Queue) == 0 {
			err = s.DeleteLock(l.Name)
		} else {
			err = s.PutLock(*l)
		}
		if err != nil {
			return nil, err
		}
	}
	names := make([]string, 0, len(h.Locks))
	for _, want := range h.Locks {
		names = append(names, want.Name)
	}
	return Wake(s, names, limits)
}

// Wake grants locks to the heads of their queues while there is room: after a release, or after a semaphore's limit
// was raised.
func Wake(s Store, names []string, limits Limits) ([]Grant, error) {
	var out []Grant
	for _, name := range names {
		for {
			l, err := s.Lock(name)
			if err != nil {
				return nil, err
			}
			if l == nil || len(l.Queue) == 0 {
				break
			}
			h, err := s.Holder(l.Queue[0])
			if err != nil {
				return nil, err
			}
			if h == nil {
				return nil, fmt.Errorf("lock %s: %s waits without having asked", name, l.Queue[0])
			}
			ok, _, err := try(s, h, limits)
			if errors.Is(err, errLimit) {
				break // whoever waits was told when asking, and is woken when the limit can be read again
			}
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			out = append(out, Grant{Key: h.Key, Holder: h.Holder})
			// Its other queues have a new head now.
			for _, want := range h.Locks {
				if want.Name != name && !slices.Contains(names, want.Name) {
					names = append(names, want.Name)
				}
			}
		}
	}
	return out, nil
}
