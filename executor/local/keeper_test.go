package local_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/executortest"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/manifest"
)

// bound is how `tiphys run` opens an executor: pods end with it, and what they write is elsewhere than its state.
func bound(dir string) func(*local.Options) {
	return func(o *local.Options) { o.Bound, o.Scratch = true, filepath.Join(dir, "scratch") }
}

func TestBoundConformance(t *testing.T) {
	needRoot(t)
	executortest.Run(t, executortest.Setup{
		HostView: true, Bound: true, New: func(t *testing.T, dir string) executor.Named { return open(t, dir, bound(dir)).Named() }, Leftovers: leftovers,
	})
}

// What is in a container is the same whoever keeps it (TestContainerConformance), and so is what the keeper does with a
// pod that runs (TestBoundConformance). What is left is how a pod with a network begins and ends.
func TestBoundContainers(t *testing.T) {
	needRoot(t)
	executortest.Run(t, executortest.Setup{
		Only: []string{
			"exit codes", "missing command", "deadline", "stop", "stop before it runs", "stop a step that ignores SIGTERM", "exec", "double start",
			"private writes", "sub paths", "several containers", "end of a container set", "orphans",
		},
		Image: "any", Bound: true, New: func(t *testing.T, dir string) executor.Named { return open(t, dir, withImages, bound(dir)).Named() }, Leftovers: leftovers,
	})
}

// A pod that is bound to its server ends with it, and so does the process that kept it.
func TestBound(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir, bound(dir))
	p := shell(t, "sleep 1000")
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
	_, s := shimOf(t, dir)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if s.Alive() {
		t.Error("the keeper goes on")
	}
	if left := leftoverProcesses(dir); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// leftoverProcesses describes processes that live in a state folder.
func leftoverProcesses(dir string) string {
	var left []string
	for line := range strings.Lines(leftovers(dir)) {
		if strings.HasPrefix(line, "process ") {
			left = append(left, line)
		}
	}
	return strings.Join(left, "")
}

// Pods that run beside each other have one keeper, and it keeps nothing of those that are over.
func TestKeeperLetsGo(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir, bound(dir))
	defer func() { _ = e.Close() }()
	files := func() int {
		_, s := shimOf(t, dir)
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID))
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	block := shell(t, "sleep 1000")
	block.ID.Node = "block"
	if err := e.Start(context.Background(), block); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.ID == block.ID && r.Phase == executor.Running })
	var before int
	for round := range 2 {
		var pods sync.WaitGroup
		for i := range 8 {
			p := shell(t, fmt.Sprintf("echo %d", i))
			p.ID.Node, p.ID.Attempt = fmt.Sprint(i), round
			pods.Go(func() {
				if err := e.Start(context.Background(), p); err != nil {
					t.Error(err)
				}
			})
		}
		pods.Wait()
		for range 8 {
			r := report(t, e, done)
			result(t, r, r.ID.Node)
			if err := e.Acknowledge(context.Background(), r.ID); err != nil {
				t.Fatal(err)
			}
		}
		if round == 0 {
			before = files()
		}
	}
	// The last pod's may be closed a moment after its end; a spare process has at most six.
	for limit := time.Now().Add(patience); files() > before+6; <-time.After(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the keeper has %d files open, after 8 pods it had %d", files(), before)
		}
	}
}

// A keeper that is killed takes its pods with it; they are reported, and the next pod has a new keeper.
func TestKeeperKilled(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir, bound(dir))
	defer func() { _ = e.Close() }()
	p := shell(t, "sleep 1000")
	if err := e.Start(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
	_, s := shimOf(t, dir)
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if r := report(t, e, done); r.Phase != executor.Error || r.Reason != executor.ReasonLost {
		t.Errorf("%+v", r)
	}
	next := shell(t, "echo again")
	next.ID.Attempt = 1
	result(t, run(t, e, next), "again")
}

// A keeper that ends may still be handed a pod, which it never takes: that pod is ordered again, and runs once.
func TestKeeperEndsBeforeItTakesAPod(t *testing.T) {
	needRoot(t)
	for _, host := range []bool{true, false} {
		t.Run(fmt.Sprintf("host %v", host), func(t *testing.T) {
			dir := t.TempDir()
			var once sync.Once
			e := open(t, dir, withImages, bound(dir), func(o *local.Options) {
				o.Fault = func(point string) {
					if point == "shim-order" {
						once.Do(func() { killKeeper(t, dir) })
					}
				}
			})
			defer func() { _ = e.Close() }()
			if host {
				e = e.Host()
			}
			result(t, run(t, e, shell(t, "echo here")), "here")
		})
	}
}

// killKeeper kills the keeper of a state folder and waits for its end.
func killKeeper(t *testing.T, dir string) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		path := filepath.Join("/proc", entry.Name())
		at, _ := os.Readlink(filepath.Join(path, "cwd"))
		line, _ := os.ReadFile(filepath.Join(path, "cmdline"))
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || at != dir || !strings.Contains(string(line), "keeper") {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		for limit := time.Now().Add(patience); syscall.Kill(pid, 0) == nil; <-time.After(time.Millisecond) {
			if time.Now().After(limit) {
				t.Error("the keeper goes on")
				return
			}
		}
		return
	}
	t.Error("there is no keeper")
}

// Several pods whose keeper is killed all end as lost, also those that hold their files for the artifacts.
func TestKeeperOfSeveralKilled(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir, withImages, bound(dir))
	for i := range 4 {
		way := e.Container()
		if i%2 == 0 {
			way = e.Host()
		}
		p := shell(t, "sleep 1000")
		p.ID.Attempt = i
		if i > 1 {
			p.Outputs.Artifacts = []manifest.Artifact{key("x", "/x", "run/x.tgz")}
		}
		if err := way.Start(context.Background(), p); err != nil {
			t.Fatal(err)
		}
		report(t, way, func(r executor.Report) bool { return r.ID == p.ID && r.Phase == executor.Running })
	}
	killKeeper(t, dir)
	for i := range 4 {
		way := e.Container()
		if i%2 == 0 {
			way = e.Host()
		}
		r := report(t, way, done)
		if r.Phase != executor.Error || r.Reason != executor.ReasonLost {
			t.Errorf("%+v", r)
		}
		if err := e.Acknowledge(context.Background(), r.ID); err != nil {
			t.Error(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	left := leftovers(dir)
	for limit := time.Now().Add(patience); left != "" && time.Now().Before(limit); left = leftovers(dir) {
		<-time.After(5 * time.Millisecond)
	}
	if left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// The start of a log is with the attempt, which may be in memory; the rest is where there is room.
func TestLongLogIsElsewhere(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir, bound(dir))
	defer func() { _ = e.Close() }()
	p := shell(t, "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
	if r := run(t, e, p); r.Phase != executor.Succeeded {
		t.Fatalf("%+v", r)
	}
	var kept int64
	_ = filepath.Walk(filepath.Join(dir, "done"), func(_ string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() && strings.HasSuffix(st.Name(), ".log") {
			kept += st.Size()
		}
		return nil
	})
	if kept > 150<<10 {
		t.Errorf("%d bytes are with the attempt", kept)
	}
	log, err := e.Logs(context.Background(), p.ID, "main", executor.LogOptions{FromLine: 19998})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	if data, err := io.ReadAll(log); err != nil || string(data) != "line 19998\nline 19999\n" {
		t.Errorf("%q %v", data, err)
	}
}
