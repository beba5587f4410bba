package workflow_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// TestUnresolved: a tag that names what is not there, or not yet, is an error in Argo's words ("failed to resolve") of
// whoever holds it, wherever it stands (deviation 11 of docs/compatibility.md). Lint finds these first; the engine has to
// stand what it is given.
func TestUnresolved(t *testing.T) {
	const text = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  arguments: {parameters: [{name: x, value: "ARGUMENT"}]}
  templates:
  - name: main
    steps:
    - - {name: first, template: show, arguments: {parameters: [{name: v, value: "VALUE"}]}}
    - - {name: later, template: leaf, withItems: [1, 2]}
  - name: show
    inputs: {parameters: [{name: v}]}
    container: {image: i}
  - name: leaf
    container: {image: i}
`
	for tag, at := range map[string]string{
		"{{inputs.parameters.v}}":          "ARGUMENT",
		"{{inputs.artifacts.a.path}}":      "ARGUMENT",
		"{{steps.later.outputs.result}}":   "VALUE",
		"{{steps.later.status}}":           "VALUE",
		"{{steps.none.outputs.result}}":    "VALUE",
		"{{tasks.later.outputs.result}}":   "VALUE",
		"{{inputs.parameters.v}} ":         "VALUE",
		"{{outputs.parameters.out.path}}":  "VALUE",
		"{{workflow.parameters.y}}":        "VALUE",
		"{{workflow.outputs.artifacts.a}}": "VALUE",
	} {
		w := &workflowtest.World{}
		wf, _, err := w.Load("w.yaml", []byte(strings.Replace(text, at, tag, 1)))
		if err != nil {
			t.Fatal(err)
		}
		want := "failed to resolve " + strings.TrimSpace(tag)
		r, err := w.Submit(wf, nil)
		if at == "ARGUMENT" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s in the arguments: %v", tag, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Finish(); err != nil {
			t.Fatal(err)
		}
		said := false
		for n := range r.State.Nodes() {
			said = said || n.Phase == workflow.Error && strings.Contains(n.Message, want)
		}
		if phase := r.State.Run().Phase; !said || phase != workflow.Error && phase != workflow.Failed {
			t.Errorf("%s in a step: the run is %s, and no node says %q", tag, phase, want)
		}
	}
}
