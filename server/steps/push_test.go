package steps_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/steptoken"
	artifactlocal "github.com/tiphys/tiphys/artifact/local"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/pushed"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/server/steps"
)

// pier is a server that pods reach over HTTPS, under a certificate that its own authority vouches for, and a pod's client.
type pier struct {
	t         *testing.T
	client    string // the program
	server    *httptest.Server
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

func newPier(t *testing.T) *pier {
	t.Helper()
	dir := t.TempDir()
	p := &pier{t: t, client: filepath.Join(dir, "tiphys"), tokenFile: filepath.Join(dir, "token"), issuer: steptoken.NewIssuer(bytes.Repeat([]byte("k"), 32), 0)}
	build := exec.Command("go", "build", "-trimpath", "-tags", "https", "-o", p.client, "github.com/tiphys/tiphys/cmd/tiphys-init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the client: %v\n%s", err, out)
	}
	var err error
	if p.artifacts, err = artifactlocal.Open(filepath.Join(dir, "artifacts"), artifactlocal.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.artifacts.Close() })
	if p.pushes, err = pushed.Open(filepath.Join(dir, "pushed")); err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(gate.Options{Policy: access.BuiltIn(), Steps: p.issuer, Attempts: only(claims.Attempt)})
	if err != nil {
		t.Fatal(err)
	}
	api := &steps.API{Policy: access.BuiltIn(), Artifacts: p.artifacts, Pushes: p.pushes, Log: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	for _, r := range api.Routes() {
		mux.Handle(r.Pattern, g.Wrap(r))
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		meet := p.meet
		p.mu.Unlock()
		if meet != nil {
			meet(r)
		}
		mux.ServeHTTP(w, r)
	}))
	authority, certificate := vouched(t)
	p.server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	p.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	ca := filepath.Join(dir, "ca.pem")
	p.write(ca, string(authority))
	p.identify(claims)
	p.env = []string{"TIPHYS_SERVER=" + p.server.URL, "TIPHYS_CA_FILE=" + ca, "TIPHYS_TOKEN_FILE=" + p.tokenFile, "TIPHYS_TIMEOUT=60"}
	return p
}

// vouched makes an authority and a certificate of its for 127.0.0.1.
func vouched(t *testing.T) (authority []byte, c tls.Certificate) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(err)
		return k
	}
	from, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "harbour"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootKey, leafKey := key(), key()
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	check(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey)
	check(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}
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
	var once sync.Once
	p.mu.Lock()
	p.meet = func(r *http.Request) {
		p.mu.Lock()
		if r.Method == method {
			count++
		}
		now := count == n
		p.mu.Unlock()
		if now {
			once.Do(func() { _ = c.Process.Kill() })
			_, _ = c.Process.Wait()
		}
	}
	p.mu.Unlock()
	if err := c.Run(); err == nil {
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

// A pod on another machine pushes an output, an artifact and a log, dies while it does, and does it again: the server has
// each once and whole.
func TestPodsPushOverHTTPS(t *testing.T) {
	p := newPier(t)
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

// Nothing is told to a server that does not prove its name, and nothing is taken from a pod whose attempt is over.
func TestWhoIsWho(t *testing.T) {
	p := newPier(t)
	value := filepath.Join(t.TempDir(), "value")
	p.write(value, "x")
	other, _ := vouched(t)
	ca := filepath.Join(t.TempDir(), "other.pem")
	p.write(ca, string(other))
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
	over := claims
	over.Attempt--
	p.identify(over)
	if out, err := p.command("output", "put", "tag", value).CombinedOutput(); err == nil {
		t.Errorf("an attempt that is over pushed: %s", out)
	}
	// The file is read again for each command, so that a fresh token serves at once.
	p.identify(claims)
	p.run("output", "put", "tag", value)
}

// What arrives otherwise than it was sent is not kept.
func TestDigests(t *testing.T) {
	p := newPier(t)
	token, err := p.issuer.Issue(claims)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, digest, body string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, p.server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token.Reveal())
		if digest != "" {
			r.Header.Set("Content-Digest", digest)
		}
		resp, err := p.server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
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
		if got := ask(c.method, c.path, c.digest, c.body); got != c.want {
			t.Errorf("%s %s with %q, %d bytes: %d, want %d", c.method, c.path, c.digest, len(c.body), got, c.want)
		}
	}
}

// only has one attempt alive.
type only int

func (o only) Alive(_ context.Context, c steptoken.Claims) (bool, error) {
	return c.Attempt == int(o), nil
}
