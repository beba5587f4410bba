package lock_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

// TestOrder follows Argo's docs/synchronization.md: priority, then the time of the run, and only the head may take
// a lock; the message is the one its nodes show.
func TestOrder(t *testing.T) {
	s := lock.NewMemory()
	mutex := workflow.Lock{Name: "default/Mutex/m", Limit: 1}
	semaphore := workflow.Lock{Name: "default/ConfigMap/c/k"}
	limits := func(workflow.Lock) (int, error) { return 2, nil }
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ask := func(holder string, priority int32, minute int, locks ...workflow.Lock) (bool, string) {
		t.Helper()
		ok, waiting, err := lock.Acquire(s, workflow.Acquire{Key: "node/" + holder, Holder: holder, Locks: locks, Priority: priority, Since: at.Add(time.Duration(minute) * time.Minute)}, limits)
		if err != nil {
			t.Fatal(err)
		}
		return ok, waiting
	}
	release := func(holder string, want ...string) {
		t.Helper()
		grants, err := lock.Release(s, holder, limits)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range grants {
			got = append(got, g.Holder)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("grants after %s (-want +got):\n%s", holder, diff)
		}
	}
	if ok, _ := ask("a", 0, 0, mutex); !ok {
		t.Fatal("a free mutex was not granted")
	}
	if ok, waiting := ask("b", 0, 2, mutex); ok || waiting != "Waiting for default/Mutex/m lock. Lock status: 0/1" {
		t.Fatal(ok, waiting)
	}
	ask("c", 0, 1, mutex)
	ask("d", 9, 5, mutex, semaphore)
	if ok, _ := ask("a", 0, 0, mutex); !ok {
		t.Fatal("asking again took the lock away")
	}
	release("nobody") // is no error: who asks for it need not know
	release("a", "d")
	release("b")
	release("d", "c")
	release("c")
	if len(s.Locks)+len(s.Holders) != 0 {
		t.Fatal("rows are left: ", s.Locks, s.Holders)
	}
}
