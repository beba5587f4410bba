package definitions_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

func objectsOf(t *testing.T, text string) []manifest.Object {
	t.Helper()
	objects, diags := manifest.Decode("x.yaml", []byte(text))
	if err := manifest.FirstError(diags); err != nil {
		t.Fatal(err)
	}
	return objects
}

// What a trigger made is an object of its own in Argo, with no owner that would have to take it away: an operator may delete it, and a folder may declare
// it. What an operator declared a trigger may not change, and nobody but an operator takes over what is another's.
func TestWhatATriggerMadeIsAnOperators(t *testing.T) {
	b := open(t)
	made := objectsOf(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made}\ndata: {a: one}\n")
	changed := objectsOf(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made}\ndata: {a: two}\n")
	by := definitions.OriginSensor + "default/s"
	apply := func(origin string, objects []manifest.Object) error {
		_, err := b.store.Apply(t.Context(), "user:ada", origin, objects)
		return err
	}
	if err := apply(by, made); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{definitions.OriginSensor + "default/other", "repo:harbour"} {
		if err := apply(other, changed); failure.KindOf(err) != failure.Conflict {
			t.Errorf("%s changes it: %v", other, err)
		}
		if err := b.store.Delete(t.Context(), "x", other, "ConfigMap", "default", "made"); failure.KindOf(err) != failure.Conflict {
			t.Errorf("%s deletes it: %v", other, err)
		}
	}
	if err := apply(definitions.OriginAPI, changed); err != nil {
		t.Errorf("an operator changes it: %v", err)
	}
	if err := apply(by, made); failure.KindOf(err) != failure.Conflict {
		t.Errorf("the trigger takes it back: %v", err)
	}
	if err := b.store.Delete(t.Context(), "user:ada", definitions.OriginAPI, "ConfigMap", "default", "made"); err != nil {
		t.Error(err)
	}
	if err := apply(by, made); err != nil {
		t.Fatal(err)
	}
	if _, err := b.store.Replace(t.Context(), "folder:cfg", definitions.OriginFolder, changed); err != nil {
		t.Errorf("a folder declares it: %v", err)
	}
	if _, err := b.store.Replace(t.Context(), "folder:cfg", definitions.OriginFolder, nil); err != nil {
		t.Error(err)
	}
	if err := apply(by, made); err != nil {
		t.Errorf("after the folder has let it go: %v", err)
	}
	if err := b.store.Delete(t.Context(), "user:ada", definitions.OriginAPI, "ConfigMap", "default", "made"); err != nil {
		t.Errorf("an operator deletes what a trigger made: %v", err)
	}
}

// docs/compatibility.md: a k8s trigger creates a Workflow or what can be declared; another kind is refused where the Sensor is applied.
func TestKindsThatATriggerMakes(t *testing.T) {
	text := func(kind string) string {
		return `apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s}
spec:
  dependencies: [{name: d, eventSourceName: e, eventName: e}]
  triggers:
  - template:
      name: t
      k8s:
        operation: create
        source:
          resource: {apiVersion: v1, kind: ` + kind + `, metadata: {name: x}}
`
	}
	for kind, makeable := range map[string]bool{"Workflow": true, "WorkflowTemplate": true, "Application": true, "ConfigMap": true, "Secret": true, "Pod": false, "Deployment": false, "Job": false, "Nothing": false} {
		diags := definitions.Rules{}.Check(objectsOf(t, text(kind))[0])
		var found string
		for _, d := range diags {
			if strings.HasSuffix(d.Path, "resource.kind") {
				found = d.Error()
			}
		}
		if (found == "") != makeable || !makeable && (!strings.Contains(found, "x.yaml:12:") || !strings.Contains(found, kind)) {
			t.Errorf("%s: %q", kind, found)
		}
	}
}

// A Sensor that names an event source or an event that nobody declares is taken, with a warning at its place: the other one may come later.
func TestWhatNobodyDeclaresIsAWarning(t *testing.T) {
	sensor := func(source, event string) string {
		return "apiVersion: argoproj.io/v1alpha1\nkind: Sensor\nmetadata: {name: s}\nspec:\n  dependencies:\n  - name: d\n    eventSourceName: " + source + "\n    eventName: " + event +
			"\n  triggers: [{template: {name: t, log: {}}}]\n"
	}
	source := "apiVersion: argoproj.io/v1alpha1\nkind: EventSource\nmetadata: {name: lab}\nspec: {webhook: {push: {endpoint: /a}}, calendar: {tick: {interval: 1h}}}\n"
	b := open(t)
	warnings := func(text string) string {
		t.Helper()
		ch, err := b.store.Apply(t.Context(), "user:ada", definitions.OriginAPI, objectsOf(t, text))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, d := range ch.Diagnostics {
			out = append(out, string(d.Severity)+" "+d.Error())
		}
		return strings.Join(out, "\n")
	}
	if got := warnings(sensor("lab", "push")); !strings.Contains(got, "warning x.yaml:7:") || !strings.Contains(got, `no EventSource "lab" is declared in namespace "default"`) {
		t.Errorf("no source: %q", got)
	}
	// It is shown on the Sensor, for as long as it is so.
	shown := func() string {
		t.Helper()
		d, _, err := b.store.Look(t.Context(), "Sensor", "default", "s")
		if err != nil {
			t.Fatal(err)
		}
		conditions, err := b.store.Conditions(t.Context(), d)
		if err != nil || len(conditions) > 1 {
			t.Fatalf("%+v %v", conditions, err)
		}
		for _, c := range conditions {
			return c.Type + " " + c.Message
		}
		return ""
	}
	if got := shown(); got != `Undeclared spec.dependencies[0].eventSourceName: no EventSource "lab" is declared in namespace "default"` {
		t.Errorf("no source: %q", got)
	}
	if got := warnings(sensor("lab", "push") + "---\n" + source); got != "" {
		t.Errorf("declared together: %q", got)
	}
	if got := shown(); got != "" {
		t.Errorf("declared together: %q", got)
	}
	if got := warnings(sensor("lab", "tick")); got != "" {
		t.Errorf("declared before: %q", got)
	}
	if got := warnings(sensor("lab", "pull")); !strings.Contains(got, "warning x.yaml:8:") || !strings.Contains(got, `EventSource "lab" has no event "pull"`) {
		t.Errorf("no such event: %q", got)
	}
}
