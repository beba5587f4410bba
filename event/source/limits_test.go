package source_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event/source"
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
	for _, d := range source.Check(objects[0]) {
		got = append(got, string(d.Severity)+" "+d.Position.String()+" "+d.Path)
	}
	want := []string{
		"error e.yaml:9:5 spec.kafka",
		"warning e.yaml:6:17 spec.webhook.one.port",
		"error e.yaml:7:47 spec.webhook.two.filter.expression",
		"error e.yaml:11:8 spec.calendar.c",
		"error e.yaml:12:8 spec.calendar.d",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
