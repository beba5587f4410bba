package repo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/repo"
)

// host is a Git host of the test: the system's own http-backend, which counts what it is asked for.
type host struct {
	t    *testing.T
	dir  string
	url  string
	work string
	// packs counts the fetches that a pack was asked for in.
	packs atomic.Int64
	// mu guards what follows: requests come from other processes, which the race detector does not see.
	mu sync.Mutex
	// user and password are asked for if they are set.
	user, password string
	// sendOn redirects every request to another host if it is set.
	sendOn string
}

func newHost(t *testing.T) *host {
	t.Helper()
	backend, err := exec.LookPath("git")
	if err != nil {
		t.Fatal("git is needed")
	}
	h := &host{t: t, dir: t.TempDir(), work: t.TempDir()}
	handler := &cgi.Handler{Path: backend, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + h.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=/nonexistent"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		sendOn, wantUser, wantPassword := h.sendOn, h.user, h.password
		h.mu.Unlock()
		if sendOn != "" {
			http.Redirect(w, r, sendOn+r.URL.RequestURI(), http.StatusFound)
			return
		}
		if user, password, _ := r.BasicAuth(); wantUser != "" && (user != wantUser || password != wantPassword) {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if bytes.Contains(body, []byte("command=fetch")) { // and not a list of refs
			h.packs.Add(1)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	h.url = server.URL + "/shop.git"
	h.git(h.dir, "init", "-q", "--bare", "-b", "trunk", "shop.git")
	h.git(h.work, "init", "-q", "-b", "trunk")
	h.git(h.work, "remote", "add", "origin", filepath.Join(h.dir, "shop.git"))
	return h
}

func (h *host) git(dir string, args ...string) string {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// push commits one file and pushes it; the result is the commit.
func (h *host) push(name, content string) string {
	h.t.Helper()
	path := filepath.Join(h.work, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
		h.t.Fatal(err)
	}
	h.git(h.work, "add", "-A")
	h.git(h.work, "commit", "-q", "-m", "change "+name)
	h.git(h.work, "push", "-q", "origin", "HEAD:trunk", "--tags")
	return h.git(h.work, "rev-parse", "HEAD")
}

func open(t *testing.T, o repo.StoreOptions) *repo.Store {
	t.Helper()
	dir := t.TempDir()
	if o.Egress == nil { // the hosts of these tests are on loopback
		o.Egress = egress.Unrestricted()
	}
	o.Dir, o.Checkouts = filepath.Join(dir, "repos"), filepath.Join(dir, "checkouts")
	s, err := repo.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A repository elsewhere is read at a branch, a tag, a commit, the beginning of a commit, and HEAD.
func TestRevisionsElsewhere(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.push("a/b.txt", "one")
	h.git(h.work, "tag", "-a", "-m", "first", "v1")
	second := h.push("a/b.txt", "two")
	s := open(t, repo.StoreOptions{})
	for _, c := range []struct{ revision, sha, want string }{
		{"", second, "two"}, {"HEAD", second, "two"}, {"trunk", second, "two"}, {"refs/heads/trunk", second, "two"},
		{"v1", first, "one"}, {first, first, "one"}, {first[:8], first, "one"}, {second, second, "two"},
	} {
		dir, sha, release, err := s.Checkout(t.Context(), h.url, c.revision)
		if err != nil || sha != c.sha {
			t.Errorf("checkout of %q: %s, %v", c.revision, sha, err)
			continue
		}
		if got, err := os.ReadFile(filepath.Join(dir, "a", "b.txt")); err != nil || string(got) != c.want {
			t.Errorf("checkout of %q has %q, %v", c.revision, got, err)
		}
		release()
		if got, err := s.File(t.Context(), h.url, sha, "a/b.txt"); err != nil || string(got) != c.want {
			t.Errorf("file at %s = %q, %v; want %q", sha, got, err, c.want)
		}
		if again, err := s.Resolve(t.Context(), h.url, sha); err != nil || again != c.sha {
			t.Errorf("resolve %s = %s, %v", sha, again, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a released checkout is left: %v", err)
		}
	}
	if branch, err := s.DefaultBranch(t.Context(), h.url); err != nil || branch != "trunk" {
		t.Errorf("default branch %q, %v", branch, err)
	}
	for _, revision := range []string{"nothing", strings.Repeat("a", 40), "abcdef1", "-x", "a..b", "trunk~1", "a b"} {
		if sha, err := s.Resolve(t.Context(), h.url, revision); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("resolve %q = %s, %v; want ErrNotFound", revision, sha, err)
		}
	}
	for _, path := range []string{"missing", "a", "../x", "/etc/passwd", "a/../a/b.txt", ""} {
		if _, err := s.File(t.Context(), h.url, "trunk", path); !errors.Is(err, repo.ErrNotFound) && !errors.Is(err, repo.ErrUnsafe) {
			t.Errorf("file %q: %v", path, err)
		}
	}
}

// A commit is fetched once, however often it is read.
func TestCommitIsFetchedOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	sha := h.push("f", "x")
	s := open(t, repo.StoreOptions{})
	for range 5 {
		if _, err := s.File(t.Context(), h.url, sha, "f"); err != nil {
			t.Fatal(err)
		}
		_, _, release, err := s.Checkout(t.Context(), h.url, sha)
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	if n := h.packs.Load(); n != 1 {
		t.Errorf("the commit was fetched %d times", n)
	}
}

// The password of a URL is sent to its host, and is in no file, argument or message.
func TestPasswordOfURL(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.push("f", "x")
	h.mu.Lock()
	h.user, h.password = "ada", "hunter2:x"
	h.mu.Unlock()
	s := open(t, repo.StoreOptions{})
	with := func(password string) string {
		return strings.Replace(h.url, "http://", "http://ada:"+password+"@", 1)
	}
	if got, err := s.File(t.Context(), with("hunter2%3Ax"), "trunk", "f"); err != nil || string(got) != "x" {
		t.Errorf("with the password: %q, %v", got, err)
	}
	_, err := s.File(t.Context(), with("hunter3secret"), "trunk", "f")
	if err == nil || strings.Contains(err.Error(), "hunter3secret") {
		t.Errorf("with a wrong password: %v", err)
	}
}

// What is no URL of a network, or could be an option of git, is refused before anything is executed.
func TestURLs(t *testing.T) {
	t.Parallel()
	s := open(t, repo.StoreOptions{Git: "/nothing/is/executed"})
	for _, raw := range []string{
		"", "-x", "--upload-pack=touch /tmp/x", "file:///etc", "/etc", "../x", "ext::sh -c x", "http://", "ssh://-oProxyCommand=x/y", "ssh://-x@h/y", "ftp://h/x",
		"http://h/x\n", "-oProxyCommand=x@h:y", "git@h::x", strings.Repeat("a", 5000),
	} {
		if _, err := s.File(t.Context(), raw, "main", "f"); err == nil || !strings.Contains(err.Error(), "is not a repository's") {
			t.Errorf("%.40q: %v", raw, err)
		}
		if _, err := s.DefaultBranch(t.Context(), raw); err == nil || !strings.Contains(err.Error(), "is not a repository's") {
			t.Errorf("%.40q: %v", raw, err)
		}
	}
}

// One that fetches keeps another waiting for the same URL, which gives up with its context.
func TestWaitEndsWithContext(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-leave
	}))
	defer server.Close()
	s := open(t, repo.StoreOptions{})
	first := make(chan error, 1)
	go func() {
		_, err := s.File(t.Context(), server.URL+"/x.git", "main", "f")
		first <- err
	}()
	<-entered
	ctx, cancel := context.WithCancelCause(t.Context())
	tired := errors.New("tired of waiting")
	cancel(tired)
	if _, err := s.File(ctx, server.URL+"/x.git", "main", "f"); !errors.Is(err, tired) {
		t.Errorf("the second: %v", err)
	}
	close(leave)
	if err := <-first; err == nil {
		t.Error("a host that says nothing was read")
	}
}

// What was not used for a while goes, and is fetched again when it is wanted.
func TestSweep(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.push("f", "x")
	now := time.Now()
	s := open(t, repo.StoreOptions{Now: func() time.Time { return now }})
	read := func() {
		t.Helper()
		if _, err := s.File(t.Context(), h.url, "trunk", "f"); err != nil {
			t.Fatal(err)
		}
	}
	read()
	if n, err := s.Sweep(t.Context(), now.Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if n, err := s.Sweep(t.Context(), now.Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("swept %d, %v; want 1", n, err)
	}
	read()
}

// own is a host of which the repositories are here.
type own struct{ asked []string }

func (o *own) RepositoryOf(url string) (string, bool) {
	return strings.CutPrefix(url, "http://here/")
}

func (o *own) Resolve(_ context.Context, name, revision string) (string, error) {
	o.asked = append(o.asked, "resolve "+name+" "+revision)
	return "c0ffee", nil
}

func (o *own) Checkout(_ context.Context, name, revision, dest string) (string, error) {
	o.asked = append(o.asked, "checkout "+name+" "+revision)
	return "c0ffee", os.MkdirAll(dest, 0o755)
}

func (o *own) File(_ context.Context, name, revision, path string) ([]byte, error) {
	o.asked = append(o.asked, "file "+name+" "+revision+" "+path)
	return []byte("x"), nil
}

func (o *own) Tags(_ context.Context, name string) ([]string, error) {
	o.asked = append(o.asked, "tags "+name)
	return []string{"v1.0.0"}, nil
}

func (o *own) DefaultBranch(context.Context, string) (string, error) { return "", nil }

// A host whose repositories are here is asked, and nothing is fetched.
func TestOwnHost(t *testing.T) {
	t.Parallel()
	o := &own{}
	s := open(t, repo.StoreOptions{Own: []repo.Own{o}, Git: "/nothing/is/executed"})
	_, err1 := s.Resolve(t.Context(), "http://here/shop", "main")
	_, err2 := s.File(t.Context(), "http://here/shop", "main", "f")
	_, sha, release, err3 := s.Checkout(t.Context(), "http://here/shop", "main")
	if err := errors.Join(err1, err2, err3); err != nil || sha != "c0ffee" {
		t.Fatal(err, sha)
	}
	release()
	if got := strings.Join(o.asked, ", "); got != "resolve shop main, file shop main f, checkout shop main" {
		t.Errorf("asked for %s", got)
	}
	if _, err := s.DefaultBranch(t.Context(), "http://here/shop"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("no branch yet: %v", err)
	}
}

// A repository on loopback is not fetched for a manifest, by whatever name or transport, until the operator allows it; then git goes through the
// checking proxy. Redirects do not lead past it.
func TestEgress(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	sha := h.push("f", "x")
	strict := egress.New(egress.Options{})
	t.Cleanup(func() { _ = strict.Close() })
	s := open(t, repo.StoreOptions{Egress: strict})
	host := strings.TrimSuffix(strings.TrimPrefix(h.url, "http://"), "/shop.git")
	_, port, _ := strings.Cut(host, ":")
	for _, raw := range []string{h.url, "http://localhost:" + port + "/shop.git", "http://[::ffff:127.0.0.1]:" + port + "/shop.git", "https://127.0.0.1:" + port + "/shop.git",
		"http://ada:secret@127.0.0.1:" + port + "/shop.git"} {
		for what, read := range map[string]func() error{
			"file":           func() error { _, err := s.File(t.Context(), raw, "trunk", "f"); return err },
			"default branch": func() error { _, err := s.DefaultBranch(t.Context(), raw); return err },
			"commit":         func() error { _, err := s.Resolve(t.Context(), raw, sha); return err },
		} {
			if err := read(); !errors.Is(err, egress.ErrRefused) || !strings.Contains(err.Error(), "--allow-egress 127.0.0.1/32:"+port) {
				t.Errorf("%s of %s: %v", what, raw, err)
			}
		}
	}
	rules, err := egress.ParseRules([]string{host})
	if err != nil {
		t.Fatal(err)
	}
	allowed := egress.New(egress.Options{Allow: rules})
	t.Cleanup(func() { _ = allowed.Close() })
	s = open(t, repo.StoreOptions{Egress: allowed})
	if got, err := s.File(t.Context(), h.url, "trunk", "f"); err != nil || string(got) != "x" {
		t.Errorf("allowed: %q, %v", got, err)
	}
	if branch, err := s.DefaultBranch(t.Context(), h.url); err != nil || branch != "trunk" {
		t.Errorf("allowed: default branch %q, %v", branch, err)
	}
	inner := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(inner.Close)
	h.mu.Lock()
	h.sendOn = inner.URL
	h.mu.Unlock()
	if _, err := s.File(t.Context(), h.url, "refs/heads/other", "f"); !errors.Is(err, egress.ErrRefused) {
		t.Errorf("sent on to another port of loopback: %v", err)
	}
}
