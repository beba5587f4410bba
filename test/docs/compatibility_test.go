// Package docs_test keeps the documents true: what they list is compared with the code, and their examples are run.
package docs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/executor/local"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/event/source/calendar"
	"github.com/tiphys/tiphys/event/source/hook"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

const compatibility = "../../docs/compatibility.md"

// listed is what docs/compatibility.md says of one type: status by field.
type listed map[string]string

var (
	code     = regexp.MustCompile("`([^`]+)`")
	statuses = []string{"works", "no effect here", "refused"}
)

// readCompatibility reads the sections "### Type" and their tables "| fields | status | note |".
func readCompatibility(t *testing.T) map[string]listed {
	t.Helper()
	data, err := os.ReadFile(compatibility)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]listed{}
	var section string
	for i, line := range strings.Split(string(data), "\n") {
		if name, ok := strings.CutPrefix(line, "### "); ok {
			section = strings.TrimSpace(name)
			if types[section] != nil {
				t.Errorf("%s:%d: %s has two sections", compatibility, i+1, section)
			}
			types[section] = listed{}
			continue
		}
		if strings.HasPrefix(line, "## ") {
			section = ""
		}
		cells := strings.Split(line, "|")
		if section == "" || len(cells) < 5 || !code.MatchString(cells[1]) {
			continue
		}
		status := strings.TrimSpace(cells[2])
		if !slices.Contains(statuses, status) {
			t.Errorf("%s:%d: status %q: want one of %q", compatibility, i+1, status, statuses)
		}
		for _, m := range code.FindAllStringSubmatch(cells[1], -1) {
			if types[section][m[1]] != "" {
				t.Errorf("%s:%d: %s.%s is listed twice", compatibility, i+1, section, m[1])
			}
			types[section][m[1]] = status
		}
	}
	return types
}

// fields gathers the JSON fields of a type and of every type of the manifest package below it.
func fields(t reflect.Type, out map[string][]string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[manifest.Workflow]().PkgPath() {
		return
	}
	if _, seen := out[t.Name()]; seen {
		return
	}
	out[t.Name()] = []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if name != "" {
			out[t.Name()] = append(out[t.Name()], name)
		}
		fields(f.Type, out)
	}
}

func known() map[string][]string {
	out := map[string][]string{}
	for _, t := range []reflect.Type{
		reflect.TypeFor[manifest.Workflow](), reflect.TypeFor[manifest.WorkflowTemplate](), reflect.TypeFor[manifest.CronWorkflow](),
		reflect.TypeFor[manifest.EventSource](), reflect.TypeFor[manifest.Sensor](),
		reflect.TypeFor[manifest.Application](), reflect.TypeFor[manifest.AppProject](), reflect.TypeFor[manifest.ApplicationSet](),
		reflect.TypeFor[manifest.Forge](), reflect.TypeFor[manifest.SecretGrant](),
	} {
		fields(t, out)
	}
	return out
}

func TestEveryFieldIsListed(t *testing.T) {
	doc, types := readCompatibility(t), known()
	if len(types) < 100 {
		t.Fatalf("the walk found %d types only", len(types))
	}
	for name, want := range types {
		if doc[name] == nil {
			t.Errorf("%s has no section %q", compatibility, "### "+name)
			continue
		}
		for _, field := range want {
			if doc[name][field] == "" {
				t.Errorf("%s: %s.%s is not listed", compatibility, name, field)
			}
		}
		for field := range doc[name] {
			if !slices.Contains(want, field) {
				t.Errorf("%s: %s has no field %q", compatibility, name, field)
			}
		}
	}
	for i := range reflect.TypeFor[corev1.Container]().NumField() {
		name, _, _ := strings.Cut(reflect.TypeFor[corev1.Container]().Field(i).Tag.Get("json"), ",")
		if doc["Container"][name] == "" {
			t.Errorf("%s: Container.%s is not listed", compatibility, name)
		}
	}
	byHand := []string{"WorkflowEventBinding", "EventBus", "Container"} // kinds without a Go type of the manifest room
	for name := range doc {
		if _, ok := types[name]; !ok && !slices.Contains(byHand, name) {
			t.Errorf("%s: there is no type %q", compatibility, name)
		}
	}
}

