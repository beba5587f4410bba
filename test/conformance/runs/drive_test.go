package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tiphys/tiphys/executor/local"

	"github.com/tiphys/tiphys/control/definitions"
	runsroom "github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/wire"
	"github.com/tiphys/tiphys/workflow"
)

// step is one thing that a case of workflows/e2e does, or waits for.
type step struct {
	Do      string          `json:"do"`
	File    string          `json:"file"`
	WaitFor json.RawMessage `json:"waitFor"`

	Nodes             string            `json:"nodeFieldSelector"`
	Message           string            `json:"message"`
	Phase             workflow.Phase    `json:"phase"`
	Parameters        map[string]string `json:"outputParameters"`
	RestartSuccessful bool              `json:"restartSuccessful"`
}

// driver drives one case on a machine of its own, as a server does: a Workflow is an object there before anybody
// judges it, so a bad one becomes a run that failed.
type driver struct {
	machine *wire.Machine
	dir     string
	c       workflowCase
	name    string // of the run submitted last
	ns      string
}

// driveCase carries out a case's steps, or submits its file and waits, and judges how the run ended.
func driveCase(t *testing.T, dir, standIns string, c workflowCase) error {
	ctx, cancel := context.WithTimeout(t.Context(), caseTimeout)
	defer cancel()
	d := &driver{dir: dir, c: c}
	objects, err := d.objects(append(append([]string{}, c.With...), c.File))
	if err != nil {
		return err
	}
	host, err := local.ReadHostImages(standIns)
	if err != nil {
		return err
	}
	d.machine, err = wire.OpenMachine(ctx, wire.MachineOptions{
		Ephemeral: true, Executor: local.NameHost, HostImages: host, Objects: definitions.NewMemory(objects),
	})
	if err != nil {
		return err
	}
	d.machine.Start(ctx)
	f, err := d.play(ctx)
	if err == nil {
		err = c.Expect.check(f)
	}
	return errors.Join(err, d.machine.Close())
}

func (d *driver) objects(files []string) ([]manifest.Object, error) {
	var all []manifest.Object
	for _, name := range files {
		path := filepath.Join(d.dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		objects, diags := manifest.Decode(path, data)
		if err := manifest.FirstError(diags); err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	return all, nil
}

func (d *driver) play(ctx context.Context) (finished, error) {
	steps := []step{{Do: "submit", File: d.c.File}, {WaitFor: json.RawMessage(`"completed"`)}}
	if len(d.c.Steps) > 0 {
		steps = nil
		for _, raw := range d.c.Steps {
			var s step
			if err := json.Unmarshal(raw, &s); err != nil {
				return finished{}, err
			}
			steps = append(steps, s)
		}
	}
	for _, s := range steps {
		err := d.step(ctx, s)
		if err != nil {
			return finished{}, err
		}
	}
	return d.status(ctx)
}

func (d *driver) step(ctx context.Context, s step) error {
	switch {
	case len(s.WaitFor) > 0:
		return d.await(ctx, s.WaitFor)
	case s.Do == "submit":
		return d.submit(ctx, s.File)
	}
	verb := s.Do
	if verb == "node set" {
		verb = workflow.Set
	}
	return d.machine.Runs.Control(ctx, d.ns, d.name, workflow.Control{
		Meta: workflow.Meta{Actor: "user:test"}, Verb: verb, Nodes: s.Nodes, Message: s.Message, Phase: s.Phase,
		Parameters: s.Parameters, RestartSuccessful: s.RestartSuccessful,
	})
}

func (d *driver) submit(ctx context.Context, file string) error {
	objects, err := d.objects([]string{file})
	if err != nil {
		return err
	}
	for _, o := range objects {
		if o.Kind != "Workflow" {
			continue
		}
		run, err := d.machine.Runs.Submit(ctx, runsroom.Submission{
			Object: o, Parameters: d.c.Arguments, Entrypoint: d.c.Submit.Entrypoint, Name: d.c.Submit.Name, Actor: "user:test", Keep: true,
		})
		if err != nil {
			return err
		}
		d.ns, d.name = run.Namespace, run.Name
		return nil
	}
	return fmt.Errorf("no Workflow in %s", file)
}

func (d *driver) status(ctx context.Context) (finished, error) {
	var f finished
	raw, err := d.machine.Runs.Status(ctx, d.ns, d.name)
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(raw, &f)
}

// await waits until the run is as a step wants it.
func (d *driver) await(ctx context.Context, want json.RawMessage) error {
	for {
		changed := d.machine.Changed()
		f, err := d.status(ctx)
		if err != nil {
			return err
		}
		if ok, err := f.is(want); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s; the run is %s (%s)", caseTimeout, want, f.Status.Phase, f.Status.Message)
		case <-changed:
		}
	}
}

// is reports whether a run is as waitFor says (the corpus' README lists the words).
func (f finished) is(want json.RawMessage) (bool, error) {
	var word string
	if json.Unmarshal(want, &word) != nil {
		var node struct {
			Node  map[string]any `json:"node"`
			Phase string         `json:"phase"`
		}
		if err := json.Unmarshal(want, &node); err != nil {
			return false, err
		}
		return f.any(func(n map[string]any) bool { return f.chooses(node.Node, n) && n["phase"] == node.Phase }), nil
	}
	phase := workflow.Phase(f.Status.Phase)
	leaf := func(n map[string]any) bool { return n["type"] == "Pod" }
	switch word {
	case "started":
		return phase != "" && phase != workflow.Pending, nil
	case "completed":
		return phase.Done(), nil
	case "step-running":
		return f.any(func(n map[string]any) bool { return leaf(n) && n["phase"] == "Running" }), nil
	case "step-failed":
		return f.any(func(n map[string]any) bool { return leaf(n) && n["phase"] == "Failed" }), nil
	case "step-suspended":
		return f.any(func(n map[string]any) bool { return n["type"] == "Suspend" && n["phase"] == "Running" }), nil
	case "mutex-waiting", "semaphore-waiting":
		return f.any(func(n map[string]any) bool { return n["synchronizationStatus"] != nil }) || phase == workflow.Pending, nil
	}
	return string(phase) == word, nil
}

func (f finished) any(rule func(map[string]any) bool) bool {
	for _, n := range f.Status.Nodes {
		if rule(n) {
			return true
		}
	}
	return false
}
