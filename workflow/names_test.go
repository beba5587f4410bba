package workflow_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// TestCollidingIDs: "w.hgzoatsmo" and "w.tndcghjyu" have the same 32-bit FNV-1a, by which Argo takes them for one node. Here the
// second has an id of its own (deviation 15 of docs/compatibility.md), and both run.
func TestCollidingIDs(t *testing.T) {
	r, pods := submitText(t, `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - name: main
    dag: {tasks: [{name: hgzoatsmo, template: leaf}, {name: tndcghjyu, template: leaf}, {name: last, template: leaf, depends: "hgzoatsmo && tndcghjyu"}]}
  - name: leaf
    container: {image: i}
`, nil, nil)
	got := map[string]string{}
	for n := range r.State.Nodes() {
		if n.DisplayName != "last" {
			got[n.DisplayName] = n.ID + " " + string(n.Phase)
		}
	}
	want := map[string]string{"w": "w Succeeded", "hgzoatsmo": "w-2825674968 Succeeded", "tndcghjyu": "w-2825674968-1 Succeeded"}
	if diff := cmp.Diff(want, got); diff != "" || len(pods) != 3 {
		t.Errorf("%d pods, want 3: %s", len(pods), diff)
	}
}

// TestPodNameFits: Kubernetes takes 253 characters; Argo cuts the prefix to 242, so that a hyphen and ten digits fit
// (workflow/util/pod_name.go; reference 1.12.6).
func TestPodNameFits(t *testing.T) {
	long := strings.Repeat("x", 300)
	_, pods := submitText(t, `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - name: main
    steps: [[{name: a, template: `+long+`}]]
  - name: `+long+`
    container: {image: i}
`, nil, nil)
	if want := "w-" + long[:240] + "-2078810217"; pods[0].Pod.Name != want {
		t.Errorf("the pod is %q, want %q", pods[0].Pod.Name, want)
	}
}

// TestCreationTimestamp: workflow.creationTimestamp followed by a letter of strftime (Argo Workflows docs, variables.md);
// values of strftime(3) for 2026-01-02T03:04:05Z, a Friday.
func TestCreationTimestamp(t *testing.T) {
	want := map[string]string{
		"Y": "2026", "y": "26", "m": "01", "d": "02", "e": " 2", "H": "03", "I": "03", "M": "04", "S": "05", "p": "AM", "j": "002",
		"a": "Fri", "A": "Friday", "b": "Jan", "B": "January", "w": "5", "F": "2026-01-02", "T": "03:04:05", "D": "01/02/26",
		"R": "03:04", "Z": "UTC", "z": "+0000", "s": "1767323045", "L": "000", "f": "000000",
	}
	var given, taken []string
	for letter := range want {
		given = append(given, `{name: "`+letter+`", value: "{{workflow.creationTimestamp.`+letter+`}}"}`)
		taken = append(taken, `{name: "`+letter+`"}`)
	}
	got := map[string]string{}
	submitText(t, `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - name: main
    steps: [[{name: a, template: leaf, arguments: {parameters: [`+strings.Join(given, ", ")+`]}}]]
  - name: leaf
    inputs: {parameters: [`+strings.Join(taken, ", ")+`]}
    container: {image: i}
`, nil, func(w *workflowtest.World) {
		w.Outcome = func(n workflow.Node, _ executor.Pod) workflowtest.Outcome {
			for _, p := range n.Inputs.Parameters {
				got[p.Name] = p.Value.Text()
			}
			return workflowtest.Outcome{}
		}
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
