// Package lock is the aggregate of mutexes and semaphores: who holds them and who waits. It is pure. A [Table] has one owner, which
// loads it from rows, has it decide, and records the entries of each decision; [Projection] turns these into rows again.
//
// A request is for several locks, all or none. Waiters stand in order of priority, then of the time of their run,
// then of arrival, and only the head of a queue may take a lock, so that nobody is passed over (Argo,
// docs/synchronization.md). What a change costs does not depend on how many wait: it is an entry and a row of the one that waits.
package lock

import (
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tiphys/tiphys/workflow"
)

// Holder is what one run or node holds or waits for: the body of a row of the table "lockholder".
type Holder struct {
	// Key is the key of the Acquire, to be given back in the Got.
	Key      string          `json:"key"`
	Holder   string          `json:"holder"`
	Locks    []workflow.Lock `json:"locks"`
	Priority int32           `json:"priority,omitempty"`
	Since    time.Time       `json:"since"`
	Held     bool            `json:"held,omitempty"`
}

// Limits gives the limit of a semaphore as it is now: it is read when a lock is granted, so that a change of the
// ConfigMap takes effect.
type Limits func(workflow.Lock) (int, error)

// Answer tells a holder how it stands: a Got for the run of Holder.
type Answer struct {
	Key, Holder string
	Granted     bool
	// Waiting says for which lock it waits, in Argo's words.
	Waiting string
	// Err says that a limit cannot be read: the request is not kept.
	Err error
}

// Table is who holds and who waits. It has one owner.
type Table struct {
	locks   map[string]*line
	holders map[string]*standing
	arrived int64
}

// standing is a holder in memory.
type standing struct {
	Holder
	arrival int64
	// at has its place in the line of each of its locks, while it waits.
	at []int
}

// NewTable has no holders.
func NewTable() *Table { return &Table{locks: map[string]*line{}, holders: map[string]*standing{}} }

// Restore adds a holder from its row. Arrival orders those of equal priority and time: the sequence of the entry that asked.
func (t *Table) Restore(h Holder, arrival int64) {
	s := &standing{Holder: h, arrival: arrival}
	t.arrived = max(t.arrived, arrival)
	t.add(s)
}

// Len is how many hold or wait.
func (t *Table) Len() int { return len(t.holders) }

// Names are those that hold or wait, in order.
func (t *Table) Names() []string { return slices.Sorted(maps.Keys(t.holders)) }

