package admission_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/admission"
)

func id(owner string, n int) executor.ID { return executor.ID{Owner: owner, Node: fmt.Sprint(n)} }

// A run that wants thousands of places does not keep another from its first; among equals the oldest is next.
func TestPlacesAreSharedFairly(t *testing.T) {
	t.Parallel()
	g := admission.New(4)
	var got []string
	ask := func(owner string, n int) {
		g.Ask(id(owner, n), func() { got = append(got, fmt.Sprint(owner, n)) })
	}
	for n := range 5000 {
		ask("large", n)
	}
	ask("small", 0)
	ask("other", 0)
	ask("small", 1)
	if diff := cmp.Diff([]string{"large0", "large1", "large2", "large3"}, got); diff != "" {
		t.Fatal(diff)
	}
	if c := g.Count(); c != (admission.Count{Live: 4, Waiting: 4999, Limit: 4, Most: 4}) {
		t.Errorf("%+v", c)
	}
	got = nil
	for n := range 4 {
		g.Leave(id("large", n))
		g.Leave(id("large", n)) // twice is once
	}
	// The first two places go to those that have none. Then all have one, and the oldest that waits is large's.
	if diff := cmp.Diff([]string{"small0", "other0", "large4", "large5"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatDoesNotWait(t *testing.T) {
	t.Parallel()
	g := admission.New(1)
	granted := 0
	count := func() { granted++ }
	g.Ask(id("a", 0), count)
	g.Ask(id("a", 0), count) // has a place
	if granted != 2 {
		t.Errorf("granted %d times, want 2", granted)
	}
	g.Ask(id("a", 1), func() { t.Error("the older of two was called") })
	g.Ask(id("a", 1), count)
	g.Hold(id("app", 0)) // what runs already does not wait
	if c := g.Count(); c.Live != 2 || c.Waiting != 1 {
		t.Errorf("%+v", c)
	}
	g.Leave(id("app", 0))
	if granted != 2 {
		t.Error("a place beyond the limit was given on")
	}
	g.Leave(id("a", 0))
	if granted != 3 || g.Withdraw(id("a", 1)) {
		t.Errorf("granted %d times, and what has a place waits", granted)
	}
	g.Ask(id("b", 0), func() { t.Error("what was withdrawn got a place") })
	if !g.Withdraw(id("b", 0)) || g.Withdraw(id("b", 0)) {
		t.Error("withdrawn not at all, or twice")
	}
	g.Leave(id("a", 1))
	if c := g.Count(); c != (admission.Count{Limit: 1, Most: 1}) {
		t.Errorf("%+v", c)
	}
	free := admission.New(0)
	for n := range 1000 {
		free.Ask(id("a", n), count)
	}
	if granted != 1003 {
		t.Errorf("a gate without a bound granted %d", granted-3)
	}
}

// Whatever is asked for, withdrawn, held and left: no more places are given than there are, and nobody waits while one is free.
func TestNoPlaceIsLost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		limit := rapid.IntRange(1, 4).Draw(r, "limit")
		g := admission.New(limit)
		live, waiting := map[executor.ID]bool{}, map[executor.ID]bool{}
		held := 0
		for n := range rapid.IntRange(1, 60).Draw(r, "steps") {
			i := id(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "owner"), rapid.IntRange(0, 5).Draw(r, "pod"))
			switch rapid.IntRange(0, 3).Draw(r, "step") {
			case 0:
				waiting[i] = true
				g.Ask(i, func() {
					if !waiting[i] {
						r.Fatalf("step %d: %v got a place it did not want", n, i)
					}
					delete(waiting, i)
					live[i] = true
				})
			case 1:
				if got := g.Withdraw(i); got != waiting[i] {
					r.Fatalf("step %d: withdraw %v: %v", n, i, got)
				}
				delete(waiting, i)
			case 2:
				delete(live, i)
				g.Leave(i)
			case 3:
				g.Hold(i)
				delete(waiting, i)
				live[i] = true
				held++
			}
			if c := g.Count(); c.Live != len(live) || c.Waiting != len(waiting) || held == 0 && c.Live > limit || c.Waiting > 0 && c.Live < limit {
				r.Fatalf("step %d: %+v, want %d live, %d waiting", n, c, len(live), len(waiting))
			}
		}
		for len(live)+len(waiting) > 0 { // everything drains
			var ids []executor.ID
			for i := range live {
				ids = append(ids, i)
			}
			slices.SortFunc(ids, func(a, b executor.ID) int { return len(a.Node) - len(b.Node) })
			delete(live, ids[0])
			g.Leave(ids[0])
		}
		if c := g.Count(); c.Live+c.Waiting != 0 {
			r.Fatalf("left: %+v", c)
		}
	})
}

