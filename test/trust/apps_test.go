package trust

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/story"
)

// site is an Ingress, its Service and what is behind it.
func site(host string) string {
	return fmt.Sprintf(`apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {rules: [{host: %s, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80}]}}
`, host)
}

// production is an Application of a repository's main branch.
func production(repo string) string {
	return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: %[1]s-prod}
spec:
  project: default
  source: {repoURL: "http://tiphys.localhost/git/%[1]s.git", targetRevision: main, path: .}
  destination: {server: https://kubernetes.default.svc, namespace: %[1]s-prod}
  syncPolicy: {automated: {}}
`, repo)
}

// previews are those of a repository's merge requests.
func previews(repo, namespace string) string {
	return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: %[1]s-previews}
spec:
  generators: [{pullRequest: {tiphys: {repo: %[1]s}}}]
  template:
    metadata: {name: "%[1]s-mr-{{number}}"}
    spec:
      project: default
      source: {repoURL: "http://tiphys.localhost/git/%[1]s.git", targetRevision: "{{head_sha}}", path: .}
      destination: {server: https://kubernetes.default.svc, namespace: "%[2]s"}
      syncPolicy: {automated: {}, syncOptions: [Force=true]}
`, repo, namespace)
}

// appSays waits until an Application says something.
func appSays(t *testing.T, w *story.World, name, want string) {
	t.Helper()
	err := w.Within(t.Context(), 45*time.Second, name+" says "+want, func(ctx context.Context) error {
		code, out, err := w.Request(ctx, http.MethodGet, "", "/api/v1/apps/default/"+name, nil, nil)
		if err != nil || code != http.StatusOK {
			return fmt.Errorf("%d %w", code, err)
		}
		if !strings.Contains(string(out), want) {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The Ingress of a preview took the address of production.
func TestPreviewTakesNoHostOfProduction(t *testing.T) {
	w := server(t)
	c := newClone(t, w, "shop")
	c.push("main", "site.yaml", site("shop.localhost"))
	apply(t, w, "prod.yaml", production("shop"))
	appSays(t, w, "shop-prod", `"sync":"Synced"`)
	apply(t, w, "previews.yaml", previews("shop", "shop-mr-{{number}}"))
	c.push("try", "more.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: more}}\n")
	appSays(t, w, "shop-mr-1", `belongs to the application \"default/shop-prod\"`)
	c.push("other", "site.yaml", site("other.localhost"))
	appSays(t, w, "shop-mr-2", `"sync":"Synced"`)
}

// A manifest named the namespace of production, and an annotation of its own made it take production's objects; a preview was given
// production's namespace by the name of its branch.
func TestManifestTakesNothingOfAnotherNamespace(t *testing.T) {
	w := server(t)
	c := newClone(t, w, "fleet")
	object := func(namespace, value string) string {
		return "{apiVersion: v1, kind: ConfigMap, metadata: {name: berths, " + namespace + "annotations: {argocd.argoproj.io/sync-options: 'Force=true,Replace=true'}}, data: {value: " + value + "}}\n"
	}
	c.push("main", "berths.yaml", object("", "ours"))
	apply(t, w, "prod.yaml", production("fleet"))
	appSays(t, w, "fleet-prod", `"sync":"Synced"`)
	appSays(t, w, "fleet-prod", "of its own annotation has no effect")
	thief := newClone(t, w, "thief")
	thief.push("main", "berths.yaml", object("namespace: fleet-prod, ", "theirs"))
	apply(t, w, "thief.yaml", production("thief"))
	appSays(t, w, "thief-prod", "does not have its namespace")
	apply(t, w, "previews.yaml", previews("fleet", "{{branch_slug}}"))
	c.push("fleet-prod", "berths.yaml", object("", "previewed"))
	appSays(t, w, "fleet-mr-1", "a preview shares its namespace with nobody")
	code, out, err := w.Request(t.Context(), http.MethodGet, "", "/api/v1/apps/default/fleet-prod", nil, nil)
	if err != nil || code != http.StatusOK || strings.Contains(string(out), "theirs") || strings.Contains(string(out), "previewed") {
		t.Errorf("production was changed: %d %v %s", code, err, out)
	}
}
