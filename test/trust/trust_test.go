// Package trust holds what attackers tried, each named after what it was, against the real server: a change that nobody has merged
// gives its author no new power, and what anybody sends is data. It needs root, Go and Git, and TIPHYS_E2E=1.
package trust

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// server starts a server on a stage of its own, with these grants beside the stage's.
func server(t *testing.T, grants ...string) *story.World {
	t.Helper()
	if os.Getenv("TIPHYS_E2E") == "" {
		t.Skip("SKIPPED: set TIPHYS_E2E=1 to try exploits on a real server; make test-e2e does")
	}
	root := filepath.Join("..", "..")
	w, err := story.Open(story.Options{
		Tiphys: filepath.Join(root, "bin", "tiphys"), Sample: filepath.Join(root, "examples", "harbour"),
		Deliveries: filepath.Join(root, "event", "testdata", "gitlab"), Out: t.Output(), Grants: grants,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		w.Stop()
		if err := w.Close(ctx, !t.Failed()); err != nil {
			t.Error(err)
		}
	})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// echo is a workflow that prints what it is given between two signs.
const echo = `{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {generateName: echo-}, spec: {entrypoint: say,
  arguments: {parameters: [{name: v, value: none}]}, templates: [{name: say, inputs: {parameters: [{name: v, value: "{{workflow.parameters.v}}"}]},
  container: {image: "docker.io/library/alpine:3", command: [sh, -c, 'printf "<%s>\n" "$V"'], env: [{name: V, value: "{{inputs.parameters.v}}"}]}}]}}`

// poisons are values that were code once.
func poisons() []string {
	return []string{
		"{{=1+1}} {{workflow.uid}}",
		"{{=len(map(1..1000,{sprig.repeat(4000000,'a')}))}}",
		"{{=sprig.env('HOME')}}{{workflow.parameters.v}}",
		"$(id) `id` ; id",
		"{{inputs.parameters.v}}}}{{",
	}
}

// One webhook body stopped the server for good once: its value became a part of the workflow's text, an expression in it took all
// memory, and the event was decided again at each start.
func TestDataOfAWebhookIsNeverCode(t *testing.T) {
	// What a definition over the API starts counts as a developer's.
	w := server(t, "{to: {roles: [developer]}, executors: [host]}")
	definitions := `apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: door}
spec: {webhook: {bell: {port: "12000", endpoint: /bell, method: POST, authSecret: {name: door, key: token}}}}
---
apiVersion: v1
kind: Secret
metadata: {name: door}
stringData: {token: the-bell-of-the-door}
---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: door}
spec:
  dependencies: [{name: bell, eventSourceName: door, eventName: bell}]
  triggers:
  - template:
      name: echo
      argoWorkflow:
        operation: submit
        source: {resource: ` + echo + `}
        parameters: [{src: {dependencyName: bell, dataKey: body.v}, dest: spec.arguments.parameters.0.value}]
`
	apply(t, w, "door.yaml", definitions)
	for _, v := range poisons() {
		body, err := json.Marshal(map[string]string{"v": v})
		if err != nil {
			t.Fatal(err)
		}
		code, answer, err := w.Request(t.Context(), http.MethodPost, "", "/webhooks/default/door/bell", map[string]string{"Content-Type": "application/json", "Authorization": "Bearer the-bell-of-the-door"}, body)
		if err != nil || code != http.StatusOK {
			t.Fatalf("%q is answered %d %s %v", v, code, answer, err)
		}
	}
	err := w.Within(t.Context(), time.Minute, "each run prints what was sent", func(ctx context.Context) error {
		var list struct {
			Items []struct {
				Name string `json:"name"`
			} `json:"items"`
		}
		if err := w.Get(ctx, "", "/api/v1/runs", &list); err != nil {
			return err
		}
		var all strings.Builder
		for _, run := range list.Items {
			log, err := w.Tiphys(ctx, "logs", run.Name)
			if err != nil {
				return err
			}
			all.WriteString(log)
		}
		for _, v := range poisons() {
			if !strings.Contains(all.String(), "<"+v+">") {
				return fmt.Errorf("no run printed %q: %s", v, all.String())
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A parameter on the command line was evaluated, too.
func TestParametersAreNeverCode(t *testing.T) {
	w := server(t)
	file := filepath.Join(w.Dir, "echo.yaml")
	if err := os.WriteFile(file, []byte(echo), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, v := range poisons() {
		name := fmt.Sprintf("echo-%d", i)
		if _, err := w.Tiphys(t.Context(), "submit", file, "--name", name, "-p", "v="+v, "--watch"); err != nil {
			t.Errorf("%q: %v", v, err)
			continue
		}
		said, err := w.Tiphys(t.Context(), "logs", name)
		if err != nil || !strings.Contains(said, "<"+v+">") {
			t.Errorf("%q gives %q %v", v, said, err)
		}
	}
}
