package builtin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// crashServer is a server in a process of its own, which kills itself at a fault point.
func crashServer(dir string) int {
	if err := serveUntilKilled(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveUntilKilled(dir string) error {
	ctx := context.Background()
	l, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(dir, "ledger.db"), Projections: []ledger.Projection{Projection{}, event.Rows{}}})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	r, err := New(Options{
		Dir: filepath.Join(dir, "git"), Ledger: l, Hook: exe, Callers: basicIdentity{}, CreateOnPush: true,
		BaseURL: "http://" + listener.Addr().String(),
		Fault: func(point string) {
			if point == os.Getenv("TIPHYS_TEST_FAULT") {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // the signal needs a moment
			}
		},
	})
	if err != nil {
		return err
	}
	if err := r.Reconcile(ctx); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/git/", r.Handler())
	mux.HandleFunc("POST /merge/{number}", func(w http.ResponseWriter, req *http.Request) {
		n, err := strconv.Atoi(req.PathValue("number"))
		if err == nil {
			_, err = r.MergeMR(req.Context(), forge.Actor{Name: "user:ada", Verified: true}, "harbour", n, forge.MergeOptions{})
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	fmt.Println(listener.Addr())
	return http.Serve(listener, mux)
}

// startServer starts a crash server and gives its address and what to do when it is no longer wanted.
func startServer(t *testing.T, dir, fault string) (url string, stop func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "TIPHYS_TEST_SERVER="+dir, "TIPHYS_TEST_FAULT="+fault)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	stop = func() {
		timer.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		t.Fatalf("the server did not start: %v", err)
	}
	return "http://ada:x@" + strings.TrimSpace(line), stop
}

// TestKilledServer kills the server at each fault point of a push and of a merge: what git has stored is in the
// ledger once after the next start, and what it has not is not.
func TestKilledServer(t *testing.T) {
	for _, fault := range []string{"ref-update", "before-confirm", "after-confirm"} {
		for _, act := range []string{"push", "merge"} {
			t.Run(act+" "+fault, func(t *testing.T) {
				t.Parallel()
				testKilled(t, act, fault)
			})
		}
	}
}

func testKilled(t *testing.T, act, fault string) {
	dir := t.TempDir()
	w := &world{t: t, home: t.TempDir()}
	work := w.work("ada", "harbour")
	url, stop := startServer(t, dir, "")
	w.git(work, "push", "-q", url+"/git/harbour.git", "main")
	w.git(work, "checkout", "-q", "-b", "feature")
	w.commit(work, "f", "1")
	w.git(work, "push", "-q", "-o", "merge_request.create", "-o", "merge_request.remove_source_branch", url+"/git/harbour.git", "feature")
	head := w.commit(work, "f", "2")
	stop()

	url, stop = startServer(t, dir, fault)
	if act == "push" {
		_, _ = w.tryGit(work, "push", "-q", url+"/git/harbour.git", "feature") // fails or not, as the server dies
	} else if resp, err := http.Post(url+"/merge/1", "", nil); err == nil {
		resp.Body.Close()
		t.Fatal("the server survived the fault point")
	}
	stop()
	bare := filepath.Join(dir, "git", "harbour.git")
	refs := waitQuiet(w, bare)

	for range 2 { // the second start finds nothing to do
		_, stop = startServer(t, dir, "")
		stop()
	}
	l := openLedger(t, filepath.Join(dir, "ledger.db"))
	want := []string{"push create refs/heads/main", "push create refs/heads/feature", "pull_request open feature>main"}
	happened := fault != "ref-update"
	switch {
	case act == "push" && strings.Contains(refs, head):
		happened = true // git may finish without its server
		want = append(want, "push update refs/heads/feature", "pull_request sync feature>main")
	case act == "merge" && happened:
		want = append(want, "pull_request merge feature>main", "push update refs/heads/main", "push delete refs/heads/feature")
	}
	if act == "push" && fault != "ref-update" && !strings.Contains(refs, head) {
		t.Fatalf("git did not store the push before %s", fault)
	}
	if diff := cmp.Diff(want, lines(eventsOf(t, l))); diff != "" {
		t.Errorf("happened %v; events (-want +got):\n%s", happened, diff)
	}
	open, err := l.List(t.Context(), ledger.Query{Table: tablePush, States: []string{stateIntended}})
	if err != nil || len(open) != 0 {
		t.Errorf("open pushes = %v, %v", open, err)
	}
	report, err := l.Verify(t.Context(), ledger.Check{})
	if err != nil || len(report.Faults) > 0 {
		t.Errorf("verify = %+v, %v", report, err)
	}
}

// waitQuiet waits until the git that outlived its server is gone, and gives the refs.
func waitQuiet(w *world, bare string) string {
	w.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if !gitRuns(bare) {
			return w.git(w.home, "-C", bare, "for-each-ref", "--format=%(objectname) %(refname)")
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatal("git still runs in the repository")
		}
	}
}

func gitRuns(bare string) bool {
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return false
	}
	for _, p := range processes {
		line, err := os.ReadFile(p)
		if errors.Is(err, os.ErrNotExist) || err != nil {
			continue
		}
		if s := string(line); strings.HasPrefix(s, "git\x00") && strings.Contains(s, bare) {
			return true
		}
	}
	return false
}
