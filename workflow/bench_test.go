package workflow_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

func fanOut(n int) tree {
	return tree{"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": tree{"name": "fan"}, "spec": tree{
		"entrypoint": "main", "templates": []any{
			tree{"name": "main", "steps": []any{
				[]any{tree{"name": "s", "template": "leaf", "withSequence": tree{"count": n}, "arguments": tree{"parameters": []any{tree{"name": "p", "value": "{{item}}"}}}}},
				[]any{tree{"name": "last", "template": "leaf", "arguments": tree{"parameters": []any{tree{"name": "p", "value": "z"}}}}},
			}},
			leaf(),
		},
	}}
}

func leaf() tree {
	return tree{"name": "leaf", "inputs": tree{"parameters": []any{tree{"name": "p"}}}, "container": tree{"image": "alpine", "command": []any{"echo", "{{inputs.parameters.p}}"}}}
}

func chain(n int) tree {
	var tasks []any
	for i := range n {
		task := tree{"name": fmt.Sprintf("t%d", i), "template": "leaf", "arguments": tree{"parameters": []any{tree{"name": "p", "value": "x"}}}}
		if i > 0 {
			task["dependencies"] = []any{fmt.Sprintf("t%d", i-1)}
			task["arguments"] = tree{"parameters": []any{tree{"name": "p", "value": fmt.Sprintf("{{tasks.t%d.outputs.result}}", i-1)}}}
		}
		tasks = append(tasks, task)
	}
	return tree{"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": tree{"name": "chain"}, "spec": tree{
		"entrypoint": "main", "templates": []any{tree{"name": "main", "dag": tree{"tasks": tasks}}, leaf()},
	}}
}

func limited(n int) tree {
	wf := fanOut(n)
	wf["spec"].(tree)["parallelism"] = 10
	return wf
}

// BenchmarkNodes reports the cost of a node in runs of a thousand and of ten thousand nodes: it must not grow.
func BenchmarkNodes(b *testing.B) {
	for _, shape := range []struct {
		name string
		make func(int) tree
	}{{"fan-out", fanOut}, {"limited", limited}, {"chain", chain}} {
		for _, n := range []int{1000, 10000} {
			wf, err := json.Marshal(shape.make(n))
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/%d", shape.name, n), func(b *testing.B) {
				for range b.N {
					w := &workflowtest.World{NoReplay: true}
					r, err := w.Submit(wf, nil)
					if err != nil {
						b.Fatal(err)
					}
					if err := r.Finish(); err != nil {
						b.Fatal(err)
					}
					if p := r.State.Run().Phase; p != workflow.Succeeded {
						b.Fatal(p)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/node")
			})
		}
	}
}
