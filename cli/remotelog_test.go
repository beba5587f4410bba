package cli

import (
	"context"
	"encoding/json"
	"fmt"
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

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/podlog"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/server/api"
	"github.com/tiphys/tiphys/workflow"
)

// logServer serves the log of one running step with the server's own handlers, and can be stopped and started again.
type logServer struct {
	t      *testing.T
	ledger ledger.Ledger
	dir    string // logs, a folder for each attempt
	addr   string

	mu     sync.Mutex
	ended  int // attempts that are over
	server *httptest.Server
}

func (s *logServer) Log(ctx context.Context, _ workflow.Run, n workflow.Node, container string, o executor.LogOptions) (io.ReadCloser, error) {
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	return podlog.Open(ctx, filepath.Join(s.dir, fmt.Sprint(n.Attempt)), container, podlog.Options{
		FromLine: o.FromLine, Follow: o.Follow, Timestamps: o.Timestamps,
		// As with the executor: a server that is stopped sends no more.
		Ended: func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return n.Attempt < s.ended
		},
		Stopped: func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.server != server
		},
	})
}

func (s *logServer) start() {
	s.t.Helper()
	a := &api.API{Ledger: s.ledger, Logs: s, Runs: runs.New(runs.Options{
		Ledger: s.ledger, Executors: executor.NewRegistry(podpolicy.New(), scripted.New(scripted.Options{}).Named()), Objects: definitions.NewMemory(nil),
	})}
	mux := http.NewServeMux()
	for _, r := range a.Routes() {
		if strings.HasSuffix(r.Pattern, "/log/{node}") {
			mux.Handle(r.Pattern, r.Handle)
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}}
	server.Start()
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
}

// stop ends the server: at once, as kill does, or letting answers end.
func (s *logServer) stop(kill bool) {
	s.mu.Lock()
	server := s.server
	s.server = nil
	s.mu.Unlock()
	if kill {
		server.CloseClientConnections()
	}
	server.Close()
}

func (s *logServer) put(attempt int, phase workflow.Phase) {
	s.t.Helper()
	err := s.ledger.Write(context.Background(), ledger.On("run/default/w"), func(tx ledger.Tx) error {
		if _, err := tx.Append(ledger.Draft{Actor: "test", Kind: "test", Subject: "run/default/w"}); err != nil {
			return err
		}
		run, err := json.Marshal(workflow.Run{Namespace: "default", Name: "w", Phase: phase})
		if err != nil {
			return err
		}
		node, err := json.Marshal(workflow.Node{ID: "w-1", Type: workflow.NodePod, Phase: phase, Attempt: attempt})
		if err != nil {
			return err
		}
		if err := tx.Put(ledger.Row{Table: "run", Key: "default/w", Time: tx.Now(), Body: run}); err != nil {
			return err
		}
		return tx.Put(ledger.Row{Table: "node", Key: "default/w/w-1", Owner: "default/w", Time: tx.Now(), Body: node})
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// end says that so many attempts are over.
func (s *logServer) end(attempts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = attempts
}

func newLogServer(t *testing.T) *logServer {
	t.Helper()
	l, err := sqlite.Open(context.Background(), sqlite.Options{Path: filepath.Join(t.TempDir(), "ledger.db"), Synchronous: sqlite.Off})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &logServer{t: t, ledger: l, dir: t.TempDir(), addr: "127.0.0.1:0"}
	s.put(0, workflow.Running)
	return s
}

// screen is what a person sees, and waits for.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) await(t *testing.T, suffix string) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for !strings.HasSuffix(s.String(), suffix) {
		select {
		case <-s.more:
		case <-limit:
			t.Fatalf("no %q at the end of %q", suffix, s.String())
		}
	}
}

// A log that is followed goes on where it was when the server comes back, killed or stopped, without loss or repeats,
// from wherever it began, and into the attempt that followed a lost one.
func TestLogsFollowOverRestarts(t *testing.T) {
	for name, tail := range map[string]int{"from the start": 0, "the last lines": 2} {
		t.Run(name, func(t *testing.T) {
			s := newLogServer(t)
			w, line := s.writer(0)
			for range 5 {
				line("before")
			}
			s.start()
			out := &screen{more: make(chan struct{}, 1)}
			l := newRemoteLog(&client{base: "http://" + s.addr, http: &http.Client{}}, "default", "w", "w-1", "main",
				executor.LogOptions{Follow: true, FromLine: -tail})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := l.open(ctx); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- l.copy(ctx, out) }()
			out.await(t, "before 4\n")
			for round, kill := range []bool{true, false} {
				s.stop(kill)
				line("away")
				line(strings.Repeat("long ", 40_000)) // more than one record
				s.start()
				line("back")
				out.await(t, fmt.Sprintf("back %d\n", 7+3*round))
			}
			if _, err := w.Close(); err != nil {
				t.Fatal(err)
			}
			// The attempt is lost with its machine, and another one begins.
			next, again := s.writer(1)
			again("again")
			s.put(1, workflow.Running)
			s.end(1)
			out.await(t, "again 0\n")
			again("last")
			s.end(2)
			s.put(1, workflow.Succeeded)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if _, err := next.Close(); err != nil {
				t.Fatal(err)
			}
			s.stop(true)
			var want []string
			for i, text := range []string{"before", "before", "before", "before", "before", "away", "long", "back", "away", "long", "back"} {
				want = append(want, fmt.Sprint(text, " ", i))
			}
			if tail > 0 {
				want = want[5-tail:]
			}
			want = append(want, "again 0", "last 1")
			var got []string
			for l := range strings.Lines(out.String()) {
				f := strings.Fields(l)
				got = append(got, f[0]+" "+f[len(f)-1])
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// writer begins the log of an attempt; line writes one with its number at the end.
func (s *logServer) writer(attempt int) (*podlog.Writer, func(text string)) {
	s.t.Helper()
	dir := filepath.Join(s.dir, fmt.Sprint(attempt))
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	w, err := podlog.Create(dir, "main", 0, time.Now)
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
	return w, func(text string) {
		fmt.Fprintf(w.Stream(0), "%s %d\n", text, n)
		n++
	}
}
