package local_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/deploy/target/targettest"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/keeper/front"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/secret"
)

// machine is a target that can be closed and opened again over the same ledger and pods.
type machine struct {
	*local.Target
	t        testing.TB
	executor *inProcess
	ledger   ledger.Ledger
	path     string // of the ledger
	front    *front.Front
	wall     local.Wall
	gateway  netip.Addr // the front's address among pods
	// certificates makes those of hosts; nil for none.
	certificates local.Certifier
	names        local.Names
	clock        atomic.Int64 // what the time is, in nanoseconds of the epoch; 0 for what it is
}

func (m *machine) now() time.Time {
	if at := m.clock.Load(); at != 0 {
		return time.Unix(0, at).UTC()
	}
	return time.Now()
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Projections: []ledger.Projection{deploy.Projection()}})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, executor: newInProcess(t), ledger: l, path: path, front: front.New(front.Options{Wait: 2 * time.Second})}
	m.open()
	t.Cleanup(func() { _ = m.Close(); _ = m.front.Close(); _ = l.Close() })
	return m
}

func (m *machine) open() {
	box, err := secret.NewBox([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		m.t.Fatal(err)
	}
	target, err := local.Open(m.t.Context(), local.Options{Ledger: m.ledger, Executor: m.executor, Claims: m.executor, Logs: m.executor, Commands: m.executor, Volumes: m.executor, Names: m.names, Now: m.now, Box: box, Front: m.front, Wall: m.wall, Machine: m.gateway, Certificates: m.certificates})
	if err != nil {
		m.t.Fatal(err)
	}
	m.Target = target
}

func (m *machine) apply(documents string) {
	m.t.Helper()
	for _, document := range strings.Split(documents, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			m.t.Fatal(err)
		}
		if _, err := m.Apply(m.t.Context(), o, deploy.ApplyOptions{Application: "default/app"}); err != nil {
			m.t.Fatal(err)
		}
	}
}

// try applies one object and gives the error.
func (m *machine) try(document string, opt deploy.ApplyOptions) error {
	m.t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
		m.t.Fatal(err)
	}
	_, err := m.Apply(m.t.Context(), o, opt)
	return err
}

// delete asks for an object of the namespace to go.
func (m *machine) delete(group, kind, name string) {
	m.t.Helper()
	if err := m.Delete(m.t.Context(), deploy.Key{Group: group, Kind: kind, Namespace: "prod", Name: name}, deploy.ApplyOptions{Application: "default/app"}); err != nil {
		m.t.Fatal(err)
	}
}

// reopen closes the target and opens it again, as after kill -9: what was only in memory is gone.
func (m *machine) reopen() {
	m.t.Helper()
	_ = m.Close()
	m.open()
}

