package workflow_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
)

// A step that is refused at each start is tried four times at once, and then waits longer and longer, though Argo's retryStrategy
// without a limit has no wait. An attempt that ran begins the count anew.
func TestRefusedStartsWait(t *testing.T) {
	t.Parallel()
	wf, err := yaml.YAMLToJSON([]byte(`
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - {name: main, retryStrategy: {retryPolicy: Always}, container: {image: i}}
`))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := begin
	state, replay := workflow.NewState(), workflow.NewState()
	var queue []workflow.Command
	meta := func() workflow.Meta { return workflow.Meta{Now: now, Actor: "user:ada"} }
	queue = append(queue, workflow.Submit{Meta: meta(), UID: "u", Namespace: "default", Name: "w", Workflow: wf})
	var started []time.Duration
	var shown []string
	for len(queue) > 0 && len(started) < 12 {
		command := queue[0]
		queue = queue[1:]
		d, err := workflow.Decide(state, command)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range d.Entries { // what is replayed decides the same
			raw, err := json.Marshal(e.Body)
			if err != nil {
				t.Fatal(err)
			}
			back, err := workflow.DecodeEntry(e.Kind, e.Node, raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := workflow.Apply(replay, back); err != nil {
				t.Fatal(err)
			}
		}
		state, replay = replay, state // they are the same, and take turns: what was replayed decides too
		for _, e := range d.Effects {
			switch e := e.(type) {
			case workflow.StartPod:
				started = append(started, now.Sub(begin))
				rep := executor.Report{ID: executor.ID{Owner: "u", Node: e.Node, Attempt: e.Attempt}, Phase: executor.Error, Reason: executor.ReasonStart,
					Message: "no such command", FinishedAt: now}
				if len(started) == 8 { // it ran
					rep.Phase, rep.Reason = executor.Failed, ""
				}
				queue = append(queue, workflow.Report{Meta: meta(), Report: rep})
			case workflow.SetTimer:
				for n := range state.Nodes() {
					if n.Type == workflow.NodeRetry {
						shown = append(shown, n.Message)
					}
				}
				now = e.At
				queue = append(queue, workflow.Fired{Meta: meta(), Key: e.Key})
			}
		}
	}
	second := time.Second
	want := []time.Duration{0, 0, 0, 0, 0, second, 3 * second, 7 * second, 7 * second, 7 * second, 7 * second, 7 * second}
	if diff := cmp.Diff(want, started); diff != "" {
		t.Errorf("starts (-want +got):\n%s", diff)
	}
	wantShown := []string{
		"Backoff for 1 second: 5 starts were refused one after the other", "Backoff for 2 seconds: 6 starts were refused one after the other",
		"Backoff for 4 seconds: 7 starts were refused one after the other",
	}
	if diff := cmp.Diff(wantShown, shown); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
}
