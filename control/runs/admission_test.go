package runs_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor/admission"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/workflow"
)

// loop is a run with so many steps at the same time.
func loop(name string, n int) string {
	items := strings.TrimSuffix(strings.Repeat("x,", n), ",")
	return "{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: " + name + "}, spec: {entrypoint: main, templates: [" +
		"{name: main, steps: [[{name: s, template: ship, withItems: [" + items + "]}]]}, {name: ship, container: {image: busybox, command: [sail]}}]}}"
}

// message gives the messages of a run's pods and how many have each.
func (d *dock) messages(run string) map[string]int {
	d.t.Helper()
	nodes, _, err := runs.Nodes(context.Background(), d.ledger, "default/"+run, 0, math.MaxInt)
	if err != nil {
		d.t.Fatal(err)
	}
	out := map[string]int{}
	for _, n := range nodes {
		if n.Type == workflow.NodePod {
			out[string(n.Phase)+" "+n.Message]++
		}
	}
	return out
}

// What finds no place waits and says so, is not kept from its turn by a larger run, ends when it is stopped, and leaves nothing behind.
func TestPodsWaitForPlaces(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.reopen(func(o *runs.Options) { o.Places = admission.New(3) })
	d.submit(loop("large", 20))
	await(t, func() bool { return len(d.exec.Started()) == 3 })
	d.submit(loop("small", 1))
	const waits = "Pending Waiting for a place: 3 pods are live, which is the limit of this server"
	await(t, func() bool { return d.messages("large")[waits] == 17 && d.messages("small")[waits] == 1 })
	if size := d.runs.Size(); size.Live != 3 || size.Waiting != 18 {
		t.Errorf("%+v", size)
	}
	at, _ := d.exec.Next()
	d.exec.Advance(at) // three places become free at once: the small run has none yet, so it is the first to have one
	await(t, func() bool { return len(d.exec.Started()) == 6 })
	if first := d.exec.Started()[3].Pod.Annotations[scripted.NodeNameAnnotation]; !strings.HasPrefix(first, "small") {
		// Starts are carried out side by side, so it may be any of the three.
		found := false
		for _, p := range d.exec.Started()[3:6] {
			found = found || strings.HasPrefix(p.Pod.Annotations[scripted.NodeNameAnnotation], "small")
		}
		if !found {
			t.Errorf("the small run waits behind the large one")
		}
	}
	if err := d.runs.Control(t.Context(), "default", "large", workflow.Control{Verb: workflow.Terminate}); err != nil {
		t.Fatal(err)
	}
	d.until("both runs' end", func() bool { return d.phase("large").Done() && d.phase("small").Done() })
	if n := len(d.exec.Started()); n > 7 {
		t.Errorf("%d pods were started: what was stopped began", n)
	}
	await(t, func() bool { return d.runs.Size() == runs.Size{} })
}

// A server that starts again counts what runs already, and what waited waits again.
func TestWaitingOutlivesItsController(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.reopen(func(o *runs.Options) { o.Places = admission.New(2) })
	d.submit(loop("large", 6))
	await(t, func() bool { return len(d.exec.Started()) == 2 && d.runs.Size().Waiting == 4 })
	d.crash()
	d.open()
	await(t, func() bool { return d.runs.Size().Waiting >= 2 && d.runs.Size().Live >= 2 })
	d.until("the run's end", func() bool { return d.phase("large").Done() })
	count := map[string]int{}
	for _, p := range d.exec.Started() {
		count[p.Pod.Annotations[scripted.NodeNameAnnotation]]++
	}
	if d.phase("large") != workflow.Succeeded || len(count) != 6 || len(d.exec.Started()) != 6 {
		t.Errorf("the run is %s, started %v", d.phase("large"), count)
	}
}

// A start that fails for want of descriptors is not the step's failure: it is tried again as the same attempt, and says so.
func TestScarcityIsNotFailure(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	var starts atomic.Int64
	d.door.guard(func(context.Context) error {
		if starts.Add(1) <= 3 {
			return fmt.Errorf("start shim: %w", syscall.EMFILE)
		}
		return nil
	})
	d.submit(single)
	shown := false
	await(t, func() bool {
		shown = shown || d.messages("single")["Pending Waiting to be started, tried 2 times: start shim: too many open files"] == 1
		return len(d.exec.Started()) == 1
	})
	if !shown {
		t.Error("the wait was not shown")
	}
	d.until("the run's end", func() bool { return d.phase("single").Done() })
	if p := d.exec.Started(); d.phase("single") != workflow.Succeeded || len(p) != 1 || p[0].ID.Attempt != 0 {
		t.Errorf("the run is %s after %v", d.phase("single"), p)
	}
}