func (m *machine) get(kind, name string) *unstructured.Unstructured {
	group := map[string]string{"Deployment": "apps", "ReplicaSet": "apps", "Ingress": "networking.k8s.io", "NetworkPolicy": "networking.k8s.io", "Job": "batch", "CronJob": "batch", "StatefulSet": "apps", "DaemonSet": "apps",
		"ControllerRevision": "apps", "PodDisruptionBudget": "policy"}[kind]
	o, err := m.Get(m.t.Context(), deploy.Key{Group: group, Kind: kind, Namespace: "prod", Name: name})
	if errors.Is(err, deploy.ErrNotFound) {
		return nil
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return o
}

func (m *machine) await(what string, is func() bool) {
	m.t.Helper()
	deadline := time.Now().Add(time.Minute) // a machine may be busy with other tests
	for !is() {
		if time.Now().After(deadline) {
			all, _ := m.List(context.Background(), "")
			for _, o := range all {
				raw, _ := o.MarshalJSON()
				m.t.Log(string(raw))
			}
			m.t.Fatalf("waited in vain: %s", what)
		}
		select {
		case <-m.Changes():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (m *machine) awaitHealth(kind, name, status string) {
	m.t.Helper()
	m.await(kind+" "+name+" is "+status, func() bool {
		o := m.get(kind, name)
		if o == nil {
			return false
		}
		h, _ := health.Of(o)
		return h.Status == status
	})
}

func (m *machine) request(host, path string) (int, string) {
	recorder := httptest.NewRecorder()
	m.front.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "http://"+host+path, nil))
	return recorder.Code, recorder.Body.String()
}

func app(image string) string {
	return `apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: prod}
spec:
  replicas: 3
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: api
        image: ` + image + `
        ports: [{name: web, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: web}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: prod}
spec:
  selector: {app: api}
  ports: [{name: http, port: 80, targetPort: web}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: front, namespace: prod}
spec:
  rules:
  - host: prod.harbour.localhost
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: api, port: {name: http}}}}
      - {path: /none, pathType: Prefix, backend: {service: {name: nobody, port: {number: 80}}}}`
}

func TestDeploymentComesUp(t *testing.T) {
	m := newMachine(t)
	m.apply(app("app:v1"))
	m.awaitHealth("Deployment", "api", health.Healthy)
	m.awaitHealth("Ingress", "front", health.Healthy)
	if code, body := m.request("prod.harbour.localhost:8080", "/x"); code != 200 || body != "app:v1" {
		t.Errorf("got %d %q", code, body)
	}
	if code, body := m.request("prod.harbour.localhost", "/headers"); code != 200 || body != "prod.harbour.localhost 192.0.2.1 prod.harbour.localhost http" {
		t.Errorf("got %d %q", code, body)
	}
	if code, _ := m.request("other.localhost", "/"); code != http.StatusMisdirectedRequest {
		t.Errorf("unknown host: %d", code)
	}
	if code, body := m.request("prod.harbour.localhost", "/none"); code != http.StatusServiceUnavailable || !strings.Contains(body, "Not ready") {
		t.Errorf("no endpoint: %d %s", code, body)
	}
	address := m.get("Service", "api").GetAnnotations()["target.tiphys.dev/address"]
	response, err := http.Get("http://" + address + ":80/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if string(body) != "app:v1" {
		t.Errorf("through the virtual address: %q", body)
	}
	// Owners come before what they own.
	all, err := m.List(t.Context(), "default/app")
	if err != nil || len(all) != 3+1+3 {
		t.Fatal(len(all), err)
	}
	seen := map[string]bool{}
	for _, o := range all {
		for _, r := range o.GetOwnerReferences() {
			if !seen[string(r.UID)] {
				t.Errorf("%s %s before its owner", o.GetKind(), o.GetName())
			}
		}
		seen[string(o.GetUID())] = true
	}
}

// The demand: a rolling update loses no request, although pods break off what they do when they are stopped.
func TestRollingUpdateLosesNoRequest(t *testing.T) {
	m := newMachine(t)
	m.apply(app("app:v1"))
	m.awaitHealth("Deployment", "api", health.Healthy)
	front := httptest.NewServer(m.front)
	defer front.Close()
	address := m.get("Service", "api").GetAnnotations()["target.tiphys.dev/address"]
	ctx, cancel := context.WithCancel(t.Context())
	var users sync.WaitGroup
	var asked, fresh atomic.Int64
	ask := func(client *http.Client, method, url string) {
		request, _ := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("body"))
		request.Host = "prod.harbour.localhost"
		if strings.HasPrefix(url, "http://"+address) {
			// The virtual address forwards connections; each request takes one of its own, as the first of a client does.
			request.Close = true
		}
		response, err := client.Do(request)
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "app:v") {
			t.Errorf("%s %s: %d %q %v", method, url, response.StatusCode, body, err)
		}
		asked.Add(1)
		if string(body) == "app:v2" {
			fresh.Add(1)
		}
	}
	for i := range 8 {
		users.Go(func() {
			client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				switch i % 4 {
				case 0, 1:
					ask(client, http.MethodGet, front.URL+"/slow")
				case 2:
					ask(client, http.MethodPost, front.URL+"/slow")
				default:
					ask(client, http.MethodGet, "http://"+address+"/slow")
				}
			}
		})
	}
	for _, image := range []string{"app:v2", "app:v3", "app:v2"} {
		m.apply(app(image))
		m.await("roll-out of "+image, func() bool {
			h, _ := health.Of(m.get("Deployment", "api"))
			pods, _ := m.List(t.Context(), "")
			for _, o := range pods {
				if o.GetKind() == "Pod" && !strings.Contains(toText(o), `"image":"`+image+`"`) {
					return false
				}
			}
			return h.Status == health.Healthy
		})
	}
	m.await("requests after the roll-out", func() bool { return fresh.Load() > 50 })
	cancel()
	users.Wait()
	t.Logf("%d requests, none lost", asked.Load())
	if n := len(m.executor.running()); n != 3 {
		t.Errorf("%d pods are left", n)
	}
}

func toText(o *unstructured.Unstructured) string {
	raw, _ := o.MarshalJSON()
	return string(raw)
}

