package mover_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/artifact/archive"
	"github.com/tiphys/tiphys/artifact/mover"
	"github.com/tiphys/tiphys/egress"
)

// TestMain lets the test binary be the hidden commands that ssh needs.
func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == egress.SSHCommand:
		err = egress.SSH(context.Background(), os.Args[2:])
	case len(os.Args) > 1 && os.Args[1] == egress.ConnectCommand:
		err = egress.Connect(context.Background(), os.Getenv, os.Stdin, os.Stdout)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "GIT_ALLOW_PROTOCOL=file")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// repository makes a bare repository with main (2 commits), a branch, a tag, a hidden reference, and a hostile branch.
func repository(t *testing.T) (bare string, commits map[string]string) {
	t.Helper()
	base := t.TempDir()
	work := filepath.Join(base, "work")
	bare = filepath.Join(base, "srv", "repo.git")
	commits = map[string]string{}
	git(t, base, "init", "-q", "-b", "main", work)
	commit := func(name, body string) {
		write(t, filepath.Join(work, "file"), body)
		git(t, work, "add", "-A")
		git(t, work, "commit", "-q", "-m", body)
		commits[name] = git(t, work, "rev-parse", "HEAD")
	}
	if err := os.Symlink("file", filepath.Join(work, "link")); err != nil {
		t.Fatal(err)
	}
	commit("first", "one")
	git(t, work, "tag", "-a", "v1.0", "-m", "release")
	git(t, work, "switch", "-q", "-c", "feature/x")
	commit("feature", "feature")
	git(t, work, "switch", "-q", "-c", "hidden")
	commit("hidden", "hidden")
	git(t, work, "update-ref", "refs/merge-requests/1/head", "HEAD")
	git(t, work, "switch", "-q", "main")
	git(t, work, "branch", "-q", "-D", "hidden")
	commit("main", "two")
	git(t, work, "switch", "-q", "-c", "hostile")
	if err := os.Symlink("../../../etc", filepath.Join(work, "etc")); err != nil {
		t.Fatal(err)
	}
	commit("hostile", "hostile")
	git(t, work, "switch", "-q", "main")
	git(t, base, "clone", "-q", "--mirror", work, bare)
	return bare, commits
}

func TestGit(t *testing.T) {
	bare, commits := repository(t)
	m, _ := newMover(t, func(o *mover.Options) {
		o.Own = own(func(url string) (string, bool, error) {
			return bare, url == "http://tiphys.localhost/git/repo", nil
		})
	})
	for _, c := range []struct{ name, js, commit, content, branch string }{
		{"default", ``, "main", "two", "main"},
		{"branch as revision", `"revision":"feature/x"`, "feature", "feature", "HEAD"},
		{"tag", `"revision":"v1.0"`, "first", "one", "HEAD"},
		{"commit", `"revision":"` + commits["first"] + `"`, "first", "one", "HEAD"},
		{"short commit", `"revision":"` + commits["first"][:10] + `"`, "first", "one", "HEAD"},
		{"commit of no branch", `"revision":"` + commits["hidden"] + `"`, "hidden", "hidden", "HEAD"},
		{"reference", `"revision":"refs/merge-requests/1/head"`, "hidden", "hidden", "HEAD"},
		{"before", `"revision":"main~1"`, "first", "one", "HEAD"},
		{"shallow branch", `"revision":"feature/x","depth":1`, "feature", "feature", "HEAD"},
		{"shallow tag", `"revision":"v1.0","depth":1`, "first", "one", "HEAD"},
		{"shallow commit", `"revision":"` + commits["main"] + `","depth":1`, "main", "two", "HEAD"},
		{"shallow default", `"depth":1`, "main", "two", "main"},
		{"single branch", `"singleBranch":true,"branch":"feature/x"`, "feature", "feature", "feature/x"},
		{"branch", `"branch":"feature/x"`, "feature", "feature", "feature/x"},
		{"fetch", `"fetch":["refs/merge-requests/*:refs/mr/*"],"revision":"main"`, "main", "two", "HEAD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			js := `{"name":"src","git":{"repo":"http://tiphys.localhost/git/repo"` + strings.TrimSuffix(","+c.js, ",") + `}}`
			dest := filepath.Join(t.TempDir(), "src")
			if err := m.Fetch(bg, art(t, js), dest); err != nil {
				t.Fatal(err)
			}
			if got := git(t, dest, "rev-parse", "HEAD"); got != commits[c.commit] {
				t.Errorf("at %s", got)
			}
			if got := read(t, filepath.Join(dest, "link")); got != c.content {
				t.Errorf("file is %q", got)
			}
			if got := git(t, dest, "rev-parse", "--abbrev-ref", "HEAD"); got != c.branch {
				t.Errorf("on branch %s", got)
			}
			if got := git(t, dest, "config", "remote.origin.url"); got != "http://tiphys.localhost/git/repo" {
				t.Errorf("origin is %s", got)
			}
			if hooks, _ := filepath.Glob(filepath.Join(dest, ".git/hooks/*")); len(hooks) != 0 {
				t.Errorf("hooks: %v", hooks)
			}
			if n := git(t, dest, "rev-list", "--count", "HEAD"); strings.Contains(c.js, "depth") && n != "1" {
				t.Errorf("%s commits", n)
			}
			if c.name == "fetch" && git(t, dest, "rev-parse", "refs/mr/1/head") != commits["hidden"] {
				t.Error("the reference was not fetched")
			}
		})
	}
}

