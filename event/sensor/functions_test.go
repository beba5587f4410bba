package sensor

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/sprig/v3"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/manifest"
)

// Argo Events gives templates all of sprig (pkg/sensors/triggers/params.go, sprig.FuncMap). What is drawn has sprig's alphabets and lengths.
func TestDrawnText(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for template, want := range map[string]string{
		`{{ randAlphaNum 5 }}`:    `^[0-9A-Za-z]{5}$`,
		`{{ randAlpha 40 }}`:      `^[A-Za-z]{40}$`,
		`{{ randNumeric 7 }}`:     `^[0-9]{7}$`,
		`{{ randAscii 9 }}`:       `^[ -~]{9}$`,
		`{{ randBytes 16 }}`:      `^[0-9A-Za-z+/]{22}==$`,
		`{{ randInt 3 5 }}`:       `^[34]$`,
		`{{ uuidv4 }}`:            `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`,
		`{{ shuffle "abc" }}`:     `^[abc]{3}$`,
		`{{ seq 3 }}`:             `^1 2 3$`,
		`{{ seq 5 -2 1 }}`:        `^5 3 1$`,
		`{{ seq 0 }}`:             `^1 0$`,
		`{{ now | date "2006" }}`: `^2026$`,
		`{{ ago .Input }}`:        `^1h0m0s$`,
	} {
		got, err := render(budget.New(), template, now.Add(-time.Hour), now)
		if err != nil || !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s gives %q %v, want %s", template, got, err, want)
		}
	}
	one, _ := render(budget.New(), `{{ uuidv4 }}`, nil, now)
	if two, _ := render(budget.New(), `{{ uuidv4 }}`, nil, now); one == two {
		t.Error("the same twice")
	}
	for _, template := range []string{
		`{{ randAlphaNum 100000000 }}`, `{{ randAlphaNum -1 }}`, `{{ randInt 5 5 }}`, `{{ seq 1 999999999999999999 }}`, `{{ seq 100000000 }}`,
		`{{ shuffle (repeat 70000 "x") }}`, `{{ randBytes 99999999 }}`, `{{ env "HOME" }}`, `{{ range until 3000 }}{{ randAlphaNum 60000 }}{{ end }}`,
	} {
		if got, err := render(budget.New(), template, nil, now); err == nil {
			t.Errorf("%s gives %d bytes", template, len(got))
		}
	}
}

// seq is sprig's.
func TestSequence(t *testing.T) {
	theirs, ok := sprig.GenericFuncMap()["seq"].(func(...int) string)
	if !ok {
		t.Fatal("sprig's seq has another shape")
	}
	rapid.Check(t, func(t *rapid.T) {
		params := rapid.SliceOfN(rapid.IntRange(-20, 20), 0, 4).Draw(t, "params")
		if len(params) == 3 && params[1] == 0 {
			return // sprig's never ends
		}
		got, err := sequence(budget.New(), params)
		if want := theirs(params...); err != nil || got != want {
			t.Fatalf("seq %v is %q (%v), want %q", params, got, err, want)
		}
	})
}

// What can be found out before the first event is refused with its place.
func TestProgramsAreChecked(t *testing.T) {
	text := func(filters, parameter string) string {
		return `apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s}
spec:
  dependencies:
  - name: dep
    eventSourceName: s
    eventName: e
` + filters + `  triggers:
  - template:
      name: start
      argoWorkflow:
        operation: submit
        source: {resource: {apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {generateName: x-, annotations: {template: "{{ nothing }}"}}, spec: {entrypoint: m, templates: [{name: m, suspend: {}}]}}}
        parameters: [{src: {dependencyName: dep, ` + parameter + `}, dest: spec.entrypoint}]
`
	}
	for name, c := range map[string]struct{ filters, parameter, want string }{
		"good":                {"", `dataTemplate: "{{ randAlphaNum 5 }}"`, ""},
		"unknown function":    {"", `dataTemplate: "{{ getHostByName 5 }}"`, "spec.triggers[0].template.argoWorkflow.parameters[0].src.dataTemplate"},
		"unclosed":            {"", `contextTemplate: "{{ .Input"`, "spec.triggers[0].template.argoWorkflow.parameters[0].src.contextTemplate"},
		"filter script":       {"    filters: {script: \"return event.body ==\"}\n", `value: x`, "spec.dependencies[0].filters.script"},
		"transform script":    {"    transform: {script: \"event.body = \"}\n", `value: x`, "spec.dependencies[0].transform.script"},
		"filter template":     {"    filters: {data: [{path: a, type: string, value: [x], template: \"{{ nothing }}\"}]}\n", `value: x`, "spec.dependencies[0].filters.data[0].template"},
		"expression":          {"    filters: {exprs: [{expr: \"a ==\", fields: [{name: a, path: b}]}]}\n", `value: x`, "spec.dependencies[0].filters.exprs[0]"},
		"good script":         {"    filters: {script: \"return true\"}\n", `value: x`, ""},
		"script with a print": {"    filters: {script: \"print(event) return true\"}\n", `value: x`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := checkText(t, text(c.filters, c.parameter))
			if c.want == "" && found != "" || c.want != "" && !strings.Contains(found, c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
			if c.want != "" && !strings.Contains(found, "s.yaml:") {
				t.Errorf("without a place: %q", found)
			}
		})
	}
}

// checkText gives what is found in a definition, errors only.
func checkText(t *testing.T, text string) string {
	t.Helper()
	objects, diagnostics := manifest.Decode("s.yaml", []byte(text))
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, d := range CheckDefinition(objects[0]) {
		if d.Severity == manifest.SeverityError {
			found = append(found, d.Path+" "+d.Error())
		}
	}
	return strings.Join(found, "\n")
}
