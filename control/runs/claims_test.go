package runs_test

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/pushed"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// shelf keeps claims in memory. What is busy is mounted by somebody else.
type shelf struct {
	mu     sync.Mutex
	claims map[string]executor.Claim
	busy   bool
}

func (s *shelf) CreateClaim(_ context.Context, c executor.Claim) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims[c.Namespace+"/"+c.Name] = c
	return nil
}

func (s *shelf) FindClaim(_ context.Context, namespace, name string) (executor.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.claims[namespace+"/"+name]
	if !ok {
		return c, executor.ErrNotFound
	}
	return c, nil
}

func (s *shelf) DeleteClaim(_ context.Context, namespace, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy {
		return &executor.TransientError{Err: errors.New("a pod has it mounted")}
	}
	delete(s.claims, namespace+"/"+name)
	return nil
}

func (s *shelf) set(busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = busy
}

func (s *shelf) names() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(s.claims)), " ")
}

// shelve gives the dock another executor, with claims. The caller opens the dock again.
func (d *dock) shelve(o scripted.Options) *shelf {
	s := &shelf{claims: map[string]executor.Claim{}}
	d.crash()
	if err := d.all.Close(); err != nil {
		d.t.Fatal(err)
	}
	d.exec = scripted.New(o)
	d.door = &door{Executor: d.exec}
	d.all = executor.NewRegistry(podpolicy.New(), executor.Named{Name: "scripted", Executor: d.door, Claims: s})
	return s
}

func claimed(name, gc string) string {
	return `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: ` + name + `}
spec:
  entrypoint: main
` + gc + `
  volumeClaimTemplates: [{metadata: {name: work}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]
  templates:
  - {name: main, container: {image: busybox, command: [sail], volumeMounts: [{name: work, mountPath: /work}]}}
`
}

// The claims of a run go when it has ended as its volumeClaimGC says (Argo Workflows, docs/fields.md, VolumeClaimGC: OnWorkflowSuccess is
// the default), however often the server dies meanwhile, and at the latest when the run is deleted. One that is somebody else's stays.
func TestClaimsGoWithTheirRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, gc string
		code     int
		kept     bool
	}{
		{"success", "", 0, false},
		{"failure", "", 1, true},
		{"success-said", "  volumeClaimGC: {strategy: OnWorkflowSuccess}", 1, true},
		{"completion", "  volumeClaimGC: {strategy: OnWorkflowCompletion}", 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDock(t, t.TempDir(), scripted.Options{})
			defer d.close()
			s := d.shelve(scripted.Options{Steps: map[string][]scripted.Step{"*": {{Code: c.code, Duration: time.Hour}}}})
			d.open()
			if err := s.CreateClaim(t.Context(), executor.Claim{Namespace: "default", Name: "other-work", Owner: "somebody"}); err != nil {
				t.Fatal(err)
			}
			s.set(true)
			d.submit(claimed(c.name, c.gc))
			d.until("the run's end", func() bool { return d.phase(c.name).Done() })
			d.crash()
			if !strings.Contains(s.names(), "default/"+c.name+"-work") {
				t.Errorf("while they are mounted: %s", s.names())
			}
			s.set(false)
			d.open()
			if c.kept {
				if err := d.runs.Delete(t.Context(), "default", c.name, "user:ada"); err != nil {
					t.Fatal(err)
				}
			}
			await(t, func() bool { return s.names() == "default/other-work" })
		})
	}
}

// A claim of a failed run is there for its retry, and goes with the retry's success.
func TestClaimsOfARunThatIsRetried(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{})
	defer d.close()
	s := d.shelve(scripted.Options{Steps: map[string][]scripted.Step{"*": {{Code: 1}, {Code: 0}}}})
	d.open()
	d.submit(claimed("again", ""))
	d.until("the run's end", func() bool { return d.phase("again") == workflow.Failed })
	if s.names() != "default/again-work" {
		t.Errorf("after a failure: %s", s.names())
	}
	if err := d.runs.Control(t.Context(), "default", "again", workflow.Control{Verb: workflow.Retry}); err != nil {
		t.Fatal(err)
	}
	d.until("the retry's end", func() bool { return d.phase("again") == workflow.Succeeded })
	await(t, func() bool { return s.names() == "" })
}

// Who deletes the declaration of a claim deletes what is in it, as soon as no pod has it, over a restart too; one that is declared again
// before that stays.
func TestAClaimGoesWithItsDeclaration(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{})
	defer d.close()
	s := d.shelve(scripted.Options{})
	store := definitions.New(d.ledger, nil, nil)
	d.change = func(o *runs.Options) { o.Objects = store }
	d.open()
	declare := func(name string) {
		t.Helper()
		objects, diags := manifest.Decode("c.yaml", []byte("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: "+name+"}\nspec: {accessModes: [ReadWriteOnce]}\n"))
		if manifest.Failed(diags) {
			t.Fatal(diags)
		}
		if _, err := store.Apply(t.Context(), "user:ada", definitions.OriginAPI, objects); err != nil {
			t.Fatal(err)
		}
		if err := s.CreateClaim(t.Context(), executor.Claim{Namespace: "default", Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	declare("one")
	declare("two")
	s.set(true)
	for _, name := range []string{"one", "two"} {
		if err := store.Delete(t.Context(), "user:ada", definitions.OriginAPI, "PersistentVolumeClaim", "default", name); err != nil {
			t.Fatal(err)
		}
	}
	declare("two")
	d.crash()
	s.set(false)
	d.open()
	await(t, func() bool { return s.names() == "default/two" })
}

// What pods pushed is forgotten in two steps: outputs when the end of the attempt is on record, all with the run. Both are made up for by
// the next server.
func TestWhatWasPushedIsForgotten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, err := pushed.Open(filepath.Join(dir, "pushed"))
	if err != nil {
		t.Fatal(err)
	}
	d := newDock(t, dir, scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.reopen(func(o *runs.Options) { o.Pushed = store })
	d.submit(single)
	await(t, func() bool { return len(d.exec.Started()) == 1 })
	id := d.exec.Started()[0].ID
	if err := store.PutOutput(t.Context(), id, "tag", []byte("v1")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.AppendLog(t.Context(), id, "main", 0, []byte("log")); err != nil {
		t.Fatal(err)
	}
	d.crash()
	at, _ := d.exec.Next()
	d.exec.Advance(at)
	d.open()
	d.until("the run's end", func() bool { return d.phase("single").Done() })
	await(t, func() bool {
		_, err := store.Output(t.Context(), id, "tag")
		return err != nil
	})
	if n, err := store.LogSize(t.Context(), id, "main"); n != 3 || err != nil {
		t.Errorf("of its log %d bytes are left, %v", n, err)
	}
	// The server dies between the deletion and what follows from it.
	d.reopen(func(o *runs.Options) { o.Pushed = holding{store} })
	if err := d.runs.Delete(t.Context(), "default", "single", "user:ada"); err != nil {
		t.Fatal(err)
	}
	d.crash()
	d.reopen(func(o *runs.Options) { o.Pushed = store })
	await(t, func() bool {
		n, err := store.LogSize(t.Context(), id, "main")
		return n == 0 && err == nil
	})
	await(t, func() bool {
		next, err := d.ledger.Outbox().Next(t.Context(), "run")
		return err == nil && next.IsZero()
	})
}

// holding does not forget.
type holding struct{ runs.Pushed }

func (holding) Forget(context.Context, string) error { return errors.New("the disk does not answer") }