func TestGitRefusals(t *testing.T) {
	bare, _ := repository(t)
	m, _ := newMover(t, func(o *mover.Options) {
		o.Own = own(func(url string) (string, bool, error) {
			if url == "https://tiphys.localhost/git/private" {
				return "", false, errors.New("no right to read it")
			}
			return bare, url == "https://tiphys.localhost/git/repo", nil
		})
	})
	marker := filepath.Join(t.TempDir(), "executed")
	for js, want := range map[string]string{
		`{"repo":"` + bare + `"}`:                                                     "cannot be cloned",
		`{"repo":"file://` + bare + `"}`:                                              "cannot be cloned",
		`{"repo":"ext::sh -c touch% ` + marker + `"}`:                                 "cannot be cloned",
		`{"repo":"-oProxyCommand=touch ` + marker + `:x"}`:                            "must not begin with a dash",
		`{"repo":"ssh://-oProxyCommand=touch ` + marker + `/x"}`:                      "cannot be cloned",
		`{"repo":"https://tiphys.localhost/git/repo","revision":"--upload-pack=x"}`:   "must not begin with a dash",
		`{"repo":"https://tiphys.localhost/git/repo","fetch":["--upload-pack=x"]}`:    "must not begin with a dash",
		`{"repo":"https://tiphys.localhost/git/repo","revision":"nothing"}`:           `there is no branch, tag or commit "nothing"`,
		`{"repo":"https://tiphys.localhost/git/repo","revision":"nothing","depth":1}`: `there is no branch, tag or commit "nothing"`,
		`{"repo":"https://tiphys.localhost/git/repo","singleBranch":true}`:            "singleBranch needs branch",
		`{"repo":"https://tiphys.localhost/git/repo","revision":"hostile"}`:           `the link "etc" points to "../../../etc"`,
		`{"repo":"https://tiphys.localhost/git/private"}`:                             "no right to read it",
	} {
		dest := filepath.Join(t.TempDir(), "src")
		err := m.Fetch(bg, art(t, `{"name":"src","git":`+js+`}`), dest)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", js, err)
		}
		if strings.Contains(js, "hostile") && !errors.Is(err, archive.ErrUnsafe) {
			t.Errorf("%s: %v", js, err)
		}
		if _, err := os.Lstat(dest); err == nil {
			t.Errorf("%s: left something", js)
		}
	}
	if _, err := os.Lstat(marker); err == nil {
		t.Error("a command was executed")
	}
}

// gitServer serves the folder of bare over smart HTTP to who knows user and password.
func gitServer(t *testing.T, bare, user, password string) *httptest.Server {
	t.Helper()
	backend := filepath.Join(git(t, "/", "--exec-path"), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("SKIPPED: fetching over HTTP is not tested: git has no http-backend here")
	}
	h := &cgi.Handler{Path: backend, Root: "/", Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(bare), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=x"}}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestGitOverHTTPWithPassword(t *testing.T) {
	bare, commits := repository(t)
	s := gitServer(t, bare, "u-value", "p-value")
	m, _ := newMover(t, nil)
	secrets := `,"usernameSecret":{"name":"creds","key":"u"},"passwordSecret":{"name":"creds","key":"p"}}}`
	dest := filepath.Join(t.TempDir(), "src")
	if err := m.Fetch(bg, art(t, `{"git":{"repo":"`+s.URL+`/repo.git","depth":1`+secrets), dest); err != nil {
		t.Fatal(err)
	}
	if got := git(t, dest, "rev-parse", "HEAD"); got != commits["main"] {
		t.Errorf("at %s", got)
	}
	inURL := strings.Replace(s.URL, "http://", "http://u-value:p-value@", 1)
	dest2 := filepath.Join(t.TempDir(), "src")
	if err := m.Fetch(bg, art(t, `{"git":{"repo":"`+inURL+`/repo.git"}}`), dest2); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dest, dest2} {
		if config := read(t, filepath.Join(d, ".git/config")); strings.Contains(config, "p-value") {
			t.Errorf("the password is in the clone:\n%s", config)
		}
	}
	bad := strings.Replace(s.URL, "http://", "http://u-value:wrong-word@", 1)
	err := m.Fetch(bg, art(t, `{"git":{"repo":"`+bad+`/repo.git"}}`), filepath.Join(t.TempDir(), "src"))
	if err == nil || strings.Contains(err.Error(), "wrong-word") {
		t.Errorf("%v", err)
	}
}

