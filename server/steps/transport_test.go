package steps_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/authority"
	"github.com/tiphys/tiphys/access/steptoken"
	artifactlocal "github.com/tiphys/tiphys/artifact/local"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/pushed"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/server/steps"
)

// A step reaches its server over one of these.
const (
	overSocket = "socket" // in its pod
	overHTTPS  = "https"  // from another machine
)

// clients are the programs that pods have, by what they reach the server over.
type clients map[string]string

// builtClients builds them as the Makefile does.
func builtClients(t *testing.T) clients {
	t.Helper()
	dir, programs := t.TempDir(), clients{}
	for way, tags := range map[string]string{overSocket: "", overHTTPS: "https"} {
		programs[way] = filepath.Join(dir, way, "tiphys")
		build := exec.Command("go", "build", "-trimpath", "-tags", tags, "-o", programs[way], "github.com/tiphys/tiphys/cmd/tiphys-init")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the client: %v\n%s", err, out)
		}
	}
	return programs
}

// TestTransports has steps speak to their server over each transport: the same holds for both.
func TestTransports(t *testing.T) {
	programs := builtClients(t)
	for _, way := range []string{overSocket, overHTTPS} {
		for name, test := range map[string]func(*testing.T, *pier){
			"pods push":             testPodsPush,
			"an attempt that ended": testEndedAttempt,
			"digests":               testDigests,
			"a server that is away": testServerAway,
			"large and refused":     testRefused,
		} {
			t.Run(way+"/"+name, func(t *testing.T) { test(t, newPier(t, way, programs[way])) })
		}
	}
	t.Run(overHTTPS+"/who is who", func(t *testing.T) { testWhoIsWho(t, newPier(t, overHTTPS, programs[overHTTPS])) })
}

// pier is a server that pods reach, and a pod's client.
type pier struct {
	t         *testing.T
	client    string // the program
	way       string
	ca        *authority.Authority
	address   string
	handler   http.Handler
	stop      func()
	artifacts *artifactlocal.Store
	pushes    *pushed.Store
	env       []string
	tokenFile string
	issuer    *steptoken.Issuer

	mu sync.Mutex
	// meet, if not nil, is called with each request before it is answered.
	meet func(*http.Request)
}

var claims = steptoken.Claims{UID: "uid-1", Run: "default/sail", Node: "sail-1", Attempt: 2}

func newPier(t *testing.T, way, client string) *pier {
	t.Helper()
	dir, err := os.MkdirTemp("", "p") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &pier{t: t, way: way, client: client, tokenFile: filepath.Join(dir, "token"), issuer: steptoken.NewIssuer(bytes.Repeat([]byte("k"), 32), 0)}
	if p.artifacts, err = artifactlocal.Open(filepath.Join(dir, "artifacts"), artifactlocal.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.artifacts.Close() })
	if p.pushes, err = pushed.Open(filepath.Join(dir, "pushed")); err != nil {
		t.Fatal(err)
	}
	if p.ca, err = authority.Open(filepath.Join(dir, "ca.key"), nil); err != nil {
		t.Fatal(err)
	}
	p.handler = p.routes()
	p.address = filepath.Join(dir, "api.sock")
	if way == overHTTPS {
		p.address = "127.0.0.1:0"
	}
	p.listen()
	t.Cleanup(func() { p.stop() })
	ca := filepath.Join(dir, "ca.pem")
	p.write(ca, string(p.ca.PEM()))
	p.identify(claims)
	server := "unix://" + p.address
	if way == overHTTPS {
		server = "https://" + p.address
	}
	p.env = []string{"TIPHYS_SERVER=" + server, "TIPHYS_CA_FILE=" + ca, "TIPHYS_TOKEN_FILE=" + p.tokenFile, "TIPHYS_TIMEOUT=60"}
	return p
}

// routes are those of steps behind the gate.
func (p *pier) routes() http.Handler {
	p.t.Helper()
	g, err := gate.New(gate.Options{Policy: access.BuiltIn(), Steps: p.issuer, Attempts: only(claims.Attempt)})
	if err != nil {
		p.t.Fatal(err)
	}
	api := &steps.API{Policy: access.BuiltIn(), Artifacts: p.artifacts, Pushes: p.pushes, Log: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	for _, r := range api.Routes() {
		mux.Handle(r.Pattern, g.Wrap(r))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		meet := p.meet
		p.mu.Unlock()
		if meet != nil {
			meet(r)
		}
		mux.ServeHTTP(w, r)
	})
}

