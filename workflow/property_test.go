package workflow_test

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

type tree = map[string]any

// randomWorkflow draws a workflow of nested steps and DAGs with loops, conditions, retries, locks, hooks, limits and
// handlers. Templates call only templates of a higher number, so that every one of them is finite.
func randomWorkflow(t *rapid.T) tree {
	count := rapid.IntRange(2, 6).Draw(t, "templates")
	var templates []any
	for i := range count {
		tm := tree{"name": fmt.Sprintf("t%d", i), "inputs": tree{"parameters": []any{tree{"name": "p", "value": "x"}}}}
		kind := "container"
		if i < count-1 {
			kind = rapid.SampledFrom([]string{"steps", "dag", "container"}).Draw(t, "kind")
		}
		callee := func() string { return fmt.Sprintf("t%d", rapid.IntRange(i+1, count-1).Draw(t, "callee")) }
		switch kind {
		case "steps":
			var groups []any
			for g := range rapid.IntRange(1, 3).Draw(t, "groups") {
				var group []any
				for k := range rapid.IntRange(1, 3).Draw(t, "members") {
					group = append(group, randomSite(t, fmt.Sprintf("s%d-%d", g, k), callee(), true))
				}
				groups = append(groups, group)
			}
			tm["steps"] = groups
		case "dag":
			var tasks []any
			n := rapid.IntRange(1, 5).Draw(t, "tasks")
			for k := range n {
				task := randomSite(t, fmt.Sprintf("k%d", k), callee(), false)
				if k > 0 {
					dep := fmt.Sprintf("k%d", rapid.IntRange(0, k-1).Draw(t, "dep"))
					other := fmt.Sprintf("k%d", rapid.IntRange(0, k-1).Draw(t, "dep2"))
					task["depends"] = rapid.SampledFrom([]string{dep, dep + ".Failed", dep + " && " + other, dep + " || " + other + ".Errored", "(" + dep + ".Omitted || " + dep + ")"}).Draw(t, "depends")
				}
				tasks = append(tasks, task)
			}
			tm["dag"] = tree{"tasks": tasks}
		default:
			tm["container"] = tree{"image": "i", "command": []any{"c"}}
		}
		randomTemplate(t, tm)
		templates = append(templates, tm)
	}
	templates = append(templates, tree{"name": "handler", "container": tree{"image": "i"}}, tree{"name": "wait", "suspend": tree{"duration": "3"}})
	spec := tree{"entrypoint": "t0", "templates": templates}
	if rapid.Bool().Draw(t, "onExit") {
		spec["onExit"] = "handler"
	}
	if rapid.Bool().Draw(t, "limited") {
		spec["parallelism"] = rapid.IntRange(1, 3).Draw(t, "parallelism")
	}
	if rapid.IntRange(0, 4).Draw(t, "deadline") == 0 {
		spec["activeDeadlineSeconds"] = rapid.IntRange(1, 20).Draw(t, "seconds")
	}
	if rapid.IntRange(0, 3).Draw(t, "sync") == 0 {
		spec["synchronization"] = tree{"mutexes": []any{tree{"name": "run"}}}
	}
	return tree{"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": tree{"name": "random"}, "spec": spec}
}

func randomSite(t *rapid.T, name, callee string, steps bool) tree {
	st := tree{"name": name, "template": callee}
	switch rapid.IntRange(0, 7).Draw(t, "site") {
	case 0:
		st["withItems"] = []any{"a", 1, tree{"k": "v"}}
	case 1:
		st["withParam"] = "[]"
	case 2:
		st["when"] = "a == b"
	case 3:
		if steps {
			st["continueOn"] = tree{"failed": true, "error": true}
		}
	case 4:
		root := "tasks"
		if steps {
			root = "steps"
		}
		st["hooks"] = tree{
			"exit":    tree{"template": "handler"},
			"running": tree{"template": "handler", "expression": root + `["` + name + `"].status == "Running"`},
			"failed":  tree{"template": "handler", "expression": root + `["` + name + `"].status == "Failed"`},
		}
	case 5:
		st["template"] = "wait"
	case 6:
		st["withSequence"] = tree{"count": "3"}
	}
	return st
}

func randomTemplate(t *rapid.T, tm tree) {
	switch rapid.IntRange(0, 8).Draw(t, "extra") {
	case 0:
		tm["retryStrategy"] = tree{"limit": 1}
	case 1:
		tm["retryStrategy"] = tree{"limit": 2, "retryPolicy": "Always", "backoff": tree{"duration": "2", "factor": 2}}
	case 2:
		// A lock held by a template that calls itself through others could never be had: only leaves take one.
		if tm["container"] != nil {
			tm["synchronization"] = tree{"mutexes": []any{tree{"name": "m"}}}
		}
	case 3:
		if tm["container"] != nil {
			tm["synchronization"] = tree{"semaphores": []any{tree{"configMapKeyRef": tree{"name": "c", "key": "k"}}}, "mutexes": []any{tree{"name": "n"}}}
		}
	case 4:
		tm["parallelism"] = rapid.IntRange(1, 2).Draw(t, "places")
	case 5:
		tm["failFast"] = true
		tm["parallelism"] = 2
	case 6:
		tm["memoize"] = tree{"key": "{{inputs.parameters.p}}", "cache": tree{"configMap": tree{"name": "memo"}}}
	}
}

