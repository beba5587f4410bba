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
	"time"

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
		Projections: []ledger.Projection{workflow.Projection{}, lock.Projection{}, runs.Projection{}, definitions.Projection{}},
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
	return &API{Policy: access.BuiltIn(), Ledger: l, Runs: c, Now: time.Now}
}

// plain judges manifests by themselves.
type plain struct{}

// Validate implements runs.Validator.
func (plain) Validate(_ context.Context, o manifest.Object, terms runs.Terms) []manifest.Diagnostic {
	return validate.Object(o, validate.Options{Labels: terms.Labels, Annotations: terms.Annotations})
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

// A run is run again over Argo's route, by who may make runs; memoized only after it ended badly (argo-server's PUT …/resubmit).
func TestResubmitOverTheAPI(t *testing.T) {
	a := testAPI(t)
	if code, answer := post(t, a.argoCreate, map[string]any{"manifest": harbour, "submitOptions": map[string]any{"name": "mine", "labels": "team=dock"}}); code != http.StatusOK {
		t.Fatal(code, answer)
	}
	again := func(role access.Role, body string) (int, string) {
		r := httptest.NewRequest(http.MethodPut, "/", strings.NewReader(body))
		r.SetPathValue("namespace", "default")
		r.SetPathValue("name", "mine")
		r.SetPathValue("verb", "resubmit")
		w := httptest.NewRecorder()
		as(role, a.argoVerb).ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	code, answer := again(access.Developer, `{"parameters": ["branch=topic"]}`)
	for _, want := range []string{`"team":"dock"`, `"workflows.argoproj.io/resubmitted-from-workflow":"mine"`, "topic", `"name":"ci-`} {
		if code != http.StatusOK || !strings.Contains(answer, want) {
			t.Errorf("%d %s, want %s", code, answer, want)
		}
	}
	for body, want := range map[string]int{`{"memoized": true}`: http.StatusConflict, `{"parameters": ["twig=x"]}`: http.StatusBadRequest, `{"parameters": ["x"]}`: http.StatusBadRequest} {
		if code, answer := again(access.Developer, body); code != want {
			t.Errorf("%s: %d %s, want %d", body, code, answer, want)
		}
	}
	if code, answer := again(access.Viewer, `{}`); code != http.StatusForbidden {
		t.Errorf("a viewer made a run: %d %s", code, answer)
	}
}

// What a CronWorkflow gives its runs it gives those that are submitted from it by hand, too, and they can name it
// (ConvertCronWorkflowToWorkflow in workflow/common/convert.go of Argo); what is said at the submission counts more.
func TestSubmitFromACronWorkflow(t *testing.T) {
	a := testAPI(t)
	a.Definitions = definitions.New(a.Ledger, nil, nil)
	objects, diags := manifest.Decode("c.yaml", []byte(`apiVersion: argoproj.io/v1alpha1
kind: CronWorkflow
metadata: {name: nightly}
spec:
  schedules: ["* * * * *"]
  workflowMetadata: {labels: {owner: night, stage: none}, annotations: {why: tidy}}
  workflowSpec:
    entrypoint: main
    templates:
    - {name: main, container: {image: i, command: [echo, "{{workflow.labels.owner}} {{workflow.labels.stage}} {{workflow.annotations.why}}"]}}
`))
	if _, err := a.Definitions.Apply(t.Context(), "user:ada", definitions.OriginAPI, objects); err != nil || manifest.Failed(diags) {
		t.Fatal(err, diags)
	}
	code, answer := post(t, a.argoSubmit, map[string]any{
		"resourceKind": "cronworkflow", "resourceName": "nightly", "submitOptions": map[string]any{"labels": "stage=canary"},
	})
	for _, want := range []string{`"owner":"night"`, `"stage":"canary"`, `"why":"tidy"`, `"workflows.argoproj.io/cron-workflow":"nightly"`, `"name":"nightly-`} {
		if code != http.StatusOK || !strings.Contains(answer, want) {
			t.Errorf("%d %s, want %s", code, answer, want)
		}
	}
	for _, bad := range []map[string]any{{"annotations": "x"}, {"labels": "x"}} {
		code, answer := post(t, a.argoSubmit, map[string]any{"resourceKind": "cronworkflow", "resourceName": "nightly", "submitOptions": bad})
		if code != http.StatusBadRequest {
			t.Errorf("%v: %d %s", bad, code, answer)
		}
	}
}
