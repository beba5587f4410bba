package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// visits asks for one page all the time, from several visitors, and counts. Every other visitor makes a connection for each request.
type visits struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	sent   atomic.Int64
	mu     sync.Mutex
	failed []error
}

func visit(ctx context.Context, url, host, path string, visitors int) *visits {
	ctx, cancel := context.WithCancel(ctx)
	v := &visits{cancel: cancel}
	for i := range visitors {
		transport := &http.Transport{DisableKeepAlives: i%2 == 0}
		client := &http.Client{Transport: transport, Timeout: time.Minute}
		v.wg.Go(func() {
			defer transport.CloseIdleConnections()
			pause := time.NewTicker(10 * time.Millisecond)
			defer pause.Stop()
			for ctx.Err() == nil {
				v.sent.Add(1)
				if err := once(context.WithoutCancel(ctx), client, url, host, path); err != nil {
					v.mu.Lock()
					v.failed = append(v.failed, fmt.Errorf("at %s: %w", time.Now().Format(time.TimeOnly+".000"), err))
					v.mu.Unlock()
				}
				select {
				case <-ctx.Done():
				case <-pause.C:
				}
			}
		})
	}
	return v
}

func once(ctx context.Context, client *http.Client, url, host, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
	if err != nil {
		return err
	}
	request.Host = host
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.100s", response.Status, body)
	}
	return err
}

// failures are those since the last call.
func (v *visits) failures() []error {
	v.mu.Lock()
	defer v.mu.Unlock()
	found := v.failed
	v.failed = nil
	return found
}