func raw(t interface{ Fatal(...any) }, v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEveryRunEnds draws workflows, outcomes, orders and interruptions. Every run ends, no attempt starts twice (the
// driver refuses that), the entries replay to the same state whether or not the run went on from snapshots of it meanwhile, the rows give the
// same nodes, and no lock is left.
func TestEveryRunEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wf := randomWorkflow(t)
		seed := rapid.Int64().Draw(t, "seed")
		rng := rand.New(rand.NewSource(seed))
		interrupt := rapid.SampledFrom([]string{"", "", "", workflow.Stop, workflow.Terminate, workflow.Suspend}).Draw(t, "interrupt")
		w := &workflowtest.World{Random: rng, Limits: map[string]int{"default/ConfigMap/c/k": 2}, Stuck: 100_000}
		if rapid.Bool().Draw(t, "restarts") {
			own := rand.New(rand.NewSource(seed))
			w.Restart = func() bool { return own.Intn(3) == 0 }
		}
		w.Outcome = func(workflow.Node, executor.Pod) workflowtest.Outcome {
			o := workflowtest.Outcome{Takes: time.Duration(rng.Intn(4000)) * time.Millisecond}
			switch rng.Intn(8) {
			case 0:
				o.Exit = 1
			case 1:
				o.Error = "no image"
			case 2:
				o.Lost = 1
			}
			return o
		}
		r, err := w.Submit(raw(t, wf), nil)
		if err != nil {
			t.Fatal(err)
		}
		for range rng.Intn(20) {
			if _, err := r.Step(); err != nil {
				t.Fatal(err)
			}
		}
		if interrupt != "" && !r.State.Done() {
			if err := r.Control(workflow.Control{Verb: interrupt}); err != nil {
				t.Fatal(err)
			}
			if interrupt == workflow.Suspend {
				for range 5 {
					if _, err := r.Step(); err != nil {
						t.Fatal(err)
					}
				}
				if !r.State.Done() {
					if err := r.Control(workflow.Control{Verb: workflow.Resume}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if err := r.Finish(); err != nil {
			t.Fatalf("%v\n%s", err, dump(r))
		}
		check(t, w, r)
		if p := r.State.Run().Phase; (p == workflow.Failed || p == workflow.Error) && rng.Intn(2) == 0 {
			if err := r.Control(workflow.Control{Verb: workflow.Retry}); err != nil {
				t.Fatalf("retry: %v\n%s", err, dump(r))
			}
			if err := r.Finish(); err != nil {
				t.Fatalf("after retry: %v\n%s", err, dump(r))
			}
			check(t, w, r)
		}
	})
}

func check(t *rapid.T, w *workflowtest.World, r *workflowtest.Run) {
	st := workflow.Status(r.State)
	if diff := cmp.Diff(st, workflow.Status(r.Replay)); diff != "" {
		t.Fatalf("replay differs (-run +replay):\n%s", diff)
	}
	kept, err := r.State.Snapshot()
	var replayed []byte
	if err == nil {
		replayed, err = r.Replay.Snapshot()
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(kept), string(replayed)); diff != "" {
		t.Fatalf("replay gives another state (-run +replay):\n%s", diff)
	}
	if held := w.Held(); len(held) > 0 {
		t.Fatalf("locks are left: %v\n%s", held, dump(r))
	}
	for id, n := range st.Nodes {
		if !n.Phase.Done() {
			t.Fatalf("node %s (%s) is %s after the run has ended\n%s", id, n.Name, n.Phase, dump(r))
		}
	}
	var nodes []workflow.Node
	for key, row := range r.Rows {
		if key[0] != "node" {
			continue
		}
		var n workflow.Node
		if err := json.Unmarshal(row.Body, &n); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	row := r.Rows[[2]string{"run", "default/random"}]
	var run workflow.Run
	if err := json.Unmarshal(row.Body, &run); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(raw(t, st), raw(t, workflow.View(run, nodes))); diff != "" {
		t.Fatalf("rows differ (-state +rows):\n%s", diff)
	}
}

func dump(r *workflowtest.Run) string {
	s := fmt.Sprintf("%+v\n%s\n", r.State.Run(), workflow.Unsettled(r.State))
	for n := range r.State.Nodes() {
		s += fmt.Sprintf("%s %s %s %q waiting %q\n", n.Name, n.Type, n.Phase, n.Message, n.Waiting)
	}
	return s
}

// A run that is retried and ends before a pod of it begins has no progress, whatever it had before (found by TestEveryRunEnds with rapid's
// seed 8430414153656233001).
func TestProgressOfARetryThatEndsAtOnce(t *testing.T) {
	w := &workflowtest.World{Outcome: func(workflow.Node, executor.Pod) workflowtest.Outcome { return workflowtest.Outcome{Exit: 1} }}
	r, err := w.Submit(json.RawMessage(`{"metadata": {"name": "random"}, "spec": {"entrypoint": "m", "synchronization": {"mutexes": [{"name": "quay"}]},
		"templates": [{"name": "m", "container": {"image": "busybox", "command": ["sail"]}}]}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	progress := func() (state, row string) {
		var run workflow.Run
		if err := json.Unmarshal(r.Rows[[2]string{"run", "default/random"}].Body, &run); err != nil {
			t.Fatal(err)
		}
		return r.State.Run().Progress, run.Progress
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	if state, row := progress(); state != "0/1" || row != "0/1" {
		t.Errorf("after the first end: %q, row %q", state, row)
	}
	for _, verb := range []string{workflow.Retry, workflow.Terminate} {
		if err := r.Control(workflow.Control{Verb: verb}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	if state, row := progress(); state != "" || row != "" {
		t.Errorf("after the retry: %q, row %q", state, row)
	}
}
