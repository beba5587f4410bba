package events

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
)

// What a repository holds is written by whoever may push there. It says neither whose Secrets its run may use nor what
// this server listens to; a sensor that wants to declare what it fetches says so by the type of its trigger.
func TestFetchedObjectsStayWithinTheirSensor(t *testing.T) {
	for _, c := range []struct {
		what, kind, namespace, text, want string
	}{
		{what: "another namespace", kind: "argoWorkflow", text: `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","metadata":{"name":"w","namespace":"safe"}}`, want: `is for namespace "safe"`},
		{what: "another namespace, declared", kind: "k8s", text: `{"apiVersion":"argoproj.io/v1alpha1","kind":"WorkflowTemplate","metadata":{"name":"w","namespace":"safe"}}`, want: `is for namespace "safe"`},
		{what: "a sensor for a workflow", kind: "argoWorkflow", text: `{"apiVersion":"argoproj.io/v1alpha1","kind":"Sensor","metadata":{"name":"s"}}`, want: "submits a Workflow, and its object is a Sensor"},
		// What a developer may not declare himself, no sensor of his declares for him.
		{what: "a Secret", kind: "k8s", text: `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"ports"}}`, want: "sensor:ports/s (sensor) may not create Secret ports/s"},
		{what: "a Forge", kind: "k8s", text: `{"apiVersion":"tiphys.dev/v1alpha1","kind":"Forge","metadata":{"name":"f"}}`, want: "may not create Forge"},
		{what: "a project", kind: "k8s", text: `{"apiVersion":"argoproj.io/v1alpha1","kind":"AppProject","metadata":{"name":"p"}}`, want: "may not create AppProject"},
		{what: "templates of everybody", kind: "k8s", text: `{"apiVersion":"argoproj.io/v1alpha1","kind":"ClusterWorkflowTemplate","metadata":{"name":"c"}}`, want: "may not create ClusterWorkflowTemplate"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRoom(t, nil)
			r.o.Repositories = reading(func(string, string, string) ([]byte, error) { return []byte(c.text), nil })
			src := &manifest.TriggerSource{Git: &manifest.TriggerGit{URL: "u", FilePath: "ci.yaml"}}
			_, err := r.workflow(t.Context(), sensor.Firing{Key: "k", Sensor: "ports/s", Trigger: "t", Type: c.kind}, "", src, 0)
			if !errors.Is(err, errFinal) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if defs, err := r.o.Ledger.List(t.Context(), ledger.Query{Table: "definition"}); err != nil || len(defs) > 0 {
				t.Errorf("it was declared: %v %v", defs, err)
			}
		})
	}
}

// What a sensor itself has in it goes no further: whoever may declare sensors in one namespace names another in vain. Without a namespace the
// object is for the sensor's own.
func TestInlineObjectsStayWithinTheirSensor(t *testing.T) {
	for _, c := range []struct{ what, kind, text, want string }{
		{"a workflow", "argoWorkflow", `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","metadata":{"name":"w","namespace":"safe"}}`, `is for namespace "safe"`},
		{"a workflow of a k8s trigger", "k8s", `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","metadata":{"name":"w","namespace":"safe"}}`, `is for namespace "safe"`},
		{"a template", "k8s", `{"apiVersion":"argoproj.io/v1alpha1","kind":"WorkflowTemplate","metadata":{"name":"w","namespace":"safe"},"spec":{"templates":[]}}`, `is for namespace "safe"`},
		{"its own", "k8s", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"ports"},"data":{"a":"b"}}`, ""},
		{"none", "k8s", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"b"}}`, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newRoom(t, nil)
			_, err := r.workflow(t.Context(), sensor.Firing{Key: "k", Sensor: "ports/s", Trigger: "t", Type: c.kind, Resource: []byte(c.text)}, "", nil, 0)
			if c.want != "" && (!errors.Is(err, errFinal) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			defs, lerr := r.o.Ledger.List(t.Context(), ledger.Query{Table: "definition"})
			if lerr != nil || c.want != "" && len(defs) > 0 {
				t.Errorf("it was declared: %v %v", defs, lerr)
			}
			if c.want == "" && (err != nil || len(defs) != 1 || defs[0].Key != "ConfigMap/ports/c") {
				t.Errorf("%v: %v", err, defs)
			}
		})
	}
}

// The host executor asks who declared what a run is made of.
func TestOriginOfAFiring(t *testing.T) {
	r := newRoom(t, nil)
	declare := func(origin, kind, name string) {
		t.Helper()
		objects, diags := manifest.Decode("x.yaml", []byte("{apiVersion: v1, kind: "+kind+", metadata: {namespace: ports, name: "+name+"}}"))
		if manifest.Failed(diags) {
			t.Fatal(diags)
		}
		if _, err := r.o.Definitions.Apply(t.Context(), "test", origin, objects); err != nil {
			t.Fatal(err)
		}
	}
	declare(definitions.OriginFolder, "Sensor", "ours")
	declare("sensor:ports/other", "Sensor", "theirs")
	declare(definitions.OriginAPI, "ConfigMap", "ours")
	declare("sensor:ports/other", "ConfigMap", "theirs")
	from := func(name string) *manifest.TriggerSource {
		src := &manifest.TriggerSource{}
		if err := json.Unmarshal([]byte(`{"configmap":{"name":"`+name+`","key":"k"}}`), src); err != nil || src.ConfigMap == nil {
			t.Fatal(err)
		}
		return src
	}
	for _, c := range []struct {
		sensor string
		src    *manifest.TriggerSource
		want   string
	}{
		{"ours", &manifest.TriggerSource{}, "folder"},
		{"ours", from("ours"), "api"}, // the lesser of the two
		{"ours", from("theirs"), "sensor:ports/other"},
		{"theirs", &manifest.TriggerSource{}, "sensor:ports/other"},
		{"theirs", from("ours"), "sensor:ports/other"},
		{"gone", &manifest.TriggerSource{}, "a Sensor that is gone"},
	} {
		got, err := r.origin(t.Context(), sensor.Firing{Sensor: "ports/" + c.sensor}, c.src)
		if err != nil || got != c.want {
			t.Errorf("%s: %q, want %q (%v)", c.sensor, got, c.want, err)
		}
	}
}

// Passwords in URLs do not reach the errors, which everybody sees; what is too long is not taken for the whole.
func TestFetchedByURL(t *testing.T) {
	size := maxFetched
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/none" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(strings.Repeat("x", size)))
	}))
	defer srv.Close()
	base := strings.Replace(srv.URL, "//", "//ada:hunter2@", 1)
	if raw, err := newRoom(t, nil).get(t.Context(), base+"/all"); err != nil || len(raw) != maxFetched {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	size++
	for _, path := range []string{"/all", "/none"} {
		if _, err := newRoom(t, nil).get(t.Context(), base+path); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Secret headers go to the host that the trigger names and to no other.
func TestRequestStaysAtItsHost(t *testing.T) {
	reached := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer other.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/within":
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		}
	}))
	defer first.Close()
	r := newRoom(t, nil)
	if _, err := r.request(t.Context(), httpFiring("k", first.URL+"/away")); err == nil || !strings.Contains(err.Error(), "sent on to") || reached > 0 {
		t.Errorf("%v, reached %d times", err, reached)
	}
	if _, err := r.request(t.Context(), httpFiring("k", first.URL+"/within")); err != nil {
		t.Error(err)
	}
}
