package runs_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

// dock is a controller over a real ledger and an executor that follows a script. crash and open are a server that dies and the next.
type dock struct {
	t      testing.TB
	ledger *sqlite.Ledger
	exec   *scripted.Executor
	door   *door
	all    *executor.Registry
	runs   *runs.Controller
	crash  func()
	// change, if not nil, is made to the options of each controller.
	change func(*runs.Options)
}

// reopen starts another controller with other options.
func (d *dock) reopen(change func(*runs.Options)) {
	d.t.Helper()
	d.crash()
	d.change = change
	d.open()
}

func newDock(t testing.TB, dir string, o scripted.Options) *dock {
	t.Helper()
	l, err := sqlite.Open(context.Background(), sqlite.Options{Path: filepath.Join(dir, "l.db"), Synchronous: sqlite.Off,
		Projections: []ledger.Projection{workflow.Projection{}, lock.Projection{}, runs.Projection{}, definitions.Projection{}}})
	if err != nil {
		t.Fatal(err)
	}
	d := &dock{t: t, ledger: l, crash: func() {}}
	d.machine(o)
	d.open()
	return d
}

// machine gives the dock an executor that knows nothing yet.
func (d *dock) machine(o scripted.Options) {
	d.exec = scripted.New(o)
	d.door = &door{Executor: d.exec}
	d.all = executor.NewRegistry(podpolicy.New(), executor.Named{Name: "scripted", Executor: d.door})
}

// door is an executor whose starts the test may hold up or refuse.
type door struct {
	executor.Executor
	before atomic.Pointer[func(context.Context) error]
	// silent says that it does not tell which attempts it has.
	silent atomic.Bool
}

func (e *door) List(ctx context.Context) ([]executor.Report, error) {
	if e.silent.Load() {
		return nil, errors.New("the machine is away")
	}
	return e.Executor.List(ctx)
}

// guard has f called before each start.
func (e *door) guard(f func(context.Context) error) { e.before.Store(&f) }

func (e *door) Start(ctx context.Context, p executor.Pod) error {
	if f := e.before.Load(); f != nil {
		if err := (*f)(ctx); err != nil {
			return err
		}
	}
	return e.Executor.Start(ctx, p)
}

func (d *dock) close() {
	d.crash()
	if err := errors.Join(d.all.Close(), d.ledger.Close()); err != nil {
		d.t.Error(err)
	}
}

// open starts a controller that knows only what the ledger says; the executor repeats what nobody acknowledged.
func (d *dock) open() {
	d.t.Helper()
	if err := d.ledger.Outbox().Release(context.Background(), d.ledger.Leases().Owner()); err != nil {
		d.t.Fatal(err)
	}
	d.exec.Restart()
	o := runs.Options{Ledger: d.ledger, Executors: d.all, Egress: egress.Unrestricted(), Objects: definitions.NewMemory(nil)}
	if d.change != nil {
		d.change(&o)
	}
	d.runs = runs.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.runs.Run(ctx); err != nil && ctx.Err() == nil {
			d.t.Error(err)
		}
	})
	var once sync.Once
	d.crash = func() { once.Do(func() { cancel(); wg.Wait() }) }
}

func (d *dock) submit(text string) {
	d.t.Helper()
	objects, diags := manifest.Decode("w.yaml", []byte(text))
	if manifest.Failed(diags) {
		d.t.Fatal(diags)
	}
	for _, o := range objects {
		if _, err := d.runs.Submit(context.Background(), runs.Submission{Object: o, Actor: "user:ada"}); err != nil {
			d.t.Fatal(err)
		}
	}
}

// until waits for commits until something holds; pods end as soon as they may.
func (d *dock) until(what string, holds func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for !holds() {
		changed := d.ledger.Changed()
		if at, ok := d.exec.Next(); ok {
			d.exec.Advance(at)
		}
		select {
		case <-changed:
		case <-time.After(5 * time.Millisecond): // the executor changes without a commit
		case <-ctx.Done():
			d.t.Fatalf("%s: not within a minute", what)
		}
	}
}

func (d *dock) phase(name string) workflow.Phase {
	d.t.Helper()
	run, err := d.runs.Summary(context.Background(), "default", name)
	if err != nil {
		d.t.Fatal(err)
	}
	return run.Phase
}

// nodePhase is the phase of a run's node by its display name; empty if it is not there.
func (d *dock) nodePhase(run, node string) workflow.Phase {
	d.t.Helper()
	nodes, _, err := runs.Nodes(context.Background(), d.ledger, "default/"+run, 0, math.MaxInt)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, n := range nodes {
		if n.DisplayName == node {
			return n.Phase
		}
	}
	return ""
}

