package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/workflow"
)

// An attempt whose retry succeeded did not fail the run; a DAG that failed because of a task inside is named by the task.
func TestFailureNamesTheStep(t *testing.T) {
	retried := &workflow.NodeFlag{Retried: true}
	root := workflow.Node{ID: "r", DisplayName: "main", Type: "DAG"}
	recovered := workflow.Node{ID: "a", DisplayName: "tests(0)", Parent: "tests", BoundaryID: "r", NodeFlag: retried}
	moor := workflow.Node{ID: "m", DisplayName: "moor", Parent: "r", BoundaryID: "r", Message: "exit code 3"}
	retry := workflow.Node{ID: "retry", DisplayName: "build", Parent: "r", BoundaryID: "r", Type: "Retry"}
	last := workflow.Node{ID: "l", DisplayName: "build(1)", Parent: "retry", BoundaryID: "r", NodeFlag: retried}
	for name, c := range map[string]struct {
		failed []workflow.Node
		want   *reason
	}{
		"recovered attempt": {[]workflow.Node{root, recovered, moor}, &reason{"m", "moor", "exit code 3"}},
		"exhausted retry":   {[]workflow.Node{root, retry, last}, &reason{"l", "build(1)", ""}},
		"only the root":     {[]workflow.Node{root}, &reason{"r", "main", ""}},
		"none":              {nil, nil},
	} {
		if diff := cmp.Diff(c.want, failureOf(c.failed)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPodInfoSaysWhyItWaits(t *testing.T) {
	for manifest, want := range map[string]string{
		"{status: {phase: Running, podIP: 10.0.0.1, containerStatuses: [{restartCount: 0, state: {running: {}}}]}}":                                                                 "Running 10.0.0.1",
		"{status: {phase: Running, podIP: 10.0.0.1, containerStatuses: [{restartCount: 4, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 7}}}]}}": "CrashLoopBackOff, restarted 4 times, last exit code 7",
		"{status: {phase: Pending}}": "Pending",
	} {
		raw, err := yaml.YAMLToJSON([]byte("{apiVersion: v1, kind: Pod, " + manifest[1:]))
		if err != nil {
			t.Fatal(err)
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(raw); err != nil {
			t.Fatal(err)
		}
		if got := podInfo(o); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
