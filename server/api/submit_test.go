package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
	"github.com/tiphys/tiphys/workflow/validate"
)

// testAPI is an API over an empty ledger whose runs are recorded and go nowhere.
func testAPI(t *testing.T) *API {
	t.Helper()
	l, err := sqlite.Open(context.Background(), sqlite.Options{
		Path:        filepath.Join(t.TempDir(), "ledger.db"),
		Projections: []ledger.Projection{workflow.Projection{}, lock.Projection{}, runs.Projection{}},
		Synchronous: sqlite.Off,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := runs.New(runs.Options{
		Ledger: l, Executors: executor.NewRegistry(podpolicy.New(), scripted.New(scripted.Options{}).Named()), Objects: definitions.NewMemory(nil),
		Validator: plain{},
	})
	return &API{Policy: access.BuiltIn(), Ledger: l, Runs: c}
}

// plain judges manifests by themselves.
type plain struct{}

// Validate implements runs.Validator.
func (plain) Validate(_ context.Context, o manifest.Object, _ runs.Terms) []manifest.Diagnostic {
	return validate.Object(o, validate.Options{})
}

func post(t *testing.T, handle http.HandlerFunc, body any) (int, string) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(raw))
	r.SetPathValue("namespace", "default")
	w := httptest.NewRecorder()
	as(access.Developer, handle).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

const harbour = `# what the user wrote
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: ci-}
spec:
  entrypoint: main
  arguments:
    parameters: [{name: branch, value: main}]
  templates:
    - name: main
      container:
        image: busybox
        command: [echo, "{{workflow.parameters.branch}}"]
`

// A manifest that is sent as it was written is judged with the user's own file, line and column.
func TestSubmitNamesTheUsersLines(t *testing.T) {
	cases := map[string]struct {
		change, to, want string
	}{
		"not YAML":            {"metadata: {generateName: ci-}", "metadata: {generateName: ci-", "ci.yaml:"},
		"a tag of nothing":    {"workflow.parameters.branch", "workflow.parameters.twig", "ci.yaml:13:26: "},
		"no such template":    {"entrypoint: main", "entrypoint: mein", "ci.yaml:6:15: "},
		"a wrong type":        {"image: busybox", "image: [busybox]", "ci.yaml:12:16: "},
		"two kinds of a leaf": {"      container:\n", "      suspend: {}\n      container:\n", "ci.yaml:10:7: "},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a := testAPI(t)
			text := strings.Replace(harbour, c.change, c.to, 1)
			if text == harbour {
				t.Fatal("nothing was changed")
			}
			for path, handle := range map[string]http.HandlerFunc{"create": a.argoCreate, "lint": a.argoLint} {
				code, answer := post(t, handle, map[string]any{"manifest": text, "file": "ci.yaml"})
				if code != http.StatusBadRequest || !strings.Contains(answer, c.want) {
					t.Errorf("%s: %d %s, want 400 and %s", path, code, answer, c.want)
				}
			}
		})
	}
}

// Options of a submission go with a manifest as they go with a template.
func TestSubmitManifestWithOptions(t *testing.T) {
	a := testAPI(t)
	code, answer := post(t, a.argoCreate, map[string]any{
		"manifest": harbour + "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: beside}}\n", "file": "ci.yaml",
		"submitOptions": map[string]any{"name": "mine", "parameters": []string{"branch=topic"}, "labels": "team=dock"},
	})
	var wf struct {
		Metadata struct {
			Name   string            `json:"name"`
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
		Spec struct {
			Arguments manifest.Arguments `json:"arguments"`
		} `json:"spec"`
	}
	if code != http.StatusOK || json.Unmarshal([]byte(answer), &wf) != nil {
		t.Fatalf("%d %s", code, answer)
	}
	if wf.Metadata.Name != "mine" || wf.Metadata.Labels["team"] != "dock" {
		t.Errorf("metadata: %+v", wf.Metadata)
	}
	run, err := a.Runs.Summary(context.Background(), "default", "mine")
	if err != nil || run.Labels["team"] != "dock" {
		t.Errorf("%+v %v", run, err)
	}
	if !strings.Contains(answer, "topic") {
		t.Errorf("the parameter is not in %s", answer)
	}
}

// What is not one Workflow, or is said twice, is refused with what to send.
func TestSubmitRefused(t *testing.T) {
	a := testAPI(t)
	for name, body := range map[string]map[string]any{
		"nothing":       {},
		"no workflow":   {"manifest": "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}"},
		"two workflows": {"manifest": harbour + "---\n" + harbour},
		"both":          {"manifest": harbour, "workflow": map[string]any{"kind": "Workflow"}},
		"bad parameter": {"manifest": harbour, "submitOptions": map[string]any{"parameters": []string{"branch"}}},
	} {
		if code, answer := post(t, a.argoCreate, body); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, code, answer)
		}
	}
}
