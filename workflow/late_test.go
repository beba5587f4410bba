package workflow_test

import (
	"testing"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

const waiting = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - name: main
    dag:
      tasks:
      - {name: pod, template: leaf}
      - {name: get, template: get}
      - {name: list, template: list}
      - {name: locked, template: locked}
  - name: leaf
    container: {image: i}
  - name: get
    timeout: 1h
    http: {url: http://a.test}
  - name: list
    timeout: 1h
    data: {source: {artifactPaths: {s3: {key: logs}}}, transformation: [{expression: len(data)}]}
  - name: locked
    synchronization: {mutexes: [{name: m}]}
    container: {image: i}
`

// TestLateAnswers: effects are carried out at least once and answers come twice, late, or for what nobody asked; each of
// them counts once (docs/architecture.md, "Outbox and lease").
func TestLateAnswers(t *testing.T) {
	w := &workflowtest.World{Keys: []string{"logs/a"}, Outcome: func(workflow.Node, executor.Pod) workflowtest.Outcome {
		return workflowtest.Outcome{Takes: time.Minute}
	}}
	wf, _, err := w.Load("w.yaml", []byte(waiting))
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Submit(wf, nil)
	if err != nil {
		t.Fatal(err)
	}
	id := func(name string) string {
		n, ok := r.Node(name)
		if !ok {
			t.Fatalf("there is no node %s", name)
		}
		return n.ID
	}
	// Nothing comes of any of these, now or later. What is said in the name of a run that has ended is late too.
	late := func() {
		t.Helper()
		for name, c := range map[string]workflow.Command{
			"a timer of nobody":            workflow.Fired{Key: "node/w-1"},
			"a wait of a node that has no": workflow.Fired{Key: "retry/" + id("pod")},
			"a report of nobody":           workflow.Report{Report: executor.Report{ID: executor.ID{Node: "w-1"}, Phase: executor.Succeeded}},
			"a report of a graph":          workflow.Report{Report: executor.Report{ID: executor.ID{Node: "w"}, Phase: executor.Succeeded}},
			"another attempt's report":     workflow.Report{Report: executor.Report{ID: executor.ID{Node: id("pod"), Attempt: 9}, Phase: executor.Failed}},
			"another attempt's list":       workflow.Got{Key: "need/list/" + id("list") + "/9", Keys: []string{"x"}},
			"a list that a pod never had":  workflow.Got{Key: "need/list/" + id("pod") + "/0", Keys: []string{"x"}},
			"a lock once more":             workflow.Got{Key: "lock/node/" + id("locked"), Granted: true},
			"a lock for who wants none":    workflow.Got{Key: "lock/node/" + id("pod"), Granted: true},
			"a memoised result":            workflow.Got{Key: "need/memo/" + id("pod"), Memo: []byte(`{"result":"x"}`)},
			"objects":                      workflow.Got{Key: "need/objects/" + id("pod") + "/ConfigMap/c"},
		} {
			before := len(r.Entries)
			if err := r.Do(c); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, e := range r.Entries[before:] {
				t.Errorf("%s led to %s of node %q", name, e.Kind, e.Node)
			}
		}
	}
	err = r.Until("the pods run", func(*workflow.State) bool {
		pod, _ := r.Node("pod")
		locked, _ := r.Node("locked")
		return pod.Phase == workflow.Running && locked.Phase == workflow.Running
	})
	if err != nil {
		t.Fatal(err)
	}
	late()
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	late()
	if run := r.State.Run(); run.Phase != workflow.Succeeded || run.Progress != "4/4" {
		t.Errorf("the run is %s, %s", run.Phase, run.Progress)
	}
	if list, _ := r.Node("list"); list.Outputs == nil || *list.Outputs.Result != "1" {
		t.Errorf("the list is %+v", list.Outputs)
	}
}
