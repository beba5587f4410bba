package trust

import (
	"net/http"
	"strings"
	"testing"
)

// A role of a project gives its Applications to those that it names, and nothing of another project.
func TestRolesOfAProjectGiveItsApplications(t *testing.T) {
	w := server(t)
	command(t, w, "user", "add", "ada", "--role", "viewer@nowhere")
	all := attacked{T: t, w: w, people: map[string]string{"ada": command(t, w, "token", "create", "--user", "ada")}}
	project := func(name, policies string) string {
		return "---\napiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: " + name + "}\nspec:\n  sourceRepos: ['*']\n  destinations: [{server: '*', namespace: '*'}]\n" +
			"  clusterResourceWhitelist: [{group: '*', kind: '*'}]\n  roles: [{name: crew, groups: [ada], policies: [" + policies + "]}]\n"
	}
	apply(t, w, "projects.yaml", project("fleet", `"p, proj:fleet:crew, applications, *, fleet/*, allow", "p, proj:fleet:crew, applications, delete, fleet/*, deny"`)+project("palace", ""))
	for _, name := range []string{"fleet", "palace"} {
		newClone(t, w, name).push("main", "map.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n")
		apply(t, w, name+".yaml", strings.Replace(production(name), "project: default", "project: "+name, 1))
		appSays(t, w, name+"-prod", `"sync":"Synced"`)
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/api/v1/apps/default/fleet-prod", http.StatusOK},
		{http.MethodPost, "/api/v1/apps/default/fleet-prod/refresh", http.StatusOK},
		{http.MethodGet, "/api/v1/apps/default/palace-prod", http.StatusForbidden},
		{http.MethodPost, "/api/v1/apps/default/palace-prod/sync", http.StatusForbidden},
		{http.MethodDelete, "/api/v1/definitions/Application/default/fleet-prod", http.StatusForbidden},
		{http.MethodGet, "/api/v1/apps/default/fleet-prod/logs/none", http.StatusForbidden},
		{http.MethodGet, "/api/v1/definitions/AppProject/default/fleet", http.StatusForbidden},
	} {
		body := ""
		if c.method == http.MethodPost {
			body = "{}"
		}
		if code, out := all.asks("ada", c.method, c.path, body); code != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, code, out)
		}
	}
	if code, out := all.asks("ada", http.MethodGet, "/api/v1/apps", ""); code != http.StatusOK || !strings.Contains(out, "fleet-prod") || strings.Contains(out, "palace") {
		t.Errorf("the list shows %d %s", code, out)
	}
	if code, out := all.asks("ada", http.MethodPost, "/api/v1/definitions?file=x.yaml", production("fleet")); code != http.StatusForbidden {
		t.Errorf("who has a role of a project declares: %d %s", code, out)
	}
	apply(t, w, "projects.yaml", project("fleet", ""))
	if code, out := all.asks("ada", http.MethodGet, "/api/v1/apps/default/fleet-prod", ""); code != http.StatusForbidden {
		t.Errorf("what was taken away is gone: %d %s", code, out)
	}
}
