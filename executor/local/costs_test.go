package local_test

import (
	"os"
	"runtime"
	"testing"

	"github.com/tiphys/tiphys/executor"
)

// costs are the threads and descriptors of this process.
func costs(t *testing.T) (threads, descriptors int) {
	t.Helper()
	count := func(path string) int {
		entries, err := os.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	runtime.GC() // what nobody holds any more is closed
	return count("/proc/self/task"), count("/proc/self/fd")
}

// What a server holds for a pod that runs does not grow with the pods: no thread that waits for its shim, no connection.
func TestLivePodsCostNoThreadsAndDescriptors(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	e := open(t, dir)
	const pods = 50
	run := func(from, to int) {
		for i := from; i < to; i++ {
			p := shell(t, "sleep 1000")
			p.ID.Attempt = i
			if err := e.Start(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		for range to - from {
			report(t, e, func(r executor.Report) bool { return r.Phase == executor.Running })
		}
	}
	run(0, 10) // what is there once for all of them
	threads, descriptors := costs(t)
	run(10, pods)
	manyThreads, manyDescriptors := costs(t)
	t.Logf("with 10 pods %d threads, %d descriptors; with %d pods %d and %d", threads, descriptors, pods, manyThreads, manyDescriptors)
	// Go may keep some threads more than it needs at the moment.
	if manyThreads > threads+10 || manyDescriptors > descriptors+4 {
		t.Errorf("40 pods more cost %d threads and %d descriptors", manyThreads-threads, manyDescriptors-descriptors)
	}
	list, err := e.List(t.Context())
	if err != nil || len(list) != pods {
		t.Fatalf("%d pods are listed: %v", len(list), err)
	}
	for _, r := range list {
		if err := e.Stop(t.Context(), r.ID, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range pods {
		r := report(t, e, done)
		if r.Reason != executor.ReasonStopped {
			t.Errorf("%+v", r)
		}
		if err := e.Acknowledge(t.Context(), r.ID); err != nil {
			t.Error(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
