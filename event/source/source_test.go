package source_test

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
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
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
  calendar:
    noon: {schedule: "0 12 * * *", timezone: Europe/Amsterdam, exclusionDates: ["EXDATE:20260915"], persistence: {catchup: {enabled: true, maxDuration: 60h}}}
`

var noon = time.Date(2026, 9, 14, 12, 0, 0, 0, time.UTC)

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

func receiver(t testing.TB) *source.Receiver {
	t.Helper()
	lookup := func(_ context.Context, namespace, name, key string) (secret.Value, error) {
		if key == "gone" {
			return secret.Value{}, errors.New("not found")
		}
		return secret.New(namespace + "-" + name + "-" + key), nil
	}
	r, diagnostics := source.New(loadSource(t, sources), lookup, source.Options{Now: func() time.Time { return noon }, NewID: func() string { return "id1" }})
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	return r
}

func post(t testing.TB, path, body string, header map[string]string) (event.Event, *source.Refusal) {
	t.Helper()
	method := http.MethodPost
	if strings.Contains(path, "asked") {
		method = http.MethodGet
	}
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	for k, v := range header {
		req.Header.Set(k, v)
	}
	return receiver(t).Receive(context.Background(), req)
}

func TestRoutes(t *testing.T) {
	var paths []string
	for _, r := range receiver(t).Routes() {
		paths = append(paths, r.Path)
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
	lab, err := os.ReadFile(filepath.Join("..", "testdata", "gitlab", "merge_request_open.json"))
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
			e, refusal := post(t, "/webhooks/ports/in/"+c.path, c.body, c.header)
			if refusal != nil {
				t.Fatal(refusal)
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
		"filtered":             {"plain", `{"skip":"1"}`, nil, 200},
		"filter fails":         {"plain", `{"skip":"one"}`, nil, 200},
		"forge without object": {"hub", "[]", nil, 400},
	} {
		t.Run(name, func(t *testing.T) {
			_, refusal := post(t, "/webhooks/ports/in/"+c.path, c.body, c.header)
			if refusal == nil || refusal.Status != c.status || refusal.Reason == "" || refusal.Dropped != (c.status == 200) {
				t.Fatalf("got %+v, want %d", refusal, c.status)
			}
			if strings.Contains(refusal.Reason, "ports-keys") {
				t.Errorf("the reason tells the secret: %s", refusal.Reason)
			}
		})
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
	_, refusal := receiver(t).Receive(context.Background(), req)
	if refusal == nil || refusal.Status != 413 || !refusal.Close || body.read > 4*source.DefaultMaxBody {
		t.Errorf("%+v after %d bytes", refusal, body.read)
	}
	body.read, req.ContentLength = 0, 100<<20
	if _, refusal = receiver(t).Receive(context.Background(), req); refusal == nil || refusal.Status != 413 || body.read != 0 {
		t.Errorf("%+v after %d bytes", refusal, body.read)
	}
}

func TestTypesThatAreNotRunAreRefusedByName(t *testing.T) {
	es := loadSource(t, `{apiVersion: argoproj.io/v1alpha1, kind: EventSource, metadata: {name: q}, spec: {kafka: {k: {url: u}}}}`)
	_, diagnostics := source.New(es, nil, source.Options{})
	if err := manifest.FirstError(diagnostics); err == nil || !strings.Contains(err.Error(), `"kafka"`) {
		t.Errorf("got %v", err)
	}
}

func TestCalendar(t *testing.T) {
	calendars, diagnostics := source.NewCalendars(loadSource(t, sources))
	if manifest.Failed(diagnostics) || len(calendars) != 1 {
		t.Fatal(diagnostics)
	}
	c := calendars[0]
	var got []string
	for _, tick := range c.Missed(noon.Add(-48*time.Hour), noon.Add(48*time.Hour)) {
		got = append(got, tick.UTC().Format(time.RFC3339))
	}
	// 60 hours back from the 16th at noon; the 15th is excluded; Amsterdam's noon is 10:00 UTC in summer.
	if diff := cmp.Diff([]string{"2026-09-14T10:00:00Z", "2026-09-16T10:00:00Z"}, got); diff != "" {
		t.Error(diff)
	}
	if c.Missed(time.Time{}, noon) != nil {
		t.Error("a new calendar has missed nothing")
	}
	e, ok, err := c.Event(c.Next(noon), "id", noon)
	if err != nil || !ok || string(e.Data) != `{"eventTime":"2026-09-16 12:00:00 +0200 CEST"}` || e.Delivery != "calendar/2026-09-16T10:00:00Z" {
		t.Errorf("%v %v %s %s", ok, err, e.Data, e.Delivery)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add("plain", "application/json", "push", []byte(`{"a":1}`))
	f.Add("hub", "application/x-www-form-urlencoded", "push", []byte(`payload={}`))
	f.Add("bytes", "", "", []byte{0xff})
	r := receiver(f)
	f.Fuzz(func(t *testing.T, name, kind, hook string, body []byte) {
		req := httptest.NewRequest(http.MethodPost, "/webhooks/", strings.NewReader(string(body)))
		req.URL.Path = "/webhooks/ports/in/" + name
		req.Header.Set("Content-Type", kind)
		req.Header.Set("X-GitHub-Event", hook)
		e, refusal := r.Receive(context.Background(), req)
		if refusal == nil && !gjson.ValidBytes(e.Data) {
			t.Fatalf("data is not json: %q", e.Data)
		}
	})
}
