package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/access/stepclaims"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/forge/forgetest"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// gitlabLike is the scripted forge under the name of a type that webhooks name.
type gitlabLike struct{ *forgetest.Scripted }

func (gitlabLike) Name() string { return "gitlab" }

const labObjects = `
{apiVersion: v1, kind: Secret, metadata: {name: lab}, stringData: {api: TOKEN, hook: hook-secret}}
---
{apiVersion: tiphys.dev/v1alpha1, kind: Forge, metadata: {name: lab}, spec: {type: gitlab, url: "URL", token: {name: lab, key: api}}}
---
apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: lab}
spec: {gitlab: {all: {webhook: {endpoint: /lab}, projects: ["1"], events: [PushEvents, MergeRequestsEvents], secretToken: {name: lab, key: hook}}}}
---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: lab}
spec:
  dependencies: [{name: d, eventSourceName: lab, eventName: all}]
  triggers:
  - template:
      name: build
      argoWorkflow:
        operation: submit
        source: {resource: {apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {generateName: build-}, spec: {entrypoint: m, templates: [{name: m, suspend: {}}]}}}
`

// A forge elsewhere is one type and a declaration: a push to it and a merge request on it, proved by their signatures, start runs whose steps
// set a status and write a comment there, by the outbox. Nothing of the server but its list of types knows of it.
func TestForgeElsewhere(t *testing.T) {
	scripted := forgetest.NewScripted(t)
	s := opened(t, Options{ForgeTypes: []forge.Type{gitlabLike{scripted}}})
	objects, diags := manifest.Decode("x.yaml", []byte(strings.NewReplacer("URL", scripted.URL, "TOKEN", forgetest.ScriptedToken).Replace(labObjects)))
	if manifest.Failed(diags) {
		t.Fatal(diags)
	}
	if ch, err := s.defs.Apply(t.Context(), "user:ada", definitions.OriginAPI, objects); err != nil || manifest.Failed(ch.Diagnostics) {
		t.Fatal(err, ch.Diagnostics)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	project := fmt.Sprintf(`"project": {"id": 1, "path_with_namespace": "team/harbour", "web_url": "%[1]s/team/harbour", "git_http_url": "%[1]s/team/harbour.git", "default_branch": "main"}`, scripted.URL)
	x := scripted.Fixture()
	push := s.build(t, "Push Hook", "1", fmt.Sprintf(`{"object_kind": "push", "ref": "refs/heads/main", "before": "%s", "after": "%[2]s", "checkout_sha": "%[2]s", %[3]s}`, strings.Repeat("0", 40), x.MainSHA, project))
	merge := s.build(t, "Merge Request Hook", "2", fmt.Sprintf(`{"object_kind": "merge_request", %s, "object_attributes": {"iid": 1, "action": "open", "state": "opened", "title": "Add",
		"source_project_id": 1, "target_project_id": 1, "source": {"path_with_namespace": "team/harbour"}, "source_branch": "feature", "target_branch": "main", "last_commit": {"id": "%s"}}}`, project, x.FeatureSHA))

	for _, c := range []struct {
		run        workflow.Run
		path, body string
		want       int
	}{
		{push, "statuses", `{"state": "success", "context": "ci"}`, 200},
		{push, "statuses", `{"state": "success", "context": "ci", "repo": "harbour"}`, 403},
		{push, "comments", `{"body": "of no merge request"}`, 403},
		{merge, "statuses", `{"state": "failed", "context": "ci"}`, 200},
		{merge, "comments", `{"body": "a preview"}`, 200},
		{merge, "comments", `{"body": "of another", "mr": 2}`, 403},
		// A repository of that name on another forge is not this one's.
		{push, "releases", `{"name": "harbour", "images": {"api": "team/harbour/api@sha256:` + strings.Repeat("0", 64) + `"}}`, 403},
	} {
		if got := s.step(t, c.run, "POST", "/api/v1/step/"+c.path, c.body); got.Code != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.path, c.body, got.Code, got.Body, c.want)
		}
	}
	for image, want := range map[string]int{"team/harbour": 403, "forges/default/lab/team/harbour": 202} {
		if got := s.step(t, push, "POST", "/v2/"+image+"/blobs/uploads/", ""); got.Code != want {
			t.Errorf("push of %s: %d %s, want %d", image, got.Code, got.Body, want)
		}
	}
	s.await(t, "the forge was told all", func() bool {
		return len(scripted.Statuses(x.MainSHA)) == 1 && len(scripted.Statuses(x.FeatureSHA)) == 1 && len(scripted.Comments()) == 1
	})
	told := []string{scripted.Statuses(x.MainSHA)[0].State, scripted.Statuses(x.FeatureSHA)[0].State, scripted.Comments()[0]}
	if diff := cmp.Diff([]string{"success", "failed", "a preview"}, told); diff != "" {
		t.Error(diff)
	}
}

// build delivers a webhook and gives the run that it starts.
func (s *Server) build(t *testing.T, kind, id, body string) workflow.Run {
	t.Helper()
	before := s.allRuns(t)
	s.await(t, "the webhook is taken", func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.carrier.listener.Addr().String()+"/webhooks/default/lab/all", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Content-Type": {"application/json"}, "X-Gitlab-Event": {kind}, "X-Gitlab-Token": {"hook-secret"}, "X-Gitlab-Event-Uuid": {id}}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 && resp.StatusCode != http.StatusNotFound { // the source is not open yet
			t.Fatalf("the webhook is answered with %s: %s", resp.Status, text)
		}
		return resp.StatusCode < 300
	})
	var run workflow.Run
	s.await(t, "the run waits", func() bool {
		for _, one := range s.allRuns(t) {
			if !slices.ContainsFunc(before, func(b workflow.Run) bool { return b.UID == one.UID }) && one.Phase == workflow.Running {
				run = one
			}
		}
		return run.UID != ""
	})
	return run
}

func (s *Server) allRuns(t *testing.T) (out []workflow.Run) {
	t.Helper()
	for row, err := range ledger.Each(t.Context(), s.ledger, ledger.Query{Table: "run"}) {
		var run workflow.Run
		if err == nil {
			err = json.Unmarshal(row.Body, &run)
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, run)
	}
	return out
}

// step asks as the run's only step.
func (s *Server) step(t *testing.T, run workflow.Run, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	token, err := stepclaims.Tokens{Issuer: s.tokens, Claims: stepclaims.Reader{Ledger: s.ledger, Forges: s.forges}}.Token(t.Context(), run, executor.ID{Node: run.Name, Attempt: 0})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	w := httptest.NewRecorder()
	s.port.StepHandler().ServeHTTP(w, r)
	return w
}

// await looks whenever something was recorded, until it is so.
func (s *Server) await(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		changed := s.ledger.Changed()
		if so() {
			return
		}
		again := time.NewTimer(50 * time.Millisecond) // what is no entry, such as a source that opens
		select {
		case <-changed:
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("it did not come to be that %s", what)
		}
		again.Stop()
	}
}