// TestLimitsAreListed compares what the rooms warn of and refuse, the lists that lint, submission and the conditions of
// runs are made of, with the page: every field that the walk of a manifest can come to.
func TestLimitsAreListed(t *testing.T) {
	doc, limits := readCompatibility(t), workflow.Limits(local.Fields())
	maps.Copy(limits, sourceKinds(t).Limits())
	maps.Copy(limits, sensor.Limits())
	reached := map[reflect.Type]bool{}
	for _, root := range []reflect.Type{
		reflect.TypeFor[manifest.Workflow](), reflect.TypeFor[manifest.WorkflowTemplate](), reflect.TypeFor[manifest.CronWorkflow](),
		reflect.TypeFor[manifest.EventSource](), reflect.TypeFor[manifest.Sensor](),
	} {
		reach(root, limits, reached)
	}
	reached[reflect.TypeFor[corev1.Container]()] = true
	for typ := range reached {
		limit := limits[typ.Name()]
		for field, status := range doc[typ.Name()] {
			want := "works"
			switch {
			case slices.Contains(limit.NoEffect, field):
				want = "no effect here"
			case slices.Contains(limit.Refused, field):
				want = "refused"
			}
			if status != want {
				t.Errorf("%s: %s.%s is listed as %q, and the code has it as %q", compatibility, typ.Name(), field, status, want)
			}
		}
		for _, field := range append(slices.Clone(limit.NoEffect), limit.Refused...) {
			if doc[typ.Name()][field] == "" {
				t.Errorf("%s: %s.%s has a limit and is not listed", compatibility, typ.Name(), field)
			}
		}
	}
	for name := range limits {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(reached)), func(t reflect.Type) bool { return t.Name() == name }) {
			t.Errorf("no manifest comes to a %s, which has limits", name)
		}
	}
}

// reach gathers the types below one, but for those that stand only below fields with a limit.
func reach(t reflect.Type, limits map[string]manifest.Limit, out map[reflect.Type]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() != reflect.TypeFor[manifest.Workflow]().PkgPath() || out[t] {
		return
	}
	out[t] = true
	limit := limits[t.Name()]
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "-" && !slices.Contains(limit.NoEffect, name) && !slices.Contains(limit.Refused, name) {
			reach(t.Field(i).Type, limits, out)
		}
	}
}

func sourceKinds(t *testing.T) source.Kinds {
	t.Helper()
	kinds, err := source.NewKinds(append(hook.Kinds(), calendar.Kind{})...)
	if err != nil {
		t.Fatal(err)
	}
	return kinds
}

// TestEventSourceTypes asks the registry of kinds which types are run.
func TestEventSourceTypes(t *testing.T) {
	spec := reflect.TypeFor[manifest.EventSourceSpec]()
	for i := range spec.NumField() {
		name, _, _ := strings.Cut(spec.Field(i).Tag.Get("json"), ",")
		status := readCompatibility(t)["EventSourceSpec"][name]
		if spec.Field(i).Type.Kind() != reflect.Map || status == "no effect here" {
			continue
		}
		es := manifest.EventSource{}
		es.Name = "a"
		one := reflect.MakeMap(spec.Field(i).Type)
		one.SetMapIndex(reflect.ValueOf("b"), reflect.New(spec.Field(i).Type.Elem()).Elem())
		reflect.ValueOf(&es.Spec).Elem().Field(i).Set(one)
		diagnostics := sourceKinds(t).Events(&es)[0].Check()
		refused := slices.ContainsFunc(diagnostics, func(d manifest.Diagnostic) bool {
			return strings.Contains(d.Message, "not run by this version")
		})
		if want := status == "refused"; refused != want {
			t.Errorf("EventSource type %s is listed as %q, but the registry refuses it: %v", name, status, refused)
		}
	}
}

