package runs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/workflow"
)

const two = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: NAME}
spec:
  entrypoint: main
  onExit: ship
  templates:
  - name: main
    steps:
    - - {name: a, template: ship}
    - - {name: b, template: ship}
  - {name: ship, container: {image: busybox, command: [sail]}}
`

// planned gives the items of a room, in pages of n.
func planned(t *testing.T, p hold.Planner, n int) map[string]string {
	t.Helper()
	items := map[string]string{}
	for after := ""; ; {
		page, err := p.Plan(t.Context(), after, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Items {
			items[item.ID] = item.What
		}
		if after = page.Next; after == "" {
			return items
		}
	}
}

// On a restored ledger the plan names what was under way. A run that is left out starts nothing any more, not even its exit handler; the
// others go on. Until then nothing is started or recorded, however often the server dies.
func TestPlanOfRestoredRuns(t *testing.T) {
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.submit(strings.Replace(two, "NAME", "done", 1))
	if err := d.runs.Control(t.Context(), "default", "done", workflow.Control{Verb: workflow.Terminate}); err != nil {
		t.Fatal(err)
	}
	d.until("one has ended", func() bool { return d.phase("done").Done() })
	for _, name := range []string{"brig", "yawl"} {
		d.submit(strings.Replace(two, "NAME", name, 1))
	}
	deadline := time.After(time.Minute)
	for {
		changed := d.ledger.Changed()
		if d.nodePhase("brig", "a") == workflow.Running && d.nodePhase("yawl", "a") == workflow.Running {
			break
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("they are not in their first steps within a minute")
		}
	}
	d.crash()
	if err := d.all.Close(); err != nil {
		t.Fatal(err)
	}
	d.machine(scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Minute}}}}) // another one
	head, err := d.ledger.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := runs.New(runs.Options{Ledger: d.ledger, Executors: d.all, Objects: definitions.NewMemory(nil)})
	want := map[string]string{
		"run/default/brig": "it goes on: these steps were under way and begin again: brig[0].a",
		"run/default/yawl": "it goes on: these steps were under way and begin again: yawl[0].a",
	}
	if diff := cmp.Diff(want, planned(t, held.Planner(), 1)); diff != "" {
		t.Errorf("the plan (-want +got):\n%s", diff)
	}
	if now, err := d.ledger.Head(t.Context()); err != nil || now.Seq != head.Seq {
		t.Errorf("planning recorded something: %v", err)
	}
	for range 2 {
		if err := held.Planner().Leave(t.Context(), "run/default/brig", "user:ada"); err != nil {
			t.Fatal(err)
		}
	}
	want["run/default/brig"] = "it is being terminated, and ends"
	if diff := cmp.Diff(want, planned(t, held.Planner(), 100)); diff != "" {
		t.Errorf("the plan (-want +got):\n%s", diff)
	}
	if started := d.exec.Started(); len(started) > 0 {
		t.Errorf("a held server started %v", started)
	}
	d.open() // released
	d.until("both end", func() bool { return d.phase("brig").Done() && d.phase("yawl").Done() })
	if b, y := d.phase("brig"), d.phase("yawl"); b != workflow.Failed || y != workflow.Succeeded {
		t.Errorf("brig is %s and yawl %s", b, y)
	}
	for _, p := range d.exec.Started() {
		if strings.HasPrefix(p.Pod.Name, "brig") {
			t.Errorf("a step of the run that was left out was started: %s", p.Pod.Name)
		}
	}
}
