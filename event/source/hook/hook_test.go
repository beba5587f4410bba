package hook_test

// The layouts are those of argo-events 1.9 (eventsources/sources/*), the answers those that GitLab's documentation
// of failing webhooks asks for.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/event/source/hook"
	"github.com/tiphys/tiphys/event/source/sourcetest"
	"github.com/tiphys/tiphys/manifest"
)

const sources = `
apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: in, namespace: ports}
spec:
  webhook:
    plain: {endpoint: /plain-path, metadata: {team: tide}, maxPayloadSize: 1000, filter: {expression: "!('skip' in body) || asInt(body.skip) == 0"}}
    closed: {authSecret: {name: keys, key: bearer}}
    asked: {method: GET}
  gitlab:
    lab: {webhook: {endpoint: /push}, secretToken: {name: keys, key: token}}
    later: {secretToken: {name: keys, key: gone}}
  github:
    hub: {}
  generic:
    bytes: {}
    json: {jsonBody: true}
`

var noon = sourcetest.Start()

func loadSource(t testing.TB, text string) *manifest.EventSource {
	t.Helper()
	objects, diagnostics := manifest.Decode("es.yaml", []byte(text))
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	es, diagnostics := manifest.LoadEventSource(objects[0])
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	return es
}

// notes is a sink that keeps the events, the last of them by itself. With fails it refuses one.
type notes struct {
	last  event.Event
	all   []event.Event
	fails int
}

func (n *notes) Deliver(_ context.Context, e event.Event) (source.Receipt, error) {
	if n.fails--; n.fails == 0 {
		return source.Receipt{}, errors.New("the disk is gone")
	}
	n.last, n.all = e, append(n.all, e)
	return source.Receipt{Seq: 1, ID: e.ID}, nil
}

// receivers opens the events of the definition that are called over HTTP.
func receivers(t testing.TB, sink source.Sink) map[string]source.Receiver {
	t.Helper()
	kinds, err := source.NewKinds(hook.Kinds()...)
	if err != nil {
		t.Fatal(err)
	}
	tools := source.Tools{Sink: sink, Secrets: sourcetest.Secrets{}, Clock: sourcetest.NewClock(noon), NewID: func() string { return "id1" }}
	var list []source.Receiver
	for _, e := range kinds.Events(loadSource(t, sources)) {
		if e.Kind == nil {
			continue
		}
		opened, err := e.Kind.Open(e.Definition, tools)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, opened.(source.Receiver))
	}
	return source.Paths(list)
}

// receive gives the event that a request becomes, and the answer.
func receive(t testing.TB, req *http.Request) (event.Event, source.Answer) {
	t.Helper()
	sink := &notes{}
	to := receivers(t, sink)[req.URL.Path]
	if to == nil {
		return event.Event{}, source.Answer{Status: http.StatusNotFound}
	}
	answer := to.Receive(context.Background(), req)
	return sink.last, answer
}

func post(t testing.TB, path, body string, header map[string]string) (event.Event, source.Answer) {
	t.Helper()
	method := http.MethodPost
	if strings.Contains(path, "asked") {
		method = http.MethodGet
	}
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	for k, v := range header {
		req.Header.Set(k, v)
	}
	return receive(t, req)
}

func TestRoutes(t *testing.T) {
	var paths []string
	for path := range receivers(t, nil) {
		paths = append(paths, path)
	}
	want := []string{"/webhooks/ports/in/asked", "/webhooks/ports/in/bytes", "/webhooks/ports/in/closed", "/webhooks/ports/in/hub",
		"/webhooks/ports/in/json", "/webhooks/ports/in/lab", "/webhooks/ports/in/later", "/webhooks/ports/in/plain",
		"/webhooks/ports/in/plain-path", "/webhooks/ports/in/push"}
	slices.Sort(paths)
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Error(diff)
	}
}

