package validate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/manifest"
)

func check(t *testing.T, text string, o Options) []string {
	t.Helper()
	objects, diagnostics := manifest.Decode("wf.yaml", []byte(text))
	for _, object := range objects {
		diagnostics = append(diagnostics, Object(object, o)...)
	}
	var list []string
	for _, d := range diagnostics {
		list = append(list, string(d.Severity)+" "+d.Error())
	}
	return list
}

const good = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: good-}
spec:
  entrypoint: main
  arguments:
    parameters: [{name: text, value: hello}]
  templates:
  - name: main
    steps:
    - - name: make
        template: make
        arguments: {parameters: [{name: in, value: "{{workflow.parameters.text}}"}]}
    - - name: use
        template: make
        when: "{{steps.make.outputs.result}} == x"
        arguments: {parameters: [{name: in, value: "{{item.v}} {{steps.make.outputs.parameters.out}}"}]}
        withItems: [{v: 1}, {v: 2}]
  - name: graph
    dag:
      tasks:
      - {name: a, template: make, arguments: {parameters: [{name: in, value: x}]}}
      - {name: b, template: make, depends: "a.Failed || !a", arguments: {parameters: [{name: in, value: "{{tasks.a.status}}"}]}}
  - name: make
    inputs: {parameters: [{name: in}]}
    script:
      image: alpine
      command: [sh]
      source: |
        echo {{inputs.parameters.in}} {{ .Go }} {{=sprig.upper(inputs.parameters.in)}}
    outputs: {parameters: [{name: out, valueFrom: {path: /out}}]}
