package trust

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// grantOf lets runs of a repository's ref name a Secret.
func grantOf(repo, secret, more string) string {
	return fmt.Sprintf("{apiVersion: tiphys.dev/v1alpha1, kind: SecretGrant, metadata: {name: %s}, spec: {to: {repositories: [%s]%s}, secrets: [%s]}}\n", repo, repo, more, secret)
}

// Whoever could push to a repository, or declare a sensor, had the Secrets of its namespace. An administrator's definition gives them to a
// repository and a ref now: nobody else declares one, merge requests have none of it, and what was deleted counts for nothing.
func TestSecretsAreGrantedByAdministrators(t *testing.T) {
	w := server(t, granted("vault"))
	apply(t, w, "vault.yaml", pipelines("vault")+"---\n{apiVersion: v1, kind: Secret, metadata: {name: deploy-key}, stringData: {key: of-the-crown}}\n")
	c := newClone(t, w, "vault")
	flow := func(name string) string {
		return pipeline(name, "", shell("echo got-${#KEY}", "  env: [{name: KEY, valueFrom: {secretKeyRef: {name: deploy-key, key: key}}}]"))
	}
	refused := func(what, who string, n int) {
		t.Helper()
		err := w.Within(t.Context(), 30*time.Second, what, func(ctx context.Context) error {
			all, err := said(ctx, w)
			if got := strings.Count(all, `the Secret "deploy-key" is not granted to `+who); err == nil && got < n {
				err = fmt.Errorf("%d refusals, want %d: %s", got, n, all)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c.push("main", "ci.yaml", flow("early"))
	refused("the main branch has none without a grant", "repository vault", 1)

	people := map[string]string{}
	for _, role := range []string{"developer", "admin"} {
		command(t, w, "user", "add", "some-"+role, "--role", role)
		people[role] = command(t, w, "token", "create", "--user", "some-"+role)
	}
	code, out, err := w.Request(t.Context(), http.MethodPost, "", "/api/v1/definitions?file=g.yaml", map[string]string{"Authorization": "Bearer " + people["developer"]}, []byte(grantOf("vault", "deploy-key", "")))
	if err != nil || code != http.StatusForbidden {
		t.Fatalf("a developer declares a grant: %d %s %v", code, out, err)
	}
	// A trigger that takes what lies in a repository declares none either.
	c.push("main", "grant.yaml", grantOf("vault", "deploy-key", ""))
	apply(t, w, "declare.yaml", strings.NewReplacer("argoWorkflow: {operation: submit", "k8s: {operation: create", "ci.yaml", "grant.yaml", "{name: vault}", "{name: declare}", "argoWorkflow.source", "k8s.source").Replace(pipelines("vault")))
	c.push("main", "README", "Once more\n")
	err = w.Within(t.Context(), 30*time.Second, "the trigger is refused", func(ctx context.Context) error {
		code, out, err := w.Request(ctx, http.MethodGet, "", "/api/v1/firings?state=dead", nil, nil)
		if err == nil && (code != http.StatusOK || !strings.Contains(string(out), "may not create SecretGrant")) {
			err = fmt.Errorf("%d %s", code, out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	code, out, err = w.Request(t.Context(), http.MethodPost, "", "/api/v1/definitions?file=g.yaml", map[string]string{"Authorization": "Bearer " + people["admin"]}, []byte(grantOf("vault", "deploy-key", ", refs: [refs/heads/main]")))
	if err != nil || code != http.StatusOK {
		t.Fatalf("an administrator declares a grant: %d %s %v", code, out, err)
	}
	if text, err := w.Tiphys(t.Context(), "get", "secretgrants"); err != nil || !strings.Contains(text, "vault") {
		t.Errorf("tiphys get says %s %v", text, err)
	}
	c.push("main", "ci.yaml", flow("granted"))
	if _, log := runNamed(t, w, "granted"); !strings.Contains(log, "got-12") {
		t.Errorf("the main branch was granted it: %s", log)
	}
	c.push("try", "ci.yaml", flow("request"))
	refused("its merge request has none", "merge request 1 of repository vault", 1)
	c.git("checkout", "-q", "main")
	if _, err := w.Tiphys(t.Context(), "delete", "secretgrant", "vault"); err != nil {
		t.Fatal(err)
	}
	all, err := said(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	before := strings.Count(all, `is not granted to repository vault`)
	c.push("main", "ci.yaml", flow("late"))
	refused("what was taken away is gone", "repository vault", before+1)

	file := filepath.Join(w.Dir, "bad-grant.yaml")
	if err := os.WriteFile(file, []byte(grantOf("vault", "deploy-key", ", refs: [main]")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := w.Tiphys(t.Context(), "lint", file); err == nil || !strings.Contains(err.Error(), "is no full ref") {
		t.Errorf("tiphys lint says %s %v", out, err)
	}
}
