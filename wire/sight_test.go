package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control/crons"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/posts"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/server/feed"
	"github.com/tiphys/tiphys/server/gate"
)

// declaredIn is one object of each kind in a namespace NS. What may be told to nobody who may not see it has the namespace in its name.
const declaredIn = `
{apiVersion: v1, kind: Secret, metadata: {name: NS-secret, namespace: NS}, stringData: {k: v}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: NS-map, namespace: NS}, data: {k: v}}
---
{apiVersion: argoproj.io/v1alpha1, kind: WorkflowTemplate, metadata: {name: NS-template, namespace: NS}, spec: {entrypoint: m, templates: [{name: m, suspend: {}}]}}
---
{apiVersion: argoproj.io/v1alpha1, kind: CronWorkflow, metadata: {name: NS-cron, namespace: NS}, spec: {schedule: "@daily", workflowSpec: {entrypoint: m, templates: [{name: m, suspend: {}}]}}}
---
{apiVersion: argoproj.io/v1alpha1, kind: EventSource, metadata: {name: NS-source, namespace: NS}, spec: {webhook: {one: {endpoint: /NS, method: POST}}}}
---
{apiVersion: argoproj.io/v1alpha1, kind: Sensor, metadata: {name: NS-sensor, namespace: NS}, spec: {dependencies: [{name: d, eventSourceName: NS-source, eventName: one}],
  triggers: [{template: {name: t, http: {url: "https://forge.example/x", method: POST}}}]}}
---
{apiVersion: argoproj.io/v1alpha1, kind: Application, metadata: {name: NS-app, namespace: NS}, spec: {project: default, destination: {namespace: NS}, source: {repoURL: "https://forge.example/NS.git", path: x}}}
---
{apiVersion: argoproj.io/v1alpha1, kind: ApplicationSet, metadata: {name: NS-set, namespace: NS}, spec: {generators: [{list: {elements: [{n: 1}]}}],
  template: {metadata: {name: "a-{{n}}"}, spec: {project: default, destination: {namespace: NS}, source: {repoURL: "https://forge.example/NS.git", path: x}}}}}
`

