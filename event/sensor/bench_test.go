package sensor_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
)

// BenchmarkDecide is one sensor that looks at a recorded push: a data filter, an expression and three parameters.
func BenchmarkDecide(b *testing.B) {
	body, err := os.ReadFile(filepath.Join("..", "testdata", "gitlab", "push.json"))
	if err != nil {
		b.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{"headers": map[string][]string{"X-Gitlab-Event": {"Push Hook"}}, "body": json.RawMessage(body)})
	if err != nil {
		b.Fatal(err)
	}
	s := load(b, `
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s, namespace: ports}
spec:
  dependencies:
  - name: push
    eventSourceName: src
    eventName: a
    filters:
      data: [{path: body.ref, type: string, value: ["^refs/heads/main$"]}]
      exprs: [{expr: 'kind == "push"', fields: [{name: kind, path: body.object_kind}]}]
  triggers:
  - template:
      name: t
      argoWorkflow:
        source: {resource: {kind: Workflow, spec: {arguments: {parameters: [{name: a}, {name: b}, {name: c}]}}}}
        parameters:
        - {src: {dependencyName: push, dataKey: body.after}, dest: spec.arguments.parameters.0.value}
        - {src: {dependencyName: push, dataKey: body.ref}, dest: spec.arguments.parameters.1.value}
        - {src: {dependencyName: push, dataKey: body.project.path_with_namespace}, dest: spec.arguments.parameters.2.value}
`)
	e := event.Event{ID: "e", Seq: 1, Namespace: "ports", Source: "src", Subject: "a", Data: data}
	b.ResetTimer()
	for range b.N {
		if r, err := s.Decide(b.Context(), nil, sensor.Read(e), nil, time.Time{}); err != nil || len(r.Firings) != 1 || r.Firings[0].Problem != "" {
			b.Fatalf("%+v", r)
		}
	}
}
