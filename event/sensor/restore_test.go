package sensor_test

import (
	"context"
	"testing"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/script"
)

// counted counts the programs that are run.
type counted struct {
	script.Interpreter
	ran *int
}

func (c counted) JQ(ctx context.Context, program string, data []byte, now time.Time) ([]byte, error) {
	*c.ran++
	return c.Interpreter.JQ(ctx, program, data, now)
}

// A saved event is transformed once for a decision, however many triggers wait for it.
func TestSavedEventsAreTransformedOnce(t *testing.T) {
	text := `apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: tide, namespace: ports}
spec:
  dependencies:
  - {name: a, eventSourceName: src, eventName: a, transform: {jq: '{n: (.n + 1)}'}}
  - {name: b, eventSourceName: src, eventName: b}
  triggers:
`
	for _, name := range []string{"one", "two", "three"} {
		text += "  - template: {name: " + name + ", conditions: a && b, log: {}}\n"
	}
	objects, diagnostics := manifest.Decode("sensor.yaml", []byte(text))
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	def, diagnostics := manifest.LoadSensor(objects[0])
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	ran := 0
	s, diagnostics := sensor.New(def, "sha256:1", counted{ran: &ran})
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	first := event.Event{ID: "e1", Seq: 1, Namespace: "ports", Source: "src", Subject: "a", Time: time.Unix(1, 0), Data: []byte(`{"n":1}`)}
	r, err := s.Decide(t.Context(), nil, sensor.Read(first), nil, time.Unix(1, 0))
	if err != nil || outcomes(r) != "waiting waiting waiting" || ran != 1 {
		t.Fatalf("%s %v, %d programs", outcomes(r), err, ran)
	}
	second := event.Event{ID: "e2", Seq: 2, Namespace: "ports", Source: "src", Subject: "b", Time: time.Unix(2, 0), Data: []byte(`{}`)}
	r, err = s.Decide(t.Context(), r.States, sensor.Read(second), map[int64]event.Event{1: first}, time.Unix(2, 0))
	if err != nil || outcomes(r) != "fired fired fired" || ran != 2 {
		t.Errorf("%s %v, %d programs", outcomes(r), err, ran)
	}
}