// peopled is a server with the same objects, runs, events and applications in the namespaces shop and hidden; nothing in it moves.
func peopled(t *testing.T) *Server {
	t.Helper()
	s := opened(t, Options{})
	if err := s.events.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"shop", "hidden"} {
		objects, diags := manifest.Decode("objects.yaml", []byte(strings.ReplaceAll(declaredIn, "NS", ns)))
		if manifest.Failed(diags) {
			t.Fatal(diags)
		}
		ch, err := s.defs.Apply(t.Context(), "user:ada", definitions.OriginAPI, objects)
		if err != nil || manifest.Failed(ch.Diagnostics) {
			t.Fatal(err, ch.Diagnostics)
		}
		w := manifestOf(t, fmt.Sprintf(`{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: %[1]s-run, namespace: %[1]s}, spec: {entrypoint: m, templates: [{name: m, suspend: {}}]}}`, ns))
		if _, err := s.machine.Runs.Submit(t.Context(), runs.Submission{Object: w, Actor: "user:ada"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.remote.CreateRepository(t.Context(), forge.Actor{Name: "user:ada"}, forge.Repository{Name: ns}); err != nil {
			t.Fatal(err)
		}
		happenedIn(t, s, ns)
	}
	return s
}

func manifestOf(t *testing.T, text string) manifest.Object {
	t.Helper()
	objects, diags := manifest.Decode("w.yaml", []byte(text))
	if manifest.Failed(diags) || len(objects) != 1 {
		t.Fatal(diags)
	}
	return objects[0]
}

// happenedIn writes entries of each room about a namespace.
func happenedIn(t *testing.T, s *Server, ns string) {
	t.Helper()
	cause := int64(0)
	say := func(kind, subject string, body any) int64 {
		t.Helper()
		var made ledger.Ref
		err := s.machine.Ledger.Write(t.Context(), ledger.Anyone(subject), func(tx ledger.Tx) (err error) {
			made, err = tx.Append(ledger.Draft{Actor: "user:ada", Kind: kind, Subject: subject, Cause: ledger.At(cause), Body: body})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return made.Seq()
	}
	key := func(name string) string { return ns + "/" + ns + "-" + name }
	e := event.Event{ID: ns + "-event", Type: "webhook", Namespace: ns, Source: ns + "-source", Subject: "one", Data: json.RawMessage(`{"body":{}}`)}
	seq := say(event.KindReceived, event.Subject(e), event.Received{Event: e})
	say(event.KindHeld, event.Subject(e), event.Approval{Key: ns + "-merge-request", SHA: "1", Author: ns + "-author", Event: e.ID})
	say(event.KindDecided, event.Subject(e), event.Decided{EventID: e.ID, EventSeq: seq, Decisions: []event.Decision{{Sensor: key("sensor"), Trigger: "t", EventSeq: seq, Outcome: "fired"}},
		States: []event.StateRow{{Sensor: key("sensor"), Trigger: "t"}}})
	firing := e.ID + "/" + key("sensor") + "/t/1"
	cause = say(event.KindFired, "firing/"+firing, event.Fired{Key: firing, EventID: e.ID, Sensor: key("sensor"), Trigger: "t", Number: 1, Firing: json.RawMessage(`{}`)})
	say(event.KindFailed, "firing/"+firing, event.Settled{Key: firing, Attempt: 1, Error: "no", Dead: true})
	cause = 0
	application := deploy.ApplicationRow{Namespace: ns, Name: ns + "-app", Cluster: deploy.InCluster}
	say(deploy.KindSyncFinished, "application/"+key("app"), deploy.ApplicationEntry{Application: application, Deployment: &deploy.Deployment{Application: key("app"), Commit: "c"}})
	say(deploy.KindSetChanged, "applicationset/"+key("set"), deploy.SetRow{Namespace: ns, Name: ns + "-set"})
	say(deploy.KindReleaseRecorded, "release/"+key("release")+"/1", deploy.Release{Namespace: ns, Name: ns + "-release", Number: 1})
	for _, kind := range []string{"Secret", "ConfigMap"} {
		o := deploy.ObjectRecord{Key: deploy.Key{Kind: kind, Namespace: ns, Name: ns + "-live-" + kind}, Application: key("app"), Object: json.RawMessage(`{}`)}
		say(deploy.KindObjectApplied, "object/"+o.RowKey(), o)
		o.Key.Name += "-gone"
		say(deploy.KindObjectApplied, "object/"+o.RowKey(), o)
		say(deploy.KindObjectDeleted, "object/"+o.RowKey(), deploy.ObjectGone{Application: key("app")})
	}
	say(crons.KindSlot, "cron/"+key("cron"), crons.Slot{Cron: key("cron"), Outcome: "submitted"})
	post := posts.Post{ID: "p", Instance: key("forge"), Repo: ns, SHA: "s", Status: &forge.Status{Context: "c", State: "success"}, Asked: time.Now()}
	say("post.asked", "post/"+post.Key(), post)
}

// asking answers requests as the port does for somebody, by a policy.
func asking(s *Server, policy access.Policy, who access.Identity) func(method, path, body string) *httptest.ResponseRecorder {
	a := *s.api
	a.Policy, a.Ledger = policy, access.NewView(s.machine.Ledger, policy)
	mux := http.NewServeMux()
	for _, r := range a.Routes() {
		mux.HandleFunc(r.Pattern, func(w http.ResponseWriter, req *http.Request) {
			req = req.WithContext(access.With(req.Context(), who))
			if err := r.Ask.Of(policy, who, req); err != nil {
				gate.Fail(w, err)
				return
			}
			r.Handle(w, req)
		})
	}
	return func(method, path, body string) *httptest.ResponseRecorder {
		// A stream is told what there is, and then that its client went.
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		w := &untilAt{ResponseRecorder: httptest.NewRecorder(), enough: cancel}
		mux.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)).WithContext(ctx))
		return w.ResponseRecorder
	}
}

