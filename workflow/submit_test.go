package workflow_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// submitText runs a manifest to its end in a world where everything succeeds, and gives the run and its pods.
func submitText(t *testing.T, text string, edit func(*workflow.Submit), change func(*workflowtest.World)) (*workflowtest.Run, []executor.Pod) {
	t.Helper()
	var pods []executor.Pod
	w := &workflowtest.World{Stuck: 1000, Outcome: func(_ workflow.Node, p executor.Pod) workflowtest.Outcome {
		pods = append(pods, p)
		return workflowtest.Outcome{}
	}}
	if change != nil {
		change(w)
	}
	wf, _, err := w.Load("wf.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Submit(wf, edit)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	return r, pods
}

const fromTemplate = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  workflowTemplateRef: {name: lib}
  arguments: {parameters: [{name: a, value: mine}, {name: c, value: literal}]}
---
apiVersion: argoproj.io/v1alpha1
kind: WorkflowTemplate
metadata: {name: lib}
spec:
  entrypoint: main
  arguments:
    parameters:
    - {name: a, value: theirs}
    - {name: b, value: theirs}
    - {name: c, valueFrom: {configMapKeyRef: {name: cm, key: k}}}
  workflowMetadata:
    labels: {plain: "yes"}
    labelsFrom: {computed: {expression: "workflow.parameters.a + '-1'"}}
  templates:
  - name: main
    container:
      image: i
      args: ["{{workflow.parameters.a}} {{workflow.parameters.b}} {{workflow.parameters.c}} {{workflow.labels.plain}} {{workflow.scheduledTime}}"]
`

// TestFromTemplate: Argo merges a Workflow over the WorkflowTemplate that it refers to, arguments by name, over the
// controller's defaults (reference 1.1), labels it with the template's name, and keeps workflow.scheduledTime in an
// annotation (examples/variables-showcase).
func TestFromTemplate(t *testing.T) {
	at := time.Date(2026, 4, 29, 0, 0, 0, 0, time.UTC)
	r, pods := submitText(t, fromTemplate, func(c *workflow.Submit) {
		c.ScheduledTime = &at
		c.Defaults = json.RawMessage(`{"metadata":{"labels":{"default":"yes"}},"spec":{"templateDefaults":{"container":{"workingDir":"/d"}}}}`)
	}, nil)
	run := r.State.Run()
	want := map[string]string{"plain": "yes", "computed": "mine-1", "default": "yes", "workflows.argoproj.io/workflow-template": "lib"}
	if diff := cmp.Diff(want, run.Labels); diff != "" {
		t.Error(diff)
	}
	c := pods[0].Pod.Spec.Containers[0]
	if got := c.Args[0]; got != "mine theirs literal yes 2026-04-29T00:00:00Z" {
		t.Errorf("args %q", got)
	}
	if c.WorkingDir != "/d" {
		t.Errorf("the default template was not merged: %q", c.WorkingDir)
	}
}

// TestInvalid: Argo's controller makes a run of a bad spec Failed with "invalid spec", and of one whose template does
// not exist an Error (e2e functional/TestWorkflowTemplateRefWithExitHandlerError, malformed_resources).
func TestInvalid(t *testing.T) {
	bad := func(c *workflow.Submit) { c.Invalid = "no good" }
	r, _ := submitText(t, fromTemplate, bad, nil)
	if run := r.State.Run(); run.Phase != workflow.Failed || run.Message != "invalid spec: no good" {
		t.Errorf("got %s, %q", run.Phase, run.Message)
	}
	alone, _, _ := strings.Cut(fromTemplate, "\n---\n")
	r, _ = submitText(t, alone, bad, nil)
	if run := r.State.Run(); run.Phase != workflow.Error || run.Message != `workflowtemplates.argoproj.io "lib" not found` {
		t.Errorf("got %s, %q", run.Phase, run.Message)
	}
}

// TestLost: an attempt that goes away with its machine is made again only so often, so that a step that kills its
// machine does not do so for ever.
func TestLost(t *testing.T) {
	_, pods := submitText(t, podManifest, nil, func(w *workflowtest.World) {
		inner := w.Outcome
		w.Outcome = func(n workflow.Node, p executor.Pod) workflowtest.Outcome {
			inner(n, p)
			return workflowtest.Outcome{Lost: 100}
		}
	})
	if len(pods) != 4 {
		t.Errorf("%d attempts, want the first and three more", len(pods))
	}
}
