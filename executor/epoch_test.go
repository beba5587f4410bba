package executor_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/scripted"
)

// A pod of before a restore has the owner, node and attempt of one of after it. It is stopped, its end is told to nobody, and the
// other one is started and ends by itself.
func TestPodsOfAnotherEpochAreStopped(t *testing.T) {
	steps := map[string][]scripted.Step{"*": {{Duration: time.Minute, Log: "hewn\n"}}}
	oak := scripted.New(scripted.Options{Steps: steps})
	same := executor.ID{Owner: "run", Node: "a", Attempt: 1}
	before := same
	before.Epoch = 6
	if err := oak.Start(t.Context(), executor.Pod{ID: before}); err != nil {
		t.Fatal(err)
	}
	now := executor.InEpoch(oak.Named(), 7, nil)
	t.Cleanup(func() {
		if err := now.Executor.Close(); err != nil {
			t.Error(err)
		}
	})
	if list, err := now.List(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("the pod of the epoch before is taken for one of this: %v, %v", list, err)
	}
	if err := now.Start(t.Context(), executor.Pod{ID: same}); err != nil {
		t.Fatal(err)
	}
	list, err := now.List(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != same {
		t.Fatalf("the pod of this epoch: %v, %v", list, err)
	}
	if got := oak.Started(); len(got) != 2 || got[1].ID.Epoch != 7 {
		t.Errorf("started %v", got)
	}
	if err := now.Stop(t.Context(), same, 0); err != nil {
		t.Fatal(err)
	}
	for rep := range now.Reports() {
		if rep.ID != same {
			t.Fatalf("told of %+v", rep.ID)
		}
		if rep.Phase.Done() {
			break
		}
	}
	if err := now.Acknowledge(t.Context(), same); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	for { // the other one is acknowledged by nobody but the epoch's keeper
		left, err := oak.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("these are left: %v", left)
		default:
			runtime.Gosched()
		}
	}
}

// reluctant does not stop or acknowledge at first.
type reluctant struct {
	executor.Executor
	stops, acknowledges atomic.Int64
}

var errReluctant = errors.New("the disk does not answer")

func (r *reluctant) Stop(ctx context.Context, id executor.ID, grace time.Duration) error {
	if r.stops.Add(-1) >= 0 {
		return errReluctant
	}
	return r.Executor.Stop(ctx, id, grace)
}

func (r *reluctant) Acknowledge(ctx context.Context, id executor.ID) error {
	if r.acknowledges.Add(-1) >= 0 {
		return errReluctant
	}
	return r.Executor.Acknowledge(ctx, id)
}

// A pod of before a restore must not run on because the first try to stop it failed. It is tried again, and told meanwhile.
func TestPodsOfAnotherEpochAreStoppedAtLast(t *testing.T) {
	oak := scripted.New(scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	if err := oak.Start(t.Context(), executor.Pod{ID: executor.ID{Owner: "run", Node: "a", Epoch: 6}}); err != nil {
		t.Fatal(err)
	}
	named, shy := oak.Named(), &reluctant{Executor: oak}
	shy.stops.Store(math.MaxInt64)
	shy.acknowledges.Store(2)
	named.Executor = shy
	now := executor.InEpoch(named, 7, nil)
	t.Cleanup(func() {
		if err := now.Executor.Close(); err != nil {
			t.Error(err)
		}
	})
	await := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.After(time.Minute); !is(); {
			select {
			case <-deadline:
				t.Fatal("waited in vain: " + what)
			case <-time.After(time.Millisecond):
			}
		}
	}
	trouble := now.Executor.(executor.Troubled).Trouble
	await("the trouble is told", func() bool {
		return strings.Contains(trouble(), "stop pod a of epoch 6") && strings.Contains(trouble(), errReluctant.Error())
	})
	shy.stops.Store(0)
	await("the pod is gone", func() bool {
		left, err := oak.List(t.Context())
		return err == nil && len(left) == 0
	})
	await("nothing is told any more", func() bool { return trouble() == "" })
}