// The limit follows what is scarcest.
func TestPlacesOfAMachine(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, c := range []struct {
		name string
		m    admission.Machine
		want int
	}{
		{"processors", admission.Machine{Processors: 2, Memory: 24 * gib, Descriptors: 1 << 20}, 1000},
		{"memory", admission.Machine{Processors: 64, Memory: gib, Descriptors: 1 << 20}, 128},
		{"descriptors", admission.Machine{Processors: 64, Memory: 64 * gib, Descriptors: 1024}, 128},
		{"very few descriptors", admission.Machine{Processors: 64, Memory: 64 * gib, Descriptors: 64}, 8},
		{"next to nothing", admission.Machine{Memory: 1, Descriptors: 1}, 1},
		{"nothing is known", admission.Machine{Processors: 1}, 500},
	} {
		if got := c.m.Places(); got != c.want {
			t.Errorf("%s: %d places, want %d", c.name, got, c.want)
		}
	}
	if m := admission.ThisMachine(2); m.Processors != 2 || m.Memory <= 0 || m.Descriptors <= 0 {
		t.Errorf("this machine is not known: %+v", m)
	}
}

// application tells the pods of applications in these tests.
func application(i executor.ID) bool { return strings.HasPrefix(i.Owner, "app") }

// A flood of runs leaves applications their share, and applications that come and go leave runs theirs; what is between goes to whoever
// has fewest and waits longest.
func TestEitherSideHasAShare(t *testing.T) {
	t.Parallel()
	g := admission.Shared(10, "app")
	got := map[string]int{}
	ask := func(owner string, n int) {
		g.Ask(id(owner, n), func() { got[owner[:3]]++ })
	}
	for n := range 100 {
		ask("run", n)
	}
	if got["run"] != 9 {
		t.Fatalf("a flood of runs has %d of 10 places, want 9", got["run"])
	}
	ask("app1", 0)
	if got["app"] != 1 {
		t.Fatal("an application has no place beside a flood of runs")
	}
	ask("app2", 0)
	if got["app"] != 1 {
		t.Fatal("more places than there are")
	}
	if c := g.Count(); c != (admission.Count{Live: 10, Waiting: 92, Limit: 10, Applications: 1, Most: 9}) {
		t.Errorf("%+v", c)
	}
	g.Leave(id("app1", 0)) // the application's place is not for the runs that have waited longer
	if got["run"] != 9 || got["app"] != 2 {
		t.Errorf("%v", got)
	}
	// Applications that flap: each new pod has no live one beside it, so it goes before the runs, but for their share.
	for n := 3; n < 100; n++ {
		ask(fmt.Sprint("app", n), 0)
	}
	for n := range 9 {
		g.Leave(id("run", n))
	}
	if c := g.Count(); c.Applications != 9 || c.Live != 10 {
		t.Errorf("runs that end one after the other leave %d places to applications, %d are live", c.Applications, c.Live)
	}
	if got["run"] < 10 {
		t.Error("no run went on")
	}
}

// With one place, nothing is kept: it goes round.
func TestOnePlaceIsForEither(t *testing.T) {
	t.Parallel()
	g := admission.Shared(1, "app")
	var got []string
	for _, owner := range []string{"run", "app"} {
		g.Ask(id(owner, 0), func() { got = append(got, owner) })
	}
	g.Leave(id("run", 0))
	if diff := cmp.Diff([]string{"run", "app"}, got); diff != "" {
		t.Error(diff)
	}
}

// Whatever either side does: neither has more than it may unless what it has was held, and nobody waits who may have a place.
func TestSharesHold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		limit := rapid.IntRange(1, 12).Draw(r, "limit")
		g := admission.Shared(limit, "app")
		live, waiting := map[executor.ID]bool{}, map[executor.ID]bool{}
		for range rapid.IntRange(1, 80).Draw(r, "steps") {
			i := id(rapid.SampledFrom([]string{"run1", "run2", "app1", "app2", "app3"}).Draw(r, "owner"), rapid.IntRange(0, 5).Draw(r, "pod"))
			if rapid.Bool().Draw(r, "ask") {
				waiting[i] = true
				g.Ask(i, func() {
					delete(waiting, i)
					live[i] = true
				})
			} else {
				delete(live, i)
				g.Leave(i)
			}
			c := g.Count()
			liveApps, waits := 0, [2]bool{}
			for i := range live {
				if application(i) {
					liveApps++
				}
			}
			for i := range waiting {
				if application(i) {
					waits[1] = true
				} else {
					waits[0] = true
				}
			}
			liveRuns := len(live) - liveApps
			if c.Live != len(live) || c.Applications != liveApps || c.Live > limit || liveApps > c.Most || liveRuns > c.Most {
				r.Fatalf("%+v, live %d, of applications %d", c, len(live), liveApps)
			}
			if c.Live < limit && (waits[0] && liveRuns < c.Most || waits[1] && liveApps < c.Most) {
				r.Fatalf("somebody waits for nothing: %+v", c)
			}
		}
	})
}
