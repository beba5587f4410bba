package trust

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// What went wrong in Argo Workflows, Argo CD and Argo Events, by their advisories, tried against this server. What is not here:
//
//	CVE-2024-47827            a data race in a global: there are no globals, and make test-race runs every test under the race detector
//	CVE-2026-23960            scripts in a listing of artifacts: nothing lists artifacts as a page, and each is an attachment (CVE-2022-29164)
//	GHSA-p4gq-3vxj-f4jq       single sign-on: there is none
//	GHSA-prqf                 tokens passed through to Kubernetes: none is
//	CVE-2023-23947            Secrets of clusters: there is no route for clusters
//	CVE-2024-36106            names of clusters: likewise
//	GHSA-v8wx                 a terminal that goes on: there is none; that streams end with their right TestTokenAfterItsRevocation tries
//	CVE-2024-31989            a cache on the network: there is none, what is rendered stays in the process
//	CVE-2025-55191            a race of credentials of repositories: there is no route for them; the race detector
//	GHSA-h4w9, CVE-2026-45738 links in the screens: web/src/lib/lib.test.ts
//	GenerateManifest (2026)   a render service on the network: rendering is a child of the server without a port (deploy/render)
//	GHSA-jhqp                 an unbounded answer of a repository: git is a process of its own, under repo's limits
//
// The other kinds of CVE-2026-31892 are TestMergeRequestCannotLeaveItsPod, of CVE-2021-37914 TestParametersAreNeverCode.

// attacked is one server that many attacks share.
type attacked struct {
	*testing.T
	w *story.World
	// people have tokens, by their role.
	people map[string]string
}

func (a attacked) of(t *testing.T) attacked { a.T = t; return a }

// asks asks as somebody: a role, or the value of an Authorization.
func (a attacked) asks(who, method, path, body string) (int, string) {
	a.Helper()
	auth := who
	if token := a.people[who]; token != "" {
		auth = "Bearer " + token
	}
	code, out, err := a.w.Request(a.Context(), method, "", path, map[string]string{"Authorization": auth}, []byte(body))
	if err != nil {
		a.Fatal(err)
	}
	return code, string(out)
}

// runs submits a workflow as somebody and waits for its end: its phase, and what it and its nodes say.
func (a attacked) runs(who, name, manifest string) (phase, says string) {
	a.Helper()
	body, err := json.Marshal(map[string]any{"manifest": manifest, "file": name + ".yaml"})
	if err != nil {
		a.Fatal(err)
	}
	if code, out := a.asks(who, http.MethodPost, "/api/v1/workflows/default", string(body)); code != http.StatusOK {
		return "refused", out
	}
	err = a.w.Within(a.Context(), 30*time.Second, name+" ends", func(ctx context.Context) error {
		code, out := a.asks(who, http.MethodGet, "/api/v1/workflows/default/"+name, "")
		var wf struct {
			Status struct {
				Phase string `json:"phase"`
			} `json:"status"`
		}
		if err := json.Unmarshal([]byte(out), &wf); err != nil || code != http.StatusOK {
			return fmt.Errorf("%d %s %w", code, out, err)
		}
		phase, says = wf.Status.Phase, out
		if phase == "Succeeded" || phase == "Failed" || phase == "Error" {
			return nil
		}
		return fmt.Errorf("it is %s", phase)
	})
	if err != nil {
		a.Fatal(err)
	}
	return phase, says
}

// named is a workflow with a name.
func named(name, spec, template string) string {
	return strings.Replace(pipeline(name, spec, template), "{generateName: "+name+"-}", "{name: "+name+"}", 1)
}

// well says that the server still does its work.
func (a attacked) well(name string) {
	a.Helper()
	if phase, says := a.runs("admin", name, named(name, "", shell("echo well"))); phase != "Succeeded" {
		a.Errorf("afterwards a run is %s: %s", phase, says)
	}
}