// A submodule may not reach a folder of this machine, even when its parent is a built-in repository.
func TestGitSubmoduleStaysOffThisMachine(t *testing.T) {
	bare, _ := repository(t)
	work := filepath.Join(t.TempDir(), "w")
	git(t, "/", "clone", "-q", bare, work)
	git(t, work, "submodule", "--quiet", "add", bare, "sub")
	git(t, work, "commit", "-q", "-m", "sub")
	git(t, work, "push", "-q", "origin", "HEAD:refs/heads/with-sub")
	m, _ := newMover(t, func(o *mover.Options) {
		o.Own = own(func(string) (string, bool, error) { return bare, true, nil })
	})
	js := `{"git":{"repo":"https://tiphys.localhost/git/repo","revision":"with-sub"`
	err := m.Fetch(bg, art(t, js+`}}`), filepath.Join(t.TempDir(), "src"))
	if err == nil || !strings.Contains(err.Error(), "transport 'file' not allowed") {
		t.Errorf("%v", err)
	}
	if err := m.Fetch(bg, art(t, js+`,"disableSubmodules":true}}`), filepath.Join(t.TempDir(), "src")); err != nil {
		t.Errorf("%v", err)
	}
}

// own are repositories of this machine.
type own func(url string) (string, bool, error)

func (o own) Folder(_ context.Context, url string) (string, bool, error) { return o(url) }

// Loopback is not cloned from, and no submodule or redirect leads there, even where the repository itself may be reached.
func TestGitEgress(t *testing.T) {
	bare, _ := repository(t)
	reached := make(chan string, 100)
	inner := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached <- r.URL.Path }))
	t.Cleanup(inner.Close)
	work := filepath.Join(t.TempDir(), "w")
	git(t, "/", "clone", "-q", bare, work)
	write(t, filepath.Join(work, ".gitmodules"), "[submodule \"sub\"]\n\tpath = sub\n\turl = "+inner.URL+"/sub.git\n")
	git(t, work, "add", "-A")
	git(t, work, "update-index", "--add", "--cacheinfo", "160000,"+git(t, work, "rev-parse", "HEAD")+",sub")
	git(t, work, "commit", "-q", "-m", "sub")
	git(t, work, "push", "-q", "origin", "HEAD:refs/heads/with-sub")
	s := gitServer(t, bare, "u-value", "p-value")
	host := s.Listener.Addr().String()
	rules, err := egress.ParseRules([]string{host})
	if err != nil {
		t.Fatal(err)
	}
	open, strict := egress.New(egress.Options{Allow: rules}), egress.New(egress.Options{})
	t.Cleanup(func() { _, _ = open.Close(), strict.Close() })
	sendOn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inner.URL+r.URL.RequestURI(), http.StatusFound)
	}))
	t.Cleanup(sendOn.Close)
	sending, err := egress.ParseRules([]string{sendOn.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	redirected := egress.New(egress.Options{Allow: sending})
	t.Cleanup(func() { _ = redirected.Close() })
	for name, c := range map[string]struct {
		client *egress.Client
		repo   string
		more   string
		want   bool
	}{
		"loopback":            {strict, "http://u-value:p-value@" + host + "/repo.git", "", false},
		"loopback, mapped":    {strict, "http://[::ffff:127.0.0.1]:" + strings.TrimPrefix(host, "127.0.0.1:") + "/repo.git", "", false},
		"loopback by ssh":     {strict, "ssh://git@localhost/repo.git", "", false},
		"loopback by scp":     {strict, "git@127.0.0.1:repo.git", "", false},
		"allowed":             {open, "http://u-value:p-value@" + host + "/repo.git", "", true},
		"submodule elsewhere": {open, "http://u-value:p-value@" + host + "/repo.git", `,"revision":"with-sub"`, false},
		"redirect":            {redirected, sendOn.URL + "/repo.git", "", false},
	} {
		m, _ := newMover(t, func(o *mover.Options) { o.Egress = c.client })
		err := m.Fetch(bg, art(t, `{"git":{"repo":"`+c.repo+`"`+c.more+`}}`), filepath.Join(t.TempDir(), "src"))
		if c.want {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, egress.ErrRefused) || !strings.Contains(err.Error(), "git.repo: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	select {
	case path := <-reached:
		t.Errorf("what only this machine reaches was asked for %s", path)
	default:
	}
}

// An http artifact is not read from loopback, nor written there.
func TestHTTPEgress(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	t.Cleanup(s.Close)
	strict := egress.New(egress.Options{})
	t.Cleanup(func() { _ = strict.Close() })
	m, _ := newMover(t, func(o *mover.Options) { o.Egress = strict })
	source := filepath.Join(t.TempDir(), "f")
	write(t, source, "x")
	for _, more := range []string{"", `,"insecureSkipTLS":true`} {
		a := art(t, `{"name":"a","http":{"url":"`+s.URL+`/x"`+more+`}}`)
		if err := m.Fetch(bg, a, filepath.Join(t.TempDir(), "d")); !errors.Is(err, egress.ErrRefused) || !strings.Contains(err.Error(), "http.url: 127.0.0.1 is loopback") {
			t.Errorf("fetch: %v", err)
		}
	}
	if asked != 0 {
		t.Errorf("it was asked %d times", asked)
	}
}