`

// Each row breaks the good manifest in one place. Argo's words are those of workflows/lint.
func TestFaultsHaveTheirPlace(t *testing.T) {
	const jinja = "warning wf.yaml:30:39: templates.main.steps[0].make templates.make: {{ .Go }} is not a tag of workflows and stays as it is"
	if diff := cmp.Diff([]string{jinja}, check(t, good, Options{})); diff != "" {
		t.Fatal(diff)
	}
	for _, c := range []struct{ old, by, want string }{
		{"{{workflow.parameters.text}}", "{{ workflow.parameters.txt }}",
			"wf.yaml:13:53: templates.main.steps[0] failed to resolve {{ workflow.parameters.txt }} (did you mean {{workflow.parameters.text}}?)"},
		{"echo {{inputs.parameters.in}}", "echo {{inputs.parameters.im}}",
			"wf.yaml:30:14: templates.main.steps[0].make templates.make: failed to resolve {{inputs.parameters.im}} (did you mean {{inputs.parameters.in}}?)"},
		{"{{steps.make.outputs.result}} == x", "{{steps.use.outputs.result}} == x",
			"wf.yaml:16:16: templates.main.steps[1] failed to resolve {{steps.use.outputs.result}}"},
		{"{{steps.make.outputs.result}} == x", "a ==", "wf.yaml:16:15: templates.main.steps[1].use.when: invalid 'when' expression 'a ==': unexpected end of expression"},
		{"{{item.v}}", "{{item.w}}", "wf.yaml:17:53: templates.main.steps[1] failed to resolve {{item.w}}"},
		{"template: make\n        when", "template: made\n        when", "wf.yaml:14:9: templates.main.steps[1].use template name 'made' undefined"},
		{"a.Failed || !a", "a.Failed || c", "wf.yaml:23:9: templates.graph.tasks.b dependency 'c' not defined"},
		{"a.Failed || !a", "a.Broken", "wf.yaml:23:44: templates.graph.tasks.b.depends: column 3: task result 'Broken' for task 'a' is invalid"},
		{"a.Failed || !a", "b", "wf.yaml:21:7: templates.graph cycle detected: b->b"},
		{"{{=sprig.upper(inputs.parameters.in)}}", "{{=sprig.upper(}}", "wf.yaml:30:49: templates.main.steps[0].make templates.make: failed to evaluate expression {{=sprig.upper(}}"},
		{"valueFrom: {path: /out}", "valueFrom: {jqFilter: .}", "wf.yaml:31:28: templates.main.steps[0].make templates.make.outputs.parameters.out.path must be specified for Script templates"},
		{"entrypoint: main", "entrypoint: mian", "wf.yaml:5:15: spec.entrypoint template name 'mian' undefined"},
		{"[{name: text, value: hello}]", "[{name: text}]", "wf.yaml:7:18: spec.arguments.text.value or spec.arguments.text.valueFrom is required"},
		{"image: alpine", "image: ''", "templates.make.script.image may not be empty"},
		{"template: make\n        arguments: {parameters: [{name: in, value: \"{{workflow.parameters.text}}", "template: graph\n        arguments: {parameters: [{name: in, value: \"{{pod.name}}",
			"wf.yaml:13:52: templates.main.steps[0].make failed to resolve {{pod.name}}: a dag template has no pod"},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatalf("%q is not in the manifest", c.old)
		}
		found := strings.Join(check(t, strings.Replace(good, c.old, c.by, 1), Options{}), "\n")
		if !strings.Contains(found, "error "+c.want) && (strings.HasPrefix(c.want, "wf.yaml") || !strings.Contains(found, c.want)) {
			t.Errorf("%s -> %s:\ngot  %s\nwant %s", c.old, c.by, found, c.want)
		}
	}
}

// The work grows with the manifest, not with its square: each task of a long chain refers to the one before.
func TestLongChain(t *testing.T) {
	took := func(tasks int) time.Duration {
		var b strings.Builder
		b.WriteString(strings.Replace(good, "entrypoint: main", "entrypoint: chain", 1))
		b.WriteString("  - name: chain\n    dag:\n      tasks:\n      - {name: t0, template: make, arguments: {parameters: [{name: in, value: x}]}}\n")
		for i := 1; i < tasks; i++ {
			fmt.Fprintf(&b, "      - {name: t%d, template: make, depends: t%d, arguments: {parameters: [{name: in, value: '{{tasks.t%d.outputs.result}}'}]}}\n", i, i-1, i-1)
		}
		objects, _ := manifest.Decode("wf.yaml", []byte(b.String()))
		start := time.Now()
		if found := Object(objects[0], Options{}); len(found) != 1 {
			t.Errorf("%d: %v", len(found), found[:min(3, len(found))])
		}
		return time.Since(start)
	}
	took(100)
	// Sixteen times the tasks take about sixteen times as long; the square would take 256 times.
	if few, many := took(500), took(8000); many > 64*few {
		t.Errorf("500 tasks take %v, 8000 take %v", few, many)
	}
}

func TestModes(t *testing.T) {
	missing := strings.Replace(good, "[{name: text, value: hello}]", "[{name: text}]", 1)
	unknown := strings.Replace(good, "entrypoint: main", "entrypoint: main\n  foo: 1", 1)
	for _, c := range []struct {
		text string
		mode Mode
		ok   bool
	}{
		{missing, Default, false}, {missing, Lint, true}, {missing, Strict, true}, {missing, Submit, false}, {missing, Schema, true},
		{unknown, Default, true}, {unknown, Strict, false}, {unknown, Schema, true},
		{strings.Replace(missing, "kind: Workflow", "kind: WorkflowTemplate", 1), Default, true},
	} {
		objects, _ := manifest.Decode("wf.yaml", []byte(c.text))
		found := Object(objects[0], Options{Mode: c.mode})
		if manifest.Failed(found) == c.ok {
			t.Errorf("%s: %v", c.mode, found)
		}
	}
}

func TestCronWorkflow(t *testing.T) {
	const text = "apiVersion: argoproj.io/v1alpha1\nkind: CronWorkflow\nmetadata: {name: c}\nspec:\n  schedules: ['* * *']\n  concurrencyPolicy: Never\n" +
		"  workflowSpec: {entrypoint: m, templates: [{name: m, suspend: {}}]}\n"
	found := strings.Join(check(t, text, Options{}), "\n")
	for _, want := range []string{"cron schedule * * * is malformed", "wf.yaml:6:22: 'Never' is not a valid concurrencyPolicy"} {
		if !strings.Contains(found, want) {
			t.Errorf("%s is not in\n%s", want, found)
		}
	}
}

func TestIncompletePassesOverUnknownTemplates(t *testing.T) {
	text := "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: c}\nspec: {workflowTemplateRef: {name: x}}\n"
	if found := check(t, text, Options{Incomplete: true}); len(found) > 0 {
		t.Error(found)
	}
	if found := check(t, text, Options{}); len(found) != 1 {
		t.Error(found)
	}
}

func FuzzObject(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("apiVersion: a\nkind: Workflow\nspec: {entrypoint: a, hooks: {x: {}}, templates: [{name: a, steps: [{name: a}, [{inline: {steps: []}}]], metrics: {prometheus: [{}]}}]}"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		objects, _ := manifest.Decode("f", data)
		for _, o := range objects {
			for _, kind := range []string{"Workflow", "CronWorkflow", "WorkflowTemplate"} {
				o.Kind = kind
				Object(o, Options{})
			}
		}
	})
}

// TestHTTPConditions: a condition that cannot be compiled, or names what is not there when the answer is judged, is a
// fault before the run (Argo Workflows docs, variables.md, "HTTP Templates").
func TestHTTPConditions(t *testing.T) {
	const text = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: http-}
spec:
  entrypoint: main
  templates:
  - name: main
    http:
      url: http://a.test
      successCondition: CONDITION
`
	const at = "error wf.yaml:10:25: templates.main.http.successCondition: "
	for condition, want := range map[string][]string{
		`response.statusCode < 500 && len(request.headers) == 0`:         nil,
		`response.body contains "{{workflow.name}}"`:                     nil,
		`response.statusCode <`:                                          {at + "unexpected token EOF (1:21)"},
		`status == 200 && response.body != inputs.parameters.x && true `: {at + "inputs.parameters.x is not known here: it can name request.… and response.…", at + "status is not known here: it can name request.… and response.…"},
	} {
		got := check(t, strings.Replace(text, "CONDITION", condition, 1), Options{})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", condition, diff)
		}
	}
}

