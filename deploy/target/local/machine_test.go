package local_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/health"
	"github.com/tiphys/tiphys/deploy/target/local"
	executorlocal "github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/keeper/front"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/secret"
)

// serverSource is a small service: it answers its VERSION, by datagrams as well, and asks NEXT first if there is one. Who wants to know is told for whom it takes them.
const serverSource = `package main

import ("fmt"; "io"; "net"; "net/http"; "os"; "strings"; "time")

func datagrams() {
	l, err := net.ListenPacket("udp", ":8080")
	if err != nil { panic(err) }
	for buffer := make([]byte, 2000); ; {
		n, from, err := l.ReadFrom(buffer)
		if err != nil { panic(err) }
		host, _, _ := net.SplitHostPort(from.String())
		l.WriteTo([]byte(os.Getenv("VERSION") + " " + string(buffer[:n]) + " for " + host), from)
	}
}

func ask(address string) (string, error) {
	conn, err := net.Dial("udp", address)
	if err != nil { return "", err }
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	conn.Write([]byte("who"))
	buffer := make([]byte, 2000)
	n, err := conn.Read(buffer)
	return string(buffer[:n]), err
}

func main() {
	go datagrams()
	starts := ""
	if dir := os.Getenv("DATA"); dir != "" {
		f, err := os.OpenFile(dir+"/starts", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil { panic(err) }
		io.WriteString(f, "x")
		f.Close()
		all, _ := os.ReadFile(dir+"/starts")
		starts = fmt.Sprintf(", %d starts", len(all))
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(10 * time.Millisecond)
		answer := os.Getenv("VERSION") + starts
		if r.URL.RawQuery == "host" {
			answer, _ = os.Hostname()
		} else if peer, is := strings.CutPrefix(r.URL.RawQuery, "ask="); is {
			response, err := http.Get(peer)
			if err != nil { http.Error(w, err.Error(), 500); return }
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			answer += ": " + string(body)
		} else if r.URL.RawQuery == "who" {
			from, _, _ := net.SplitHostPort(r.RemoteAddr)
			answer += " for " + from
		} else if next := os.Getenv("NEXT"); strings.HasPrefix(next, "udp://") {
			body, err := ask(next[6:])
			if err != nil { http.Error(w, err.Error(), 500); return }
			answer += " " + body
		} else if next != "" {
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a policy is about connections that begin
			response, err := client.Get(next)
			if err != nil { http.Error(w, err.Error(), 500); return }
			body, err := io.ReadAll(response.Body)
			if err != nil { http.Error(w, err.Error(), 500); return }
			response.Body.Close()
			answer += " " + string(body)
		}
		io.WriteString(w, answer)
	})
	panic(http.ListenAndServe(":8080", nil))
}
`

// oneLayer is every image: a folder with the service as /app.
type oneLayer string

func (l oneLayer) Rootfs(context.Context, string, corev1.PullPolicy, []secret.Value) (executorlocal.Image, error) {
	return executorlocal.Image{Layers: []string{string(l)}, Entrypoint: []string{"/app"}, WorkingDir: "/"}, nil
}

func build(t *testing.T, output string, args ...string) {
	t.Helper()
	command := exec.Command("go", append([]string{"build", "-trimpath", "-o", output}, args...)...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build %v: %v\n%s", args, err, out)
	}
}

func service(name, env string) string {
	return strings.NewReplacer("NAME", name, "ENV", env).Replace(`{apiVersion: v1, kind: Service, metadata: {name: NAME, namespace: prod}, spec: {selector: {app: NAME}, ports: [{port: 80, targetPort: http}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: NAME, namespace: prod}, spec: {replicas: 2, selector: {matchLabels: {app: NAME}},
  template: {metadata: {labels: {app: NAME}}, spec: {terminationGracePeriodSeconds: 5, containers: [{name: c, image: "x:1", ports: [{name: http, containerPort: 8080}],
    env: ENV, readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1, failureThreshold: 30}}]}}}}`)
}

// realMachine is a machine with real pods, which can be shut and opened again.
type realMachine struct {
	*machine
	executor *executorlocal.Executor
	subnet   netip.Prefix
	open     func()
}

func (r *realMachine) shut() { _ = r.Close(); _ = r.executor.Close() }