// TestApplicationsRefuse writes each refused field of the Application kinds into a manifest and asks the validation.
func TestApplicationsRefuse(t *testing.T) {
	validate := map[string]func(field string) []manifest.Diagnostic{
		"ApplicationSource": func(field string) []manifest.Diagnostic {
			return application(t, fmt.Sprintf("source: {repoURL: http://x/y.git, path: a, %s}", value(field)))
		},
		"ApplicationSpec": func(field string) []manifest.Diagnostic {
			return application(t, "source: {repoURL: http://x/y.git, path: a}\n  "+value(field))
		},
		"DirectorySource": func(field string) []manifest.Diagnostic {
			return application(t, fmt.Sprintf("source: {repoURL: http://x/y.git, path: a, directory: {%s: {extVars: [a]}}}", field))
		},
		"AppProjectSpec": func(field string) []manifest.Diagnostic {
			var p manifest.AppProject
			return append(decode(t, "AppProject", value(field), &p), p.Validate()...)
		},
		"ApplicationSetGenerator": func(field string) []manifest.Diagnostic {
			return set(t, fmt.Sprintf("generators: [{%s: {a: b}}]", field))
		},
	}
	doc := readCompatibility(t)
	for name, ask := range validate {
		for field, status := range doc[name] {
			if status == "refused" && manifest.FirstError(ask(field)) == nil {
				t.Errorf("%s.%s is listed as refused, but nothing refuses it", name, field)
			}
		}
	}
}

// value gives a field a value of the kind that its type wants.
func value(field string) string {
	switch field {
	case "chart", "ref":
		return field + ": x"
	case "syncWindows", "signatureKeys":
		return field + ": [{a: b}]"
	}
	return field + ": {a: b}"
}

func decode(t *testing.T, kind, spec string, into any) []manifest.Diagnostic {
	t.Helper()
	text := "apiVersion: argoproj.io/v1alpha1\nkind: " + kind + "\nmetadata: {name: a}\nspec:\n  " + spec + "\n"
	objects, diagnostics := manifest.Decode("a.yaml", []byte(text))
	if err := manifest.FirstError(diagnostics); err != nil || len(objects) != 1 {
		t.Fatalf("%v in\n%s", err, text)
	}
	return objects[0].Into(into)
}

func application(t *testing.T, spec string) []manifest.Diagnostic {
	t.Helper()
	var a manifest.Application
	return append(decode(t, "Application", spec, &a), a.Validate()...)
}

func set(t *testing.T, spec string) []manifest.Diagnostic {
	t.Helper()
	var s manifest.ApplicationSet
	found := append(decode(t, "ApplicationSet", spec, &s), s.Validate()...)
	// The template's own faults are not asked for here.
	return slices.DeleteFunc(found, func(d manifest.Diagnostic) bool { return !strings.HasPrefix(d.Path, "spec.generators") })
}

// TestTemplateTypes submits a template of each refused type to the engine.
func TestTemplateTypes(t *testing.T) {
	doc := readCompatibility(t)["Template"]
	for _, kind := range []string{"resource", "data", "plugin", "container"} {
		body := map[string]any{"image": "alpine", "command": []string{"true"}}
		raw, err := json.Marshal(map[string]any{
			"apiVersion": manifest.APIVersion, "kind": "Workflow", "metadata": map[string]any{"name": "a"},
			"spec": map[string]any{"entrypoint": "main", "templates": []any{map[string]any{"name": "main", kind: body}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		_, err = workflow.Decide(workflow.NewState(), workflow.Submit{
			Meta: workflow.Meta{Now: now, Actor: "user:test"}, UID: "u", Namespace: "default", Name: "a", Workflow: raw,
		})
		var invalid *workflow.InvalidError
		if got, want := errors.As(err, &invalid), doc[kind] == "refused"; got != want {
			t.Errorf("template type %s is listed as %q, but submitting it gives %v", kind, doc[kind], err)
		}
	}
}

// TestLinks checks that every relative link of the documents leads to a file.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "../../README.md", "../../AGENTS.md")
	for _, page := range pages {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
			}
		}
	}
}
