package source_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/event/source/calendar"
	"github.com/tiphys/tiphys/event/source/hook"
	"github.com/tiphys/tiphys/manifest"
)

// TestUnsupported: what docs/compatibility.md lists as refused, and what cannot be read, has its place.
func TestUnsupported(t *testing.T) {
	const text = `apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: in}
spec:
  webhook:
    one: {port: "12000", endpoint: /a}
    two: {port: "12001", filter: {expression: "body.a =="}}
  kafka:
    k: {url: x}
  calendar:
    c: {schedule: "* * * * *", exclusionDates: ["RRULE:FREQ=DAILY"]}
    d: {schedule: soon}
`
	objects, diagnostics := manifest.Decode("e.yaml", []byte(text))
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range kinds(t).Check(objects[0]) {
		got = append(got, string(d.Severity)+" "+d.Position.String()+" "+d.Path)
	}
	want := []string{
		"error e.yaml:9:5 spec.kafka",
		"warning e.yaml:6:17 spec.webhook.one.port",
		"error e.yaml:11:8 spec.calendar.c",
		"error e.yaml:12:8 spec.calendar.d",
		"error e.yaml:7:47 spec.webhook.two.filter.expression",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func kinds(t *testing.T) source.Kinds {
	t.Helper()
	k, err := source.NewKinds(append(hook.Kinds(), calendar.Kind{})...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// An event source type that is not registered is refused by its name, and the events of other types beside it are not.
func TestTypesThatAreNotRunAreRefusedByName(t *testing.T) {
	objects, _ := manifest.Decode("e.yaml", []byte(`{apiVersion: argoproj.io/v1alpha1, kind: EventSource, metadata: {name: q}, spec: {kafka: {k: {url: u}}, webhook: {w: {}}}}`))
	es, _ := manifest.LoadEventSource(objects[0])
	var got []string
	for _, e := range kinds(t).Events(es) {
		err := manifest.FirstError(e.Check())
		got = append(got, fmt.Sprint(e.Key(), " ", err))
	}
	want := []string{
		`default/q/k event source type "kafka" is understood but not run by this version (send its events to a webhook source instead)`, "default/q/w <nil>",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := source.NewKinds(calendar.Kind{}, calendar.Kind{}); err == nil {
		t.Error("a kind was registered twice")
	}
}

// The content of an event tells when it has to be opened anew: for its own change and for no other's.
func TestContentIsTheEventsOwn(t *testing.T) {
	read := func(text string) []string {
		objects, _ := manifest.Decode("e.yaml", []byte("{apiVersion: argoproj.io/v1alpha1, kind: EventSource, metadata: {name: q}, spec: "+text+"}"))
		es, _ := manifest.LoadEventSource(objects[0])
		var contents []string
		for _, e := range kinds(t).Events(es) {
			c, err := e.Content()
			if err != nil {
				t.Fatal(err)
			}
			contents = append(contents, string(c))
		}
		return contents
	}
	before := read("{webhook: {a: {method: POST}, b: {}}, replicas: 1}")
	after := read("{replicas: 2, webhook: {b: {metadata: {x: y}}, a: {method: POST}}}")
	if before[0] != after[0] || before[1] == after[1] {
		t.Errorf("before %v, after %v", before, after)
	}
}
