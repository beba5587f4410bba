package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/server/api"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/server/steps"
)

// rights are the routes of the port and of steps with who may use them: a for administrators, d for developers, v for
// viewers, s for steps, m for steps of merge requests. "public" routes identify for themselves. A route without a line here
// fails the test.
const rights = `
GET /healthz public
GET /readyz public
GET /metrics adv
GET /api/v1/services adv
POST /api/v1/login public
POST /api/v1/logout adv
GET /api/v1/users a
POST /api/v1/users a
PUT /api/v1/users/{name} a
DELETE /api/v1/users/{name} a
POST /api/v1/login-codes adv
GET /api/v1/tokens adv
POST /api/v1/tokens adv
DELETE /api/v1/tokens/{id} adv
/webhooks/ public
/git/ public
/v2/ public
/ public
GET /api/v1/info adv
GET /api/v1/version adv
GET /api/v1/userinfo adv
GET /api/v1/runs adv
GET /api/v1/runs/{namespace}/{name} adv
GET /api/v1/runs/{namespace}/{name}/manifest adv
GET /api/v1/runs/{namespace}/{name}/nodes adv
GET /api/v1/runs/{namespace}/{name}/nodes/{node} adv
GET /api/v1/runs/{namespace}/{name}/attempts adv
GET /api/v1/sources adv
GET /api/v1/runs/{namespace}/{name}/log/{node} adv
GET /api/v1/runs/{namespace}/{name}/artifacts/{node}/{artifact} adv
GET /api/v1/workflows/{namespace} adv
POST /api/v1/workflows/{namespace} ad
POST /api/v1/workflows/{namespace}/submit ad
POST /api/v1/workflows/{namespace}/lint adv
GET /api/v1/workflows/{namespace}/{name} adv
GET /api/v1/workflows/{namespace}/{name}/log adv
PUT /api/v1/workflows/{namespace}/{name}/{verb} ad
DELETE /api/v1/workflows/{namespace}/{name} ad
GET /api/v1/workflow-events/{namespace} adv
GET /api/v1/definitions adv
GET /api/v1/definitions/{kind}/{namespace}/{name} adv
GET /api/v1/definitions/{kind}/{namespace}/{name} kind=Secret ad
POST /api/v1/definitions ad
DELETE /api/v1/definitions/{kind}/{namespace}/{name} ad
DELETE /api/v1/definitions/{kind}/{namespace}/{name} kind=Secret a
DELETE /api/v1/definitions/{kind}/{namespace}/{name} kind=AppProject a
DELETE /api/v1/definitions/{kind}/{namespace}/{name} kind=Forge a
GET /api/v1/cron adv
GET /api/v1/entries adv
POST /api/v1/entries/{seq}/erase a
GET /api/v1/trail adv
GET /api/v1/ledger/head adv
POST /api/v1/ledger/verify adv
GET /api/v1/ledger/verify adv
GET /api/v1/quarantine adv
POST /api/v1/quarantine/{verb} a
GET /api/v1/restore a
POST /api/v1/restore a
GET /api/v1/stream adv
GET /api/v1/events adv
GET /api/v1/events/{id} adv
POST /api/v1/events/{id}/replay ad
POST /api/v1/events/{id}/approve ad
GET /api/v1/approvals adv
GET /api/v1/firings adv
POST /api/v1/firings/{key}/redrive ad
GET /api/v1/sensors adv
GET /api/v1/apps adv
GET /api/v1/applicationsets adv
GET /api/v1/apps/{namespace}/{name} adv
POST /api/v1/apps/{namespace}/{name}/{verb} ad
GET /api/v1/apps/{namespace}/{name}/logs/{pod} adv
GET /api/v1/releases adv
GET /api/v1/forges adv
GET /api/v1/posts adv
GET /api/v1/repos adv
POST /api/v1/repos ad
PATCH /api/v1/repos/{repo} ad
GET /api/v1/mrs adv
GET /api/v1/mrs/{repo}/{number} adv
POST /api/v1/mrs/{repo} ad
POST /api/v1/mrs/{repo}/{number}/{verb} ad
step GET /api/v1/step sm
step POST /api/v1/step/releases sm
step POST /api/v1/step/statuses sm
step POST /api/v1/step/comments sm
step GET /api/v1/step/artifacts sm
step GET /api/v1/step/artifacts/{key...} sm
step PUT /api/v1/step/artifacts/{key...} sm
step PUT /api/v1/step/outputs/{name} sm
step GET /api/v1/step/outputs/{name} sm
step POST /api/v1/step/logs/{container} sm
step GET /api/v1/step/logs/{container} sm
step GET /api/v1/step/logs/{container}/size sm
step /v2/ sm
`

