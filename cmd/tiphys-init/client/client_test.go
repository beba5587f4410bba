package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/tiphys/tiphys/artifact/image"
	"github.com/tiphys/tiphys/failure"
)

// call is a request as the server saw it.
type call struct{ Method, Path, Body, Auth, Key string }

// fake is the server's side of the contract.
type fake struct {
	mu    sync.Mutex
	calls []call
	// answer decides about a request; nil: 200 {}.
	answer func(w http.ResponseWriter, r *http.Request, body string)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.calls = append(f.calls, call{r.Method, r.URL.RequestURI(), string(b), r.Header.Get("Authorization"), r.Header.Get("Idempotency-Key")})
	f.mu.Unlock()
	if f.answer != nil {
		f.answer(w, r, string(b))
		return
	}
	_, _ = io.WriteString(w, "{}")
}

// unixServer serves h on a unix socket and returns TIPHYS_SERVER.
func unixServer(t *testing.T, h http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return "unix://" + listenUnix(t, filepath.Join(dir, "api.sock"), h)
}

func listenUnix(t *testing.T, path string, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}} //nolint:gosec // a test
	s.Start()
	t.Cleanup(s.Close)
	return path
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
	waits    []time.Duration
}

// command runs the client with a clock that only waiting moves; onWait is called at each wait.
func command(server, stdin string, onWait func(), args ...string) result {
	var out, errs bytes.Buffer
	var r result
	now := time.Unix(0, 0)
	env := map[string]string{"TIPHYS_SERVER": server, "TIPHYS_TOKEN": "tok"}
	r.code = run(context.Background(), args, system{
		getenv: func(k string) string { return env[k] }, stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs,
		now: func() time.Time { return now },
		wait: func(_ context.Context, d time.Duration) error {
			r.waits = append(r.waits, d)
			now = now.Add(d)
			if onWait != nil {
				onWait()
			}
			return nil
		},
	})
	r.out, r.err = out.String(), errs.String()
	return r
}

func TestRequests(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	ref := "h/api@sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct {
		args  []string
		stdin string
		want  call
	}{
		{args: []string{"release", "v1", "--image", "api=" + ref, "--image=web=" + ref, "--commit", "abc"},
			want: call{Method: "POST", Path: "/api/v1/step/releases", Body: `{"name":"v1","images":{"api":"` + ref + `","web":"` + ref + `"},"commit":"abc"}`}},
		{args: []string{"release", "--image", "api=" + ref, "v1"},
			want: call{Method: "POST", Path: "/api/v1/step/releases", Body: `{"name":"v1","images":{"api":"` + ref + `"}}`}},
		{args: []string{"status", "--state", "failed", "--context", "ci/test", "--description", "2 of 3", "--url", "http://x"},
			want: call{Method: "POST", Path: "/api/v1/step/statuses", Body: `{"state":"failed","context":"ci/test","description":"2 of 3","url":"http://x"}`}},
		{args: []string{"status", "--state", "success", "--context", "c", "--repo", "other", "--sha", "abc"},
			want: call{Method: "POST", Path: "/api/v1/step/statuses", Body: `{"state":"success","context":"c","repo":"other","sha":"abc"}`}},
		{args: []string{"comment", "--marker", "preview", "hello there"},
			want: call{Method: "POST", Path: "/api/v1/step/comments", Body: `{"marker":"preview","body":"hello there"}`}},
		{args: []string{"comment", "--", "--not a flag"},
			want: call{Method: "POST", Path: "/api/v1/step/comments", Body: `{"body":"--not a flag"}`}},
		{args: []string{"comment", "--file", text, "--mr", "7"},
			want: call{Method: "POST", Path: "/api/v1/step/comments", Body: `{"body":"from a file","mr":7}`}},
		{args: []string{"comment", "--file", "-"}, stdin: "piped",
			want: call{Method: "POST", Path: "/api/v1/step/comments", Body: `{"body":"piped"}`}},
		{args: []string{"artifact", "put", "a b/c?d", text},
			want: call{Method: "PUT", Path: "/api/v1/step/artifacts/a%20b/c%3Fd", Body: "from a file"}},
		{args: []string{"artifact", "put", "k", "-"}, stdin: strings.Repeat("x", 100_000),
			want: call{Method: "PUT", Path: "/api/v1/step/artifacts/k", Body: strings.Repeat("x", 100_000)}},
	} {
		f := &fake{}
		r := command(unixServer(t, f), c.stdin, nil, c.args...)
		if r.code != 0 || len(f.calls) != 1 {
			t.Errorf("%v: %+v, %d calls", c.args, r, len(f.calls))
			continue
		}
		got := f.calls[0]
		if len(got.Key) != 64 || got.Auth != "Bearer tok" {
			t.Errorf("%v: key %q, auth %q", c.args, got.Key, got.Auth)
		}
		got.Key, got.Auth = "", ""
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%v: %s", c.args, d)
		}
	}
}

