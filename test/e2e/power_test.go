package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// After a reboot nothing of a step is left: its attempt is lost, another is opened, and what was done before stays done.
func TestPowerCutWithinAStep(t *testing.T) {
	w := server(t)
	witness := t.TempDir()
	if err := os.Chmod(witness, 0o777); err != nil { //nolint:gosec // steps of any user write it
		t.Fatal(err)
	}
	// Before and after are done once; the step in between leaves a folder for each of its attempts.
	text := fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: cut}
spec:
  entrypoint: main
  volumes: [{name: witness, hostPath: {path: %s, type: Directory}}]
  templates:
  - name: main
    steps:
    - - {name: before, template: step, arguments: {parameters: [{name: do, value: mkdir /witness/before}]}}
    - - {name: during, template: step, arguments: {parameters: [{name: do, value: "mkdir $(mktemp -d /witness/during-XXXXXX)/up; until [ -e /witness/go ]; do sleep 0.05; done"}]}}
    - - {name: after, template: step, arguments: {parameters: [{name: do, value: mkdir /witness/after}]}}
  - name: step
    inputs: {parameters: [{name: do}]}
    script:
      image: docker.io/library/alpine:3
      command: [sh, -e]
      volumeMounts: [{name: witness, mountPath: /witness}]
      source: "{{inputs.parameters.do}}"
`, witness)
	path := filepath.Join(w.Dir, "cut.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Tiphys(t.Context(), "submit", path); err != nil {
		t.Fatal(err)
	}
	attempts := func(n int) {
		t.Helper()
		err := w.Within(t.Context(), 20*time.Second, fmt.Sprintf("attempt %d is up", n), func(context.Context) error {
			if up, _ := filepath.Glob(filepath.Join(witness, "during-*", "up")); len(up) != n {
				return fmt.Errorf("there are %v", up)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	attempts(1)
	if left := w.Leftovers(); !slices.ContainsFunc(commandLines(left), func(line string) bool { return strings.Contains(line, "tiphys-init shim") }) {
		t.Fatalf("the power cut would miss the step's shim: %s", left)
	}
	if err := w.PowerCut(); err != nil {
		t.Fatal(err)
	}
	attempts(2)
	if err := os.WriteFile(filepath.Join(witness, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d := ended(t.Context(), t, w, "cut"); d.Run.Phase != "Succeeded" {
		t.Errorf("%+v", d)
	}
	for _, once := range []string{"before", "after"} {
		if _, err := os.Stat(filepath.Join(witness, once)); err != nil {
			t.Error(err)
		}
	}
	attempts(2)
}

// commandLines are the command lines of what is left.
func commandLines(l story.Leftovers) (found []string) {
	for _, line := range l.Processes {
		found = append(found, line)
	}
	return found
}