// TestRights holds every route to its line.
func TestRights(t *testing.T) {
	nothing := http.NotFoundHandler()
	p := &Port{metrics: nothing, o: Options{API: &api.API{}, Steps: &steps.API{}, Webhooks: nothing, Git: nothing, Registry: nothing, Screens: nothing}}
	who := map[string]access.Identity{
		"a": {Actor: "user:ada", Role: access.Admin}, "d": {Actor: "user:dan", Role: access.Developer}, "v": {Actor: "user:vic", Role: access.Viewer},
		"s": {Actor: "step:default/r/n", Step: &steptoken.Claims{Run: "default/r", UID: "u", Repo: "shop", Commit: "c"}},
		"m": {Actor: "step:default/m/n", Step: &steptoken.Claims{Run: "default/m", UID: "w", Repo: "shop", Commit: "c", MR: 1}},
		"":  {},
	}
	lines := strings.Split(strings.TrimSpace(rights), "\n")
	said := map[string]bool{}
	check := func(prefix string, r gate.Route) {
		found := false
		for _, line := range lines {
			cells := strings.Fields(line)
			want := cells[len(cells)-1]
			rest, kind, special := strings.Cut(strings.Join(cells[:len(cells)-1], " "), " kind=")
			if rest != prefix+r.Pattern {
				continue
			}
			found, said[line] = true, true
			if want == "public" || r.Access == gate.Public {
				if want != "public" || r.Access != gate.Public {
					t.Errorf("%s: %d, want %s", r.Pattern, r.Access, want)
				}
				continue
			}
			if !special {
				kind = "WorkflowTemplate"
			}
			got := ""
			for _, key := range []string{"a", "d", "v", "s", "m", ""} {
				id := who[key]
				if admitted(r.Access, id) && r.Ask.Of(access.BuiltIn(), id, request(r, kind)) == nil {
					got += key
					if key == "" {
						got += "nobody"
					}
				}
			}
			if got != want {
				t.Errorf("%s %s: %q may, want %q", r.Pattern, kind, got, want)
			}
		}
		if !found {
			t.Errorf("the route %q has no line: who may use it?", prefix+r.Pattern)
		}
	}
	for _, r := range p.routes() {
		check("", r)
	}
	for _, r := range p.stepRoutes() {
		check("step ", r)
	}
	for _, line := range lines {
		if !said[line] {
			t.Errorf("there is no such route: %s", line)
		}
	}
}

// TestNamespaces: who may do everything in one namespace may do nothing in another. Routes that list ask about each item instead; what
// they answer is tried on a server (wire/sight_test.go).
func TestNamespaces(t *testing.T) {
	rules := []access.Rule{{Role: "team", Resource: "*", Action: "*", Object: "default/*"}}
	id := access.Identity{Actor: "user:ada", Role: "team"}
	for _, r := range (&api.API{}).Routes() {
		if r.Ask.Each || !strings.Contains(r.Pattern, "{namespace}") {
			continue
		}
		req := request(r, "ConfigMap")
		if err := r.Ask.Of(access.NewPolicy(rules...), id, req); err != nil {
			t.Errorf("%s in one's own namespace: %v", r.Pattern, err)
		}
		req.SetPathValue("namespace", "other")
		if r.Ask.Of(access.NewPolicy(rules...), id, req) == nil {
			t.Errorf("%s is let through to every namespace", r.Pattern)
		}
	}
}