func onThisMachine(t *testing.T) *realMachine {
	t.Helper()
	if os.Geteuid() != 0 || testing.Short() {
		t.Skip("SKIPPED: real pods need root and are left out of short tests")
	}
	dir := t.TempDir()
	layer := filepath.Join(dir, "layer")
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(serverSource), 0o644); err != nil {
		t.Fatal(err)
	}
	build(t, filepath.Join(layer, "app"), source)
	build(t, filepath.Join(dir, "init"), "github.com/tiphys/tiphys/cmd/tiphys-init")
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(dir, "l.db"), Projections: []ledger.Projection{deploy.Projection()}})
	if err != nil {
		t.Fatal(err)
	}
	// Tests that run beside this one on the same machine have others; the addresses are of RFC 6598.
	pid := os.Getpid()
	bridge, podNet := fmt.Sprint("tymach", pid), fmt.Sprintf("100.%d.%d.0/25", 64+pid>>8&63, pid&255)
	serviceNet := fmt.Sprintf("100.%d.%d.128/25", 64+pid>>8&63, pid&255)
	m := &realMachine{machine: &machine{t: t, ledger: l, executor: newInProcess(t), front: front.New(front.Options{})}, subnet: netip.MustParsePrefix(podNet)}
	m.open = func() {
		if m.executor, err = executorlocal.New(executorlocal.Options{Dir: filepath.Join(dir, "pods"), Init: filepath.Join(dir, "init"), Images: oneLayer(layer), NoSync: true,
			Network: executorlocal.Network{Bridge: bridge, Subnet: podNet, Ports: []uint16{80}}}); err != nil {
			t.Fatal(err)
		}
		info, err := m.executor.Network()
		if err != nil {
			t.Skipf("SKIPPED: this machine gives pods no network: %v", err)
		}
		if m.Target, err = local.Open(t.Context(), local.Options{Ledger: l, Executor: m.executor.Container(), Claims: m.executor, Logs: m.executor, Commands: m.executor, Names: m.executor, Front: m.front,
			Addresses: local.Bridge{Interface: bridge, Prefix: netip.MustParsePrefix(serviceNet)},
			Wall:      m.executor, Callers: m.subnet, Machine: netip.MustParseAddr(info.Gateway)}); err != nil {
			t.Fatal(err)
		}
	}
	m.open()
	t.Cleanup(func() { m.clear(); m.shut(); _ = m.front.Close(); _ = l.Close() })
	return m
}

// clear has all pods end, whatever the test has left: one that stays keeps its network.
func (r *realMachine) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		all, err := r.List(ctx, "")
		if err != nil || len(all) == 0 {
			return
		}
		for _, o := range all {
			if len(o.GetOwnerReferences()) == 0 {
				_ = r.Delete(ctx, deploy.KeyOf(o), deploy.ApplyOptions{})
			}
		}
		<-time.After(50 * time.Millisecond)
	}
}

// The same demands on real pods: their own network, a name for a Service, a roll-out without a lost request, and a
// server that goes and comes back.
func TestOnThisMachine(t *testing.T) {
	m := onThisMachine(t)
	m.apply("{apiVersion: v1, kind: Namespace, metadata: {name: prod}}")
	m.apply(service("api", "[{name: VERSION, value: api1}]"))
	m.apply(service("web", "[{name: VERSION, value: web1}, {name: NEXT, value: 'http://api/'}]"))
	m.apply("{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: front, namespace: prod}, spec: {rules: [{host: prod.localhost, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}")
	m.awaitHealth("Deployment", "api", health.Healthy)
	m.awaitHealth("Deployment", "web", health.Healthy)
	if code, body := m.request("prod.localhost", "/"); code != 200 || body != "web1 api1" {
		t.Fatalf("got %d %q", code, body)
	}
	// The server goes and comes back; the pods do not notice.
	before := pods(t, m.machine)
	m.shut()
	m.open()
	if code, body := m.request("prod.localhost", "/"); code != 200 || body != "web1 api1" {
		t.Fatalf("after the restart: %d %q", code, body)
	}
	if after := pods(t, m.machine); after != before {
		t.Errorf("pods before the restart %s, after it %s", before, after)
	}
	front := httptest.NewServer(m.front)
	defer front.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel() // before the front is closed, which waits for its users
	var users sync.WaitGroup
	var asked atomic.Int64
	for range 4 {
		users.Go(func() {
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL, nil)
				request.Host = "prod.localhost"
				response, err := client.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK {
					t.Errorf("%d %q %v", response.StatusCode, body, err)
				}
				asked.Add(1)
			}
		})
	}
	m.apply(service("api", "[{name: VERSION, value: api2}]"))
	m.apply(service("web", "[{name: VERSION, value: web2}, {name: NEXT, value: 'http://api/'}]"))
	m.await("roll-out", func() bool {
		a, _ := health.Of(m.get("Deployment", "api"))
		w, _ := health.Of(m.get("Deployment", "web"))
		_, body := m.request("prod.localhost", "/")
		return a.Status == health.Healthy && w.Status == health.Healthy && body == "web2 api2" && strings.Count(pods(t, m.machine), " ") == 4
	})
	cancel()
	users.Wait()
	t.Logf("%d requests, none lost", asked.Load())
	if err := m.Delete(t.Context(), deploy.Key{Kind: "Namespace", Name: "prod"}, deploy.ApplyOptions{Application: "default/app"}); err != nil {
		t.Fatal(err)
	}
	m.await("everything is gone", func() bool {
		all, _ := m.List(context.Background(), "")
		return len(all) == 0
	})
}

// pods names the pods and their restarts.
func pods(t *testing.T, m *machine) string {
	all, err := m.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, o := range all {
		if o.GetKind() == "Pod" {
			text.WriteString(o.GetName() + " ")
		}
	}
	return text.String()
}