// What only the end of a step knows is not known in its own template, but for metrics; a raw artifact is what a step is given. Argo takes both,
// and the run ends in an Error (raw.go in workflow/artifacts of Argo; docs/variables.md for the names of outputs).
func TestOwnOutputs(t *testing.T) {
	const head = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  templates:
  - name: main
    container: {image: i, command: [c], args: ["{{outputs.parameters.p.path}} {{outputs.artifacts.a.path}}"]}
`
	for text, want := range map[string]string{
		"    outputs: {parameters: [{name: p, valueFrom: {path: /p}}], artifacts: [{name: a, path: /a}]}\n":                                                                                            "",
		"    outputs: {parameters: [{name: p, valueFrom: {path: /p}}], artifacts: [{name: a, path: /a, s3: {key: \"{{outputs.result}}\"}}]}\n":                                                         "error wf.yaml:9:106: templates.main: failed to resolve {{outputs.result}}",
		"    outputs: {parameters: [{name: p, valueFrom: {path: /p}}], artifacts: [{name: a, path: /a, raw: {data: x}}]}\n":                                                                            "error wf.yaml:9:75: templates.main.outputs.artifacts.a: raw can only be an input",
		"    outputs: {parameters: [{name: q, valueFrom: {path: /p}}], artifacts: [{name: a, path: /a}]}\n":                                                                                            "error wf.yaml:8:49: templates.main: failed to resolve {{outputs.parameters.p.path}} (did you mean {{outputs.parameters.q.path}}?)",
		"    outputs: {parameters: [{name: p, valueFrom: {path: /p}}], artifacts: [{name: a, path: /a}]}\n    metrics: {prometheus: [{name: m, help: h, counter: {value: \"{{outputs.result}}\"}}]}\n": "",
	} {
		got := check(t, head+text, Options{})
		if got, want := strings.Join(got, "\n"), want; got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// What 4.0 removed is taken as 3.x wrote it; what has no effect any more is said and is no fault (reference 1.11).
func TestLegacyFields(t *testing.T) {
	for text, want := range map[string]string{`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: w}
spec:
  entrypoint: main
  podPriority: 5
  containerRuntimeExecutor: emissary
  ttlSecondsAfterFinished: 60
  synchronization: {mutex: {name: m}}
  templates:
  - name: main
    synchronization: {semaphore: {configMapKeyRef: {name: c, key: k}}}
    container: {image: i, command: [c]}
`: `warning wf.yaml:7:3: field "spec.containerRuntimeExecutor" has no effect: Argo removed it in 3.4
warning wf.yaml:8:3: field "spec.ttlSecondsAfterFinished" has no effect: Argo removed it in 3.0; use ttlStrategy`, `apiVersion: argoproj.io/v1alpha1
kind: CronWorkflow
metadata: {name: c}
spec:
  schedule: "* * * * *"
  workflowSpec:
    entrypoint: main
    templates: [{name: main, container: {image: i, command: [c]}}]
`: ""} {
		if got := strings.Join(check(t, text, Options{Mode: Strict}), "\n"); got != want {
			t.Error(got)
		}
	}
}
