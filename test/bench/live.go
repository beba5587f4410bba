package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	liveNodes   = 14_000
	liveViewers = 50
	liveFor     = 10 * time.Second
	// liveWarm is how long the steps wait before the first of them ends, in milliseconds; then 200 end each second.
	liveWarm = 60_000
)

const liveRun = `{"workflow": {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "live"}, "spec": {"entrypoint": "main", "templates": [
{"name": "main", "steps": [[{"name": "wait", "template": "w", "withSequence": {"count": "%d"}, "arguments": {"parameters": [{"name": "s", "value": "{{=%d + asInt(item) * 5}}ms"}]}}]]},
{"name": "w", "inputs": {"parameters": [{"name": "s"}]}, "suspend": {"duration": "{{inputs.parameters.s}}"}}]}}}`

// live measures what it costs the server that people look at a run of thousands of steps, 200 of which end each second: the
// processor time with nobody looking is the anchor.
func live(ctx context.Context, program string) error {
	dir, err := os.MkdirTemp("", "tiphys-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s, err := startServer(ctx, program, dir, "")
	if err != nil {
		return err
	}
	defer func() { _ = s.stop() }()
	if err := s.submitLive(ctx); err != nil {
		return err
	}
	began := time.Now()
	first, err := s.fetch(ctx, s.url+"/api/v1/runs/default/live?brief=1&limit=400")
	if err != nil {
		return err
	}
	content := time.Since(began)
	whole, err := s.fetch(ctx, s.url+"/api/v1/runs/default/live/nodes?brief=1&limit=10000")
	if err != nil {
		return err
	}
	all := time.Since(began)
	alone, changed, err := s.watched(ctx, 0)
	if err != nil {
		return err
	}
	with, told, err := s.watched(ctx, liveViewers)
	if err != nil {
		return err
	}
	share := (with - alone).Seconds() / liveFor.Seconds() / liveViewers * 100
	fmt.Printf("live page of a run of %d steps: first answer %s (%d KB), %d steps %s (%d KB) (want < 1s)\n",
		liveNodes, content.Round(time.Millisecond), first>>10, 10_000, all.Round(time.Millisecond), whole>>10)
	fmt.Printf("processor time of the server in %s, %d changes: nobody looks %s, %d viewers %s (%d rows told): %.2f %% of a core a viewer (want ≤ 2 %%)\n",
		liveFor, changed, alone, liveViewers, with, told, share)
	return nil
}

func (s *server) submitLive(ctx context.Context) error {
	began := time.Now()
	code, answer, err := s.send(ctx, http.MethodPost, "/api/v1/workflows/default", fmt.Sprintf(liveRun, liveNodes, liveWarm))
	if err != nil || code != http.StatusOK {
		return fmt.Errorf("submit: %d %.200s: %w", code, answer, err)
	}
	// Until the first step ends there is nothing to look at.
	rest := time.NewTimer(max(0, liveWarm*time.Millisecond-time.Since(began)))
	defer rest.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-rest.C:
		return nil
	}
}

func (s *server) fetch(ctx context.Context, url string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	s.prove(req)
	req.Header.Set("Accept-Encoding", "gzip") // and so it is not unpacked here
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	return io.Copy(io.Discard, resp.Body)
}

// watched gives the processor time that the server takes while so many look on, and how many rows they were told; with
// nobody, how many entries were written.
func (s *server) watched(ctx context.Context, viewers int) (time.Duration, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, liveFor)
	defer cancel()
	var rows atomic.Int64
	var wg sync.WaitGroup
	for range viewers {
		wg.Go(func() { s.look(ctx, &rows) })
	}
	first, err := s.head(ctx)
	if err != nil {
		return 0, 0, err
	}
	before, err := cpuOf(s.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	<-ctx.Done()
	after, err := cpuOf(s.cmd.Process.Pid)
	wg.Wait()
	if err != nil || viewers > 0 {
		return after - before, rows.Load(), err
	}
	last, err := s.head(context.WithoutCancel(ctx))
	return after - before, last - first, err
}

func (s *server) look(ctx context.Context, rows *atomic.Int64) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/stream?tables=run,node&owner=default/live&brief=1", nil)
	if err != nil {
		return
	}
	s.prove(req)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return // the time is over
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data: {") {
			rows.Add(1)
		}
	}
}

func (s *server) head(ctx context.Context) (int64, error) {
	var h struct{ Seq int64 }
	err := s.get(ctx, "/api/v1/ledger/head", &h)
	return h.Seq, err
}

// cpuOf is the processor time, user and system, of a process: fields 14 and 15 of its stat (proc(5)), in hundredths of a second.
func cpuOf(pid int) (time.Duration, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("read processor time: %q", raw)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read processor time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
