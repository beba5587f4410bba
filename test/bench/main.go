// Command bench measures what docs and design promise, each number beside its anchor in one run. It builds nothing:
// `make bench` gives it the program.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	program := flag.String("tiphys", "bin/tiphys", "the program")
	only := flag.String("only", "", "only the measurement of this name: steps, containers, ledger, engine, webhook, live, start, restart")
	flag.Parse()
	if err := run(context.Background(), *program, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program, only string) error {
	path, err := filepath.Abs(program)
	if err != nil {
		return err
	}
	fmt.Printf("%d cores, %s, %s/%s\n", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, m := range []struct {
		name string
		do   func(context.Context, string) error
	}{{"steps", steps}, {"containers", containers}, {"ledger", ledger}, {"engine", engine}, {"webhook", webhooks}, {"live", live}, {"start", start}, {"restart", restart}} {
		if only != "" && only != m.name {
			continue
		}
		if err := m.do(ctx, path); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

const tenSteps = `apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: ten-}
spec:
  entrypoint: ten
  templates:
  - name: ten
    steps: [%s]
  - name: one
    container: {image: busybox, command: ["true"]}
`

// rounds is how often a measurement is taken; the median counts.
const rounds = 9

// steps measures ten sequential steps, the whole process, beside ten bare unshare processes.
func steps(ctx context.Context, program string) error {
	dir, err := os.MkdirTemp("", "tiphys-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var list []string
	for i := range 10 {
		list = append(list, fmt.Sprintf("[{name: s%d, template: one}]", i))
	}
	file := filepath.Join(dir, "ten.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, tenSteps, strings.Join(list, ", ")), 0o600); err != nil {
		return err
	}
	var ours, bare, empty usages
	for range rounds {
		for _, m := range []struct {
			into *usages
			do   func() error
		}{
			{&ours, func() error { return quiet(ctx, program, "run", "--executor", "host", "-q", file) }},
			{&bare, func() error {
				for range 10 {
					if err := quiet(ctx, "unshare", "-m", "-p", "-f", "--mount-proc", "true"); err != nil {
						return err
					}
				}
				return nil
			}},
			{&empty, func() error { return quiet(ctx, program, "--version") }},
		} {
			if err := m.into.measure(m.do); err != nil {
				return err
			}
		}
	}
	fmt.Printf("ten sequential steps, host executor, whole process: %s (want ≤ 300ms); ten bare unshare: %s; ratio %.1f; the program's own start: %s\n",
		median(ours.wall), median(bare.wall), float64(median(ours.wall))/float64(median(bare.wall)), median(empty.wall))
	fmt.Printf("the same in processor time of all processes, which others on the machine change less: %s; ten bare unshare: %s; ratio %.1f; the program's own start: %s\n",
		median(ours.cpu), median(bare.cpu), float64(median(ours.cpu))/float64(median(bare.cpu)), median(empty.cpu))
	return nil
}

// usages are measurements of what child processes took: time by the clock, and of processors.
type usages struct{ wall, cpu []time.Duration }

func (u *usages) measure(f func() error) error {
	before, err := childTime()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := f(); err != nil {
		return err
	}
	u.wall = append(u.wall, time.Since(began).Round(100*time.Microsecond))
	after, err := childTime()
	u.cpu = append(u.cpu, (after - before).Round(100*time.Microsecond))
	return err
}

// childTime is the processor time, user and system, of all children that have ended, and theirs.
func childTime() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r); err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}

func quiet(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func median(ds []time.Duration) time.Duration {
	sort.Slice(ds, func(i, j int) bool { return ds[i] < ds[j] })
	return ds[len(ds)/2]
}

// ledger and engine are Go benchmarks with their own anchors beside them; their lines are passed on.
func ledger(ctx context.Context, _ string) error {
	return goBench(ctx, "./ledger/sqlite", "Transitions|Open|Page", "3s")
}

func engine(ctx context.Context, _ string) error {
	return goBench(ctx, "./workflow", ".", "1x")
}

func goBench(ctx context.Context, pkg, pattern, benchtime string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", benchtime, pkg)
	out, err := cmd.CombinedOutput()
	s := bufio.NewScanner(bytes.NewReader(out))
	for s.Scan() {
		if strings.HasPrefix(s.Text(), "Benchmark") || strings.Contains(s.Text(), "ratio") {
			fmt.Println(s.Text())
		}
	}
	if err != nil {
		return fmt.Errorf("go test -bench %s: %w", pkg, err)
	}
	return nil
}

// server is a running `tiphys serve`.
type server struct {
	program, data string
	cmd           *exec.Cmd
	url           string
	done          chan error
	log           *bytes.Buffer
}

// startServer starts a server at a free port and returns when it answers.
func startServer(ctx context.Context, program, data, config string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s, _, err := startServerAt(ctx, program, data, config, port)
	return s, err
}

func startServerAt(ctx context.Context, program, data, config string, port int) (*server, time.Duration, error) {
	s := &server{program: program, data: data, url: "http://127.0.0.1:" + strconv.Itoa(port), done: make(chan error, 1), log: &bytes.Buffer{}}
	// What is measured is said to be the operator's own.
	settings := filepath.Join(data, "server.yaml")
	text := "apiVersion: tiphys.dev/v1alpha1\nkind: ServerConfiguration\nexecutor: host\ngrants:\n" +
		"- {to: {repositories: ['*'], mergeRequests: true}, executors: [host]}\n- {to: {namespaces: ['*']}, executors: [host]}\n"
	if err := errors.Join(os.MkdirAll(data, 0o700), os.WriteFile(settings, []byte(text), 0o600)); err != nil {
		return nil, 0, err
	}
	args := []string{"serve", "--data", data, "--listen", "127.0.0.1:" + strconv.Itoa(port), "--server-config", settings,
		"--bridge", "tiphysbench", "--subnet", "10.215.0.0/16"}
	if config != "" {
		args = append(args, "--config", config)
	}
	s.cmd = exec.CommandContext(ctx, program, args...)
	s.cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+data)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, 0, err
	}
	go func() { s.done <- s.cmd.Wait() }()
	for time.Since(began) < 30*time.Second {
		if healthy(ctx, s.url) {
			return s, time.Since(began).Round(time.Millisecond), nil
		}
		select {
		case err := <-s.done:
			return nil, 0, fmt.Errorf("the server ended: %w: %s", err, s.log)
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil, 0, errors.Join(errors.New("the server does not answer"), s.stop())
}

// prove has a request be the administrator's. An older program has no token, and asks for none.
func (s *server) prove(req *http.Request) {
	if token, err := os.ReadFile(filepath.Join(s.data, "keys", "admin.token")); err == nil {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
}

func (s *server) stop() error {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case err := <-s.done:
		// Its keeper goes, too. An older program has none, and does not know the command.
		_ = exec.CommandContext(context.Background(), s.program, "down", "--data", s.data).Run()
		return err
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("the server does not stop"), s.cmd.Process.Kill())
	}
}

func freePort() (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("no TCP address")
	}
	return a.Port, nil
}
