package workflow_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// played runs a manifest and gives the pods that it had, by the display name of their node.
func played(t *testing.T, manifest string, outcomes map[string]workflowtest.Outcome) (*workflowtest.Run, map[string]executor.Pod) {
	t.Helper()
	pods := map[string]executor.Pod{}
	w := &workflowtest.World{Stuck: 10000}
	w.Outcome = func(n workflow.Node, p executor.Pod) workflowtest.Outcome {
		pods[n.DisplayName] = p
		return outcomes[n.DisplayName]
	}
	wf, _, err := w.Load("wf.yaml", []byte("apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: w}\n"+manifest))
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Submit(wf, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	return r, pods
}

// Argo puts outputs into the volumes of the workflow with each group of steps (resolveReferences in workflow/controller/steps.go,
// step 0), and into a pod those that it mounts.
func TestVolumesOfTheRunNameOutputs(t *testing.T) {
	r, pods := played(t, `
spec:
  entrypoint: main
  volumes:
  - {name: settings, configMap: {name: "{{steps.choose.outputs.result}}"}}
  - {name: scratch, emptyDir: {}}
  templates:
  - name: main
    steps:
    - - {name: choose, template: choose}
    - - {name: inner, template: inner}
  - name: inner
    steps: [[{name: use, template: use}]]
  - name: choose
    container: {image: i}
  - name: use
    container: {image: i, volumeMounts: [{name: settings, mountPath: /s}]}
`, map[string]workflowtest.Outcome{"choose": {Result: "blue"}})
	if got := r.State.Run().Phase; got != workflow.Succeeded {
		t.Fatalf("the run is %s (%s)", got, r.State.Run().Message)
	}
	got := map[string]string{}
	for name, p := range pods {
		for _, v := range p.Pod.Spec.Volumes {
			if v.ConfigMap != nil {
				got[name] += v.Name + "=" + v.ConfigMap.Name
				continue
			}
			got[name] += v.Name
		}
	}
	if diff := cmp.Diff(map[string]string{"use": "settings=blue"}, got); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
}

// A volume that cannot be known when its pod begins ends the step, and does not leave it waiting.
func TestVolumeThatIsNotKnown(t *testing.T) {
	r, _ := played(t, `
spec:
  entrypoint: main
  volumes: [{name: settings, configMap: {name: "{{steps.choose.outputs.result}}"}}]
  templates:
  - name: main
    container: {image: i, volumeMounts: [{name: settings, mountPath: /s}]}
`, nil)
	run := r.State.Run()
	if run.Phase != workflow.Error || !strings.Contains(run.Message, "spec.volumes: volume settings: failed to resolve {{steps.choose.outputs.result}}") {
		t.Errorf("the run is %s: %s", run.Phase, run.Message)
	}
}

// Argo knows the path of every declared input artifact, whether or not it came (SubstituteParams in workflow/common/util.go).
func TestPathOfAnAbsentArtifact(t *testing.T) {
	_, pods := played(t, `
spec:
  entrypoint: main
  arguments: {parameters: [{name: d, value: x}]}
  templates:
  - name: main
    inputs:
      parameters: [{name: d}]
      artifacts: [{name: cache, path: "/tmp/{{inputs.parameters.d}}", optional: true}]
    container: {image: i, args: ["{{inputs.artifacts.cache.path}}"]}
`, nil)
	if diff := cmp.Diff([]string{"/tmp/x"}, pods["w"].Pod.Spec.Containers[0].Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
}

// Every node has a progress: 1 for each piece of work, and what is made of others has theirs (docs/progress.md of Argo).
func TestProgressOfNodes(t *testing.T) {
	r, _ := played(t, `
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - - {name: a, template: leaf}
      - {name: b, template: leaf, continueOn: {failed: true}}
    - - {name: c, template: again}
      - {name: d, template: leaf, when: "1 == 2"}
  - name: leaf
    container: {image: i}
  - name: again
    retryStrategy: {limit: 1}
    container: {image: i}
`, map[string]workflowtest.Outcome{"b": {Exit: 1}, "c(0)": {Exit: 1}})
	got := map[string]string{}
	for _, n := range workflow.Status(r.State).Nodes {
		got[n.Name] = n.Progress
	}
	want := map[string]string{
		"w": "2/4", "w[0]": "1/2", "w[0].a": "1/1", "w[0].b": "0/1", "w[1]": "1/2", "w[1].c": "1/2", "w[1].c(0)": "0/1", "w[1].c(1)": "1/1", "w[1].d": "0/0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

// A wait that is over does not say any more that it waits.
func TestWaitThatIsOver(t *testing.T) {
	r, _ := played(t, `
spec:
  entrypoint: main
  templates: [{name: main, suspend: {duration: 1s}}]
`, nil)
	n, _ := r.Node("w")
	if n.Phase != workflow.Succeeded || n.Why != "" || n.Message != "" {
		t.Errorf("the node is %s: %q %q", n.Phase, n.Message, n.Why)
	}
}
