package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
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
func browse(ctx context.Context, url string) (leave func()) {
	ctx, cancel := context.WithCancel(ctx)
	var tab sync.WaitGroup
	tab.Go(func() {
		for ctx.Err() == nil {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/stream?tables=run", nil)
			if err != nil {
				return
			}
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
	leave := browse(ctx, l.w.URL)
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