// Waiting gives the locks that somebody waits for and whose limit is not their own, in order of name.
func (t *Table) Waiting() []string {
	var names []string
	for name, l := range t.locks {
		if len(l.queue) > 0 && l.queue[0].wants(name).Limit == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Acquire puts a holder in line and grants its locks if it is its turn. A holder that asked before gets the answer as things
// stand, and may be granted its locks now.
func (t *Table) Acquire(a workflow.Acquire, limits Limits) ([]Entry, Answer) {
	answer := Answer{Key: a.Key, Holder: a.Holder}
	s, known := t.holders[a.Holder]
	if !known {
		s = &standing{Holder: Holder{Key: a.Key, Holder: a.Holder, Locks: distinct(a.Locks), Priority: a.Priority, Since: a.Since}}
		for _, want := range s.Locks {
			if _, err := limitOf(want, limits); err != nil {
				answer.Err = err
				return nil, answer
			}
		}
		t.arrived++
		s.arrival = t.arrived
		t.add(s)
	}
	if s.Held {
		answer.Granted = true
		return nil, answer
	}
	answer.Granted, answer.Waiting, answer.Err = t.try(s, limits)
	switch {
	case !known:
		return []Entry{entry(KindRequested, s.Holder)}, answer
	case answer.Granted:
		return []Entry{entry(KindGranted, Holder{Holder: s.Holder.Holder})}, answer
	}
	return nil, answer
}

// Release takes a holder's locks, or its places in line, away, and says who has its locks now. Releasing what
// is not held is no error.
func (t *Table) Release(holder string, limits Limits) ([]Entry, []Answer) {
	s := t.holders[holder]
	if s == nil {
		return nil, nil
	}
	delete(t.holders, holder)
	names := make([]string, len(s.Locks))
	for i, want := range s.Locks {
		names[i] = want.Name
		l := t.locks[want.Name]
		if s.Held {
			l.held--
		} else {
			heap.Remove(l, s.at[i])
		}
		t.tidy(l)
	}
	entries, answers := t.Wake(names, limits)
	return append([]Entry{entry(KindReleased, Holder{Holder: holder})}, entries...), answers
}

// Wake grants locks to the heads of their lines while there is room: after a release, or after a semaphore's limit
// was raised.
func (t *Table) Wake(names []string, limits Limits) (entries []Entry, answers []Answer) {
	names = slices.Clone(names)
	for i := 0; i < len(names); i++ {
		for {
			l := t.locks[names[i]]
			if l == nil || len(l.queue) == 0 {
				break
			}
			s := l.queue[0]
			// Whoever waits for a limit that cannot be read is woken when it can be read again.
			if ok, _, err := t.try(s, limits); err != nil || !ok {
				break
			}
			entries = append(entries, entry(KindGranted, Holder{Holder: s.Holder.Holder}))
			answers = append(answers, Answer{Key: s.Key, Holder: s.Holder.Holder, Granted: true})
			// Its other lines have a new head now.
			for _, want := range s.Locks {
				if !slices.Contains(names[i:], want.Name) {
					names = append(names, want.Name)
				}
			}
		}
	}
	return entries, answers
}

// try grants a holder its locks if it is at the head of every line and each has room.
func (t *Table) try(s *standing, limits Limits) (bool, string, error) {
	for _, want := range s.Locks {
		limit, err := limitOf(want, limits)
		if err != nil {
			return false, "", err
		}
		if l := t.locks[want.Name]; l.held >= limit || l.queue[0] != s {
			return false, Waiting(want.Name, limit, l.held), nil
		}
	}
	for i, want := range s.Locks {
		l := t.locks[want.Name]
		heap.Remove(l, s.at[i])
		l.held++
	}
	s.Held, s.at = true, nil
	return true, "", nil
}

// add puts a holder where it belongs.
func (t *Table) add(s *standing) {
	t.holders[s.Holder.Holder] = s
	if !s.Held {
		s.at = make([]int, len(s.Locks))
	}
	for _, want := range s.Locks {
		l := t.locks[want.Name]
		if l == nil {
			l = &line{name: want.Name}
			t.locks[want.Name] = l
		}
		if s.Held {
			l.held++
		} else {
			heap.Push(l, s)
		}
	}
}

func (t *Table) tidy(l *line) {
	if l.held == 0 && len(l.queue) == 0 {
		delete(t.locks, l.name)
	}
}

// distinct leaves out what is asked for twice.
func distinct(locks []workflow.Lock) []workflow.Lock {
	var out []workflow.Lock
	for _, l := range locks {
		if !slices.ContainsFunc(out, func(o workflow.Lock) bool { return o.Name == l.Name }) {
			out = append(out, l)
		}
	}
	return out
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

// line is a heap of those that wait for one lock; the first is next.
type line struct {
	name  string
	held  int
	queue []*standing
}

// place is where in the holder's list of locks this one is.
func (l *line) place(s *standing) int {
	return slices.IndexFunc(s.Locks, func(w workflow.Lock) bool { return w.Name == l.name })
}

// wants gives what a holder says of a lock.
func (s *standing) wants(name string) workflow.Lock {
	for _, l := range s.Locks {
		if l.Name == name {
			return l
		}
	}
	return workflow.Lock{}
}

// Len implements heap.Interface.
func (l *line) Len() int { return len(l.queue) }

// Less implements heap.Interface: priority, then the time of the run, then arrival.
func (l *line) Less(i, j int) bool {
	a, b := l.queue[i], l.queue[j]
	if a.Priority != b.Priority {
		return a.Priority > b.Priority
	}
	if !a.Since.Equal(b.Since) {
		return a.Since.Before(b.Since)
	}
	return a.arrival < b.arrival
}

// Swap implements heap.Interface.
func (l *line) Swap(i, j int) {
	l.queue[i], l.queue[j] = l.queue[j], l.queue[i]
	l.queue[i].at[l.place(l.queue[i])] = i
	l.queue[j].at[l.place(l.queue[j])] = j
}

// Push implements heap.Interface.
func (l *line) Push(x any) {
	s := x.(*standing) //nolint:forcetypeassert // only this file pushes
	s.at[l.place(s)] = len(l.queue)
	l.queue = append(l.queue, s)
}

// Pop implements heap.Interface.
func (l *line) Pop() any {
	last := len(l.queue) - 1
	s := l.queue[last]
	l.queue[last] = nil
	l.queue = l.queue[:last]
	return s
}