// untilAt is a client of a stream who goes when it is told how far the ledger is, or begins to wait.
type untilAt struct {
	*httptest.ResponseRecorder
	enough func()
}

func (u *untilAt) Flush() {
	if body := u.Body.String(); strings.Contains(body, "event: at") || strings.Contains(body, `"result"`) && strings.Contains(body, "shop-run") {
		u.enough()
	}
}

// routesOf are requests for everything that can be read about a namespace.
func routesOf(ns string) []string {
	key := func(name string) string { return ns + "/" + ns + "-" + name }
	e := ns + "-event"
	return []string{
		"/api/v1/runs", "/api/v1/runs?namespace=" + ns, "/api/v1/runs/" + key("run"), "/api/v1/runs/" + key("run") + "/nodes", "/api/v1/runs/" + key("run") + "/nodes/" + ns + "-run",
		"/api/v1/runs/" + key("run") + "/manifest", "/api/v1/runs/" + key("run") + "/attempts", "/api/v1/runs/" + key("run") + "/log/" + ns + "-run",
		"/api/v1/runs/" + key("run") + "/artifacts/" + ns + "-run/out",
		"/api/v1/workflows/-", "/api/v1/workflows/" + ns, "/api/v1/workflows/" + key("run"), "/api/v1/workflows/" + key("run") + "/log", "/api/v1/workflow-events/-?since=0",
		"/api/v1/definitions", "/api/v1/definitions?kind=Secret", "/api/v1/definitions?kind=ConfigMap&namespace=" + ns, "/api/v1/definitions/Secret/" + key("secret"),
		"/api/v1/definitions/ConfigMap/" + key("map"), "/api/v1/definitions/Sensor/" + key("sensor"), "/api/v1/cron", "/api/v1/sensors", "/api/v1/sources",
		"/api/v1/entries?limit=1000", "/api/v1/entries?newest=1&limit=1000", "/api/v1/entries?subject=object/", "/api/v1/entries?subject=definition/Secret/",
		"/api/v1/trail?of=run/" + key("run"), "/api/v1/trail?of=event/" + e, "/api/v1/trail?of=definition/Secret/" + key("secret"), "/api/v1/trail?of=app/" + key("app"),
		"/api/v1/trail?of=object//Secret:" + key("live-Secret"), "/api/v1/events", "/api/v1/events/" + e, "/api/v1/approvals", "/api/v1/firings", "/api/v1/firings?state=dead",
		"/api/v1/apps", "/api/v1/apps?at=2100-01-01T00:00:00Z", "/api/v1/apps/" + key("app"), "/api/v1/apps/" + key("app") + "/logs/p", "/api/v1/applicationsets", "/api/v1/releases",
		"/api/v1/releases?namespace=" + ns + "&name=" + ns + "-release", "/api/v1/posts", "/api/v1/posts?forge=" + key("forge"), "/api/v1/forges", "/api/v1/repos", "/api/v1/mrs",
		"/api/v1/restore", "/api/v1/restore?kind=run", "/api/v1/stream?since=0&tables=" + strings.Join(allTables(), ","), "/api/v1/stream?since=1&tables=" + strings.Join(allTables(), ","),
	}
}

