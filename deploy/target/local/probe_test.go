package local

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tiphys/tiphys/executor"
)

// The rules are those of https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/ and of the kubelet's
// pkg/probe/http: a redirection to the same host is followed, one to another host is a success.
func TestProbeHTTP(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/to":
			http.Redirect(w, r, r.URL.Query().Get("x"), http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/bad":
			w.WriteHeader(http.StatusInternalServerError)
		case "/headers":
			want := r.URL.Query()
			for name := range want {
				if got := strings.Join(r.Header.Values(name), ","); name == "Host" && r.Host != want.Get(name) || name != "Host" && got != want.Get(name) {
					w.WriteHeader(http.StatusBadRequest)
				}
			}
		case "/slow":
			<-r.Context().Done()
		}
	}))
	s.Start()
	defer s.Close()
	ip, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	encrypted := httptest.NewTLSServer(s.Config.Handler)
	defer encrypted.Close()
	_, encryptedPort, _ := net.SplitHostPort(encrypted.Listener.Addr().String())
	c := corev1.Container{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: intstr.Parse(port).IntVal}}}
	for _, each := range []struct {
		path    string
		port    string
		scheme  corev1.URIScheme
		headers string
		ok      bool
	}{
		{path: "/", port: "web", ok: true}, {path: "", port: port, ok: true}, {path: "x?y=z", port: port, ok: true}, {path: "/", port: "none"},
		{path: "/bad", port: port}, {path: "/to?x=/", port: port, ok: true}, {path: "/to?x=/bad", port: port}, {path: "/to?x=http://other.example/bad", port: port, ok: true},
		{path: "/loop", port: port}, {path: "/slow", port: port},
		{path: "/", port: encryptedPort, scheme: "HTTPS", ok: true}, {path: "/bad", port: encryptedPort, scheme: "HTTPS"}, {path: "/", port: encryptedPort},
		{path: "/headers?User-Agent=tiphys-probe&Accept=*/*", port: port, ok: true},
		{path: "/headers?User-Agent=mine&Accept=a&Host=shop.example.org", port: port, headers: "User-Agent=mine Accept=a Host=shop.example.org", ok: true},
		{path: "/headers?X-A=1,2", port: port, headers: "X-A=1 X-A=2", ok: true}, {path: "/headers?User-Agent=&Accept=", port: port, headers: "User-Agent= Accept=", ok: true},
	} {
		get := &corev1.HTTPGetAction{Path: each.path, Port: intstr.Parse(each.port), Scheme: each.scheme}
		for _, h := range strings.Fields(each.headers) {
			name, value, _ := strings.Cut(h, "=")
			get.HTTPHeaders = append(get.HTTPHeaders, corev1.HTTPHeader{Name: name, Value: value})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if each.ok {
			ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		}
		if err := probeHTTP(ctx, ip, c, get); (err == nil) != each.ok {
			t.Errorf("%+v: %v", each, err)
		}
		cancel()
	}
}

// Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md, and PROTOCOL-HTTP2.md for what goes over the wire.
func TestProbeGRPC(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ProtoMajor != 2 || r.Method != http.MethodPost || r.URL.Path != "/grpc.health.v1.Health/Check" || r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" ||
			len(body) < 5 || int(binary.BigEndian.Uint32(body[1:5])) != len(body)-5 {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		service := ""
		if len(body) > 5 {
			service = string(body[7:])
			if body[5] != 0x0a || int(body[6]) != len(service) {
				w.WriteHeader(http.StatusTeapot)
			}
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		code := "0"
		switch service {
		case "", "serves":
			_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, 1})
		case "not":
			_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, 2})
		case "unknown":
			_, _ = w.Write([]byte{0, 0, 0, 0, 0})
		case "long":
			_, _ = w.Write([]byte{0, 0xff, 0xff, 0xff, 0xff, 8, 1})
		case "empty":
		case "silent":
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			code = "5"
		}
		w.Header().Set("Grpc-Status", code)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	ask := func(address, service string, wait time.Duration) error {
		ip, port, _ := net.SplitHostPort(address)
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		g := &corev1.GRPCAction{Port: intstr.Parse(port).IntVal}
		if service != "" {
			g.Service = &service
		}
		return (&Target{}).probe(ctx, executor.ID{}, ip, corev1.Container{}, &corev1.Probe{TimeoutSeconds: int32(wait / time.Second), ProbeHandler: corev1.ProbeHandler{GRPC: g}})
	}
	for service, want := range map[string]string{"": "", "serves": "", "not": "does not serve", "unknown": "does not serve", "long": "is no", "empty": "is no", "other": "knows no service"} {
		if err := ask(s.Listener.Addr().String(), service, time.Minute); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("service %q: %v, want %q", service, err, want)
		}
	}
	if err := ask(s.Listener.Addr().String(), "silent", time.Second); err == nil {
		t.Error("who says nothing is healthy")
	}
	if err := ask(plain.Listener.Addr().String(), "", 5*time.Second); err == nil {
		t.Error("who speaks HTTP/1 is healthy")
	}
}
