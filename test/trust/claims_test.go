package trust

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
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

// ranRun is what the API tells of a run.
type ranRun struct {
	Name    string            `json:"name"`
	Phase   string            `json:"phase"`
	Message string            `json:"message"`
	Labels  map[string]string `json:"labels"`
	ActsFor struct {
		Forge     string `json:"forge"`
		Repo      string `json:"repo"`
		MR        int    `json:"mr"`
		Protected bool   `json:"protected"`
	} `json:"actsFor"`
}

// runNamed waits for the run whose name begins so to end, and gives its log.
func runNamed(t *testing.T, w *story.World, prefix string) (found ranRun, log string) {
	t.Helper()
	err := w.Within(t.Context(), time.Minute, "run "+prefix+" ends", func(ctx context.Context) error {
		var list struct {
			Items []ranRun `json:"items"`
		}
		if err := w.Get(ctx, "", "/api/v1/runs", &list); err != nil {
			return err
		}
		for _, run := range list.Items {
			if !strings.HasPrefix(run.Name, prefix) {
				continue
			}
			if found = run; run.Phase != "Succeeded" && run.Phase != "Failed" && run.Phase != "Error" {
				return fmt.Errorf("it is %s", run.Phase)
			}
			out, err := w.Tiphys(ctx, "logs", run.Name)
			log = out
			return err
		}
		said, err := said(ctx, w)
		return fmt.Errorf("there is none: %s %w", said, err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, log
}

// granted gives repositories and their merge requests the host executor, with which the machine's own tools are there.
func granted(repos string) string {
	return "{to: {repositories: [" + repos + "], mergeRequests: true}, executors: [host]}"
}

// shell is a template that runs a script.
func shell(script string, more ...string) string {
	return fmt.Sprintf("script:\n  image: alpine\n  command: [sh]\n  source: |\n%s\n%s", indent(script, 4), strings.Join(more, "\n"))
}

// A workflow that somebody submitted said of itself, by labels, which repository and merge request it was for, and had their rights.
func TestLabelsClaimNoRepository(t *testing.T) {
	w := server(t, granted("harbour"))
	c := newClone(t, w, "harbour")
	c.push("main", "README", "Harmless\n")
	head, err := c.output("rev-parse", "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.Dir, "labelled.yaml")
	text := strings.Replace(pipeline("labelled", "", shell("tiphys status --state success --context ci/mine 2>&1 || true\ntiphys comment --body hello 2>&1 || true")),
		"{generateName: labelled-}", "{name: labelled, labels: {tiphys.dev/repo: harbour, tiphys.dev/branch: main, tiphys.dev/mr: '1', tiphys.dev/commit: "+head+"}}", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Tiphys(t.Context(), "submit", file); err != nil {
		t.Fatal(err)
	}
	run, log := runNamed(t, w, "labelled")
	if run.ActsFor.Repo != "" || run.ActsFor.MR != 0 || !strings.Contains(log, "not made for a commit") {
		t.Errorf("it acts for %+v and says %s", run.ActsFor, log)
	}
}

// A push that GitHub told of and whose repository had the name of one that is kept here was that one.
func TestNamesakeOnAnotherForgeIsAnotherRepository(t *testing.T) {
	w := server(t, granted("'*'"))
	c := newClone(t, w, "harbour")
	c.push("main", "README", "Harmless\n")
	apply(t, w, "namesake.yaml", `apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: hub}
spec: {github: {harbour: {webhook: {port: "12000", endpoint: /hub, method: POST}, webhookSecret: {name: hub, key: secret}, events: ["*"], repositories: [{owner: x, names: [y]}]}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: hub}, stringData: {secret: of-the-hub}}
---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: hub}
spec:
  dependencies: [{name: push, eventSourceName: hub, eventName: harbour}]
  triggers:
  - template:
      name: main
      argoWorkflow:
        operation: submit
        source:
          resource:
`+indent(pipeline("namesake", "", shell("tiphys status --state success --context ci/namesake 2>&1 || true")), 12)+"\n")
	head, err := c.output("rev-parse", "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"ref":"refs/heads/main","before":"0000000000000000000000000000000000000000","after":%q,"repository":{"id":1,"full_name":"harbour","html_url":"https://github.com/harbour","default_branch":"main"},"sender":{"login":"mallory"},"commits":[]}`, head)
	sum := hmac.New(sha256.New, []byte("of-the-hub"))
	sum.Write([]byte(body))
	code, out, err := w.Request(t.Context(), http.MethodPost, "", "/webhooks/default/hub/harbour", map[string]string{
		"Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": "d1", "X-Hub-Signature-256": "sha256=" + hex.EncodeToString(sum.Sum(nil)),
	}, []byte(body))
	if err != nil || code != http.StatusOK {
		t.Fatalf("%d %s %v", code, out, err)
	}
	run, _ := runNamed(t, w, "namesake")
	if run.ActsFor.Forge == "" || run.ActsFor.Forge == "builtin" || run.ActsFor.Repo != "harbour" {
		t.Errorf("it acts for %+v", run.ActsFor)
	}
	if entries, err := w.Tiphys(t.Context(), "trail", "commit/"+head); err != nil || strings.Contains(entries, "ci/namesake") {
		t.Errorf("it set a status here: %v %s", err, entries)
	}
}

// A merge request left a memoised result, an artifact and an image under names that the pipeline of the main branch read.
func TestProtectedBranchReadsNothingOfMergeRequests(t *testing.T) {
	w := server(t, granted("poison"))
	apply(t, w, "sensors.yaml", pipelines("poison"))
	c := newClone(t, w, "poison")
	c.push("main", "README", "Harmless\n")
	flow := func(name, word, inputs string) string {
		return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: %[1]s-}
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - - {name: memo, template: memo}
      - {name: keep, template: keep}
    - - {name: read, template: read, arguments: {parameters: [{name: word, value: "{{steps.memo.outputs.parameters.word}}"}]}}
  - name: memo
    memoize: {key: shared, cache: {configMap: {name: cache}}}
    outputs: {parameters: [{name: word, valueFrom: {path: /tmp/word}}]}
    script: {image: alpine, command: [sh], source: 'echo %[2]s > /tmp/word'}
  - name: keep
    outputs: {artifacts: [{name: word, path: /tmp/word, archive: {none: {}}, s3: {key: %[3]s}}]}
    script: {image: alpine, command: [sh], source: 'echo %[2]s > /tmp/word'}
  - name: read
    inputs:
      parameters: [{name: word}]
      artifacts: [{name: kept, path: /tmp/kept, optional: true, s3: {key: shared/word}}]
    script: {image: alpine, command: [sh], source: 'echo memo-{{inputs.parameters.word}}; echo kept-$(cat /tmp/kept)'}
`, name, word, inputs)
	}
	c.push("try", "ci.yaml", flow("request", "poisoned", "shared/word"))
	if run, log := runNamed(t, w, "request"); run.ActsFor.MR == 0 || !strings.Contains(log, "memo-poisoned") || !strings.Contains(log, "kept-poisoned") {
		t.Fatalf("the merge request reads its own: %+v %s", run, log)
	}
	c.git("checkout", "-q", "main")
	c.push("main", "ci.yaml", flow("main", "clean", "shared/another"))
	run, log := runNamed(t, w, "main")
	if !run.ActsFor.Protected || !strings.Contains(log, "memo-clean") || strings.Contains(log, "poisoned") {
		t.Errorf("the main branch read what the merge request wrote: %+v %s", run, log)
	}
}

// A run of the main branch whose pipeline came from a branch that anybody may push to recorded the release that production takes.
func TestUnprotectedRunRecordsNoReleaseOfTheDefaultBranch(t *testing.T) {
	w := server(t, granted("lax"))
	apply(t, w, "sensors.yaml", strings.ReplaceAll(`apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: lax}
spec:
  dependencies:
  - {name: push, eventSourceName: git, eventName: lax, filters: {data: [{path: git.kind, type: string, value: ["^push$"]}, {path: git.branch, type: string, value: ["^main$"]}]}}
  triggers:
  - template:
      name: main
      argoWorkflow: {operation: submit, source: {git: {url: "http://tiphys.localhost/git/lax.git", filePath: ci.yaml, ref: refs/heads/try}}}
`, "lax", "lax"))
	c := newClone(t, w, "lax")
	script := `printf '#!/bin/sh\n' > /tmp/app && chmod 755 /tmp/app
tiphys image pack --name lax/app --tag branch-x --entrypoint /app --output /tmp/ref /tmp/app 2>&1
tiphys release lax --image "app=$(cat /tmp/ref)" 2>&1 || true`
	c.push("main", "README", "Harmless\n")
	c.push("try", "ci.yaml", pipeline("lax", "", shell(script)))
	c.git("checkout", "-q", "main")
	c.push("main", "README", "Harmless again\n")
	run, log := runNamed(t, w, "lax")
	var releases struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := w.Get(t.Context(), "", "/api/v1/releases", &releases); err != nil || len(releases.Items) > 0 || run.ActsFor.Protected {
		t.Errorf("%v: it acts for %+v and released %s: %s", err, run.ActsFor, releases.Items, log)
	}
	if !strings.Contains(log, "not protected") {
		t.Errorf("it is not told why: %s", log)
	}
}

// output runs git and gives what it prints.
func (c *clone) output(args ...string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), "git", args...)
	cmd.Dir = c.dir
	cmd.Env = c.w.GitEnv("Mallory", "m@example.org")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// The main branch could be pushed to by force, and deleted.
func TestMainBranchTakesNoForce(t *testing.T) {
	w := server(t)
	c := newClone(t, w, "strict")
	c.push("main", "README", "One\n")
	c.push("main", "README", "Two\n")
	c.git("reset", "-q", "--hard", "HEAD~1")
	if err := os.WriteFile(filepath.Join(c.dir, "README"), []byte("Three\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.git("commit", "-q", "-am", "Rewrite")
	if out, err := c.output("push", "--force", c.url, "HEAD:refs/heads/main"); err == nil || !strings.Contains(out, "protected") {
		t.Errorf("a force push was taken: %s", out)
	}
	if out, err := c.output("push", c.url, ":refs/heads/main"); err == nil {
		t.Errorf("main was deleted: %s", out)
	}
	c.git("checkout", "-q", "-B", "try")
	c.git("push", "-q", "--force", c.url, "HEAD:refs/heads/try")
}

// A merge request whose check was red, or still running, was merged.
func TestRedCheckRefusesTheMerge(t *testing.T) {
	w := server(t, granted("checked"))
	apply(t, w, "sensors.yaml", pipelines("checked"))
	c := newClone(t, w, "checked")
	c.push("main", "README", "Harmless\n")
	c.push("try", "ci.yaml", pipeline("checked", "", shell("tiphys status --state failed --context ci/berths")))
	if _, log := runNamed(t, w, "checked"); strings.Contains(log, "refused") {
		t.Fatal(log)
	}
	if out, err := w.Tiphys(t.Context(), "mr", "merge", "1", "--repo", "checked"); err == nil || !strings.Contains(err.Error(), "ci/berths is red") {
		t.Fatalf("it is refused by the name of the check: %s %v", out, err)
	}
	if out, err := w.Tiphys(t.Context(), "mr", "merge", "1", "--repo", "checked", "--override", "the berths are being rebuilt"); err != nil {
		t.Fatalf("an administrator may, with a reason: %s %v", out, err)
	}
	code, out, err := w.Request(t.Context(), http.MethodGet, "", "/api/v1/entries?kind=mr.merged", nil, nil)
	if err != nil || code != http.StatusOK || !strings.Contains(string(out), "the berths are being rebuilt") {
		t.Errorf("the reason is on record: %d %v %s", code, err, out)
	}
}