// allTables are those of every room.
func allTables() []string {
	var out []string
	for _, p := range append(machineProjections(), serverProjections()...) {
		out = append(out, p.Tables()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// whole rules let a role do everything with what a pattern matches.
func whole(role access.Role, object string, deny bool, kinds ...string) []access.Rule {
	var out []access.Rule
	for _, kind := range kinds {
		out = append(out, access.Rule{Role: role, Resource: kind, Action: "*", Object: object, Deny: deny})
	}
	return out
}

// teamPolicy lets the role team do everything in namespace shop but with Secrets, and with repository shop.
func teamPolicy() access.Policy {
	rules := whole("team", "shop/*", false, "*")
	rules = append(rules, whole("team", "/shop*", false, access.Repository, access.MergeRequest)...)
	return access.NewPolicy(append(rules, whole("team", "*", true, "Secret")...)...)
}

// Whatever is asked, and whatever a stream tells: of another namespace a team learns nothing, not even that there is something, and
// of Secrets neither it nor a viewer does.
func TestNothingIsToldOfWhatOneMayNotGet(t *testing.T) {
	s := peopled(t)
	for _, c := range []struct {
		role    access.Role
		policy  access.Policy
		secrets []string // words that no answer has
		has     []string // words that some answer has
	}{
		{"team", teamPolicy(), []string{"hidden", "shop-secret", "shop-live-Secret"}, []string{"shop-run", "shop-map", "shop-live-ConfigMap", "shop-event", "shop-app", "shop-release", "shop-cron"}},
		{access.Viewer, access.BuiltIn(), []string{"hidden-secret", "shop-secret", "live-Secret"}, []string{"hidden-run", "hidden-map", "hidden-live-ConfigMap", "hidden-event", "shop-app"}},
		{access.Developer, access.BuiltIn(), nil, []string{"hidden-secret", "shop-live-Secret"}},
		{"nobody", access.BuiltIn(), []string{"hidden-", "shop-"}, nil},
	} {
		ask := asking(s, c.policy, access.Identity{Actor: "user:ada", Verified: true, Role: c.role})
		var said strings.Builder
		for _, ns := range []string{"shop", "hidden"} {
			for _, path := range routesOf(ns) {
				if c.role == "nobody" && strings.Contains(path, "stream") || strings.Contains(path, "workflow-events") && c.role != "team" {
					continue
				}
				w := ask(http.MethodGet, path, "")
				body := w.Body.String()
				if w.Code < 300 {
					said.WriteString(body)
				} else if w.Code != http.StatusForbidden && w.Code != http.StatusNotFound && w.Code != http.StatusBadRequest {
					t.Errorf("%s: GET %s: %d %s", c.role, path, w.Code, body)
				}
				for _, word := range c.secrets {
					// A refusal may say what was asked for.
					if strings.Contains(body, word) && (w.Code < 300 || !strings.Contains(path, word)) {
						t.Errorf("%s: GET %s tells of %s: %d %.300s", c.role, path, word, w.Code, around(body, word))
					}
				}
			}
		}
		for _, word := range c.has {
			if !strings.Contains(said.String(), word) {
				t.Errorf("%s is told nothing of %s", c.role, word)
			}
		}
	}
}

func around(text, word string) string {
	i := strings.Index(text, word)
	return text[max(0, i-150):min(len(text), i+150)]
}

// What changes something is asked about the thing itself, not about its kind alone.
func TestNothingIsDoneToWhatOneMayNotTouch(t *testing.T) {
	s := peopled(t)
	ask := asking(s, teamPolicy(), access.Identity{Actor: "user:ada", Verified: true, Role: "team"})
	head, err := s.machine.Ledger.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const run = `{"workflow": {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "x"NS}, "spec": {"entrypoint": "m", "templates": [{"name": "m", "suspend": {}}]}}}`
	smuggled := strings.ReplaceAll(run, "NS", `, "namespace": "hidden"`)
	for _, c := range [][3]string{
		{"POST", "/api/v1/workflows/hidden", strings.ReplaceAll(run, "NS", "")},
		{"POST", "/api/v1/workflows/shop", smuggled},
		{"POST", "/api/v1/workflows/shop/lint", smuggled},
		{"POST", "/api/v1/workflows/hidden/lint", strings.ReplaceAll(run, "NS", "")},
		{"POST", "/api/v1/workflows/hidden/submit", `{"resourceKind": "WorkflowTemplate", "resourceName": "hidden-template"}`},
		{"POST", "/api/v1/events/hidden-event/replay", ""},
		{"POST", "/api/v1/events/hidden-event/replay?dryRun=1", ""},
		{"POST", "/api/v1/firings/hidden-event%2Fhidden%2Fhidden-sensor%2Ft%2F1/redrive", ""},
		{"PUT", "/api/v1/workflows/hidden/hidden-run/stop", "{}"},
		{"DELETE", "/api/v1/workflows/hidden/hidden-run", ""},
		{"POST", "/api/v1/definitions", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: hidden}}"},
		{"POST", "/api/v1/definitions", "{apiVersion: v1, kind: Secret, metadata: {name: x, namespace: shop}}"},
		{"POST", "/api/v1/definitions", "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: hidden}}]}"},
		{"DELETE", "/api/v1/definitions/ConfigMap/hidden/hidden-map", ""},
		{"POST", "/api/v1/apps/hidden/hidden-app/sync", "{}"},
		{"POST", "/api/v1/repos", `{"name": "other"}`},
		{"POST", "/api/v1/mrs/hidden", `{"source": "a", "target": "main", "title": "t"}`},
		{"POST", "/api/v1/mrs/hidden/1/merge", `{}`},
		{"POST", "/api/v1/mrs/shop%252F..%252Fhidden/1/merge", `{}`},
	} {
		w := ask(c[0], c[1], c[2])
		if w.Code != http.StatusForbidden && w.Code != http.StatusNotFound {
			t.Errorf("%s %s: %d %s", c[0], c[1], w.Code, w.Body)
		}
	}
	after, err := s.machine.Ledger.Head(t.Context())
	if err != nil || after.Seq != head.Seq {
		t.Errorf("%d entries were written, %v", after.Seq-head.Seq, err)
	}
	// The same in one's own namespace.
	for _, c := range [][3]string{
		{"POST", "/api/v1/workflows/shop", strings.ReplaceAll(run, "NS", "")},
		{"POST", "/api/v1/workflows/shop/submit", `{"resourceKind": "WorkflowTemplate", "resourceName": "shop-template"}`},
		{"POST", "/api/v1/events/shop-event/replay", ""},
		{"POST", "/api/v1/firings/shop-event%2Fshop%2Fshop-sensor%2Ft%2F1/redrive", ""},
		{"POST", "/api/v1/repos", `{"name": "shop-two"}`},
	} {
		if w := ask(c[0], c[1], c[2]); w.Code >= 300 {
			t.Errorf("%s %s: %d %s", c[0], c[1], w.Code, w.Body)
		}
	}
}

// shown is the request that shows what a row tells; empty for rows that lists alone show, which leave out what the row's own rule hides.
func shown(row ledger.Row) string {
	switch row.Table {
	case "run":
		return "/api/v1/runs/" + row.Key
	case "node", "attempt":
		return "/api/v1/runs/" + row.Owner
	case "application":
		return "/api/v1/apps/" + row.Key
	case "deployment":
		return "/api/v1/apps/" + row.Owner
	case "object":
		return "/api/v1/apps/" + row.Owner
	case "definition":
		return "/api/v1/definitions/" + row.Key
	case "event", "decision":
		return "/api/v1/events/" + row.Key
	}
	return ""
}

// By whatever rules: what a stream tells is what a request for the thing would answer.
func TestStreamsTellWhatGetAllows(t *testing.T) {
	s := peopled(t)
	kinds := []string{"*", access.Run, access.Event, access.Firing, access.Release, access.Ledger, access.Repository, "Application", "ApplicationSet",
		"Secret", "ConfigMap", "Sensor", "CronWorkflow", "Forge"}
	told := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		var rules []access.Rule
		for range rapid.IntRange(1, 6).Draw(t, "rules") {
			rules = append(rules, access.Rule{
				Role: "team", Resource: rapid.SampledFrom(kinds).Draw(t, "kind"), Action: rapid.SampledFrom([]string{"get", "*"}).Draw(t, "verb"),
				Object: rapid.SampledFrom([]string{"*", "*/*", "shop/*", "hidden/*", "*/shop-*", "shop/shop-app", "/shop"}).Draw(t, "object"), Deny: rapid.IntRange(0, 3).Draw(t, "deny") == 0,
			})
		}
		policy := access.NewPolicy(rules...)
		who := access.Identity{Actor: "user:ada", Verified: true, Role: "team"}
		ask := asking(s, policy, who)
		var interests []feed.Interest
		for _, table := range allTables() {
			interests = append(interests, feed.Interest{Table: table})
		}
		sub, err := s.feed.Subscribe(context.Background(), policy.Sight(who), 1, false, interests...)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		for at := int64(0); at == 0; {
			b, err := sub.Next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			at = b.At
			for _, row := range b.Rows {
				path := shown(row.Row)
				if path == "" || row.Deleted && row.Table != "object" {
					continue
				}
				told[row.Table]++
				if w := ask(http.MethodGet, path, ""); w.Code >= 300 {
					t.Fatalf("the stream tells of %s %s, and GET %s answers %d %s", row.Table, row.Key, path, w.Code, w.Body)
				}
				if _, name, is := strings.Cut(row.Key, "/Secret:"); is && row.Table == "object" {
					namespace, name, _ := strings.Cut(name, "/")
					if err := policy.Can(who, access.Get, "Secret", namespace, name); err != nil {
						t.Fatalf("the stream tells of %s: %v", row.Key, err)
					}
				}
			}
		}
	})
	for _, table := range []string{"run", "application", "object", "definition", "event", "decision", "deployment"} {
		if told[table] == 0 {
			t.Errorf("no stream told of a row of %s", table)
		}
	}
}