// admitted is what the gate decides before it asks the policy.
func admitted(level gate.Access, id access.Identity) bool {
	return level == gate.User && id.Step == nil || level == gate.Step && id.Step != nil || level == gate.UserOrStep
}

// request is one for a route, with its path's parts filled in.
func request(r gate.Route, kind string) *http.Request {
	method, pattern, ok := strings.Cut(r.Pattern, " ")
	if !ok {
		method, pattern = http.MethodGet, r.Pattern
	}
	req := httptest.NewRequest(method, "/", nil)
	values := map[string]string{"kind": kind, "namespace": "default", "name": "x", "number": "1", "repo": "shop"}
	for _, part := range strings.Split(pattern, "/") {
		if name, is := strings.CutPrefix(part, "{"); is {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
			value := values[name]
			if value == "" {
				value = "x"
			}
			req.SetPathValue(name, value)
		}
	}
	return req
}

// TestRoutesAreWalked: every route has a line in the table by which test/trust tries it with every kind of credential.
func TestRoutesAreWalked(t *testing.T) {
	text, err := os.ReadFile("../test/trust/testdata/routes.golden")
	if err != nil {
		t.Fatal(err)
	}
	nothing := http.NotFoundHandler()
	p := &Port{metrics: nothing, o: Options{Gate: &gate.Gate{}, API: &api.API{}, Steps: &steps.API{}, Webhooks: nothing, Git: nothing, Registry: nothing, Screens: nothing}}
	check := func(prefix string, routes []gate.Route) {
		for _, r := range routes {
			line := prefix + r.Pattern
			if strings.HasSuffix(line, "/") && !strings.Contains(r.Pattern, " ") { // any verb, and what is below
				line = r.Pattern
			}
			if !strings.Contains(string(text), line) {
				t.Errorf("test/trust/testdata/routes.golden says nothing of %s%s", prefix, r.Pattern)
			}
		}
	}
	check("\n", p.routes())
	check("\nstep ", p.stepRoutes())
}

// TestForgottenAsk: a route that does not say what it is for is refused to everybody.
func TestForgottenAsk(t *testing.T) {
	for _, ask := range []gate.Ask{{}, {Verb: access.Get}, {Kind: access.Run}} {
		if err := ask.Of(access.BuiltIn(), access.Identity{Actor: "user:ada", Role: access.Admin}, httptest.NewRequest(http.MethodGet, "/", nil)); err == nil {
			t.Errorf("%s is let through", fmt.Sprint(ask))
		}
	}
}

// documented is a route as docs/api.md writes it.
var documented = regexp.MustCompile("`(GET|POST|PUT|DELETE) (/api/v1/[^`? ]*)") //nolint:gochecknoglobals // a constant

// TestRoutesAreDocumented: what docs/api.md describes is there, and every route of the API is described.
func TestRoutesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	nothing := http.NotFoundHandler()
	p := &Port{metrics: nothing, o: Options{Gate: &gate.Gate{}, API: &api.API{}, Steps: &steps.API{}, Webhooks: nothing, Git: nothing, Registry: nothing, Screens: nothing}}
	mux, missing := http.NewServeMux(), map[string]bool{}
	for _, r := range append(p.routes(), p.stepRoutes()...) {
		if r.Pattern == "/v2/" && missing[r.Pattern] {
			continue
		}
		missing[r.Pattern] = true
		if r.Pattern != "/" {
			mux.HandleFunc(r.Pattern, func(http.ResponseWriter, *http.Request) {})
		}
	}
	for _, m := range documented.FindAllStringSubmatch(string(text), -1) {
		_, pattern := mux.Handler(httptest.NewRequest(m[1], strings.NewReplacer("{", "", "}", "", "...", "").Replace(m[2]), nil))
		if pattern == "" {
			t.Errorf("docs/api.md describes %s %s, which is no route", m[1], m[2])
		}
		delete(missing, pattern)
	}
	for pattern := range missing {
		if _, path, _ := strings.Cut(pattern, " "); strings.HasPrefix(path, "/api/v1/") && !strings.Contains(string(text), strings.TrimPrefix(path, "/api/v1")) {
			t.Errorf("docs/api.md says nothing of %s", pattern)
		}
	}
}
