package apps_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/ledger"
)

// A repository of configuration deploys the releases of others, those that its project names: production says of which each image is, and goes
// back to what ran together, configuration and images.
func TestReleasesOfSeveralRepositories(t *testing.T) {
	w := newWorld(t)
	w.commit("c1", map[string]string{"a.yaml": deployment("api", "fleet/api"), "b.yaml": deployment("web", "fleet/web")})
	project := func(repositories string) {
		w.define("{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: default, annotations: {tiphys.dev/release-repositories: '" + repositories +
			"'}}, spec: {sourceRepos: ['*'], destinations: [{server: '*', namespace: '*'}], clusterResourceWhitelist: [{group: '*', kind: '*'}]}}")
	}
	released := func(name, repo string, number int64, digest string) {
		w.release(deploy.Release{Name: name, Repo: repo, Number: number, Branch: "main", Commit: name + digest, Images: map[string]string{name: "fleet/" + name + "@sha256:" + digest}})
	}
	says := func(want string) {
		t.Helper()
		w.await(want, func() bool { return strings.Contains(w.app("prod").Message, want) })
	}
	runs := func(release, images string) {
		t.Helper()
		w.await(release, func() bool {
			return w.app("prod").Release == release && w.images() == images && w.app("prod").Sync == "Synced"
		})
	}
	released("api", "fleet/api", 1, "1")
	released("web", "fleet/web", 1, "1")
	released("api", "thief", 9, "666") // of the same name, and of a repository that nobody named
	w.define(application(", annotations: {tiphys.dev/release: 'api@fleet/api, web@fleet/web'}"))
	says("releases of fleet/api are not for this Application: name the repository in its AppProject")
	project("fleet/api")
	says("releases of fleet/web are not for this Application")
	project("fleet/*")
	runs("api#1@fleet/api, web#1@fleet/web", "fleet/api@sha256:1 fleet/web@sha256:1")
	released("api", "fleet/api", 2, "2")
	runs("api#2@fleet/api, web#1@fleet/web", "fleet/api@sha256:2 fleet/web@sha256:1")
	w.commit("c2", map[string]string{"a.yaml": deployment("api", "fleet/api"), "b.yaml": deployment("web", "fleet/web"), "c.yaml": deployment("new", "new:1")})
	w.c.Refresh("")
	runs("api#2@fleet/api, web#1@fleet/web", "fleet/api@sha256:2 fleet/web@sha256:1 new:1")
	w.await("the commit is on record", func() bool { return w.app("prod").Revision == "c2" })

	row, err := w.ledger.Row(t.Context(), deploy.TableDeployment, w.app("prod").Current)
	var now deploy.Deployment
	if err == nil {
		err = json.Unmarshal(row.Body, &now)
	}
	if err != nil {
		t.Fatal(err)
	}
	var of []string
	for _, r := range now.Releases {
		of = append(of, r.Repo+" "+r.Name+" "+r.Commit)
	}
	if diff := cmp.Diff([]string{"fleet/api api api2", "fleet/web web web1"}, of); diff != "" || now.Sources["api"] != "api2" || now.Sources["web"] != "web1" || now.Commit != "c2" {
		t.Errorf("%s: %+v", diff, now)
	}
	if err := w.c.Rollback(t.Context(), "default/prod", "api#1@fleet/api, web#1@fleet/web", "user:ada"); err != nil {
		t.Fatal(err)
	}
	runs("api#1@fleet/api, web#1@fleet/web", "fleet/api@sha256:1 fleet/web@sha256:1") // without what c2 brought
	if err := w.c.Rollback(t.Context(), "default/prod", "api#9@thief", "user:ada"); err == nil || !strings.Contains(err.Error(), "releases of thief are not for this Application") {
		t.Errorf("a rollback takes what the project does not name: %v", err)
	}
	if err := w.c.Rollback(t.Context(), "default/prod", "", "user:ada"); err != nil {
		t.Fatal(err)
	}
	runs("api#2@fleet/api, web#1@fleet/web", "fleet/api@sha256:2 fleet/web@sha256:1 new:1")
	released("web", "fleet/web", 2, "2")
	w.release(deploy.Release{Name: "api", Repo: "fleet/api", Number: 3, Branch: "main", Commit: "x", Images: map[string]string{"web": "fleet/web@sha256:9"}})
	says(`the service "web" is in two releases`)
	w.define(application(", annotations: {tiphys.dev/release: 'api@'}"))
	says(`"api@" names no release`)
}

// Rows of releases are found by forge, repository and name, those of entries that an earlier version wrote as well.
func TestOldReleasesKeepTheirRows(t *testing.T) {
	w := newWorld(t)
	for _, r := range []deploy.Release{{Repo: "harbour", Number: 1}, {Repo: "harbour", Forge: "builtin", Number: 2}, {Repo: "Fleet/Harbour", Forge: "default/lab", Number: 3}, {Repo: "team/harbour", Number: 4}} {
		r.Branch, r.Commit = "main", "c"
		w.release(r) // under release/default/harbour#NUMBER
	}
	rows, err := w.ledger.List(t.Context(), ledger.Query{Table: deploy.TableRelease, Owner: "default/harbour", Oldest: true})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, row := range rows {
		keys = append(keys, row.Key)
	}
	want := []string{"default/harbour/builtin/harbour/000000001", "default/harbour/builtin/harbour/000000002", "default/harbour/default%2Flab/fleet%2Fharbour/000000003", "default/harbour/builtin/team%2Fharbour/000000004"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
}
