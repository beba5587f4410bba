package trust

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// pipelines is a sensor that runs a repository's own pipeline, for pushes and merge requests.
func pipelines(repo string) string {
	return strings.ReplaceAll(`apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: REPO}
spec:
  dependencies:
  - {name: push, eventSourceName: git, eventName: REPO, filters: {data: [{path: git.kind, type: string, value: ["^push$"]}, {path: git.branch, type: string, value: ["^main$"]}]}}
  - {name: request, eventSourceName: git, eventName: REPO, filters: {data: [{path: git.kind, type: string, value: ["^pull_request$"]}, {path: git.action, type: string, value: ["^open$"]}]}}
  triggers:
  - template:
      name: main
      conditions: push
      argoWorkflow: {operation: submit, source: {git: {url: "http://tiphys.localhost/git/REPO.git", filePath: ci.yaml, ref: refs/heads/main}}}
  - template:
      name: request
      conditions: request
      argoWorkflow: {operation: submit, source: {git: {url: "http://tiphys.localhost/git/REPO.git", filePath: ci.yaml, ref: refs/heads/main}}}
    parameters:
    - {src: {dependencyName: request, dataKey: git.pr.headSHA}, dest: argoWorkflow.source.git.ref}
`, "REPO", repo)
}

// pipeline is a workflow of one step with further fields.
func pipeline(name, spec, template string) string {
	return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: %s-}
spec:
  entrypoint: main
%s
  templates:
  - name: main
%s
`, name, indent(spec, 2), indent(template, 4))
}

func indent(text string, n int) string {
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+pad)
}

// clone is somebody's working copy of a repository.
type clone struct {
	t   *testing.T
	w   *story.World
	dir string
	url string
}

func newClone(t *testing.T, w *story.World, repo string) *clone {
	t.Helper()
	c := &clone{t: t, w: w, dir: filepath.Join(w.Dir, "clone-"+repo), url: w.URL + "/git/" + repo + ".git"}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.git("init", "-q", "-b", "main")
	return c
}

func (c *clone) git(args ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "git", args...)
	cmd.Dir = c.dir
	cmd.Env = c.w.GitEnv("Mallory", "m@example.org")
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// push puts one file on a branch and pushes it; a branch other than main becomes a merge request.
func (c *clone) push(branch, file, text string) {
	c.t.Helper()
	if branch != "main" {
		c.git("checkout", "-q", "-B", branch, "main")
	}
	if err := os.WriteFile(filepath.Join(c.dir, file), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.git("add", "-A")
	c.git("commit", "-q", "-m", "Harmless")
	args := []string{"push", "-q"}
	if branch != "main" {
		args = append(args, "-o", "merge_request.create", "-o", "merge_request.target=main")
	}
	c.git(append(args, c.url, "HEAD:refs/heads/"+branch)...)
}

// apply declares something.
func apply(t *testing.T, w *story.World, name, text string) {
	t.Helper()
	if err := w.Apply(t.Context(), name, text); err != nil {
		t.Fatal(err)
	}
}

// said is all that somebody who asks is told of events, firings, runs and their nodes.
func said(ctx context.Context, w *story.World) (string, error) {
	var events, list struct {
		Items []struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"items"`
	}
	if err := w.Get(ctx, "", "/api/v1/events", &events); err != nil {
		return "", err
	}
	var all strings.Builder
	for _, e := range events.Items {
		out, err := w.Tiphys(ctx, "why", e.ID)
		if err != nil {
			return "", err
		}
		all.WriteString(out)
	}
	if err := w.Get(ctx, "", "/api/v1/runs", &list); err != nil {
		return "", err
	}
	for _, run := range list.Items {
		code, out, err := w.Request(ctx, http.MethodGet, "", "/api/v1/workflows/default/"+run.Name, nil, nil)
		if err != nil || code != http.StatusOK {
			return "", fmt.Errorf("%d %w", code, err)
		}
		var wf struct {
			Status struct {
				Nodes map[string]struct {
					Message string `json:"message"`
				} `json:"nodes"`
			} `json:"status"`
		}
		if err := json.Unmarshal(out, &wf); err != nil {
			return "", err
		}
		for _, n := range wf.Status.Nodes {
			fmt.Fprintln(&all, n.Message)
		}
	}
	return all.String(), nil
}

