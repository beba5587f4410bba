package lock_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

var (
	mutex     = workflow.Lock{Name: "default/Mutex/m", Limit: 1}
	semaphore = workflow.Lock{Name: "default/ConfigMap/c/k"}
	begin     = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

func two(workflow.Lock) (int, error) { return 2, nil }

func ask(holder string, priority int32, minute int, locks ...workflow.Lock) workflow.Acquire {
	return workflow.Acquire{Key: "node/" + holder, Holder: holder, Locks: locks, Priority: priority, Since: begin.Add(time.Duration(minute) * time.Minute)}
}

func holders(answers []lock.Answer) (names []string) {
	for _, a := range answers {
		names = append(names, a.Holder)
	}
	return names
}

// TestOrder follows Argo's docs/synchronization.md: priority, then the time of the run, and only the head may take
// a lock; the message is the one its nodes show.
func TestOrder(t *testing.T) {
	t.Parallel()
	table := lock.NewTable()
	acquire := func(a workflow.Acquire) (bool, string) {
		t.Helper()
		_, answer := table.Acquire(a, two)
		if answer.Err != nil {
			t.Fatal(answer.Err)
		}
		return answer.Granted, answer.Waiting
	}
	release := func(holder string, want ...string) {
		t.Helper()
		_, answers := table.Release(holder, two)
		if diff := cmp.Diff(want, holders(answers)); diff != "" {
			t.Fatalf("grants after %s (-want +got):\n%s", holder, diff)
		}
	}
	if ok, _ := acquire(ask("a", 0, 0, mutex)); !ok {
		t.Fatal("a free mutex was not granted")
	}
	if ok, waiting := acquire(ask("b", 0, 2, mutex)); ok || waiting != "Waiting for default/Mutex/m lock. Lock status: 0/1" {
		t.Fatal(ok, waiting)
	}
	acquire(ask("c", 0, 1, mutex))
	acquire(ask("d", 9, 5, mutex, semaphore))
	if ok, _ := acquire(ask("a", 0, 0, mutex)); !ok {
		t.Fatal("asking again took the lock away")
	}
	release("nobody") // is no error: who asks for it need not know
	release("a", "d")
	release("b")
	release("d", "c")
	release("c")
	if table.Len() != 0 {
		t.Fatal("holders are left: ", table.Len())
	}
}

// Each change is one entry of the one that it concerns, however many wait.
func TestEntries(t *testing.T) {
	t.Parallel()
	table := lock.NewTable()
	kinds := func(entries []lock.Entry) (out []string) {
		for _, e := range entries {
			out = append(out, e.Kind+" "+e.Body.Holder)
		}
		return out
	}
	var got []string
	for i := range 3 {
		entries, _ := table.Acquire(ask(fmt.Sprint(i), 0, i, mutex, mutex), two)
		got = append(got, kinds(entries)...)
	}
	entries, _ := table.Release("0", two)
	got = append(got, kinds(entries)...)
	entries, _ = table.Acquire(ask("1", 0, 1, mutex), two)
	got = append(got, kinds(entries)...)
	entries, _ = table.Release("2", two)
	got = append(got, kinds(entries)...)
	want := []string{"lock.requested 0", "lock.requested 1", "lock.requested 2", "lock.released 0", "lock.granted 1", "lock.released 2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A limit that cannot be read refuses a request, and lets those wait that wait.
func TestLimitsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	table := lock.NewTable()
	none := func(workflow.Lock) (int, error) { return 0, errors.New("no such key") }
	one := func(workflow.Lock) (int, error) { return 1, nil }
	if entries, answer := table.Acquire(ask("a", 0, 0, semaphore), none); answer.Err == nil || len(entries) != 0 || table.Len() != 0 {
		t.Errorf("taken: %v %v", entries, answer)
	}
	table.Acquire(ask("a", 0, 0, semaphore), one)
	table.Acquire(ask("b", 0, 1, semaphore), one)
	table.Acquire(ask("c", 0, 2, semaphore), one)
	if _, answers := table.Release("a", none); len(answers) != 0 {
		t.Errorf("granted: %v", answers)
	}
	if diff := cmp.Diff([]string{semaphore.Name}, table.Waiting()); diff != "" {
		t.Error(diff)
	}
	// Raised from nothing to two, both have room.
	if _, answers := table.Wake(table.Waiting(), two); !slices.Equal(holders(answers), []string{"b", "c"}) {
		t.Errorf("granted: %v", answers)
	}
}

// model is the rule written as simply as it can be: one list in order of preference.
type model struct {
	limit   map[string]int
	waiting []workflow.Acquire
	held    map[string]workflow.Acquire
}

// grant gives locks to whoever is first in each of its lines and finds room, until nobody is.
func (m *model) grant() (granted []string) {
	for again := true; again; {
		again = false
		seen := map[string]bool{}
		for i, a := range m.waiting {
			ok := true
			for _, l := range a.Locks {
				n := 0
				for _, h := range m.held {
					if slices.ContainsFunc(h.Locks, func(o workflow.Lock) bool { return o.Name == l.Name }) {
						n++
					}
				}
				ok = ok && !seen[l.Name] && n < m.limit[l.Name]
				seen[l.Name] = true
			}
			if ok {
				m.held[a.Holder] = a
				m.waiting = slices.Delete(m.waiting, i, i+1)
				granted = append(granted, a.Holder)
				again = true
				break
			}
		}
	}
	return granted
}

func (m *model) ask(a workflow.Acquire) {
	i := slices.IndexFunc(m.waiting, func(o workflow.Acquire) bool {
		return a.Priority > o.Priority || a.Priority == o.Priority && a.Since.Before(o.Since)
	})
	if i < 0 {
		i = len(m.waiting)
	}
	m.waiting = slices.Insert(m.waiting, i, a)
}

// Whatever is asked for and given back, in whatever order, and loaded again at any moment, the table grants what the rule says.
func TestTheTableFollowsTheRule(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		table := lock.NewTable()
		m := &model{limit: map[string]int{"a": 1, "b": 2, "c": 3}, held: map[string]workflow.Acquire{}}
		limits := func(l workflow.Lock) (int, error) { return m.limit[l.Name], nil }
		rows := map[string]lock.Holder{}
		arrival := map[string]int64{}
		seq := int64(0)
		record := func(entries []lock.Entry) {
			for _, e := range entries {
				seq++
				switch e.Kind {
				case lock.KindRequested:
					rows[e.Body.Holder], arrival[e.Body.Holder] = e.Body, seq
				case lock.KindGranted:
					h := rows[e.Body.Holder]
					h.Held = true
					rows[e.Body.Holder] = h
				case lock.KindReleased:
					delete(rows, e.Body.Holder)
				}
			}
		}
		names := rapid.SampledFrom([][]string{{"a"}, {"b"}, {"c"}, {"a", "b"}, {"b", "c"}, {"a", "b", "c"}})
		next := 0
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			var got []lock.Answer
			switch rapid.IntRange(0, 3).Draw(r, "step") {
			case 0, 1:
				next++
				a := workflow.Acquire{Key: "k", Holder: fmt.Sprint("h", next), Priority: int32(rapid.IntRange(0, 1).Draw(r, "priority")),
					Since: begin.Add(time.Duration(rapid.IntRange(0, 2).Draw(r, "since")) * time.Minute)}
				for _, n := range names.Draw(r, "locks") {
					a.Locks = append(a.Locks, workflow.Lock{Name: n})
				}
				m.ask(a)
				entries, answer := table.Acquire(a, limits)
				record(entries)
				if answer.Granted {
					got = append(got, answer)
				}
			case 2:
				holder := fmt.Sprint("h", rapid.IntRange(1, max(next, 1)).Draw(r, "holder"))
				delete(m.held, holder)
				m.waiting = slices.DeleteFunc(m.waiting, func(a workflow.Acquire) bool { return a.Holder == holder })
				entries, answers := table.Release(holder, limits)
				record(entries)
				got = answers
			case 3:
				table = lock.NewTable()
				for name, h := range rows {
					table.Restore(h, arrival[name])
				}
			}
			want := m.grant()
			have := holders(got)
			slices.Sort(want)
			slices.Sort(have)
			if !slices.Equal(want, have) {
				r.Fatalf("granted to %v, want %v", have, want)
			}
			if table.Len() != len(m.held)+len(m.waiting) {
				r.Fatalf("%d in the table, want %d", table.Len(), len(m.held)+len(m.waiting))
			}
		}
	})
}