func TestAdvisories(t *testing.T) {
	w := server(t, "{to: {roles: [admin, developer]}, executors: [host]}", granted("'*'"))
	all := attacked{T: t, w: w, people: map[string]string{}}
	for _, role := range []string{"viewer", "developer", "admin"} {
		command(t, w, "user", "add", "some-"+role, "--role", role)
		all.people[role] = command(t, w, "token", "create", "--user", "some-"+role)
	}
	apply(t, w, "crown.yaml", `{apiVersion: v1, kind: Secret, metadata: {name: crown}, stringData: {key: jewel-of-the-crown}}
---
apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: doors}
spec:
  webhook: {bell: {port: "12000", endpoint: /bell, method: POST}, guarded: {port: "12000", endpoint: /guarded, method: POST, authSecret: {name: crown, key: key}}}
  github: {hub: {webhook: {port: "12000", endpoint: /hub, method: POST}, webhookSecret: {name: crown, key: key}, events: ["*"], repositories: [{owner: x, names: [y]}]},
    open: {webhook: {port: "12000", endpoint: /open, method: POST}, events: ["*"], repositories: [{owner: x, names: [y]}]}}
  bitbucketserver: {stash: {webhook: {port: "12000", endpoint: /stash, method: POST}, events: ["*"], repositories: [{projectKey: x, repositorySlug: y}], bitbucketserverBaseURL: "https://stash.example.org"}}
  gitlab: {lab: {webhook: {port: "12000", endpoint: /lab, method: POST}, projects: ["1"], events: [PushEvents], gitlabBaseURL: "https://gitlab.example.org"}}
`)
	for _, c := range []struct {
		name string
		try  func(attacked)
	}{
		{"GHSA-rc7p-gmvh-xfx2 nobody runs anything", nobodyRuns},
		{"CVE-2021-37914 GHSA-h563 an expression in a parameter", expressionInParameter},
		{"GHSA-6c73 keys are made at the first start", keysAreMade},
		{"CVE-2022-29164 GHSA-cmv8 a page in an artifact", pageInArtifact},
		{"CVE-2024-53862 CVE-2026-28229 CVE-2022-29165 a token that nobody gave", inventedToken},
		{"CVE-2025-62156 GO-2025-4223 archives that leave their folder", archives},
		{"CVE-2025-62157 GHSA-7vf8 credentials of artifacts", credentialsOfArtifacts},
		{"CVE-2026-31892 CVE-2026-42296 CVE-2026-54526 patches of pods", patches},
		{"CVE-2026-40886 an annotation that nobody expects", annotations},
		{"CVE-2026-42294 a body without end", endlessBodies},
		{"CVE-2026-42297 CVE-2022-24768 CVE-2022-1025 what a role may not declare", declarations},
		{"CVE-2025-59531 CVE-2025-59537 CVE-2025-59538 deliveries that are not what they say", deliveries},
		{"CVE-2022-24348 CVE-2022-24730 CVE-2022-24731 CVE-2022-24904 CVE-2022-31036 paths that leave a repository", paths},
		{"CVE-2022-25856 a trigger's file outside of its repository", triggerPath},
		{"CVE-2022-41354 CVE-2023-22736 CVE-2024-31990 applications of another namespace", otherNamespace},
		{"CVE-2023-25163 CVE-2023-40029 CVE-2025-23216 CVE-2025-55190 CVE-2026-42880 GHSA-rg3g Secrets in answers", secretsInAnswers},
	} {
		t.Run(c.name, func(t *testing.T) { c.try(all.of(t)) })
	}
}

func nobodyRuns(a attacked) {
	for path, body := range map[string]string{"/api/v1/workflows/default": `{"workflow": ` + echo + `}`, "/api/v1/workflows/default/submit": "{}", "/api/v1/definitions": echo} {
		if code, out := a.asks("", http.MethodPost, path, body); code != http.StatusUnauthorized {
			a.Errorf("POST %s as nobody: %d %s", path, code, out)
		}
	}
}

func expressionInParameter(a attacked) {
	const value = "{{=1+1}}{{workflow.uid}}"
	spec := "arguments: {parameters: [{name: v, value: '" + value + "'}]}"
	body, err := json.Marshal(map[string]any{"manifest": named("told", "arguments: {parameters: [{name: v, value: x}]}", "inputs: {parameters: [{name: v, value: '{{workflow.parameters.v}}'}]}\n"+
		shell("echo \"<$V>\"", "  env: [{name: V, value: '{{inputs.parameters.v}}'}]")), "submitOptions": map[string]any{"parameters": []string{"v=" + value}}})
	if err != nil {
		a.Fatal(err)
	}
	if code, out := a.asks("developer", http.MethodPost, "/api/v1/workflows/default", string(body)); code != http.StatusOK {
		a.Fatalf("%d %s %s", code, out, spec)
	}
	if _, log := runNamed(a.T, a.w, "told"); !strings.Contains(log, "<"+value+">") {
		a.Errorf("the step is told %s", log)
	}
}

