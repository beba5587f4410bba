package workflow_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// A result that the run can read is kept whole; of one that nothing refers to the end is kept, and the node says so.
// The forms are those of the tags and expressions of Argo Workflows 4.1 (variables.md); a name that is computed may be any.
func TestResultsThatNobodyReads(t *testing.T) {
	big := strings.Repeat("é0123456", 2000) // 18,000 bytes; a cut may fall into a letter
	const consumer = `{name: b, template: take, arguments: {parameters: [{name: x, value: '%s'}]}%s}`
	for _, c := range []struct {
		name, value, more string
		whole             bool
	}{
		{"nothing", "x", "", false},
		{"a tag", "{{steps.a.outputs.result}}", "", true},
		{"a tag with spaces", "{{ steps.a.outputs.result }}", "", true},
		{"of another step", "{{steps.c.outputs.result}}", "", false},
		{"another field", "{{steps.a.status}}", "", false},
		{"a parameter", "{{steps.a.outputs.parameters.p}}", "", false},
		{"an expression", "{{=steps.a.outputs.result}}", "", true},
		{"in brackets", `{{=steps["a"].outputs.result}}`, "", true},
		{"all in brackets", `{{=steps["a"]["outputs"]["result"]}}`, "", true},
		{"of another in brackets", `{{=steps["c"].outputs.result}}`, "", false},
		{"asked with care", "{{=steps?.a?.outputs?.result}}", "", true},
		{"a computed name", `{{=steps["" + "a"].outputs.result}}`, "", true},
		{"a computed field", `{{=steps.a.outputs["res" + "ult"]}}`, "", true},
		{"all outputs", "{{=toJson(steps.a.outputs)}}", "", true},
		{"all of a step", "{{=toJson(steps.a)}}", "", true},
		{"all steps", "{{=toJson(steps)}}", "", true},
		{"by the environment", `{{=$env["steps"].a.outputs.result}}`, "", true},
		{"with a minus before", "{{=1-asInt(steps.a.outputs.result)}}", "", true},
		{"in when", "x", `, when: "{{steps.a.outputs.result}} == 1"`, true},
		{"in withParam", "x", `, withParam: "{{steps.a.outputs.result}}"`, true},
		{"in a hook", "x", `, hooks: {exit: {template: take, arguments: {parameters: [{name: x, value: "{{steps.a.outputs.result}}"}]}}}`, true},
		{"in a hook's expression", "x", `, hooks: {h: {template: take, expression: 'steps.a.outputs.result == "1"', arguments: {parameters: [{name: x, value: y}]}}}`, true},
		{"words", "all steps and tasks have outputs", "", false},
	} {
		text := fmt.Sprintf(resultFlow, "", fmt.Sprintf(consumer, c.value, c.more), "")
		checkResult(t, c.name, text, big, c.whole)
	}
	out := `outputs: {parameters: [{name: o, valueFrom: {parameter: "{{steps.a.outputs.result}}"}}]}`
	checkResult(t, "the template's output", fmt.Sprintf(resultFlow, "", "{name: b, template: say}", out), big, true)
	out = `outputs: {parameters: [{name: o, valueFrom: {expression: "steps.a.outputs.result"}}]}`
	checkResult(t, "the template's output by an expression", fmt.Sprintf(resultFlow, "", "{name: b, template: say}", out), big, true)
	checkResult(t, "memoised", fmt.Sprintf(resultFlow, "memoize: {key: k, maxAge: 1h, cache: {configMap: {name: c}}},", "{name: b, template: say}", ""), big, true)
	checkResult(t, "retried", fmt.Sprintf(resultFlow, "retryStrategy: {limit: 2},", "{name: b, template: say}", ""), big, false)
	checkResult(t, "retried and read", fmt.Sprintf(resultFlow, "retryStrategy: {limit: 2},", fmt.Sprintf(consumer, "{{steps.a.outputs.result}}", ""), ""), big, true)
	short := strings.Repeat("x", 4096)
	checkResult(t, "short", fmt.Sprintf(resultFlow, "", "{name: b, template: say}", ""), short, true)
}

const resultFlow = `
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - - {name: a, template: say}
      - {name: c, template: other}
    - - %[2]s
    %[3]s
  - {name: say, %[1]s container: {image: i}}
  - {name: other, container: {image: i}}
  - {name: take, inputs: {parameters: [{name: x}]}, container: {image: i}}
`

func checkResult(t *testing.T, name, text, result string, whole bool) {
	t.Helper()
	r, _ := submitText(t, text, nil, func(w *workflowtest.World) {
		w.Outcome = func(workflow.Node, executor.Pod) workflowtest.Outcome {
			return workflowtest.Outcome{Result: result, Parameters: map[string]string{"p": "v"}}
		}
	})
	n, ok := r.Node("w[0].a")
	if !ok || n.Outputs == nil || n.Outputs.Result == nil {
		t.Errorf("%s: step a has no result: %s", name, r.State.Run().Message)
		return
	}
	got := *n.Outputs.Result
	switch {
	case whole && (got != result || strings.Contains(n.Why, "outputs.result")):
		t.Errorf("%s: %d bytes of %d are kept (%s)", name, len(got), len(result), n.Why)
	case !whole && (len(got) > 4<<10 || len(got) < 4000 || !strings.HasSuffix(result, got)):
		t.Errorf("%s: %d bytes are kept, want the last 4 KiB", name, len(got))
	case !whole && n.Type == workflow.NodePod && !strings.Contains(n.Why, "the last 4 KiB of 18000 bytes"):
		t.Errorf("%s: the node says %q", name, n.Why)
	}
}