// The pipeline of a merge request that nobody had merged was root on the machine: it took a folder of the machine, or all of it, or
// the host executor of a server that had it for others. Each is refused, with its field, and nothing outside of the pod was touched;
// neither a patch nor what only shows in the pod itself gets round it.
func TestMergeRequestCannotLeaveItsPod(t *testing.T) {
	w := server(t, "{to: {repositories: [raft], mergeRequests: true}, executors: [host]}")
	apply(t, w, "sensors.yaml", pipelines("raft")+"---\n"+pipelines("cutter")+"---\n{apiVersion: v1, kind: Secret, metadata: {name: deploy-key}, stringData: {key: of-the-crown}}\n")
	outside := t.TempDir()
	if err := os.Chmod(outside, 0o777); err != nil { //nolint:gosec // whoever reaches it may write it
		t.Fatal(err)
	}
	const mount = "volumeMounts: [{name: out, mountPath: /out}]"
	steal := func(extra string) string {
		return "container: {image: alpine, command: [sh, -c, 'touch /out/reached; echo leaked-$KEY'], " + extra + "}"
	}
	volume := fmt.Sprintf("volumes: [{name: out, hostPath: {path: %s}}]", outside)
	patch := fmt.Sprintf(`podSpecPatch: '{"volumes": [{"name": "out", "hostPath": {"path": "%s"}}], "containers": [{"name": "main", "volumeMounts": [{"name": "out", "mountPath": "/out"}]}]}'`, outside)
	exploits := []struct{ repo, name, spec, template, want string }{
		{"raft", "volume-of-the-run", volume, steal(mount), ": spec.volumes[0].hostPath: hostPath volumes"},
		{"raft", "volume-of-the-template", "", volume + "\n" + steal(mount), "spec.templates[0].volumes[0].hostPath: hostPath volumes"},
		{"raft", "patch-of-the-run", patch, steal(""), "spec.volumes[0].hostPath: hostPath volumes"},
		{"raft", "patch-of-the-template", "", patch + "\n" + steal(""), "spec.volumes[0].hostPath: hostPath volumes"},
		{"raft", "defaults", "templateDefaults: {" + volume + "}", steal(mount), "spec.volumes[0].hostPath: hostPath volumes"},
		{"raft", "privileged", "", steal("securityContext: {privileged: true}"), "spec.templates[0].container.securityContext.privileged: privileged"},
		{"raft", "privileged-sidecar", "", steal("env: []") + "\nsidecars: [{name: s, image: alpine, command: [id], securityContext: {privileged: true}}]", "spec.templates[0].sidecars[0].securityContext.privileged"},
		{"raft", "privileged-beginning", "", steal("env: []") + "\ninitContainers: [{name: s, image: alpine, command: [id], securityContext: {privileged: true}}]", "spec.templates[0].initContainers[0].securityContext.privileged"},
		{"raft", "privileged-set", "", "containerSet: {containers: [{name: main, image: alpine, command: [id], securityContext: {capabilities: {add: [SYS_ADMIN]}}}]}", "spec.templates[0].containerSet.containers[0].securityContext.capabilities.add"},
		{"raft", "network", "hostNetwork: true", steal("env: []"), "spec.hostNetwork: host namespaces"},
		{"raft", "secret", "", steal("env: [{name: KEY, valueFrom: {secretKeyRef: {name: deploy-key, key: key}}}]"), `container.env[0].valueFrom.secretKeyRef.name: the Secret "deploy-key" is not granted to merge request`},
		{"raft", "secret-by-a-tag", "arguments: {parameters: [{name: s, value: deploy-key}]}", "inputs: {parameters: [{name: s, value: '{{workflow.parameters.s}}'}]}\n" +
			steal("env: [{name: KEY, valueFrom: {secretKeyRef: {name: '{{inputs.parameters.s}}', key: key}}}]"), `valueFrom.secretKeyRef.name: the Secret "deploy-key" is not granted to merge request`},
		{"cutter", "host", "", "metadata: {annotations: {tiphys.dev/executor: host}}\n" + steal("env: []"), "the host executor gives a pod the files of its machine, which is not granted to merge request"},
	}
	for _, repo := range []string{"raft", "cutter"} {
		c := newClone(t, w, repo)
		c.push("main", "README", "Harmless\n")
		for _, x := range exploits {
			if x.repo == repo {
				c.push(x.name, "ci.yaml", pipeline(x.name, x.spec, x.template))
			}
		}
	}
	err := w.Within(t.Context(), time.Minute, "each is refused with its field", func(ctx context.Context) error {
		all, err := said(ctx, w)
		if err != nil {
			return err
		}
		if strings.Contains(all, "of-the-crown") {
			t.Error("the Secret's value is shown")
		}
		for _, x := range exploits {
			if !strings.Contains(all, x.want) {
				return fmt.Errorf("%s: nobody says %q: %s", x.name, x.want, all)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("the machine was reached: %v %v", left, err)
	}
}

// A manifest in a repository was deployed with the machine's network, and with any folder of the machine.
func TestApplicationCannotLeaveItsPod(t *testing.T) {
	w := server(t)
	for name, x := range map[string]struct{ pod, want string }{
		"network": {"hostNetwork: true, containers: [{name: main, image: x}]", "spec.template.spec.hostNetwork"},
		"folder":  {"volumes: [{name: v, hostPath: {path: /}}], containers: [{name: main, image: x}]", "spec.template.spec.volumes[0].hostPath"},
	} {
		c := newClone(t, w, name)
		c.push("main", "deployment.yaml", fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: main}
spec:
  selector: {matchLabels: {app: main}}
  template: {metadata: {labels: {app: main}}, spec: {%s}}
`, x.pod))
		apply(t, w, name+".yaml", fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: %[1]s}
spec:
  project: default
  source: {repoURL: "http://tiphys.localhost/git/%[1]s.git", targetRevision: main, path: .}
  destination: {server: https://kubernetes.default.svc, namespace: %[1]s}
  syncPolicy: {automated: {}}
`, name))
		err := w.Within(t.Context(), 30*time.Second, "it is refused with its field and the grant", func(ctx context.Context) error {
			code, out, err := w.Request(ctx, http.MethodGet, "", "/api/v1/apps/default/"+name, nil, nil)
			if err != nil || code != http.StatusOK {
				return fmt.Errorf("%d %w", code, err)
			}
			if !strings.Contains(string(out), x.want) || !strings.Contains(string(out), "to: {repositories: ["+name+"]}") {
				return fmt.Errorf("it says %s", out)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// What nobody proved to come from where it says may run pods and nothing else.
func TestUnprovedWebhookRunsPodsOnly(t *testing.T) {
	w := server(t, "{to: {namespaces: ['*']}, executors: [host], secrets: ['*'], pods: privileged}")
	one := func(name, template string) string {
		return fmt.Sprintf(`---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: %s}
spec:
  dependencies: [{name: bell, eventSourceName: open, eventName: bell}]
  triggers:
  - template:
      name: main
      argoWorkflow:
        operation: submit
        source: {resource: {apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {generateName: %[1]s-}, spec: {entrypoint: main, templates: [{name: main, %s}]}}}
`, name, template)
	}
	apply(t, w, "open.yaml", `apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: open}
spec: {webhook: {bell: {port: "12000", endpoint: /bell, method: POST}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: deploy-key}, stringData: {key: of-the-crown}}
`+one("machine", "container: {image: alpine, command: [id]}")+
		one("secret", "metadata: {annotations: {tiphys.dev/executor: container}}, container: {image: alpine, command: [id], env: [{name: K, valueFrom: {secretKeyRef: {name: deploy-key, key: key}}}]}")+
		one("header", "http: {url: 'http://127.0.0.1:1/', headers: [{name: K, valueFrom: {secretKeyRef: {name: deploy-key, key: key}}}]}"))
	if code, out, err := w.Request(t.Context(), http.MethodPost, "", "/webhooks/default/open/bell", map[string]string{"Content-Type": "application/json"}, []byte("{}")); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s %v", code, out, err)
	}
	var shown string
	if err := w.Get(t.Context(), "", "/api/v1/definitions/EventSource/default/open", &shown); err != nil || !strings.Contains(shown, `"Unauthenticated"`) {
		t.Errorf("the source is not marked: %v %s", err, shown)
	}
	err := w.Within(t.Context(), 30*time.Second, "each is refused", func(ctx context.Context) error {
		all, err := said(ctx, w)
		if err != nil {
			return err
		}
		for _, want := range []string{
			"the host executor gives a pod the files of its machine, which is not granted to a run that acts for nobody",
			`container.env[0].valueFrom.secretKeyRef.name: the Secret "deploy-key" is not granted to a run that acts for nobody`,
			`http.headers[0].valueFrom.secretKeyRef.name: the Secret "deploy-key" is not granted to a run that acts for nobody`,
			"give the event source default/open a secret",
		} {
			if !strings.Contains(all, want) {
				return fmt.Errorf("nobody says %q: %s", want, all)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