func keysAreMade(a attacked) {
	keys, err := filepath.Glob(filepath.Join(a.w.Data, "keys", "*"))
	if err != nil || len(keys) < 3 {
		a.Fatal(keys, err)
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return filepath.Ext(key) == ".pem" }) // certificates, which are for everybody
	for _, key := range append(keys, filepath.Join(a.w.Data, "ledger.key")) {
		if info, err := os.Stat(key); err != nil || info.Mode().Perm()&0o077 != 0 || time.Since(info.ModTime()) > time.Hour {
			a.Errorf("%s: %v %v", key, info, err)
		}
	}
}

func pageInArtifact(a attacked) {
	flow := named("page", "", "outputs: {artifacts: [{name: page, path: /tmp/page.html, archive: {none: {}}}]}\n"+shell("echo '<script>alert(1)</script>' > /tmp/page.html"))
	if phase, says := a.runs("developer", "page", flow); phase != "Succeeded" {
		a.Fatal(phase, says)
	}
	var d struct{ Nodes []struct{ ID string } }
	if err := a.w.Get(a.Context(), "", "/api/v1/runs/default/page", &d); err != nil || len(d.Nodes) == 0 {
		a.Fatal(err)
	}
	req, err := http.NewRequestWithContext(a.Context(), http.MethodGet, a.w.URL+"/api/v1/runs/default/page/artifacts/"+d.Nodes[0].ID+"/page", nil)
	if err != nil {
		a.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.people["viewer"])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.Fatal(err)
	}
	defer resp.Body.Close()
	got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Type"), " ", resp.Header.Get("Content-Security-Policy"), " ", resp.Header.Get("X-Content-Type-Options"), " ", resp.Header.Get("Content-Disposition"))
	if !strings.HasPrefix(got, "200 application/octet-stream sandbox nosniff attachment") {
		a.Errorf("an artifact is served as %s", got)
	}
}

// segment is a part of a token that nobody signed.
func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func inventedToken(a attacked) {
	unsigned := segment(`{"alg":"none","typ":"JWT"}`) + "." + segment(`{"iss":"argocd","sub":"admin","groups":["admin"],"exp":9999999999}`) + "."
	for _, auth := range []string{"Bearer nothing", "Bearer ", "Bearer " + unsigned, "Bearer v2:" + unsigned, "Basic YWRtaW46YWRtaW4=", "token"} {
		for _, path := range []string{
			"/api/v1/runs", "/api/v1/runs/default/told", "/api/v1/workflows/default/told", "/api/v1/workflows/-", "/api/v1/definitions?kind=WorkflowTemplate", "/api/v1/definitions/Secret/default/crown",
			"/api/v1/apps", "/api/v1/stream?tables=run", "/v2/_catalog",
		} {
			if code, out := a.asks(auth, http.MethodGet, path, ""); code != http.StatusUnauthorized && code != http.StatusNotFound || strings.Contains(out, "told") {
				a.Errorf("GET %s with %.20q: %d %.200s", path, auth, code, out)
			}
		}
	}
}

