package runs_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/admission"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/workflow"
)

// keeping is an executor that has one attempt on record which was never launched, until it is stopped and that is acknowledged.
type keeping struct {
	executor.Executor
	reports chan executor.Report

	mu   sync.Mutex
	idle executor.ID
	over bool
}

func (k *keeping) Reports() <-chan executor.Report { return k.reports }

func (k *keeping) Stop(ctx context.Context, id executor.ID, grace time.Duration) error {
	k.mu.Lock()
	mine := id == k.idle
	k.mu.Unlock()
	if mine {
		k.reports <- executor.Report{ID: id, Phase: executor.Failed, Reason: executor.ReasonStopped, FinishedAt: time.Now()}
		return nil
	}
	return k.Executor.Stop(ctx, id, grace)
}

func (k *keeping) Acknowledge(ctx context.Context, id executor.ID) error {
	k.mu.Lock()
	k.over = k.over || id == k.idle
	k.mu.Unlock()
	return k.Executor.Acknowledge(ctx, id)
}

// An attempt that the executor has on record and never launched, and that is stopped while it waits for a place, is stopped there, too:
// nobody else would ever take it off its list.
func TestAnAttemptOnRecordIsStoppedWhileItWaits(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.crash()
	if err := d.all.Close(); err != nil {
		t.Fatal(err)
	}
	d.exec = scripted.New(scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	k := &keeping{Executor: d.exec, reports: make(chan executor.Report, 100)}
	d.all = executor.NewRegistry(podpolicy.New(), executor.Named{Name: "scripted", Executor: k})
	gate := admission.New(1)
	gate.Hold(executor.ID{Owner: "somebody", Node: "else"})
	orphans := make(chan executor.Report, 1)
	d.change = func(o *runs.Options) { o.Places, o.Orphans = gate, orphanage(orphans) }
	d.open()
	d.submit(single)
	await(t, func() bool { return gate.Count().Waiting == 1 })
	run, err := d.runs.Summary(t.Context(), "default", "single")
	if err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	k.idle = executor.ID{Owner: run.UID, Node: "single"}
	k.mu.Unlock()
	k.reports <- executor.Report{ID: k.idle, Phase: executor.Pending, Reason: executor.ReasonNotLaunched}
	k.reports <- executor.Report{ID: executor.ID{Owner: "nobody"}, Phase: executor.Pending}
	<-orphans // what was reported before is taken in
	if err := d.runs.Control(t.Context(), "default", "single", workflow.Control{Verb: workflow.Terminate}); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.over
	})
	d.until("the run's end", func() bool { return d.phase("single").Done() })
	if c := gate.Count(); c.Waiting != 0 {
		t.Errorf("%+v", c)
	}
}
