package workflow_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// TestMemoisedOnce: a result is stored by the node that made it, once, and not again by those that took it, or maxAge
// would never end (Argo Workflows docs, memoization.md; operator.go saves only what was no hit). With retries the
// retry has it, not its attempts.
func TestMemoisedOnce(t *testing.T) {
	const text = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - - {name: first, template: work, arguments: {parameters: [{name: k, value: a}]}}
    - - {name: again, template: work, arguments: {parameters: [{name: k, value: a}]}}
    - - {name: other, template: work, arguments: {parameters: [{name: k, value: b}]}}
  - name: work
    inputs: {parameters: [{name: k}]}
    retryStrategy: {limit: 2}
    memoize: {key: "{{inputs.parameters.k}}", maxAge: 1h, cache: {configMap: {name: c}}}
    container: {image: i}
`
	var world *workflowtest.World
	r, pods := submitText(t, text, nil, func(w *workflowtest.World) {
		world = w
		do := w.Outcome
		w.Outcome = func(n workflow.Node, p executor.Pod) workflowtest.Outcome {
			o := do(n, p)
			if n.DisplayName == "first(0)" {
				o.Exit = 1
			}
			return o
		}
	})
	if phase := r.State.Run().Phase; phase != workflow.Succeeded || len(pods) != 3 {
		t.Errorf("the run is %s with %d pods", phase, len(pods))
	}
	if diff := cmp.Diff(map[string]int{"a": 1, "b": 1}, world.Memoised); diff != "" {
		t.Error(diff)
	}
}