func archives(a attacked) {
	outside := a.TempDir()
	if err := os.Chmod(outside, 0o777); err != nil { //nolint:gosec // whoever reaches it may write it
		a.Fatal(err)
	}
	for name, made := range map[string]string{
		"absolute": "echo x > evil; tar -czPf /tmp/a.tgz --transform 's|evil|" + outside + "/evil|' evil",
		"upwards":  "echo x > evil; tar -czPf /tmp/a.tgz --transform 's|evil|../../../../../../../../../../.." + outside + "/evil|' evil",
		"link":     "mkdir d e e/link; ln -s " + outside + " d/link; echo x > e/link/evil; tar -cf /tmp/a.tar -C d link; tar -rf /tmp/a.tar -C e link/evil; gzip -c /tmp/a.tar > /tmp/a.tgz",
		"hardlink": "mkdir d; echo x > d/a; tar -cf /tmp/a.tar -C d a; touch " + outside + "/mine; ln " + outside + "/mine d/b 2>/dev/null || ln -s " + outside + "/mine d/b; echo y > d/b.new; tar -rf /tmp/a.tar -C d b; gzip -c /tmp/a.tar > /tmp/a.tgz",
	} {
		flow := fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: archive-%[1]s}
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - - {name: make, template: make}
    - - {name: take, template: take, arguments: {artifacts: [{name: in, from: "{{steps.make.outputs.artifacts.out}}"}]}}
  - name: make
    outputs: {artifacts: [{name: out, path: /tmp/a.tgz, archive: {none: {}}}]}
    script: {image: alpine, command: [sh], source: "cd $(mktemp -d) && %[2]s"}
  - name: take
    inputs: {artifacts: [{name: in, path: /tmp/in, archive: {tar: {}}}]}
    script: {image: alpine, command: [sh], source: "ls -lR /tmp/in; cat /tmp/in/evil /tmp/in/link/evil 2>/dev/null; true"}
`, name, made)
		phase, says := a.runs("developer", "archive-"+name, flow)
		if phase == "refused" || !strings.Contains(says, "take") {
			a.Errorf("%s: the archive was not taken: %s %s", name, phase, says)
		}
		if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
			a.Fatalf("%s: the machine was reached: %v %v", name, left, err)
		}
	}
}

func credentialsOfArtifacts(a attacked) {
	for name, artifact := range map[string]string{
		"http": "http: {url: 'http://127.0.0.1:1/x', auth: {basicAuth: {usernameSecret: {name: crown, key: key}, passwordSecret: {name: crown, key: key}}}}",
		"git":  "git: {repo: 'http://127.0.0.1:1/x.git', usernameSecret: {name: crown, key: key}, passwordSecret: {name: crown, key: key}}",
	} {
		phase, says := a.runs("admin", "artifact-"+name, named("artifact-"+name, "", "inputs: {artifacts: [{name: a, path: /tmp/a, "+artifact+"}]}\n"+shell("true")))
		if phase == "Succeeded" || strings.Contains(says, "jewel") {
			a.Errorf("%s: %s %s", name, phase, says)
		}
	}
	if phase, says := a.runs("admin", "speaks", named("speaks", "", "outputs: {parameters: [{name: p, valueFrom: {path: /tmp/p}}]}\n"+
		shell("echo $KEY | tee /tmp/p; echo $KEY | base64", "  env: [{name: KEY, valueFrom: {secretKeyRef: {name: crown, key: key}}}]"))); phase != "Succeeded" || strings.Contains(says, "jewel") {
		a.Errorf("a step that prints it: %s %s", phase, says)
	}
	if _, log := runNamed(a.T, a.w, "speaks"); strings.Contains(log, "jewel") || strings.Contains(log, base64.StdEncoding.EncodeToString([]byte("jewel-of-the-crown"))[:12]) {
		a.Errorf("its log has it: %s", log)
	}
	if code, out := a.asks("admin", http.MethodGet, "/api/v1/entries?limit=1000&newest=1", ""); code != http.StatusOK || strings.Contains(out, "jewel") {
		a.Errorf("the ledger has it: %d", code)
	}
}

func patches(a attacked) {
	inside := "container: {image: alpine, command: [id]}"
	for name, c := range map[string][2]string{
		"patch":    {`podSpecPatch: '{"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}'`, inside},
		"network":  {`podSpecPatch: '{"hostNetwork": true}'`, inside},
		"account":  {"serviceAccountName: crown\nhostNetwork: true", inside},
		"security": {`podSpecPatch: '{"containers": [{"name": "main", "securityContext": {"privileged": true}}]}'`, inside},
		"removal":  {`artifactGC: {strategy: OnWorkflowCompletion, podSpecPatch: '{"hostPID": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}'}` + "\nhostNetwork: true", inside},
	} {
		phase, says := a.runs("developer", "patch-"+name, named("patch-"+name, c[0], "metadata: {annotations: {tiphys.dev/executor: container}}\n"+inside))
		if phase == "Succeeded" || !strings.Contains(says, "hostPath") && !strings.Contains(says, "host namespaces") && !strings.Contains(says, "privileged") {
			a.Errorf("%s: %s %s", name, phase, says)
		}
	}
}

func annotations(a attacked) {
	for i, value := range []string{"{", "\x7f\u202e", "[[[[", strings.Repeat("9", 400), "1970-01-01T00:00:00Z/-1", "null"} {
		name := fmt.Sprintf("annotated-%d", i)
		keys := []string{"workflows.argoproj.io/pod-gc-strategy", "workflows.argoproj.io/node-id", "workflows.argoproj.io/progress", "kubectl.kubernetes.io/default-container", "tiphys.dev/mr"}
		notes := map[string]string{}
		for _, key := range keys {
			notes[key] = value
		}
		raw, err := json.Marshal(map[string]any{"annotations": notes, "labels": map[string]string{"x": "y"}})
		if err != nil {
			a.Fatal(err)
		}
		if phase, says := a.runs("developer", name, named(name, "podMetadata: "+string(raw), shell("true"))); phase != "Succeeded" && phase != "refused" {
			a.Errorf("%q: %s %s", value, phase, says)
		}
	}
	a.well("after-annotations")
}

func endlessBodies(a attacked) {
	large := []byte(`{"x":"` + strings.Repeat("a", 8<<20) + `"}`)
	for _, path := range []string{"/webhooks/default/doors/bell", "/webhooks/default/doors/guarded", "/webhooks/default/doors/hub"} {
		code, out, err := a.w.Request(a.Context(), http.MethodPost, "", path, map[string]string{"Content-Type": "application/json", "X-GitHub-Event": "push"}, large)
		if err == nil && code != http.StatusRequestEntityTooLarge && code != http.StatusUnauthorized { // the server may close before it has read all
			a.Errorf("%s: %d %.200s", path, code, out)
		}
	}
	if code, _ := a.asks("", http.MethodPost, "/api/v1/definitions", string(large)); code != http.StatusUnauthorized && code != http.StatusRequestEntityTooLarge {
		a.Errorf("nobody's body is read: %d", code)
	}
	a.well("after-endlessBodies")
}

func declarations(a attacked) {
	for kind, object := range map[string]string{
		"ConfigMap":   "{apiVersion: v1, kind: ConfigMap, metadata: {name: limits}, data: {x: '1'}}",
		"Application": production("anything"),
		"Secret":      "{apiVersion: v1, kind: Secret, metadata: {name: crown}, stringData: {key: mine}}",
		"AppProject":  "{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: default}, spec: {sourceRepos: ['*']}}",
		"SecretGrant": grantOf("vault", "crown", ""),
	} {
		for _, role := range []string{"viewer", "developer"} {
			if role == "developer" && (kind == "ConfigMap" || kind == "Application") {
				continue // a developer's to declare
			}
			if code, out := a.asks(role, http.MethodPost, "/api/v1/definitions?file=x.yaml", object); code != http.StatusForbidden {
				a.Errorf("a %s declares %s: %d %s", role, kind, code, out)
			}
			if code, out := a.asks(role, http.MethodDelete, "/api/v1/definitions/"+kind+"/default/crown", ""); code != http.StatusForbidden {
				a.Errorf("a %s deletes %s: %d %s", role, kind, code, out)
			}
		}
	}
}

func deliveries(a attacked) {
	shapes := []string{
		"", "null", "[]", "0", `"x"`, "{", `{"repository":null}`, `{"repository":[]}`, `{"repository":{"links":"none"}}`, `{"repository":{"links":{"clone":null}}}`, `{"repository":{"links":{"clone":[{"href":1}]}}}`,
		`{"eventKey":"repo:refs_changed","changes":null}`, `{"eventKey":"repo:refs_changed","changes":[null]}`, `{"eventKey":"repo:refs_changed","changes":[{"ref":null,"toHash":{}}],"repository":{"project":null}}`,
		`{"push":{"changes":[{"new":null,"old":null}]}}`, `{"ref":{},"commits":[null,1,{}],"repository":{"full_name":{}}}`, `{"pull_request":{"head":null,"base":[]},"number":"x"}`, `{"object_kind":"merge_request","object_attributes":null}`,
		`{"commits":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, "\x00\xff\xfe", `{"comment":{"body":null},"issue":{"pull_request":{}}}`,
	}
	for _, shape := range shapes {
		for path, header := range map[string]map[string]string{
			"/webhooks/default/doors/open": {"X-GitHub-Event": "push"}, "/webhooks/default/doors/stash": {"X-Event-Key": "repo:refs_changed"}, "/webhooks/default/doors/lab": {"X-Gitlab-Event": "Push Hook"},
			"/webhooks/default/doors/hub": {"X-GitHub-Event": "push"}, "/webhooks/default/doors/bell": {},
		} {
			header["Content-Type"] = "application/json"
			code, out, err := a.w.Request(a.Context(), http.MethodPost, "", path, header, []byte(shape))
			if err != nil || code >= 500 || code == http.StatusOK && strings.HasSuffix(path, "hub") {
				a.Errorf("%s with %.60q: %d %.200s %v", path, shape, code, out, err)
			}
		}
	}
	a.well("after-deliveries")
}

