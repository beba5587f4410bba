package builtin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// TestMain is also the hook executable, and the server of the crash tests.
func TestMain(m *testing.M) {
	if name, ok := HookName(os.Args[0]); ok {
		os.Exit(HookMain(name, os.Stdin, os.Stdout, os.Stderr, os.Environ()))
	}
	if dir := os.Getenv("TIPHYS_TEST_SERVER"); dir != "" {
		os.Exit(crashServer(dir))
	}
	os.Exit(m.Run())
}

// basicIdentity lets everybody read, and asks who pushes, for git names nobody unasked: "root" is an admin,
// "intruder" is refused.
type basicIdentity struct{}

func (basicIdentity) Caller(req *http.Request) (forge.Caller, error) {
	user, password, ok := req.BasicAuth()
	switch {
	case !ok && strings.Contains(req.URL.String(), servicePush):
		return forge.Caller{}, errors.New("who are you?")
	case !ok:
		return forge.Caller{}, nil
	case user == "intruder":
		return forge.Caller{}, errors.New("bad password")
	}
	return forge.Caller{Actor: forge.Actor{Name: "user:" + user, Verified: password != ""}, Creates: user == "root"}, nil
}

type world struct {
	t      *testing.T
	ledger ledger.Ledger
	remote *Remote
	url    string // of the server
	home   string // of the person who pushes
}

func openLedger(t *testing.T, path string) ledger.Ledger {
	t.Helper()
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Synchronous: sqlite.Off, Projections: []ledger.Projection{Projection{}, event.Rows{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func newWorld(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, ledger: openLedger(t, ""), home: t.TempDir()}
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { handler.ServeHTTP(rw, req) }))
	t.Cleanup(server.Close)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{
		Dir: filepath.Join(t.TempDir(), "git"), Ledger: w.ledger, Hook: exe, Callers: basicIdentity{}, BaseURL: server.URL, CreateOnPush: true,
	}
	for _, c := range change {
		c(&opt)
	}
	w.remote, err = New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.remote.Close(); err != nil {
			t.Error(err)
		}
	})
	handler, w.url = w.remote.Handler(), server.URL
	return w
}

// as is the address of a repository for a user; a password makes it verified.
func (w *world) as(user, repo string) string {
	return strings.Replace(w.url, "http://", "http://"+user+"@", 1) + "/git/" + repo + ".git"
}

// tryGit runs the user's git and gives what it printed.
func (w *world) tryGit(dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com",
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w *world) git(dir string, args ...string) string {
	w.t.Helper()
	out, err := w.tryGit(dir, args...)
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// work makes a work tree with one commit on main, whose remote origin is the server's repository.
func (w *world) work(user, repo string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	w.git(dir, "init", "-q", "-b", "main")
	w.git(dir, "remote", "add", "origin", w.as(user, repo))
	w.commit(dir, "README.md", "hello\n")
	return dir
}

// commit writes a file and commits it.
func (w *world) commit(dir, name, content string) string {
	w.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.git(dir, "add", "--", name)
	w.git(dir, "commit", "-q", "-m", "change "+name)
	return w.git(dir, "rev-parse", "HEAD")
}

type recorded struct {
	event.Event
	entry ledger.Entry
}

// events are the events in the ledger, oldest first.
func (w *world) events() []recorded { return eventsOf(w.t, w.ledger) }

func eventsOf(t *testing.T, l ledger.Ledger) []recorded {
	t.Helper()
	entries, err := l.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{event.KindReceived}, Limit: 10000})
	if err != nil {
		t.Fatal(err)
	}
	var all []recorded
	for _, e := range entries {
		ev, err := event.FromEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, recorded{Event: ev, entry: e})
	}
	return all
}

// lines says in one line each what the events are.
func lines(events []recorded) []string {
	all := []string{}
	for _, e := range events {
		s := e.Git.Kind + " " + strings.Join(e.Git.Actions, "+") + " "
		switch {
		case e.Git.PR != nil:
			s += e.Git.PR.SourceBranch + ">" + e.Git.PR.TargetBranch
		default:
			s += e.Git.Ref
		}
		all = append(all, s)
	}
	return all
}

// causes are the kinds of the entries that led to an entry, nearest first.
func (w *world) causes(e ledger.Entry) []string {
	w.t.Helper()
	var kinds []string
	for e.Cause != 0 {
		var err error
		if e, err = w.ledger.Entry(w.t.Context(), e.Cause); err != nil {
			w.t.Fatal(err)
		}
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (w *world) mr(repo string, number int) forge.MergeRequest {
	w.t.Helper()
	m, err := w.remote.MR(w.t.Context(), repo, number)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}
