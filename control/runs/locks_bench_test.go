package runs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

// firstHeld lets the first pod take until the test opens it; all others end at once.
type firstHeld struct {
	executor.Executor
	once sync.Once
	open chan struct{}
}

func (e *firstHeld) Start(ctx context.Context, p executor.Pod) error {
	e.once.Do(func() {
		select {
		case <-e.open:
		case <-ctx.Done():
		}
	})
	return e.Executor.Start(ctx, p)
}

// BenchmarkLockWaiters has so many wait for one mutex, in one run and in many, and then lets them have it one after the other. The
// anchor is the same without the mutex, one after the other by parallelism, in the same process. What is reported is per waiter:
// it must not grow with their number.
//
//	go test ./control/runs -run - -bench LockWaiters -benchtime 1x -timeout 60m
func BenchmarkLockWaiters(b *testing.B) {
	for _, n := range []int{500, 2000, 5000, 50_000} {
		for _, kind := range []string{"one", "many"} {
			for _, locked := range []bool{false, true} {
				name := map[bool]string{false: "anchor", true: "mutex"}[locked]
				b.Run(fmt.Sprintf("%s/%d/%s", kind, n, name), func(b *testing.B) {
					for range b.N {
						waiters(b, kind == "one", locked, n)
					}
				})
			}
		}
	}
}

func waiters(b *testing.B, one, locked bool, n int) {
	path := filepath.Join(b.TempDir(), "l.db")
	l, err := sqlite.Open(b.Context(), sqlite.Options{Path: path, Synchronous: sqlite.Off,
		Projections: []ledger.Projection{workflow.Projection{}, lock.Projection{}, runs.Projection{}}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	script := scripted.New(scripted.Options{Auto: true})
	exec := &firstHeld{Executor: script, open: make(chan struct{})}
	all := executor.NewRegistry(podpolicy.New(), executor.Named{Name: "scripted", Executor: exec})
	defer all.Close()
	c := runs.New(runs.Options{Ledger: l, Executors: all, Objects: definitions.NewMemory(nil)})
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	defer func() { cancel(); wg.Wait() }()

	begin := processor()
	for _, text := range waiterManifests(one, locked, n) {
		objects, diags := manifest.Decode("w.yaml", []byte(text))
		if manifest.Failed(diags) {
			b.Fatal(diags)
		}
		if _, err := c.Submit(ctx, runs.Submission{Object: objects[0], Actor: "user:ada"}); err != nil {
			b.Fatal(err)
		}
	}
	if locked || one {
		settled(b, l)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	close(exec.open)
	for {
		rows, err := l.List(ctx, ledger.Query{Table: "run", States: []string{"", "Pending", "Running"}, Limit: 1})
		if err != nil {
			b.Fatal(err)
		}
		if len(rows) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	used := processor() - begin
	b.ReportMetric(float64(used.Microseconds())/float64(n), "cpu-µs/waiter")
	b.ReportMetric(float64(size(path))/float64(n), "ledger-B/waiter")
	b.ReportMetric(float64(memory.HeapAlloc)/float64(n), "heap-B/waiter")
	b.ReportMetric(0, "ns/op")
}

func waiterManifests(one, locked bool, n int) []string {
	const head = "{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {name: %s}, spec: {entrypoint: main, %stemplates: ["
	mutex := "synchronization: {mutexes: [{name: quay}]}, "
	if one {
		spec, template := "", mutex
		if !locked {
			spec, template = "parallelism: 1, ", ""
		}
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprint(i)
		}
		return []string{fmt.Sprintf(head, "one", spec) +
			"{name: main, steps: [[{name: s, template: ship, withItems: [" + strings.Join(items, ",") + "]}]]}, " +
			"{name: ship, " + template + "container: {image: busybox, command: [sail]}}]}}"}
	}
	spec := ""
	if locked {
		spec = mutex
	}
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(head, fmt.Sprint("w", i), spec) + "{name: main, container: {image: busybox, command: [sail]}}]}}"
	}
	return all
}

// settled waits until nothing is written any more.
func settled(b *testing.B, l ledger.Ledger) {
	var last int64
	for quiet := 0; quiet < 10; quiet++ {
		e, err := l.Head(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if e.Seq != last {
			last, quiet = e.Seq, 0
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// processor is the time that this process has used, in user and system mode.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// size is that of the ledger's files, in bytes.
func size(path string) (total int64) {
	for _, name := range []string{path, path + "-wal"} {
		if info, err := os.Stat(name); err == nil {
			total += info.Size()
		}
	}
	return total
}
