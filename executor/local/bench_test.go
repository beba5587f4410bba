package local_test

import (
	"context"
	"os/exec"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/local"
)

// BenchmarkTenSteps runs ten host pods one after another, and ten bare unshare processes beside them: the ratio says what a pod
// costs beyond its namespaces.
func BenchmarkTenSteps(b *testing.B) { tenSteps(b, func(*local.Options) {}) }

// BenchmarkTenStepsApart is the same as a server has it: each with a network of its own, and without credentials of others.
func BenchmarkTenStepsApart(b *testing.B) {
	tenSteps(b, func(o *local.Options) { o.Apart, o.Network = true, testNetwork() })
}

func tenSteps(b *testing.B, how func(*local.Options)) {
	needRoot(b)
	e := open(b, b.TempDir(), how)
	defer func() { _ = e.Close() }()
	var pods, bare []time.Duration
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		for n := range 10 {
			runTrivial(b, e, i*10+n)
		}
		pods = append(pods, time.Since(begin))
		begin = time.Now()
		for range 10 {
			if err := exec.Command("unshare", "-m", "-p", "-f", "--mount-proc", "true").Run(); err != nil {
				b.Skipf("SKIPPED: no anchor beside it, unshare: %v", err)
			}
		}
		bare = append(bare, time.Since(begin))
	}
	slices.Sort(pods)
	slices.Sort(bare)
	p, u := pods[len(pods)/2], bare[len(bare)/2]
	b.ReportMetric(p.Seconds()*1000, "ms/ten-pods")
	b.ReportMetric(u.Seconds()*1000, "ms/ten-unshare")
	b.ReportMetric(p.Seconds()/u.Seconds(), "ratio")
}

func runTrivial(b testing.TB, e executor.Executor, n int) {
	p := executor.Pod{ID: executor.ID{Owner: "bench", Node: "n", Attempt: n}, Main: "main"}
	p.Pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "any", Command: []string{"true"}}}
	p.Outputs.Result = true
	if err := e.Start(context.Background(), p); err != nil {
		b.Fatal(err)
	}
	for r := range e.Reports() {
		if r.ID == p.ID && r.Phase.Done() {
			if r.Phase != executor.Succeeded {
				b.Fatalf("%+v", r)
			}
			break
		}
	}
	if err := e.Acknowledge(context.Background(), p.ID); err != nil {
		b.Fatal(err)
	}
}