// Each route that reads is among those that are asked for above, or tells of no object of a namespace.
func TestEveryReadingRouteIsTried(t *testing.T) {
	s := opened(t, Options{})
	mux, tried := http.NewServeMux(), map[string]bool{
		"GET /api/v1/info": true, "GET /api/v1/version": true, "GET /api/v1/userinfo": true, // of the server and the caller
		"GET /api/v1/ledger/head": true, "GET /api/v1/ledger/verify": true, // of the record as a whole
		"GET /api/v1/quarantine":          true, // of the server as a whole
		"GET /api/v1/mrs/{repo}/{number}": true, // the gate asks about the one
		"GET /api/v1/users":               true, // administrators alone
		"GET /api/v1/tokens":              true, // one's own; of others if one may see them (server/api/people_test.go)
	}
	for _, r := range s.api.Routes() {
		mux.HandleFunc(r.Pattern, func(http.ResponseWriter, *http.Request) {})
	}
	for _, path := range routesOf("shop") {
		_, pattern := mux.Handler(httptest.NewRequest(http.MethodGet, path, nil))
		tried[pattern] = true
	}
	for _, r := range s.api.Routes() {
		if strings.HasPrefix(r.Pattern, "GET ") && !tried[r.Pattern] {
			t.Errorf("%s: what does it tell to whom? Add a request to routesOf", r.Pattern)
		}
	}
}

// Each table and each subject belongs to something that the policy knows; the ledger's own are listed.
func TestRowsHaveAnOwner(t *testing.T) {
	for _, table := range allTables() {
		if things := access.OfRow(ledger.Row{Table: table, Key: "a/b", Owner: "a/b"}); slices.ContainsFunc(things, func(t access.Thing) bool { return t.Kind == access.Ledger }) && table != "lock" {
			t.Errorf("table %s is not of anything that the policy knows: say what it is about in access/about.go", table)
		}
	}
}
