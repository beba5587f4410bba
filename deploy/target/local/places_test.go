package local_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/admission"
)

// podTexts are all pods.
func podTexts(m *machine) string {
	m.t.Helper()
	all, err := m.List(m.t.Context(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	var b strings.Builder
	for _, o := range all {
		if o.GetKind() == "Pod" {
			b.WriteString(toText(o))
		}
	}
	return b.String()
}

// among opens the machine's target again, among the places of a gate.
func (m *machine) among(g *admission.Gate) {
	m.t.Helper()
	if err := m.Close(); err != nil {
		m.t.Fatal(err)
	}
	target, err := local.Open(m.t.Context(), local.Options{Ledger: m.ledger, Executor: m.executor, Logs: m.executor, Commands: m.executor, Front: m.front, Places: g})
	if err != nil {
		m.t.Fatal(err)
	}
	m.Target = target
}

// The pods of applications have no more places than there are. One that waits says so, goes on when a place is free, over a restart of
// the server too, and can be deleted while it waits.
func TestPodsOfApplicationsWaitForPlaces(t *testing.T) {
	m := newMachine(t)
	g := admission.Shared(3, local.OwnerPrefix)
	m.among(g)
	step := executor.ID{Owner: "run", Node: "step"}
	granted := 0
	g.Ask(step, func() { granted++ })
	m.apply(strings.Split(app("v1"), "\n---\n")[0]) // three replicas
	m.await("two run and one waits", func() bool {
		return len(m.executor.running()) == 2 && strings.Count(podTexts(m), "WaitingForPlace") == 1
	})
	g.Ask(executor.ID{Owner: "run", Node: "next"}, func() { granted++ })
	if c := g.Count(); c.Live != 3 || c.Waiting != 2 || granted != 1 {
		t.Errorf("%+v, %d steps were granted a place", c, granted)
	}
	// Another server finds two that run and one that waits.
	g = admission.Shared(3, local.OwnerPrefix)
	g.Hold(step)
	m.among(g)
	m.await("two run and one waits", func() bool {
		c := g.Count()
		return len(m.executor.running()) == 2 && c.Live == 3 && c.Waiting == 1 && strings.Count(podTexts(m), "WaitingForPlace") == 1
	})
	// A step's place is free, but the last one is kept for steps.
	g.Leave(step)
	if n := len(m.executor.running()); n != 2 {
		t.Errorf("%d pods of applications run, of three places", n)
	}
	m.apply(strings.Replace(strings.Split(app("v1"), "\n---\n")[0], "replicas: 3", "replicas: 2", 1))
	m.await("nobody waits", func() bool { return g.Count() == admission.Count{Live: 2, Limit: 3, Applications: 2, Most: 2} })
	m.await("two run", func() bool {
		return len(m.executor.running()) == 2 && !strings.Contains(podTexts(m), "WaitingForPlace")
	})
}

// Production goes on beside a flood of runs: what crashes has its place again.
func TestAFloodOfRunsLeavesApplicationsTheirShare(t *testing.T) {
	m := newMachine(t)
	g := admission.Shared(10, local.OwnerPrefix)
	m.among(g)
	for n := range 1000 {
		g.Ask(executor.ID{Owner: fmt.Sprint("run", n), Node: "step"}, func() {})
	}
	m.apply(strings.Replace(strings.Split(app("v1"), "\n---\n")[0], "replicas: 3", "replicas: 1", 1))
	m.await("it runs", func() bool { return len(m.executor.running()) == 1 })
	for id := range m.executor.running() {
		if err := m.executor.Stop(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
	}
	m.await("it runs again", func() bool {
		for id := range m.executor.running() {
			return id.Attempt == 1
		}
		return false
	})
	if c := g.Count(); c.Live != 10 || c.Applications != 1 {
		t.Errorf("%+v", c)
	}
}