func TestUsage(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for _, args := range [][]string{
		{}, {"nothing"}, {"image"}, {"image", "build"}, {"image", "pack", "--name", "x"}, {"image", "pack", "."},
		{"image", "pack", "--name", "x:v1", "."}, {"image", "pack", "--name", "x", "--base", "alpine", "."},
		{"image", "pack", "--name", "x", "--label", "y", "."}, {"image", "pack", "--unknown", "x", "."},
		{"release"}, {"release", "v1"}, {"release", "v1", "--image", "api=x:latest"}, {"release", "v1", "--image", "x" + digest},
		{"release", "v1", "--image", "a=x" + digest, "--image", "a=y" + digest}, {"release", "v1", "v2", "--image", "a=x" + digest},
		{"status", "--state", "green", "--context", "c"}, {"status", "--state", "success"}, {"status", "--state", "success", "--context", "c", "x"},
		{"comment"}, {"comment", " "}, {"comment", "a", "b"}, {"comment", "a", "--file", "b"}, {"comment", "--mr", "x", "a"},
		{"artifact", "put", "k"}, {"artifact", "put", "../k", "f"}, {"artifact", "put", "/k", "f"}, {"artifact", "get"},
		{"artifact", "put", "k", "/"}, {"artifact", "ls", "a", "b"}, {"whoami", "x"},
	} {
		if r := command("unix:///nowhere", "", nil, args...); r.code != 2 || !strings.Contains(r.err, "--help") || r.out != "" {
			t.Errorf("%q: %+v", args, r)
		}
	}
	for _, server := range []string{"https://x", "unix://", "localhost:80", "http://", "http://u@h/p"} {
		if r := command(server, "", nil, "whoami"); r.code != 2 || !strings.Contains(r.err, "TIPHYS_SERVER") {
			t.Errorf("%q: %+v", server, r)
		}
	}
	for _, args := range [][]string{{"--help"}, {"-h"}, {"help"}, {"release", "--help"}, {"image", "--help"}, {"image", "pack", "-h"}} {
		if r := command("", "", nil, args...); r.code != 0 || !strings.Contains(r.out, "Exit code") {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

func TestAnswers(t *testing.T) {
	f := &fake{}
	server := unixServer(t, f)
	for body, want := range map[string]string{
		`{"message":"this run may not release","hint":"release from main"}`: "tiphys: this run may not release\n  release from main\n",
		`{"errors":[{"code":"DENIED","message":"not your repository"}]}`:    "tiphys: not your repository\n",
		"plain text\n": "tiphys: plain text\n",
		"":             "tiphys: the server answered with status 403\n",
		`{}`:           "tiphys: the server answered with status 403\n",
	} {
		f.answer = func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, body)
		}
		if r := command(server, "", nil, "whoami"); r.code != 1 || r.err != want || len(r.waits) != 0 {
			t.Errorf("%q: %+v", body, r)
		}
	}
	f.answer = func(w http.ResponseWriter, r *http.Request, _ string) {
		_, _ = io.WriteString(w, `{"run":"r-1"}`)
	}
	if r := command(server, "", nil, "whoami"); r.code != 0 || r.out != "{\n  \"run\": \"r-1\"\n}\n" {
		t.Errorf("%+v", r)
	}
	f.answer = func(w http.ResponseWriter, r *http.Request, _ string) {
		_, _ = io.WriteString(w, `{"items":[{"key":"`+r.URL.Query().Get("prefix")+`1","size":3,"digest":"sha256:x"}]}`)
	}
	if r := command(server, "", nil, "artifact", "ls", "a&b/"); r.code != 0 || r.out != "a&b/1\t3\tsha256:x\n" {
		t.Errorf("%+v", r)
	}
}

func TestArtifactGet(t *testing.T) {
	long := strings.Repeat("0123456789", 50_000)
	f := &fake{answer: func(w http.ResponseWriter, r *http.Request, _ string) {
		if strings.HasSuffix(r.URL.Path, "chunks") {
			for i := 0; i < len(long); i += 7001 {
				_, _ = io.WriteString(w, long[i:min(i+7001, len(long))])
				w.(http.Flusher).Flush()
			}
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(long))
	}}
	server := unixServer(t, f)
	for _, key := range []string{"whole", "chunks"} {
		if r := command(server, "", nil, "artifact", "get", key); r.code != 0 || r.out != long {
			t.Errorf("%s: %d bytes, %s", key, len(r.out), r.err)
		}
		to := filepath.Join(t.TempDir(), "file")
		if r := command(server, "", nil, "artifact", "get", key, to); r.code != 0 || r.out != "" {
			t.Errorf("%+v", r)
		}
		if b, err := os.ReadFile(to); err != nil || string(b) != long {
			t.Errorf("%s: %d bytes, %v", key, len(b), err)
		}
	}
	f.answer = func(w http.ResponseWriter, _ *http.Request, _ string) {
		http.Error(w, "no such key", http.StatusNotFound)
	}
	dir := t.TempDir()
	if r := command(server, "", nil, "artifact", "get", "k", filepath.Join(dir, "file")); r.code != 1 || r.err != "tiphys: no such key\n" {
		t.Errorf("%+v", r)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// A connection that breaks in the middle of an answer is one that is tried again, with the same key.
func TestRepeatsWhileTheServerIsAway(t *testing.T) {
	attempt := 0
	f := &fake{}
	f.answer = func(w http.ResponseWriter, _ *http.Request, _ string) {
		attempt++
		switch attempt {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		case 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, "{}")
		}
	}
	server := unixServer(t, f)
	r := command(server, "", nil, "comment", "once")
	if r.code != 0 || len(f.calls) != 4 || len(r.waits) != 3 {
		t.Fatalf("%+v, %d calls", r, len(f.calls))
	}
	for _, c := range f.calls {
		if c != f.calls[0] {
			t.Errorf("a repeat was different: %+v", c)
		}
	}
	again := command(server, "", nil, "comment", "once")
	if again.code != 0 || f.calls[4].Key == f.calls[0].Key {
		t.Errorf("the same command given twice has the same key: %+v", again)
	}
}

func TestWaitsForAServerThatIsNotThereYet(t *testing.T) {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "api.sock")
	f, waits := &fake{}, 0
	r := command("unix://"+socket, "", func() {
		if waits++; waits == 5 {
			listenUnix(t, socket, f)
		}
	}, "comment", "x")
	if r.code != 0 || len(f.calls) != 1 || waits != 5 {
		t.Errorf("%+v", r)
	}
	gone := command("unix://"+socket+".none", "", nil, "comment", "x")
	var total time.Duration
	for _, w := range gone.waits {
		total += w
	}
	if gone.code != 1 || total < 2*time.Minute || total > 125*time.Second || !strings.Contains(gone.err, "the server is away") {
		t.Errorf("gave up after %s: %s", total, gone.err)
	}
}

func TestOverTCP(t *testing.T) {
	f := &fake{}
	s := httptest.NewServer(f)
	defer s.Close()
	if r := command(s.URL, "", nil, "whoami"); r.code != 0 || len(f.calls) != 1 {
		t.Errorf("%+v", r)
	}
}

// A server that refuses before it has read everything is heard all the same.
func TestEarlyRefusal(t *testing.T) {
	server := unixServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, `{"message":"too large"}`)
	}))
	r := command(server, strings.Repeat("x", 200_000), nil, "artifact", "put", "k", "-")
	if r.code != 1 || r.err != "tiphys: too large\n" {
		t.Errorf("%+v", r)
	}
}