func paths(a attacked) {
	secret := filepath.Join(a.w.Data, "keys", "admin.token")
	c := newClone(a.T, a.w, "escape")
	c.push("main", "README", "Harmless\n")
	var declared []string
	for name, c2 := range map[string]struct{ path, file, text, link string }{
		"upwards":   {path: "../../../../.." + filepath.Dir(secret)},
		"absolute":  {path: filepath.Dir(secret)},
		"linked":    {path: "linked", link: secret},
		"folder":    {path: "folder", link: filepath.Dir(secret)},
		"generator": {path: "generator", file: "generator/kustomization.yaml", text: "configMapGenerator: [{name: stolen, files: ['../../../../../../../../.." + secret + "']}]\n"},
		"remote":    {path: "remote", file: "remote/kustomization.yaml", text: "resources: ['https://127.0.0.1:1/x.git//base?ref=main']\n"},
		"plugin":    {path: "plugin", file: "plugin/kustomization.yaml", text: "generators: [exec.yaml]\n"},
	} {
		full := filepath.Join(c.dir, name)
		switch {
		case c2.file != "":
			if err := os.MkdirAll(full, 0o700); err != nil {
				a.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(full, "exec.yaml"), []byte("{apiVersion: x/v1, kind: Evil, metadata: {name: x, annotations: {config.kubernetes.io/function: 'exec: {path: /bin/id}'}}}\n"), 0o600); err != nil {
				a.Fatal(err)
			}
			c.push("main", c2.file, c2.text)
		case c2.link != "":
			if err := os.MkdirAll(full, 0o700); err != nil {
				a.Fatal(err)
			}
			if err := os.Symlink(c2.link, filepath.Join(full, "stolen.yaml")); err != nil {
				a.Fatal(err)
			}
			c.push("main", "README", name)
		}
		err := a.w.Apply(a.Context(), "escape-"+name+".yaml", strings.NewReplacer("escape-prod", "escape-"+name, "path: .}", fmt.Sprintf("path: %q}", c2.path)).Replace(production("escape")))
		if err != nil && !strings.Contains(err.Error(), "leaves the repository") {
			a.Fatal(err)
		}
		if err == nil {
			declared = append(declared, name)
		}
	}
	if len(declared) < 5 {
		a.Errorf("declared are %v only", declared)
	}
	token, err := a.w.Token()
	if err != nil {
		a.Fatal(err)
	}
	for _, name := range declared {
		err := a.w.Within(a.Context(), 30*time.Second, name+" is refused", func(context.Context) error {
			code, out := a.asks("admin", http.MethodGet, "/api/v1/apps/default/escape-"+name, "")
			if strings.Contains(out, token) || strings.Contains(out, base64.StdEncoding.EncodeToString([]byte(token))) {
				a.Errorf("%s: the token is shown", name)
			}
			if code != http.StatusOK || !strings.Contains(out, "Error") && !strings.Contains(out, `"message":"`) {
				return fmt.Errorf("%d %s", code, out)
			}
			if strings.Contains(out, `"sync":"Synced"`) {
				return fmt.Errorf("it was deployed: %s", out)
			}
			return nil
		})
		if err != nil {
			a.Error(err)
		}
	}
}