func TestLayouts(t *testing.T) {
	lab, err := os.ReadFile(filepath.Join("..", "..", "testdata", "gitlab", "merge_request_open.json"))
	if err != nil {
		t.Fatal(err)
	}
	gitea := map[string]string{"X-Gitea-Event": "push", "X-GitHub-Event": "push", "X-Gitea-Delivery": "d1"}
	for name, c := range map[string]struct {
		path, body string
		header     map[string]string
		want       map[string]string // gjson path: raw value
	}{
		"webhook": {"plain", `{"a": 1}`, map[string]string{"x-thing": "v", "Authorization": "Bearer x"}, map[string]string{
			"header.X-Thing": `["v"]`, "header.Authorization.0": `"*** Masked Auth Secret ***"`, "body": `{"a":1}`,
			"metadata": `{"team":"tide"}`, "headers": "", "git": ""}},
		"endpoint": {"plain-path", `{}`, nil, map[string]string{"body": "{}"}},
		"form": {"plain", "a=1&a=2&b=x", map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
			map[string]string{"body": `{"a":["1","2"],"b":["x"]}`}},
		"query": {"asked?a=1", "", nil, map[string]string{"body": `{"a":["1"]}`}},
		"gitlab": {"push", string(lab), map[string]string{"X-Gitlab-Event": "Merge Request Hook", "X-Gitlab-Token": "ports-keys-token"},
			map[string]string{"headers.X-Gitlab-Event.0": `"Merge Request Hook"`, "headers.X-Gitlab-Token.0": `"*** Masked Auth Secret ***"`,
				"git.pr.number": "23", "git.action": `"open"`, "body.object_attributes.iid": "23", "header": ""}},
		"github": {"hub", `{"zen":"x","id":12345678901234567890}`, map[string]string{"X-GitHub-Event": "ping", "X-GitHub-Delivery": "d2"},
			map[string]string{"body.X-GitHub-Event": `"ping"`, "body.X-GitHub-Delivery": `"d2"`, "body.id": "12345678901234567890"}},
		"github form": {"hub", "payload=%7B%22zen%22%3A1%7D", map[string]string{"X-GitHub-Event": "ping", "Content-Type": "application/x-www-form-urlencoded"},
			map[string]string{"body.zen": "1"}},
		"gitea at a webhook": {"plain", `{"ref":"refs/heads/x","after":"1","before":"2","repository":{"full_name":"o/r"}}`, gitea,
			map[string]string{"git.forge": `"gitea"`, "git.branch": `"x"`, "git.repo.fullName": `"o/r"`}},
		"generic bytes": {"bytes", "abc", nil, map[string]string{"body": `"YWJj"`, "header": ""}},
		"generic json":  {"json", "[1]", nil, map[string]string{"body": `[1]`}},
	} {
		t.Run(name, func(t *testing.T) {
			e, answer := post(t, "/webhooks/ports/in/"+c.path, c.body, c.header)
			if answer.Status != http.StatusOK || answer.ID != "id1" || answer.Seq != 1 {
				t.Fatalf("%+v", answer)
			}
			for path, want := range c.want {
				if got := gjson.GetBytes(e.Data, path).Raw; got != want {
					t.Errorf("%s is %s, want %s", path, got, want)
				}
			}
			if e.ID != "id1" || e.Namespace != "ports" || e.Source != "in" || !e.Time.Equal(noon) {
				t.Errorf("envelope %+v", e)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		path, body string
		header     map[string]string
		status     int
	}{
		"unknown path":         {"nowhere", "{}", nil, 404},
		"not json":             {"plain", "{", nil, 400},
		"deep":                 {"json", strings.Repeat("[", 200_000), nil, 400},
		"too large":            {"plain", `"` + strings.Repeat("x", 1000) + `"`, nil, 413},
		"no bearer":            {"closed", "{}", nil, 401},
		"wrong token":          {"lab", "not even json", map[string]string{"X-Gitlab-Token": "no"}, 401},
		"secret not there now": {"later", "{}", map[string]string{"X-Gitlab-Token": "no"}, 503},
		"forge without object": {"hub", "[]", nil, 400},
	} {
		t.Run(name, func(t *testing.T) {
			e, answer := post(t, "/webhooks/ports/in/"+c.path, c.body, c.header)
			if answer.Status != c.status || answer.Reason == "" && c.status != 404 || answer.Filtered || answer.Seq != 0 || e.ID != "" {
				t.Fatalf("got %+v, want %d", answer, c.status)
			}
			if strings.Contains(answer.Reason, "ports-keys") {
				t.Errorf("the reason tells the secret: %s", answer.Reason)
			}
		})
	}
}

// What the source's filter leaves out is an event that says so, and so is what it cannot judge.
func TestFiltered(t *testing.T) {
	for body, want := range map[string]string{
		`{"skip":"0"}`: "", `{}`: "", `{"skip":"1"}`: "the event source's filter is not true for this event", `{"skip":"one"}`: "the event source's filter failed: ",
	} {
		e, answer := post(t, "/webhooks/ports/in/plain", body, nil)
		if answer.Status != 200 || answer.Seq != 1 || answer.Filtered != (want != "") || !strings.HasPrefix(e.Filtered, want) || (want == "") != (e.Filtered == "") || len(e.Data) == 0 {
			t.Errorf("%s: %+v %q", body, answer, e.Filtered)
		}
	}
}

// A delivery with several changes is an event for each, which are known when it is sent again; one that could not be recorded has it sent again.
func TestSeveralChanges(t *testing.T) {
	body := `{"repository":{"full_name":"o/r"},"push":{"changes":[{"new":{"type":"branch","name":"a","target":{"hash":"1"}}},{"new":{"type":"branch","name":"b","target":{"hash":"2"}}}]}}`
	send := func(sink *notes) source.Answer {
		req := httptest.NewRequest(http.MethodPost, "/webhooks/ports/in/json", strings.NewReader(body))
		req.Header.Set("X-Event-Key", "repo:push")
		req.Header.Set("X-Request-UUID", "d1")
		return receivers(t, sink)[req.URL.Path].Receive(t.Context(), req)
	}
	sink := &notes{}
	if answer := send(sink); answer.Status != 200 || len(sink.all) != 2 {
		t.Fatalf("%+v, %d events", answer, len(sink.all))
	}
	a, b := sink.all[0], sink.all[1]
	if a.Git.Branch != "a" || b.Git.Branch != "b" || a.Delivery == "" || b.Delivery != a.Delivery+"/change-2" || gjson.GetBytes(b.Data, "git.branch").Str != "b" {
		t.Errorf("%+v %+v", a, b)
	}
	if got := gjson.GetBytes(b.Data, "body.push.changes.#").Int(); got != 2 {
		t.Errorf("the second event has %d changes in its body", got)
	}
	half := &notes{fails: 2}
	if answer := send(half); answer.Status != http.StatusServiceUnavailable || answer.Err == nil {
		t.Errorf("%+v", answer)
	}
	body = strings.Replace(body, `"o/r"`, `"`+strings.Repeat("x", 900_000)+`"`, 1)
	body = strings.Replace(body, `"changes":[`, `"changes":[`+strings.Repeat(`{"new":{"type":"branch","name":"c","target":{"hash":"1"}}},`, 60), 1)
	if answer := send(&notes{}); answer.Status != http.StatusRequestEntityTooLarge || answer.Reason == "" {
		t.Errorf("a large one with many: %+v", answer)
	}
}

// endless is a body that never ends; it counts what is read of it.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.read += int64(len(p))
	return len(p), nil
}

func TestAHugeBodyIsNotRead(t *testing.T) {
	body := &endless{}
	req := httptest.NewRequest(http.MethodPost, "/webhooks/ports/in/json", io.NopCloser(body))
	req.ContentLength = -1
	if _, answer := receive(t, req); answer.Status != 413 || !answer.Close || body.read > 4*hook.DefaultMaxBody {
		t.Errorf("%+v after %d bytes", answer, body.read)
	}
	body.read, req.ContentLength = 0, 100<<20
	if _, answer := receive(t, req); answer.Status != 413 || body.read != 0 {
		t.Errorf("%+v after %d bytes", answer, body.read)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add("plain", "application/json", "push", []byte(`{"a":1}`))
	f.Add("hub", "application/x-www-form-urlencoded", "push", []byte(`payload={}`))
	f.Add("bytes", "", "", []byte{0xff})
	sink := &notes{}
	paths := receivers(f, sink)
	f.Fuzz(func(t *testing.T, name, kind, hook string, body []byte) {
		req := httptest.NewRequest(http.MethodPost, "/webhooks/", strings.NewReader(string(body)))
		req.URL.Path = "/webhooks/ports/in/" + name
		req.Header.Set("Content-Type", kind)
		req.Header.Set("X-GitHub-Event", hook)
		to := paths[req.URL.Path]
		if to == nil {
			return
		}
		if answer := to.Receive(context.Background(), req); answer.Seq != 0 && !gjson.ValidBytes(sink.last.Data) {
			t.Fatalf("data is not json: %q", sink.last.Data)
		}
	})
}
