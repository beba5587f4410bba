package trust

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// releasing is a pipeline that packs an image of its repository and releases it.
func releasing(run, repo, name string) string {
	return pipeline(run, "", shell(fmt.Sprintf(`printf '#!/bin/sh\n' > /tmp/app && chmod 755 /tmp/app
tiphys image pack --name %[1]s/%[2]s --entrypoint /app --output /tmp/ref /tmp/app 2>&1
tiphys release %[2]s --image "%[2]s=$(cat /tmp/ref)" 2>&1 || true`, repo, name)))
}

// Whoever could push to any repository released under production's name, and its numbers were production's. Releases are of their repository
// now: another one's are the Application's only if its AppProject names that repository, and each is on record.
func TestReleasesAreOfTheirRepository(t *testing.T) {
	w := server(t, granted("'*'"))
	for _, repo := range []string{"api", "thief"} {
		apply(t, w, repo+".yaml", pipelines(repo))
		newClone(t, w, repo).push("main", "ci.yaml", releasing(repo, repo, "api"))
		if run, log := runNamed(t, w, repo); run.Phase != "Succeeded" || !strings.Contains(log, "release api") {
			t.Fatalf("%s releases: %+v %s", repo, run, log)
		}
	}
	newClone(t, w, "config").push("main", "pod.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: berths}}\n")
	app := strings.Replace(production("config"), "{name: config-prod}", "{name: config-prod, annotations: {tiphys.dev/release: api@api}}", 1)
	apply(t, w, "app.yaml", app)
	appSays(t, w, "config-prod", "releases of api are not for this Application")
	apply(t, w, "project.yaml", "{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: default, annotations: {tiphys.dev/release-repositories: api}}, spec: {sourceRepos: ['*'], destinations: [{server: '*', namespace: '*'}], clusterResourceWhitelist: [{group: '*', kind: '*'}]}}\n")
	appSays(t, w, "config-prod", `"sync":"Synced"`)
	appSays(t, w, "config-prod", `"releases":[{"repo":"api","name":"api","number":1`)
	apply(t, w, "app.yaml", strings.Replace(app, "api@api", "'api@api, api@thief'", 1))
	appSays(t, w, "config-prod", "releases of thief are not for this Application")
	if code, out, err := w.Request(t.Context(), http.MethodGet, "", "/api/v1/trail?of=release/default/api/1", nil, nil); err != nil || code != http.StatusBadRequest || !strings.Contains(string(out), "2 repositories have a release") {
		t.Errorf("%d %s %v", code, out, err)
	}
}