func triggerPath(a attacked) {
	newClone(a.T, a.w, "quiet").push("main", "README", "Harmless\n")
	for name, path := range map[string]string{"up": "../../keys/admin.token", "root": "/etc/passwd"} {
		sensor := strings.NewReplacer("{name: quiet}", "{name: quiet-"+name+"}", "filePath: ci.yaml", fmt.Sprintf("filePath: %q", path)).Replace(pipelines("quiet"))
		file := filepath.Join(a.w.Dir, "quiet-"+name+".yaml")
		if err := os.WriteFile(file, []byte(sensor), 0o600); err != nil {
			a.Fatal(err)
		}
		if _, err := a.w.Tiphys(a.Context(), "apply", file); err != nil {
			if !strings.Contains(err.Error(), "path") {
				a.Errorf("%s: %v", name, err)
			}
			continue // refused when it is declared
		}
		newClone(a.T, a.w, "quiet-"+name)
		if _, err := a.w.Tiphys(a.Context(), "events"); err != nil {
			a.Fatal(err)
		}
	}
	c := clone{t: a.T, w: a.w, dir: filepath.Join(a.w.Dir, "clone-quiet"), url: a.w.URL + "/git/quiet.git"}
	c.push("main", "README", "Once more\n")
	err := a.w.Within(a.Context(), 30*time.Second, "no firing reads it", func(ctx context.Context) error {
		text, err := said(ctx, a.w)
		if strings.Contains(text, "root:x:0") {
			a.Error("the machine's file is shown")
		}
		code, out := a.asks("admin", http.MethodGet, "/api/v1/firings?state=dead", "")
		if err == nil && (code != http.StatusOK || strings.Count(out, `"sensor":"default/quiet-`) < 2) {
			err = fmt.Errorf("%d %s", code, out)
		}
		return err
	})
	if err != nil {
		a.Error(err)
	}
}

