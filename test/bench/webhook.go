package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func healthy(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

const sourceManifest = `apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: lab}
spec:
  gitlab:
    push:
      webhook: {endpoint: /push, method: POST, port: "12000", url: ""}
      projects: ["1"]
      events: [PushEvents]
      accessToken: {name: lab, key: api}
      gitlabBaseURL: https://gitlab.example
      secretToken: {name: lab, key: token}
---
apiVersion: v1
kind: Secret
metadata: {name: lab}
stringData: {token: bench-token, api: unused}
---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: first-line}
spec:
  dependencies:
  - name: push
    eventSourceName: lab
    eventName: push
    filters: {data: [{path: body.user_username, type: string, value: [first-line]}]}
  triggers:
  - template:
      name: run
      argoWorkflow:
        operation: submit
        source:
          resource:
            apiVersion: argoproj.io/v1alpha1
            kind: Workflow
            metadata: {generateName: first-line-}
            spec: {entrypoint: say, templates: [{name: say, container: {image: busybox, command: [echo, hello]}}]}
`

const sensorManifest = `---
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s%d}
spec:
  dependencies:
  - name: push
    eventSourceName: lab
    eventName: push
    filters: {data: [{path: git.branch, type: string, value: ["^release-%d$"]}]}
  triggers:
  - template: {name: log, log: {}}
`

// pushBody is a GitLab push of about 3 KB.
func pushBody(user string) []byte {
	commits := []map[string]any{}
	for i := range 6 {
		commits = append(commits, map[string]any{
			"id": fmt.Sprintf("%040d", i), "message": strings.Repeat("a commit message ", 8), "url": "https://gitlab.example/fleet/harbour/-/commit/1",
			"author": map[string]string{"name": "Ada", "email": "ada@example.org"}, "added": []string{"a.go"}, "modified": []string{"b.go", "c.go"}, "removed": []string{},
		})
	}
	raw, _ := json.Marshal(map[string]any{
		"object_kind": "push", "event_name": "push", "before": strings.Repeat("a", 40), "after": strings.Repeat("b", 40), "checkout_sha": strings.Repeat("b", 40),
		"ref": "refs/heads/main", "user_username": user, "user_name": user, "commits": commits, "total_commits_count": len(commits),
		"project": map[string]any{"id": 1, "path_with_namespace": "fleet/harbour", "web_url": "https://gitlab.example/fleet/harbour", "default_branch": "main", "git_http_url": "https://gitlab.example/fleet/harbour.git"},
	})
	return raw
}

// The load on the webhook: keep-alive connections and how long.
const (
	connections = 64
	loadTime    = 6 * time.Second
)

// webhooks measures deliveries to a durable 2xx with ten sensors deciding, and a delivery to the first line of log.
func webhooks(ctx context.Context, program string) error {
	dir, err := os.MkdirTemp("", "tiphys-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	config := filepath.Join(dir, "config")
	if err := os.Mkdir(config, 0o700); err != nil {
		return err
	}
	text := sourceManifest
	for i := range 9 {
		text += fmt.Sprintf(sensorManifest, i, i)
	}
	if err := os.WriteFile(filepath.Join(config, "all.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	s, err := startServer(ctx, program, filepath.Join(dir, "data"), config)
	if err != nil {
		return err
	}
	defer func() { _ = s.stop() }()
	if err := s.awaitSource(ctx); err != nil {
		return err
	}
	var first []time.Duration
	for i := range rounds {
		d, err := s.firstLine(ctx, i)
		if err != nil {
			return err
		}
		first = append(first, d)
	}
	fmt.Printf("webhook to first log line, host executor: %s (want < 300ms)\n", median(first).Round(time.Millisecond))
	return s.load(ctx)
}

// deliver posts a push; id makes it one of its own.
func (s *server) deliver(ctx context.Context, c *http.Client, body []byte, id string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/webhooks/default/lab/push", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Gitlab-Event", "Push Hook")
	req.Header.Set("X-Gitlab-Token", "bench-token")
	req.Header.Set("X-Gitlab-Event-UUID", id)
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func (s *server) awaitSource(ctx context.Context) error {
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		code, err := s.deliver(ctx, http.DefaultClient, pushBody("warm-up"), fmt.Sprint("warm-up-", time.Now().UnixNano()))
		if err == nil && code == http.StatusOK {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the event source does not receive: %s", s.log)
}

func (s *server) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadTime+30*time.Second)
	defer cancel()
	// The load has one thread: idle ones would look for work on the processors that are measured.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	began := time.Now()
	until := began.Add(loadTime)
	before, err := cpuOf(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var times []time.Duration
	var failed error
	var wg sync.WaitGroup
	for n := range connections {
		wg.Go(func() {
			own, err := s.keepPosting(ctx, n, until)
			mu.Lock()
			defer mu.Unlock()
			times, failed = append(times, own...), errors.Join(failed, err)
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	took := time.Since(began)
	lag, err := s.awaitDecisions(ctx)
	if err != nil {
		return err
	}
	after, err := cpuOf(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	used := after - before
	slices.Sort(times)
	fmt.Printf("webhook to durable 2xx, %d connections, 10 sensors, load on the same cores: %.0f/s (want ≥ 3000), p50 %s, p99 %s (want < 30ms)\n",
		connections, float64(len(times))/took.Seconds(), times[len(times)/2].Round(time.Microsecond), times[len(times)*99/100].Round(time.Microsecond))
	fmt.Printf("  the server used %s of processor time for each, decisions included; the last decision came %s after the last answer\n",
		(used / time.Duration(len(times))).Round(time.Microsecond), lag.Round(time.Millisecond))
	return nil
}

// keepPosting posts over one connection until a time, each delivery after the answer to the one before. It writes the request's
// bytes itself: the load has the same two cores as the server, and a client that does more would be measured with it.
func (s *server) keepPosting(ctx context.Context, n int, until time.Time) ([]time.Duration, error) {
	address := strings.TrimPrefix(s.url, "http://")
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	body := pushBody("load")
	in := bufio.NewReader(conn)
	var request bytes.Buffer
	var times []time.Duration
	for i := 0; time.Now().Before(until); i++ {
		request.Reset()
		fmt.Fprintf(&request, "POST /webhooks/default/lab/push HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"+
			"X-Gitlab-Event: Push Hook\r\nX-Gitlab-Token: bench-token\r\nX-Gitlab-Event-UUID: load-%d-%d\r\n\r\n", address, len(body), n, i)
		request.Write(body)
		began := time.Now()
		if _, err := conn.Write(request.Bytes()); err != nil {
			return times, err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return times, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
			return times, errors.Join(err, fmt.Errorf("answer %d", resp.StatusCode))
		}
		times = append(times, time.Since(began))
	}
	return times, nil
}

// awaitDecisions waits until the sensors have decided on the newest event, and tells how long that took.
func (s *server) awaitDecisions(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	for ctx.Err() == nil {
		var list struct {
			Items []struct{ Decisions []struct{ Outcome string } }
		}
		if err := s.get(ctx, "/api/v1/events?limit=1", &list); err != nil {
			return 0, err
		}
		if len(list.Items) == 1 && len(list.Items[0].Decisions) > 0 {
			return time.Since(began), nil
		}
		time.Sleep(time.Millisecond)
	}
	return 0, fmt.Errorf("the sensors do not catch up: %w", ctx.Err())
}

// firstLine measures from the delivery until the first line of the run's log can be read.
func (s *server) firstLine(ctx context.Context, i int) (time.Duration, error) {
	began := time.Now()
	id := fmt.Sprint("first-", i, "-", began.UnixNano())
	if _, err := s.deliver(ctx, http.DefaultClient, pushBody("first-line"), id); err != nil {
		return 0, err
	}
	for time.Since(began) < 20*time.Second {
		n, err := s.lines(ctx)
		if err != nil {
			return 0, err
		}
		if n > i {
			return time.Since(began), nil
		}
		time.Sleep(time.Millisecond)
	}
	return 0, errors.New("no line of log within 20 s")
}

// lines counts the runs whose log has a line.
func (s *server) lines(ctx context.Context) (int, error) {
	var list struct {
		Items []struct{ Namespace, Name, Phase string }
	}
	if err := s.get(ctx, "/api/v1/runs?limit=1000", &list); err != nil {
		return 0, err
	}
	n := 0
	for _, r := range list.Items {
		if r.Phase == "Succeeded" {
			n++
			continue
		}
		var run struct {
			Nodes []struct{ ID, Type, Phase string }
		}
		if err := s.get(ctx, "/api/v1/runs/"+r.Namespace+"/"+r.Name, &run); err != nil {
			return 0, err
		}
		for _, node := range run.Nodes {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/runs/"+r.Namespace+"/"+r.Name+"/log/"+node.ID, nil)
			if err != nil {
				return 0, err
			}
			s.prove(req)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return 0, err
			}
			b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK && len(b) > 0 {
				n++
			}
		}
	}
	return n, nil
}

func (s *server) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return err
	}
	s.prove(req)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(v)
}

// start measures the start of the server on an empty and on a used data folder, after kill -9, and its memory at rest.
func start(ctx context.Context, program string) error {
	dir, err := os.MkdirTemp("", "tiphys-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	port, err := freePort()
	if err != nil {
		return err
	}
	var took []time.Duration
	for range rounds {
		s, d, err := startServerAt(ctx, program, filepath.Join(dir, "data"), "", port)
		if err != nil {
			return err
		}
		took = append(took, d)
		if len(took) == rounds {
			time.Sleep(3 * time.Second)
			memory, _ := pss(s.cmd.Process.Pid)
			fmt.Printf("memory of the server at rest (PSS): %d MiB (want ≤ 100)\n", memory>>10)
			if keeper := keeperOf(filepath.Join(dir, "data")); keeper != 0 {
				total, own := pss(keeper)
				fmt.Printf("memory of the keeper at rest: %d MiB of its own, %d MiB with its part of the program's file (PSS)\n", own>>10, total>>10)
			}
			return errors.Join(printStart(took), s.stop())
		}
		if err := s.cmd.Process.Kill(); err != nil {
			return err
		}
		if err := <-s.done; err == nil {
			return errors.New("the server ended before it was killed")
		}
	}
	return nil
}

func printStart(took []time.Duration) error {
	_, err := fmt.Printf("start of the server until /healthz answers, after kill -9: %s (want < 1s)\n", median(took))
	return err
}

// pss gives a process's proportional set size, and the part of it that is no file's, in KiB.
func pss(pid int) (total, own int) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0
	}
	for _, line := range strings.Split(string(raw), "\n") {
		var n int
		if _, err := fmt.Sscanf(line, "Pss: %d kB", &n); err == nil {
			total = n
		}
		if _, err := fmt.Sscanf(line, "Pss_Anon: %d kB", &n); err == nil {
			own = n
		}
	}
	return total, own
}

// keeperOf finds the keeper of a data folder: it stands in its own folder. 0 if there is none.
func keeperOf(data string) int {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if dir, err := os.Readlink(link); err == nil && dir == filepath.Join(data, "keeper") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			return pid
		}
	}
	return 0
}
