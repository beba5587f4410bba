package workflow_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// TestPositions: a node knows where the step, task or inline template stands that it came of, so that a person lands on
// the failing line; in a template of another object it does not.
func TestPositions(t *testing.T) {
	const text = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - name: alone
      template: leaf
    - - name: one
        template: leaf
      - name: graph
        inline:
          dag:
            tasks:
            - {name: task, template: leaf}
    - - {name: far, templateRef: {name: lib, template: far}}
  - name: leaf
    container: {image: i}
---
apiVersion: argoproj.io/v1alpha1
kind: WorkflowTemplate
metadata: {name: lib}
spec:
  templates:
  - name: far
    steps:
    - - {name: away, template: leaf}
  - name: leaf
    container: {image: i}
`
	w := &workflowtest.World{}
	wf, positions, err := w.Load("w.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Submit(wf, func(c *workflow.Submit) { c.Positions = positions })
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"alone", "one", "graph", "task", "far", "away"} {
		n, ok := r.Node(name)
		if !ok {
			t.Fatalf("there is no node %s", name)
		}
		if n.Position != nil {
			got[name] = n.Position.String()
		}
	}
	want := map[string]string{"alone": "w.yaml:9:7", "one": "w.yaml:11:9", "graph": "w.yaml:13:9", "task": "w.yaml:17:15", "far": "w.yaml:18:9"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