func otherNamespace(a attacked) {
	newClone(a.T, a.w, "walled").push("main", "map.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n")
	apply(a.T, a.w, "walls.yaml", "{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: walls, namespace: crown}, spec: {sourceRepos: ['*'], destinations: [{server: '*', namespace: '*'}]}}\n---\n"+
		strings.NewReplacer("project: default", "project: walls").Replace(production("walled")))
	appSays(a.T, a.w, "walled-prod", "takes no Applications of namespace")
	if code, out := a.asks("viewer", http.MethodGet, "/api/v1/apps/crown/nothing", ""); code != http.StatusNotFound {
		a.Errorf("%d %s", code, out)
	}
}

func secretsInAnswers(a attacked) {
	value := base64.StdEncoding.EncodeToString([]byte("ruby-of-the-crown"))
	newClone(a.T, a.w, "jewels").push("main", "secret.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: ruby}, data: {key: "+value+"}}\n")
	apply(a.T, a.w, "jewels.yaml", production("jewels"))
	appSays(a.T, a.w, "jewels-prod", `"sync":"Synced"`)
	c := clone{t: a.T, w: a.w, dir: filepath.Join(a.w.Dir, "clone-jewels"), url: a.w.URL + "/git/jewels.git"}
	c.push("main", "secret.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: ruby}, data: {key: '"+value+"!not base64'}}\n")
	appSays(a.T, a.w, "jewels-prod", "ruby")
	for _, role := range []string{"viewer", "developer", "admin"} {
		for _, path := range []string{
			"/api/v1/apps/default/jewels-prod", "/api/v1/apps", "/api/v1/entries?limit=1000", "/api/v1/entries?newest=1&limit=1000", "/api/v1/trail?of=app/default/jewels-prod", "/api/v1/definitions",
			"/api/v1/definitions?kind=Secret", "/api/v1/definitions/Secret/default/crown", "/api/v1/services", "/api/v1/events",
		} {
			_, out := a.asks(role, http.MethodGet, path, "")
			for _, found := range []string{value[:16], "ruby-of", "jewel-of", base64.StdEncoding.EncodeToString([]byte("jewel-of-the-crown"))[:12]} {
				if strings.Contains(out, found) {
					a.Errorf("GET %s shows a %s %s: %.300s", path, role, found, out[max(0, strings.Index(out, found)-150):])
				}
			}
		}
	}
}
