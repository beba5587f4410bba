package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tiphys/tiphys/test/faults"
)

// TestServerKilledAtEachFaultPoint plays the line with a server that kills itself at the named places, one after the
// other, and is started again: everything comes out as if nothing had happened.
func TestServerKilledAtEachFaultPoint(t *testing.T) {
	o := lineOptions{Options: options(t)}
	release, err := os.ReadFile(o.Tiphys)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(release), faults.EnvArmed) {
		t.Errorf("%s is no test build and knows %s", o.Tiphys, faults.EnvArmed)
	}
	dir := t.TempDir()
	o.Tiphys, o.service = filepath.Join(dir, "tiphys"), filepath.Join(dir, "service")
	build(t, o.Tiphys, "-tags", "faults,noui", "./cmd/tiphys")
	build(t, o.service, "-ldflags", "-s -w", "./test/e2e/testdata/service")

	var counts map[string]int
	t.Run("nowhere", func(t *testing.T) {
		o := o
		o.name = "buoy0"
		counts = playKilled(t, o, nil)
	})
	if t.Failed() {
		return
	}
	compare(t, counts)
	const abreast = 3 // Most of a line is waiting.
	work := plan(counts)
	var wg sync.WaitGroup
	next := make(chan int)
	for range abreast {
		wg.Go(func() {
			for i := range next {
				t.Run(work[i].title, func(t *testing.T) {
					o := o
					o.name = fmt.Sprintf("buoy%d", i+1)
					playKilled(t, o, work[i].kills)
				})
			}
		})
	}
	for i := range work {
		next <- i
	}
	close(next)
	wg.Wait()
}

func build(t *testing.T, out string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-trimpath", "-o", out}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

// compare holds the list of points against those that were passed: one that is new is listed, one that is listed is passed.
func compare(t *testing.T, counts map[string]int) {
	t.Helper()
	listed := map[string]bool{}
	for _, p := range faults.Points() {
		listed[p.Name] = true
		if counts[p.Name] == 0 {
			t.Errorf("nobody passes the point %s: %s", p.Name, p.When)
		}
	}
	for name := range counts {
		point, _, ofKind := strings.Cut(name, " ")
		if !listed[name] && (!ofKind || !listed[point]) {
			t.Errorf("test/faults does not list the point %s", name)
		}
	}
}

// kills are one line's.
type kills struct {
	title string
	kills []string
}

// plan makes lines of the points. One point is passed hundreds of times, another once; the server dies at the first, the
// second, a middle and the last time. Of each kind of entry it dies at the first and the last, before the entry is durable and after.
func plan(counts map[string]int) []kills {
	var work []kills
	group := false
	arm := func(name string, numbers ...int) (armed []string) {
		slices.Sort(numbers)
		for _, n := range slices.Compact(numbers) {
			if n < 1 || n > counts[name] {
				continue
			}
			a := fmt.Sprintf("%s:%d", name, n)
			if group {
				a += "!" // Every second time with the whole process group.
			}
			group = !group
			armed = append(armed, a)
		}
		return armed
	}
	for _, p := range faults.Points() {
		n := counts[p.Name]
		work = append(work, kills{p.Name, arm(p.Name, 1, 2, n/2, n)})
	}
	for _, at := range []string{"ledger/append ", "ledger/after-commit "} {
		var armed []string
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			if strings.HasPrefix(name, at) {
				armed = append(armed, arm(name, 1, counts[name])...)
			}
		}
		const each = 24
		for chunk := range slices.Chunk(armed, each) {
			work = append(work, kills{at + strings.Split(chunk[0], " ")[1] + " and on", chunk})
		}
	}
	return work
}

// playKilled plays a line whose server dies at the armed points, and tells how often each point was passed.
func playKilled(t *testing.T, o lineOptions, armed []string) map[string]int {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	trace := filepath.Join(t.TempDir(), "trace")
	o.Env = append(o.Env, faults.EnvTrace+"="+trace, faults.EnvArmed+"="+strings.Join(armed, ","))
	o.Out = &lines{t: t}
	l := openLine(t, o)
	defer l.close()
	untend := l.w.Tend(ctx)
	err := l.w.Start(ctx)
	if err == nil {
		err = l.play(ctx)
	}
	if err == nil {
		err = l.once(ctx)
	}
	if err == nil {
		err = l.tearDown(ctx)
	}
	died, tending := untend()
	if err = errors.Join(err, tending); err != nil {
		t.Fatalf("%v\nafter %d kills at %v", err, died, at(t, trace))
	}
	l.w.Stop()
	if err := errors.Join(l.w.Clean(ctx, 20*time.Second), l.record(ctx)); err != nil {
		t.Fatalf("%v\nafter %d kills at %v", err, died, at(t, trace))
	}
	t.Logf("%d kills in %s", died, time.Since(began).Round(100*time.Millisecond))
	killed := at(t, trace)
	if len(killed) != died {
		t.Errorf("the server died %d times, at %v", died, killed)
	}
	for _, a := range armed {
		a = strings.TrimSuffix(a, "!")
		if slices.Contains(killed, a) {
			continue
		}
		// There is more or less to do each time, and the entries of a batch become durable together.
		if point, n, _ := strings.Cut(a, ":"); !strings.Contains(point, " ") && (n == "1" || n == "2") {
			t.Errorf("the server did not die at %s", a)
		}
		t.Logf("not reached: %s", a)
	}
	counts := map[string]int{}
	passes, err := faults.ReadTrace(trace)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range passes {
		counts[p.Point]++
	}
	return counts
}

// at tells where the server died.
func at(t *testing.T, trace string) []string {
	t.Helper()
	passes, err := faults.ReadTrace(trace)
	if err != nil {
		t.Fatal(err)
	}
	var killed []string
	counts := map[string]int{}
	for _, p := range passes {
		counts[p.Point]++
		if p.Killed {
			killed = append(killed, fmt.Sprintf("%s:%d", p.Point, counts[p.Point]))
		}
	}
	return killed
}