const fleet = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: fleet}
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - - {name: a, template: ship}
    - - {name: b, template: ship, withItems: [1, 2, 3]}
    - - {name: c, template: ship, when: "{{steps.a.outputs.result}} == go"}
      - {name: d, template: shaky}
      - {name: e, template: ship, when: "{{steps.a.outputs.result}} == stay"}
  - {name: ship, container: {image: busybox, command: [sail]}}
  - {name: shaky, retryStrategy: {limit: 2, retryPolicy: Always}, container: {image: busybox, command: [sail]}}
`

// A server that dies at any moment and as often as it likes loses no step of a run and does none twice. The outcome is that of a run
// in peace (Argo Workflows, docs/fields.md and docs/retries.md).
func TestARunOutlivesItsController(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		d := newDock(t, filepath.Join(dir, fmt.Sprint(n)), scripted.Options{Steps: map[string][]scripted.Step{
			"fleet[0].a":    {{Result: "go", Duration: time.Second}},
			"fleet[2].d(0)": {{Code: 1, Duration: time.Second}},
			"*":             {{Duration: time.Second}},
		}})
		defer d.close()
		d.submit(fleet)
		for range rapid.IntRange(0, 4).Draw(r, "crashes") {
			// Some commits, or some pods, after the last start.
			head, err := d.ledger.Head(context.Background())
			if err != nil {
				r.Fatal(err)
			}
			to := head.Seq + int64(rapid.IntRange(0, 8).Draw(r, "entries"))
			d.until("entries", func() bool {
				now, err := d.ledger.Head(context.Background())
				return err != nil || now.Seq >= to || d.phase("fleet").Done()
			})
			d.crash()
			d.open()
		}
		d.until("the run's end", func() bool { return d.phase("fleet").Done() })
		if phase := d.phase("fleet"); phase != workflow.Succeeded {
			r.Fatalf("the run is %s", phase)
		}
		count := map[string]int{}
		for _, p := range d.exec.Started() {
			count[p.Pod.Annotations[scripted.NodeNameAnnotation]]++
		}
		want := map[string]int{"fleet[0].a": 1, "fleet[1].b(0:1)": 1, "fleet[1].b(1:2)": 1, "fleet[1].b(2:3)": 1, "fleet[2].c": 1,
			"fleet[2].d(0)": 1, "fleet[2].d(1)": 1}
		if fmt.Sprint(count) != fmt.Sprint(want) {
			r.Fatalf("started %v, want %v", count, want)
		}
	})
}

// Two runs share a mutex: the second begins when the first has ended, also where the server died between the two.
func TestAMutexOutlivesItsController(t *testing.T) {
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	for _, name := range []string{"one", "two"} {
		d.submit("apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: " + name + "}\nspec:\n  entrypoint: main\n" +
			"  synchronization: {mutexes: [{name: quay}]}\n  templates: [{name: main, container: {image: busybox, command: [sail]}}]\n")
	}
	started := func() string {
		var names []string
		for _, p := range d.exec.Started() {
			names = append(names, p.Pod.Annotations[scripted.NodeNameAnnotation])
		}
		return strings.Join(names, " ")
	}
	await(t, func() bool { return started() == "one" })
	d.crash()
	at, ok := d.exec.Next()
	if !ok {
		t.Fatal("nothing runs")
	}
	d.exec.Advance(at) // it ends while the server is down
	d.open()
	d.until("both runs' end", func() bool { return d.phase("one").Done() && d.phase("two").Done() })
	if started() != "one two" {
		t.Errorf("started %q", started())
	}
}

// await waits for what no commit announces.
func await(t testing.TB, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); !holds(); {
		if time.Now().After(until) {
			t.Fatal("not within a minute")
		}
		time.Sleep(time.Millisecond)
	}
}

// A report of a pod that belongs to no run goes to whoever takes the orphans: applications have pods too.
func TestReportsOfPodsThatNobodyKnows(t *testing.T) {
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Synchronous: sqlite.Off,
		Projections: []ledger.Projection{workflow.Projection{}, lock.Projection{}, runs.Projection{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	exec := scripted.New(scripted.Options{Auto: true})
	defer exec.Close()
	orphans := make(chan executor.Report, 8)
	c := runs.New(runs.Options{Ledger: l, Executors: executor.NewRegistry(podpolicy.New(), exec.Named()), Objects: definitions.NewMemory(nil),
		Orphans: orphanage(orphans)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	defer func() { cancel(); <-done }()
	id := executor.ID{Owner: "an application", Node: "pod", Attempt: 1}
	if err := exec.Start(ctx, executor.Pod{ID: id}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it runs, it ends
		select {
		case rep := <-orphans:
			if rep.ID != id {
				t.Errorf("a report of %v", rep.ID)
			}
		case <-time.After(time.Minute):
			t.Fatal("no report within a minute")
		}
	}
}

// orphanage takes the reports that no run takes.
type orphanage chan executor.Report

func (o orphanage) Take(_ context.Context, rep executor.Report) bool {
	o <- rep
	return true
}