func TestRestartOfTheServer(t *testing.T) {
	m := newMachine(t)
	m.apply(app("app:v1"))
	m.awaitHealth("Deployment", "api", health.Healthy)
	for range 3 {
		_ = m.Close()
		m.open()
	}
	m.awaitHealth("Deployment", "api", health.Healthy)
	if code, _ := m.request("prod.harbour.localhost", "/"); code != 200 {
		t.Errorf("after the restart: %d", code)
	}
	m.executor.mu.Lock()
	for id, n := range m.executor.starts {
		if n != 1 || id.Attempt != 0 {
			t.Errorf("%v was started %d times", id, n)
		}
	}
	m.executor.mu.Unlock()
	// In the middle of a roll-out.
	m.apply(app("app:v2"))
	_ = m.Close()
	m.open()
	m.await("roll-out after the restart", func() bool {
		h, _ := health.Of(m.get("Deployment", "api"))
		code, body := m.request("prod.harbour.localhost", "/")
		return h.Status == health.Healthy && code == 200 && body == "app:v2" && len(m.executor.running()) == 3
	})
}

func TestBrokenRolloutKeepsTheOldPods(t *testing.T) {
	m := newMachine(t)
	m.apply(app("app:v1"))
	m.awaitHealth("Deployment", "api", health.Healthy)
	m.apply(strings.Replace(app("broken"), "replicas: 3", "replicas: 3\n  progressDeadlineSeconds: 1", 1))
	m.awaitHealth("Deployment", "api", health.Degraded)
	for range 10 {
		if code, body := m.request("prod.harbour.localhost", "/"); code != 200 || body != "app:v1" {
			t.Fatalf("got %d %q", code, body)
		}
	}
	m.apply(app("app:v1"))
	m.awaitHealth("Deployment", "api", health.Healthy)
	m.await("the broken pod is gone", func() bool { return len(m.executor.running()) == 3 })
}

func TestCrashBacksOff(t *testing.T) {
	m := newMachine(t)
	m.apply("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: prod}, spec: {containers: [{name: c, image: crash}]}}")
	m.await("it backs off", func() bool { return strings.Contains(toText(m.get("Pod", "p")), "CrashLoopBackOff") })
	m.awaitHealth("Pod", "p", health.Degraded)
	statuses, _, _ := unstructured.NestedSlice(m.get("Pod", "p").Object, "status", "containerStatuses")
	if s := toText(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "X", "s": statuses}}); !strings.Contains(s, "CrashLoopBackOff") || !strings.Contains(s, `"restartCount":2`) {
		t.Error(s)
	}
	r, err := m.Logs(t.Context(), deploy.Key{Kind: "Pod", Namespace: "prod", Name: "p"}, "", deploy.LogOptions{Previous: true})
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(r); string(text) != "one\nlog of c 1\n" {
		t.Errorf("got %s", text)
	}
	// While it waits to be restarted its log is that of the container which ended.
	if r, err = m.Logs(t.Context(), deploy.Key{Kind: "Pod", Namespace: "prod", Name: "p"}, "", deploy.LogOptions{Follow: true}); err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(r); !strings.Contains(string(text), "log of c ") {
		t.Errorf("got %s", text)
	}
	if h, _ := health.Of(m.get("Pod", "p")); !strings.Contains(h.Message, "back-off") {
		t.Errorf("got %+v", h)
	}
	m.apply("{apiVersion: v1, kind: Pod, metadata: {name: q, namespace: prod}, spec: {containers: [{name: c, image: noimage}]}}")
	m.await("back-off", func() bool { return strings.Contains(toText(m.get("Pod", "q")), "ImagePullBackOff") })
}

func TestJobs(t *testing.T) {
	m := newMachine(t)
	job := "{apiVersion: batch/v1, kind: Job, metadata: {name: %, namespace: prod}, spec: {backoffLimit: 1, completions: 2, template: {spec: {restartPolicy: Never, containers: [{name: c, image: %}]}}}}"
	m.apply(strings.ReplaceAll(job, "%", "task"))
	m.awaitHealth("Job", "task", health.Healthy)
	m.apply(strings.ReplaceAll(job, "%", "badtask"))
	m.awaitHealth("Job", "badtask", health.Degraded)
	pods := 0
	all, _ := m.List(t.Context(), "")
	for _, o := range all {
		if o.GetKind() == "Pod" && strings.HasPrefix(o.GetName(), "badtask") {
			pods++
		}
	}
	if pods != 2 {
		t.Errorf("%d pods with backoffLimit 1", pods)
	}
}

