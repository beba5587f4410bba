package runs_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/workflow"
)

// byEvent gives runs of events claims of their own.
type byEvent struct{}

// Settle implements runs.Claims.
func (byEvent) Settle(_ context.Context, m claims.Made) (claims.Record, error) {
	r := claims.Record{Kind: "person", Role: m.Role}
	if m.Event != 0 {
		r = claims.Record{Kind: "repository", Repository: "harbour", Ref: "refs/heads/main", Protected: true, Origin: "folder"}
	}
	return r, nil
}

const shaky = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: shaky-, labels: {team: dock}}
spec:
  entrypoint: main
  arguments: {parameters: [{name: a, value: one}]}
  templates:
  - name: main
    steps:
    - - {name: make, template: leaf}
    - - {name: use, template: leaf}
  - {name: leaf, container: {image: i, command: [x]}}
`

// What a run was made of is run again, as FormulateResubmitWorkflow does in Argo (workflow/util/util.go): its labels but for those of its
// own state, with the name of the run; its arguments, with new ones over them; and with --memoized what steps left that succeeded.
func TestResubmit(t *testing.T) {
	ctx := context.Background()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"shaky-1[1].use": {{Code: 1}}, "*": {{Result: "made"}}}})
	t.Cleanup(d.close)
	d.reopen(func(o *runs.Options) { o.Validator, o.Claims = runs.Manifests{Objects: o.Objects}, byEvent{} })
	s := submission(t, shaky)
	s.Name, s.Parameters, s.Labels, s.Event = "shaky-1", map[string]string{"a": "two"}, map[string]string{"stage": "canary"}, 7
	first, err := d.runs.Submit(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.runs.Resubmit(ctx, "default", "shaky-1", runs.Resubmission{Memoized: true}); failure.KindOf(err) != failure.Conflict {
		t.Errorf("a run that has not ended was repeated with its results: %v", err)
	}
	d.until("the first run ends", func() bool { return d.phase("shaky-1").Done() })
	again, err := d.runs.Resubmit(ctx, "default", "shaky-1", runs.Resubmission{Memoized: true, Actor: "user:bob", Role: "developer"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"team": "dock", "stage": "canary", "workflows.argoproj.io/resubmitted-from-workflow": "shaky-1"}
	if diff := cmp.Diff(want, again.Labels); diff != "" {
		t.Error(diff)
	}
	if again.Name[:6] != "shaky-" || again.Name == "shaky-1" || again.Event != 7 {
		t.Errorf("the new run is %s, of event %d", again.Name, again.Event)
	}
	if diff := cmp.Diff(first.ActsFor, again.ActsFor); diff != "" {
		t.Error("the new run acts for somebody else:", diff)
	}
	d.until("the second run ends", func() bool { return d.phase(again.Name).Done() })
	if p := d.phase(again.Name); p != workflow.Succeeded {
		t.Error(p)
	}
	started := 0
	for _, pod := range d.exec.Started() {
		if pod.ID.Owner == again.UID {
			started++
		}
	}
	if started != 1 {
		t.Errorf("%d steps of the new run were started, want the one that failed", started)
	}
}

// A run by hand is repeated as by whoever asks: nobody gets another person's rights by it.
func TestResubmitByHandIsByWhoeverAsks(t *testing.T) {
	ctx := context.Background()
	d := newDock(t, t.TempDir(), scripted.Options{})
	t.Cleanup(d.close)
	d.reopen(func(o *runs.Options) { o.Claims = byEvent{} })
	s := submission(t, shaky)
	s.Name, s.Role = "shaky-1", "admin"
	if _, err := d.runs.Submit(ctx, s); err != nil {
		t.Fatal(err)
	}
	again, err := d.runs.Resubmit(ctx, "default", "shaky-1", runs.Resubmission{Parameters: map[string]string{"a": "three"}, Actor: "user:bob", Role: "developer"})
	if err != nil {
		t.Fatal(err)
	}
	d.until("both have a pod", func() bool { return len(d.exec.Started()) > 1 })
	for _, pod := range d.exec.Started() {
		if pod.ID.Owner == again.UID && pod.For.Role != "developer" {
			t.Errorf("it acts for a person with role %q", pod.For.Role)
		}
	}
	if _, err := d.runs.Resubmit(ctx, "default", "shaky-1", runs.Resubmission{Parameters: map[string]string{"b": "x"}}); failure.KindOf(err) != failure.Invalid {
		t.Errorf("an argument that nobody declared: %v", err)
	}
}
