package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// greedy is what a merge request's pipeline may not do; each line must be refused.
const greedy = `
refused() {
  if out=$("$@" 2>&1); then echo "TAKEN: $*: $out"; exit 1; fi
  echo "refused: $out"
}
cd /tmp
printf x > file
refused tiphys image pack --name harbour/api file
refused tiphys image pack --name fort/api --tag latest file
refused tiphys comment --mr 2 "not my merge request"
refused tiphys status --state success --context pipeline --repo harbour
refused tiphys status --state success --context pipeline --sha 0123456789012345678901234567890123456789
refused tiphys release fort --image api=harbour/api@sha256:0000000000000000000000000000000000000000000000000000000000000000
refused tiphys artifact get secret
ref=$(tiphys image pack --name fort/api --entrypoint /file file | tail -n 1)
refused tiphys release fort --image "api=$ref" --commit 0123456789012345678901234567890123456789
tiphys release fort --image "api=$ref"
echo "all is as it should be"
`

func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by)
}

func apply(t *testing.T, w *story.World, name, text string) {
	t.Helper()
	if err := w.Apply(t.Context(), name, text); err != nil {
		t.Fatal(err)
	}
}

func TestMergeRequestMayNotReleaseOrReachOut(t *testing.T) {
	w := server(t)
	apply(t, w, "fort.yaml", `apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: fort}
spec:
  dependencies:
  - name: change
    eventSourceName: git
    eventName: fort
    filters: {data: [{path: git.kind, type: string, value: ["^pull_request$"]}]}
  triggers:
  - template:
      name: pipeline
      argoWorkflow:
        operation: submit
        source:
          resource:
            apiVersion: argoproj.io/v1alpha1
            kind: Workflow
            metadata: {generateName: fort-}
            spec:
              entrypoint: main
              templates:
              - name: main
                script:
                  image: docker.io/library/alpine:3
                  command: [sh, -e]
                  source: |
`+indent(greedy, "                    ")+`
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: fort-prod, annotations: {tiphys.dev/release: fort}}
spec:
  project: default
  source: {repoURL: "http://tiphys.localhost/git/fort.git", targetRevision: main, path: .}
  destination: {server: https://kubernetes.default.svc, namespace: fort}
  syncPolicy: {automated: {}, syncOptions: [CreateNamespace=true]}
`)
	if err := push(t, w, "fort", func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fort}\n"), 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	keepSecret(t, w)
	dir := filepath.Join(w.Dir, "repo-fort")
	w.Clone = dir
	if _, err := w.Git(t.Context(), "commit", "-q", "--allow-empty", "-m", "Storm the fort"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Git(t.Context(), "push", "-q", "-o", "merge_request.create", "-o", "merge_request.target=main",
		w.URL+"/git/fort.git", "HEAD:refs/heads/storm"); err != nil {
		t.Fatal(err)
	}
	var run struct {
		Items []struct {
			Name    string `json:"name"`
			Phase   string `json:"phase"`
			Message string `json:"message"`
		} `json:"items"`
	}
	err := w.Within(t.Context(), 30*time.Second, "the merge request's run ends", func(ctx context.Context) error {
		err := w.Get(ctx, "", "/api/v1/runs?label="+url.QueryEscape("tiphys.dev/repo=fort"), &run)
		if err == nil && (len(run.Items) != 1 || run.Items[0].Phase == "Running" || run.Items[0].Phase == "Pending") {
			err = fmt.Errorf("there are %+v", run.Items)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := w.Tiphys(t.Context(), "logs", run.Items[0].Name)
	t.Log(log)
	if run.Items[0].Phase != "Succeeded" || err != nil || !strings.Contains(log, "all is as it should be") {
		t.Errorf("each is refused: the run is %s: %s %v", run.Items[0].Phase, run.Items[0].Message, err)
	}
	notDeployed(t, w)
}

// keepSecret has a run leave an artifact, and another run ask for it by its whole key.
func keepSecret(t *testing.T, w *story.World) {
	t.Helper()
	if phase, message := submit(t, w, "keeper", "", "echo hush > /tmp/x; tiphys artifact put secret /tmp/x; tiphys artifact get secret", 20*time.Second, nil); phase != "Succeeded" {
		t.Fatalf("a run keeps an artifact of its own: %s %s", phase, message)
	}
	var d struct {
		Run struct {
			UID string `json:"uid"`
		} `json:"run"`
	}
	if err := w.Get(t.Context(), "", "/api/v1/runs/default/keeper", &d); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.Dir, "thief.yaml")
	text := fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: thief}
spec:
  entrypoint: main
  templates:
  - name: main
    inputs: {artifacts: [{name: loot, path: /tmp/loot, s3: {key: steps/%s/secret}}]}
    container: {image: "docker.io/library/alpine:3", command: [cat, /tmp/loot]}
`, d.Run.UID)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Tiphys(t.Context(), "submit", file); err != nil {
		t.Fatal(err)
	}
	var thief struct {
		Run struct {
			Phase string `json:"phase"`
		} `json:"run"`
		Nodes []struct {
			Message string `json:"message"`
		} `json:"nodes"`
	}
	err := w.Within(t.Context(), 20*time.Second, "the thief's run ends", func(ctx context.Context) error {
		err := w.Get(ctx, "", "/api/v1/runs/default/thief", &thief)
		if err == nil && (thief.Run.Phase == "Running" || thief.Run.Phase == "Pending") {
			err = fmt.Errorf("it is %s", thief.Run.Phase)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the thief: %s: %+v", thief.Run.Phase, thief.Nodes)
	if thief.Run.Phase == "Succeeded" {
		t.Error("a run read another run's artifact")
	}
}

// notDeployed checks that production did not take the merge request's release.
func notDeployed(t *testing.T, w *story.World) {
	t.Helper()
	var releases struct {
		Items []struct {
			MR int `json:"mr"`
		} `json:"items"`
	}
	var app struct {
		App struct {
			Sync    string `json:"sync"`
			Message string `json:"message"`
		} `json:"app"`
		Resources []json.RawMessage `json:"resources"`
	}
	if err := w.Get(t.Context(), "", "/api/v1/releases?name=fort", &releases); err != nil || len(releases.Items) != 1 || releases.Items[0].MR != 1 {
		t.Errorf("there is one release, of merge request 1: %v %+v", err, releases)
	}
	if err := w.Get(t.Context(), "", "/api/v1/apps/default/fort-prod", &app); err != nil || len(app.Resources) > 0 || !strings.Contains(app.App.Message, "no release") {
		t.Errorf("production waits for a release of main: %v %+v", err, app)
	}
}
