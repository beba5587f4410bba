package workflow_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// renewed gives the bytes that a retry with new arguments allocates, of a loop of so many items that are dags.
func renewed(t *testing.T, items int) uint64 {
	t.Helper()
	list := make([]int, items)
	param, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	w := &workflowtest.World{NoReplay: true, Outcome: func(n workflow.Node, _ executor.Pod) workflowtest.Outcome {
		return workflowtest.Outcome{Exit: 1}
	}}
	wf, _, err := w.Load("wf.yaml", fmt.Appendf(nil, `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  arguments: {parameters: [{name: a, value: one}]}
  templates:
  - name: main
    steps: [[{name: each, template: inner, withParam: "%s", arguments: {parameters: [{name: a, value: "{{workflow.parameters.a}}"}]}}]]
  - name: inner
    inputs: {parameters: [{name: a}]}
    dag: {tasks: [{name: x, template: leaf}]}
  - {name: leaf, container: {image: i}}
`, param))
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Submit(wf, nil)
	if err == nil {
		err = r.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := r.Control(workflow.Control{Verb: workflow.Retry, Parameters: map[string]string{"a": "two"}}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A retry with new arguments computes the items of a loop once and not once for each item: four times as many cost about four
// times as much (it was sixteen).
func TestInputsAreRenewedOnceForALoop(t *testing.T) {
	if few, many := renewed(t, 150), renewed(t, 600); many > 8*few {
		t.Errorf("150 items take %d KiB, and 600 take %d", few>>10, many>>10)
	}
}