func TestPackAndPushToTheRegistry(t *testing.T) {
	store, err := image.OpenStore(t.TempDir(), image.StoreOptions{Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	uploads := 0
	g := image.NewRegistry(image.RegistryOptions{Store: store, Door: door{enter: func(r *http.Request, repo string, write bool) error {
		if r.Method == http.MethodPost {
			uploads++
		}
		if write && (r.Header.Get("Authorization") != "Bearer tok" || repo != "harbour/api") {
			return failure.Refusedf("this run may not push to %s", repo)
		}
		return nil
	}}})
	s := httptest.NewServer(g)
	defer s.Close()
	dir := t.TempDir()
	for f, mode := range map[string]os.FileMode{"app": 0o700, "etc/conf": 0o600} {
		_ = os.MkdirAll(filepath.Join(dir, filepath.Dir(f)), 0o700)
		if err := os.WriteFile(filepath.Join(dir, f), []byte(f), mode); err != nil {
			t.Fatal(err)
		}
	}
	output := filepath.Join(t.TempDir(), "ref")
	args := []string{"image", "pack", "--name", "harbour/api", "--tag", "v1", "--entrypoint", "/app", "--entrypoint", "-v",
		"--env", "A=b", "--port", "80/tcp", "--output", output, dir}
	r := command(s.URL, "", nil, args...)
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	m, err := store.Resolve("harbour/api", "v1")
	if err != nil {
		t.Fatal(err)
	}
	want := "harbour/api@" + m.Digest
	if b, _ := os.ReadFile(output); r.out != want+"\n" || string(b) != want {
		t.Errorf("printed %q, wrote %q, want %q", r.out, b, want)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/" + want)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(config.Config)
	if !strings.Contains(string(b), `"Entrypoint":["/app","-v"]`) || !strings.Contains(string(b), `"80/tcp"`) || config.OS != "linux" {
		t.Errorf("%s", b)
	}
	before := uploads
	if again := command(s.URL, "", nil, args...); again.out != r.out || uploads != before {
		t.Errorf("a second push uploaded %d blobs: %+v", uploads-before, again)
	}
	args[3] = "harbour/web"
	if r := command(s.URL, "", nil, args...); r.code != 1 || !strings.Contains(r.err, "this run may not push to harbour/web") {
		t.Errorf("%+v", r)
	}
}

func FuzzReceive(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nT: r\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nrest",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := receive(strings.NewReader(s), request{method: "GET"})
		if err == nil && len(a.body) > len(s) {
			t.Errorf("%d bytes of body from %d", len(a.body), len(s))
		}
	})
}

// door lets requests in as a function says.
type door struct {
	enter func(r *http.Request, repo string, write bool) error
}

func (d door) Enter(r *http.Request, repo string, write bool) error { return d.enter(r, repo, write) }

func (door) Pushed(context.Context, string, string, string) error { return nil }