// browse keeps a live stream open, as a browser's tab does, until the returned function is called.
func browse(ctx context.Context, url, token string) (leave func()) {
	ctx, cancel := context.WithCancel(ctx)
	var tab sync.WaitGroup
	tab.Go(func() {
		for ctx.Err() == nil {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/stream?tables=run", nil)
			if err != nil {
				return
			}
			request.Header.Set("Authorization", "Bearer "+token)
			if response, err := http.DefaultClient.Do(request); err == nil {
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		}
	})
	return func() { cancel(); tab.Wait() }
}

// inFlight says whether a request failed only because the server that was answering it was killed.
func inFlight(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// serving is a server of a folder without definitions.
type serving struct {
	t                     *testing.T
	program, data, listen string
	cmd                   *exec.Cmd
	said                  *bytes.Buffer
}

// begin starts it and waits until it answers, or has ended.
func (s *serving) begin(args ...string) error {
	s.t.Helper()
	s.said = &bytes.Buffer{}
	s.cmd = exec.CommandContext(s.t.Context(), s.program, append([]string{"serve", "--data", s.data, "--listen", s.listen, "--bridge", "tiphyskeep", "--subnet", "10.217.0.0/24"}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	s.cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+s.t.TempDir())
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	for {
		if err := once(s.t.Context(), client, "http://"+s.listen, "localhost", "/healthz"); err == nil {
			s.t.Cleanup(func() { _ = s.cmd.Process.Kill() })
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%w: %s", err, s.said)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// end sends a signal and waits for the end.
func (s *serving) end(signal syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
	for began := time.Now(); syscall.Kill(s.cmd.Process.Pid, 0) == nil; {
		if time.Since(began) > time.Minute {
			s.t.Fatalf("the server does not end: %s", s.said)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// held tells whether anybody has the port.
func (s *serving) held() bool {
	l, err := net.Listen("tcp", s.listen)
	if err == nil {
		_ = l.Close()
	}
	return err != nil
}

func (s *serving) down() string {
	s.t.Helper()
	out, err := exec.CommandContext(s.t.Context(), s.program, "down", "--data", s.data).CombinedOutput()
	if err != nil {
		s.t.Fatalf("tiphys down: %v %s", err, out)
	}
	return string(out)
}

// Who ends what: SIGTERM leaves the keeper to the next server, Ctrl-C takes one with it that has nothing to carry, down ends everything,
// and a server without a keeper takes the port from the one that is there.
func TestEndsOfTheKeeper(t *testing.T) {
	o := options(t)
	program, err := filepath.Abs(o.Tiphys)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{t: t, program: program, data: filepath.Join(t.TempDir(), "data"), listen: l.Addr().String()}
	_ = l.Close()
	defer func() { _ = exec.Command("ip", "link", "del", "tiphyskeep").Run() }()
	begin := func(args ...string) {
		t.Helper()
		if err := s.begin(args...); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	s.end(syscall.SIGTERM)
	if !s.held() {
		t.Error("a stopped server leaves nobody at the port")
	}
	other := &serving{t: t, program: program, data: filepath.Join(t.TempDir(), "other"), listen: s.listen}
	if err := other.begin(); err == nil || !strings.Contains(err.Error(), "tiphys down") {
		t.Errorf("another server at the same port: %v", err)
	}
	begin()
	s.end(syscall.SIGINT)
	if s.held() {
		t.Errorf("after Ctrl-C somebody has the port: %s", s.said)
	}
	begin()
	s.end(syscall.SIGTERM)
	if said := s.down(); s.held() || !strings.Contains(said, "keeper has ended") {
		t.Errorf("after down of a keeper somebody has the port: %s", said)
	}
	begin()
	if said := s.down(); s.held() || !strings.Contains(said, "server (process") {
		t.Errorf("after down of a server somebody has the port: %s", said)
	}
	begin()
	s.end(syscall.SIGKILL)
	begin("--keeper=false")
	s.end(syscall.SIGTERM)
	if s.held() {
		t.Error("a server without a keeper leaves somebody at the port")
	}
	if said := s.down(); !strings.Contains(said, "nothing runs") {
		t.Errorf("in the end: %s", said)
	}
}

// No request to an application fails when the server is stopped, killed or replaced by another version, while production rolls;
// our own pages wait for the next server.
func TestApplicationsOutliveTheServer(t *testing.T) {
	o := lineOptions{Options: options(t), name: "beacon"}
	o.Out = &lines{t: t}
	o.service = filepath.Join(t.TempDir(), "service")
	build(t, o.service, "-ldflags", "-s -w", "./test/e2e/testdata/service")
	upgrade := os.Getenv("TIPHYS_BIN")
	if upgrade == "" {
		upgrade = filepath.Join(t.TempDir(), "tiphys")
		build(t, upgrade, "-ldflags", "-X github.com/tiphys/tiphys/cli.Version=another", "./cmd/tiphys")
	}
	l := openLine(t, o)
	defer l.close()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	if err := l.w.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.push(ctx); err != nil {
		t.Fatal(err)
	}
	production, own := visit(ctx, l.w.URL, "prod.beacon.localhost", "/", 4), visit(ctx, l.w.URL, "", "/healthz", 4)
	token, err := l.w.Token()
	if err != nil {
		t.Fatal(err)
	}
	leave := browse(ctx, l.w.URL, token)
	rolled := make(chan error, 1)
	go func() { rolled <- errors.Join(l.mergeRequest(ctx), l.merge(ctx)) }()
	programs := []string{o.Tiphys, upgrade}
	rounds := 0
	for rolling := true; rolling || rounds < 6; rounds++ {
		way := []string{"stopped", "killed", "upgraded"}[rounds%3]
		switch way {
		case "stopped":
			l.w.Stop()
		case "killed":
			l.w.Kill(rounds%2 == 1)
		case "upgraded":
			l.w.Stop()
			programs[0], programs[1] = programs[1], programs[0]
			l.w.Use(programs[0])
		}
		if err := l.w.Start(ctx); err != nil {
			t.Fatal(err)
		}
		for _, err := range production.failures() {
			t.Errorf("the server was %s, and a request to production failed %v", way, err)
		}
		for _, err := range own.failures() {
			if way != "killed" || !inFlight(err) {
				t.Errorf("the server was %s, and a request for a page of its own failed %v", way, err)
			}
		}
		select {
		case err := <-rolled:
			rolling = false
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(2 * time.Second): // some of the work is done in between
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
	leave()
	production.cancel()
	own.cancel()
	production.wg.Wait()
	own.wg.Wait()
	failed := append(production.failures(), own.failures()...)
	if len(failed) > 0 {
		t.Errorf("at the end %d requests failed: %v", len(failed), failed[0])
	}
	t.Logf("%d times: %d requests to production and %d to our own pages, %s", rounds, production.sent.Load(), own.sent.Load(),
		map[bool]string{true: "and some failed", false: "none failed"}[t.Failed()])
	if err := l.tearDown(ctx); err != nil {
		t.Fatal(err)
	}
	l.w.Stop()
	if err := l.w.Clean(ctx, 20*time.Second); err != nil {
		t.Error(err)
	}
}
