package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A repository that the operator granted nothing gets nothing of this machine, and whoever asks why is told what to write; in
// the same server one that was granted it goes on (TestMergeRequestMayNotReleaseOrReachOut).
func TestRepositoryWithoutAGrant(t *testing.T) {
	w := server(t)
	apply(t, w, "hut.yaml", `apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: hut}
spec:
  dependencies:
  - {name: change, eventSourceName: git, eventName: hut}
  triggers:
  - template:
      name: pipeline
      argoWorkflow:
        operation: submit
        source:
          git: {url: "http://tiphys.localhost/git/hut.git", filePath: ci.yaml, ref: refs/heads/main}
`)
	if err := push(t, w, "hut", func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "ci.yaml"), []byte(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: hut-}
spec:
  entrypoint: main
  templates:
  - name: main
    container: {image: alpine, command: [cat, /etc/shadow]}
`), 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	var events struct {
		Items []struct {
			ID     string `json:"id"`
			Source string `json:"source"`
		} `json:"items"`
	}
	err := w.Within(t.Context(), 20*time.Second, "tiphys why says what to write", func(ctx context.Context) error {
		if err := w.Get(ctx, "", "/api/v1/events", &events); err != nil {
			return err
		}
		for _, e := range events.Items {
			out, err := w.Tiphys(ctx, "why", e.ID)
			if err == nil && strings.Contains(out, "to: {repositories: [hut]}, executors: [host]") {
				t.Log(out)
				return nil
			}
		}
		return fmt.Errorf("none of %d events says it", len(events.Items))
	})
	if err != nil {
		t.Error(err)
	}
	if out, err := w.Tiphys(t.Context(), "list"); err != nil || strings.Contains(out, "hut-") {
		t.Errorf("there is no run: %v\n%s", err, out)
	}
}