// listen has the server answer at its address, until stop.
func (p *pier) listen() {
	p.t.Helper()
	network := "unix"
	if p.way == overHTTPS {
		network = "tcp"
	}
	l, err := net.Listen(network, p.address)
	// A connection that somebody else on the machine makes may have the port for a moment.
	for limit := time.Now().Add(time.Minute); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(limit); {
		<-time.After(10 * time.Millisecond)
		l, err = net.Listen(network, p.address)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if p.way == overHTTPS {
		p.address = l.Addr().String()
		l = tls.NewListener(l, p.ca.Server([]string{"127.0.0.1"}))
	}
	srv := &http.Server{Handler: p.handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() { _ = srv.Serve(l) }()
	p.stop = func() { _ = srv.Close() }
}

// request is one that no client of ours makes.
func (p *pier) request(method, path, digest, body string) int {
	p.t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.ca.PEM())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	base := "https://" + p.address
	if p.way == overSocket {
		base = "http://localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", p.address)
		}
	}
	defer transport.CloseIdleConnections()
	token, err := p.issuer.Issue(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	if digest != "" {
		r.Header.Set("Content-Digest", digest)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (p *pier) write(path, text string) {
	p.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// identify puts a token into the pod.
func (p *pier) identify(c steptoken.Claims) {
	p.t.Helper()
	token, err := p.issuer.Issue(c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(p.tokenFile, token.Reveal()+"\n")
}

func (p *pier) command(args ...string) *exec.Cmd {
	c := exec.Command(p.client, args...)
	c.Env = p.env
	return c
}

// run has the client do something, which must go well.
func (p *pier) run(args ...string) string {
	p.t.Helper()
	out, err := p.command(args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tiphys %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// dies has the client killed when its n-th request of a kind arrives: with half of what it sends on its way, for all that the
// server knows.
func (p *pier) dies(method string, n int, args ...string) {
	p.t.Helper()
	c := p.command(args...)
	count := 0
	started, ended := make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	p.meet = func(r *http.Request) {
		p.mu.Lock()
		if r.Method == method {
			count++
		}
		now := count == n
		p.mu.Unlock()
		if now {
			<-started
			_ = c.Process.Kill()
			<-ended
		}
	}
	p.mu.Unlock()
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	close(started)
	err := c.Wait()
	close(ended)
	if err == nil {
		p.t.Errorf("tiphys %s did not die", strings.Join(args, " "))
	}
	p.mu.Lock()
	p.meet = nil
	p.mu.Unlock()
}

func (p *pier) log() string {
	p.t.Helper()
	id := executor.ID{Owner: claims.UID, Node: claims.Node, Attempt: claims.Attempt}
	log, err := p.pushes.Log(p.t.Context(), id, "main", 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	data, err := io.ReadAll(log)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}

// A pod pushes an output, an artifact and a log, dies while it does, and does it again: the server has each once and whole.
func testPodsPush(t *testing.T, p *pier) {
	dir := t.TempDir()
	var text strings.Builder
	for i := 0; text.Len() < 3<<20; i++ {
		fmt.Fprintf(&text, "%d bottles\n", i)
	}
	file, cargo := filepath.Join(dir, "log"), filepath.Join(dir, "cargo")
	p.write(file, text.String())
	p.write(cargo, strings.Repeat("cargo ", 1<<20))
	value := filepath.Join(dir, "value")
	p.write(value, "v1.2.3\n")

	p.dies(http.MethodPut, 1, "output", "put", "tag", value)
	for range 2 {
		p.run("output", "put", "tag", value)
	}
	if got := p.run("output", "get", "tag"); got != "v1.2.3\n" {
		t.Errorf("the output is %q", got)
	}

	p.dies(http.MethodPut, 1, "artifact", "put", "hold", cargo)
	for range 2 {
		p.run("artifact", "put", "hold", cargo)
	}
	if got := p.run("artifact", "get", "hold"); got != strings.Repeat("cargo ", 1<<20) {
		t.Errorf("the artifact has %d bytes", len(got))
	}

	p.dies(http.MethodPost, 2, "log", "push", "main", file)
	p.run("log", "push", "main", file)
	if p.log() != text.String() {
		t.Errorf("after death and repeat the log has %d bytes, want %d", len(p.log()), text.Len())
	}
	p.run("log", "push", "main", file)
	text.WriteString("no more bottles\n")
	p.write(file, text.String())
	p.run("log", "push", "main", file)
	if p.log() != text.String() {
		t.Errorf("after it grew the log has %d bytes, want %d", len(p.log()), text.Len())
	}
}

// Nothing is told to a server that does not prove its name.
func testWhoIsWho(t *testing.T, p *pier) {
	value, ca := filepath.Join(t.TempDir(), "value"), filepath.Join(t.TempDir(), "other.pem")
	p.write(value, "x")
	other, err := authority.Open(filepath.Join(t.TempDir(), "other.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	p.write(ca, string(other.PEM()))
	met := false
	p.meet = func(*http.Request) { met = true }
	c := p.command("output", "put", "tag", value)
	c.Env = append(c.Env, "TIPHYS_CA_FILE="+ca)
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "does not prove to be 127.0.0.1") {
		t.Errorf("%v: %s", err, out)
	}
	if met {
		t.Error("a request reached a server that nobody vouches for")
	}
}

// Nothing is taken from a pod whose attempt is over, nor from one whose token nobody here made.
func testEndedAttempt(t *testing.T, p *pier) {
	value := filepath.Join(t.TempDir(), "value")
	p.write(value, "x")
	over := claims
	over.Attempt--
	p.identify(over)
	if out, err := p.command("output", "put", "tag", value).CombinedOutput(); err == nil {
		t.Errorf("an attempt that is over pushed: %s", out)
	}
	for _, token := range []string{"", "tps_e30.AAAA"} {
		p.write(p.tokenFile, token)
		if out, err := p.command("whoami").CombinedOutput(); err == nil {
			t.Errorf("with the token %q: %s", token, out)
		}
	}
	// The file is read again for each command, so that a fresh token serves at once.
	p.identify(claims)
	p.run("output", "put", "tag", value)
	if out := p.run("whoami"); !strings.Contains(out, claims.Node) {
		t.Errorf("it is %s", out)
	}
}

// A command waits for a server that is being restarted, and what it sends is there once.
func testServerAway(t *testing.T, p *pier) {
	value := filepath.Join(t.TempDir(), "value")
	p.write(value, "v2\n")
	p.stop()
	c := p.command("output", "put", "tag", value)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p.listen()
	if err := c.Wait(); err != nil {
		t.Fatalf("it did not wait: %v", err)
	}
	if got := p.run("output", "get", "tag"); got != "v2\n" {
		t.Errorf("the output is %q", got)
	}
}

// What the server refuses is said by the client in the server's words, whatever was on its way.
func testRefused(t *testing.T, p *pier) {
	large := filepath.Join(t.TempDir(), "large")
	p.write(large, strings.Repeat("x", 4<<20))
	if out, err := p.command("output", "put", "tag", large).CombinedOutput(); err == nil || !strings.Contains(string(out), "make it an artifact") {
		t.Errorf("an output of 4 MiB: %v: %s", err, out)
	}
	if out, err := p.command("artifact", "get", "nothing").CombinedOutput(); err == nil || len(out) == 0 {
		t.Errorf("an artifact that is not there: %v: %s", err, out)
	}
}

// What arrives otherwise than it was sent is not kept.
func testDigests(t *testing.T, p *pier) {
	// printf '' | openssl dgst -sha256 -binary | base64
	const ofNothing = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
	for _, c := range []struct {
		method, path, digest, body string
		want                       int
	}{
		{"PUT", "/api/v1/step/outputs/tag", ofNothing, "something", 400},
		{"PUT", "/api/v1/step/outputs/tag", "", "something", 400},
		{"PUT", "/api/v1/step/outputs/tag", "md5=:x:", "something", 400},
		{"POST", "/api/v1/step/logs/main?offset=0", ofNothing, "something", 400},
		{"PUT", "/api/v1/step/artifacts/hold", ofNothing, "something", 400},
		{"GET", "/api/v1/step/outputs/tag", "", "", 404},
		{"GET", "/api/v1/step/artifacts/hold", "", "", 404},
		{"POST", "/api/v1/step/logs/main?offset=7", ofNothing, "", 409},
		{"POST", "/api/v1/step/logs/main?offset=-1", ofNothing, "", 400},
		{"PUT", "/api/v1/step/outputs/..%2ftag", ofNothing, "", 400},
		{"PUT", "/api/v1/step/outputs/tag", ofNothing, "", 200},
		{"PUT", "/api/v1/step/outputs/tag", ofNothing, strings.Repeat("x", 1<<20+1), 413},
	} {
		if got := p.request(c.method, c.path, c.digest, c.body); got != c.want {
			t.Errorf("%s %s with %q, %d bytes: %d, want %d", c.method, c.path, c.digest, len(c.body), got, c.want)
		}
	}
}

// only has one attempt alive.
type only int

func (o only) Alive(_ context.Context, c steptoken.Claims) (bool, error) {
	return c.Attempt == int(o), nil
}
