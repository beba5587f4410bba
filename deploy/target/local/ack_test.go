package local_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/executor"
)

// deaf is an executor that does not take in an acknowledgement at first.
type deaf struct {
	*inProcess
	left atomic.Int64
}

func (d *deaf) Acknowledge(ctx context.Context, id executor.ID) error {
	if d.left.Add(-1) >= 0 {
		return errors.New("the disk does not answer")
	}
	return d.inProcess.Acknowledge(ctx, id)
}

// The end of a pod is acknowledged until the executor has taken that in: it would keep the pod's files for ever.
func TestAnEndIsAcknowledgedAgain(t *testing.T) {
	m := newMachine(t)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	ex := &deaf{inProcess: m.executor}
	ex.left.Store(1)
	target, err := local.Open(t.Context(), local.Options{Ledger: m.ledger, Executor: ex, Logs: ex, Commands: ex, Front: m.front})
	if err != nil {
		t.Fatal(err)
	}
	m.Target = target
	m.apply("{apiVersion: batch/v1, kind: Job, metadata: {name: once, namespace: prod}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: task}]}}}}")
	m.await("it ran", func() bool { return m.begun() == 1 })
	m.await("its end is acknowledged", func() bool {
		m.executor.mu.Lock()
		defer m.executor.mu.Unlock()
		return len(m.executor.final) == 0
	})
}