func TestSecretsStaySecret(t *testing.T) {
	m := newMachine(t)
	secret := "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: prod}, stringData: {password: %}}"
	m.apply(strings.Replace(secret, "%", "hunter22", 1))
	before := toText(m.get("Secret", "s"))
	entries, err := m.ledger.Entries(t.Context(), ledger.EntryQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(string(e.Body), "hunter22") || strings.Contains(string(e.Body), "aHVudGVyMjI") {
			t.Error("the ledger has the value")
		}
	}
	if strings.Contains(before, "hunter22") || !strings.Contains(before, "digest:") {
		t.Error(before)
	}
	m.apply(strings.Replace(secret, "%", "hunter22", 1))
	if toText(m.get("Secret", "s")) != before {
		t.Error("the same value is a change")
	}
	m.apply(strings.Replace(secret, "%", "other", 1))
	if toText(m.get("Secret", "s")) == before {
		t.Error("another value is no change")
	}
	m.apply("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: prod}, spec: {containers: [{name: c, image: 'app:v1'}]}}")
	m.awaitHealth("Pod", "p", health.Healthy)
	m.executor.mu.Lock()
	defer m.executor.mu.Unlock()
	for _, order := range m.executor.orders {
		if got := order.Resolve["Secret/prod/s"]["password"].Reveal(); got != "other" {
			t.Errorf("the pod gets %q", got)
		}
	}
}

func TestDeleteLeavesNothing(t *testing.T) {
	m := newMachine(t)
	m.apply("{apiVersion: v1, kind: Namespace, metadata: {name: prod}}")
	m.apply(app("app:v1"))
	m.awaitHealth("Deployment", "api", health.Healthy)
	if err := m.Delete(t.Context(), deploy.Key{Kind: "Namespace", Name: "prod"}, deploy.ApplyOptions{Application: "default/app"}); err != nil {
		t.Fatal(err)
	}
	m.await("everything is gone", func() bool {
		all, _ := m.List(t.Context(), "")
		return len(all) == 0 && len(m.executor.running()) == 0
	})
	rows, err := m.ledger.List(t.Context(), ledger.Query{Table: deploy.TableObject})
	if err != nil || len(rows) != 0 {
		t.Error(len(rows), err)
	}
}

func TestCheck(t *testing.T) {
	m := newMachine(t)
	for want, manifest := range map[string]string{
		"Widget: not on this machine yet":    "{apiVersion: example.org/v1, kind: Widget, metadata: {name: x}}",
		"NodePort opens no port":             "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {type: NodePort, ports: [{port: 80}]}}",
		"only TCP and UDP are forwarded":     "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: 53, protocol: SCTP}]}}",
		"must be a whole number, not a text": "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: many}}",
		"there is no such field":             "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, date: {}}",
		"selector":                           "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {selector: {matchLabels: {a: c}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: d}]}}}}",
		"no TLS here":                        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: x}, spec: {tls: [{hosts: [a]}], defaultBackend: {service: {name: a, port: {number: 80}}}}}",
	} {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(manifest), &o.Object); err != nil {
			t.Fatal(err)
		}
		problems, err := m.Check(t.Context(), []*unstructured.Unstructured{o}, deploy.ApplyOptions{})
		if err != nil || len(problems) == 0 || !slices.ContainsFunc(problems, func(p deploy.Problem) bool { return strings.Contains(p.Message, want) }) {
			t.Errorf("got %v, want %q", problems, want)
		}
	}
}

func TestOwnership(t *testing.T) {
	m := newMachine(t)
	m.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: prod}}")
	o := m.get("ConfigMap", "c")
	if _, err := m.Apply(t.Context(), o, deploy.ApplyOptions{Application: "default/other"}); err == nil || !strings.Contains(err.Error(), "belongs to") {
		t.Errorf("got %v", err)
	}
	if err := m.Delete(t.Context(), deploy.KeyOf(o), deploy.ApplyOptions{Application: "default/other"}); err == nil {
		t.Error("another application may delete")
	}
	dry, err := m.Apply(t.Context(), o, deploy.ApplyOptions{Application: "default/app", DryRun: true})
	if err != nil || toText(dry) != toText(m.get("ConfigMap", "c")) {
		t.Error(err, toText(dry))
	}
}

var _ executor.Executor = (*inProcess)(nil)

func TestSuite(t *testing.T) { suite(t, nil) }

// TestSuiteWithPolicies is the suite where pods can be held to NetworkPolicies.
func TestSuiteWithPolicies(t *testing.T) { suite(t, &noted{}) }

func suite(t *testing.T, wall local.Wall) {
	targettest.Run(t, func(t *testing.T) *targettest.Subject {
		m := newMachine(t)
		if wall != nil {
			_ = m.Close()
			m.wall = wall
			m.open()
		}
		return &targettest.Subject{Target: m, Pods: m,
			Reopen: func(*testing.T) (deploy.Target, deploy.Pods) {
				_ = m.Close()
				m.open()
				return m, m
			},
			Container: map[string]any{"name": "c", "image": "app:v1"}, Log: "one\nlog of c 0\n",
			Crashing: map[string]any{"name": "c", "image": "crash"}}
	})
}
