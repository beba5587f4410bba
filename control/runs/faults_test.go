package runs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

var errDisk = errors.New("the disk does not answer")

// refusing is a ledger of which the test may refuse writes, as a disk does that fails for a while.
type refusing struct {
	ledger.Ledger
	// left is how many of the next writes fail.
	left atomic.Int64
	// refused counts those that did.
	refused atomic.Int64
}

func (l *refusing) Write(ctx context.Context, about ledger.Scope, fn func(ledger.Tx) error) error {
	if l.left.Add(-1) >= 0 {
		l.refused.Add(1)
		return l.Ledger.Write(ctx, about, func(tx ledger.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			return errDisk
		})
	}
	return l.Ledger.Write(ctx, about, fn)
}

const single = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: single}
spec:
  entrypoint: main
  templates:
  - {name: main, container: {image: busybox, command: [sail]}}
`

// What an executor reports is repeated until it is on record: a write that fails loses nothing.
func TestAReportWhoseWriteFailedComesAgain(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	flaky := &refusing{Ledger: d.ledger}
	d.reopen(func(o *runs.Options) { o.Ledger = flaky })
	d.submit(single)
	await(t, func() bool {
		return d.phase("single") == workflow.Running && d.nodePhase("single", "single") == workflow.Running
	})
	flaky.left.Store(2)
	d.until("the run's end", func() bool { return d.phase("single").Done() })
	if d.phase("single") != workflow.Succeeded || flaky.refused.Load() != 2 {
		t.Errorf("the run is %s after %d writes that failed", d.phase("single"), flaky.refused.Load())
	}
}

const gates = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: gates}
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - - {name: free, template: free}
      - {name: asks, template: asks}
  - {name: free, suspend: {}}
  - {name: asks, suspend: {}, outputs: {parameters: [{name: answer, valueFrom: {supplied: {}}}]}}
`

// A command that is refused half-way leaves nothing behind: what is shown from memory is what the ledger has.
func TestARefusedCommandLeavesNoTrace(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{})
	defer d.close()
	d.submit(gates)
	waits := func() bool {
		return d.nodePhase("gates", "free") == workflow.Running && d.nodePhase("gates", "asks") == workflow.Running
	}
	d.until("both wait", waits)
	err := d.runs.Control(t.Context(), "default", "gates", workflow.Control{Verb: workflow.Resume})
	if err == nil {
		t.Fatal("a node without its answer was resumed")
	}
	raw, err := d.runs.Status(t.Context(), "default", "gates")
	if err != nil {
		t.Fatal(err)
	}
	var shown struct {
		Status struct {
			Nodes map[string]struct {
				DisplayName string
				Phase       workflow.Phase
			}
		}
	}
	if err := json.Unmarshal(raw, &shown); err != nil {
		t.Fatal(err)
	}
	for _, n := range shown.Status.Nodes {
		if n.DisplayName == "free" && n.Phase != workflow.Running {
			t.Errorf("in memory it is %s", n.Phase)
		}
	}
	if !waits() {
		t.Error("the ledger has nodes that were not resumed")
	}
	resume := workflow.Control{Verb: workflow.Resume, Parameters: map[string]string{"answer": "42"}}
	if err := d.runs.Control(t.Context(), "default", "gates", resume); err != nil {
		t.Fatal(err)
	}
	d.until("the run's end", func() bool { return d.phase("gates") == workflow.Succeeded })
}

// A run that is terminated while its pod is being started ends: the stop does not overtake the start.
func TestAStopDoesNotOvertakeTheStart(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: 1000 * time.Hour}}}})
	defer d.close()
	entered, open := make(chan struct{}, 16), make(chan struct{})
	d.door.guard(func(ctx context.Context) error {
		entered <- struct{}{}
		select {
		case <-open:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	d.submit(single)
	<-entered
	if err := d.runs.Control(t.Context(), "default", "single", workflow.Control{Verb: workflow.Terminate}); err != nil {
		t.Fatal(err)
	}
	close(open)
	await(t, func() bool { return d.phase("single").Done() })
	if d.phase("single") != workflow.Failed {
		t.Errorf("the run is %s", d.phase("single"))
	}
}

// The same at any moment: terminate, start and crash in any order, and the run always ends.
func TestATerminatedRunAlwaysEnds(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		d := newDock(t, fmt.Sprint(dir, "/", n), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: 1000 * time.Hour}}}})
		defer d.close()
		d.submit(fleet)
		head := func() int64 {
			e, err := d.ledger.Head(context.Background())
			if err != nil {
				r.Fatal(err)
			}
			return e.Seq
		}
		to := head() + int64(rapid.IntRange(0, 6).Draw(r, "entries"))
		spins := rapid.IntRange(0, 2000).Draw(r, "spins")
		for i := 0; i < spins && head() < to; i++ {
		}
		if err := d.runs.Control(context.Background(), "default", "fleet", workflow.Control{Verb: workflow.Terminate}); err != nil {
			r.Fatal(err)
		}
		if rapid.Bool().Draw(r, "crash") {
			d.crash()
			d.open()
		}
		await(t, func() bool { return d.phase("fleet").Done() })
	})
}

// An attempt that the executor does not know after a start, as after a restored backup, is lost infrastructure: it is made
// again, as a new attempt.
func TestAnAttemptThatNobodyKnowsIsLost(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.submit(single)
	await(t, func() bool { return d.nodePhase("single", "single") == workflow.Running })
	d.crash()
	if err := d.all.Close(); err != nil {
		t.Fatal(err)
	}
	d.machine(scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	d.open()
	d.until("the run's end", func() bool { return d.phase("single").Done() })
	started := d.exec.Started()
	if d.phase("single") != workflow.Succeeded || len(started) != 1 || started[0].ID.Attempt != 1 {
		t.Errorf("the run is %s after the starts %v", d.phase("single"), started)
	}
}

// Runs that have ended leave nothing in memory, whatever they ended by.
func TestFinishedRunsLeaveMemory(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Auto: true, Steps: map[string][]scripted.Step{
		"bad": {{Code: 1}}, "held": {{Duration: time.Hour}}, "refused": {{StartError: errors.New("no such command")}},
	}})
	defer d.close()
	const count = 2000
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < count; i += 8 {
				template := []string{"good", "bad", "refused"}[i%3]
				d.submit("{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: w" + fmt.Sprint(i) + "}, spec: {entrypoint: " + template +
					", templates: [{name: " + template + ", container: {image: busybox, command: [sail]}}]}}")
			}
		})
	}
	wg.Wait()
	await(t, func() bool {
		rows, err := d.ledger.List(t.Context(), ledger.Query{Table: "run", States: []string{"", "Pending", "Running"}, Limit: 1})
		return err == nil && len(rows) == 0
	})
	await(t, func() bool { return d.runs.Size() == runs.Size{} })
}
