package runs_test

import (
	"context"
	"testing"
	"time"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/admission"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// slowly is a ledger whose outbox hands out the effects of runs when it is let.
type slowly struct {
	ledger.Ledger
	let <-chan struct{}
}

func (l slowly) Outbox() ledger.Outbox { return slowOutbox{l.Ledger.Outbox(), l.let} }

type slowOutbox struct {
	ledger.Outbox
	let <-chan struct{}
}

func (o slowOutbox) Claim(ctx context.Context, queue string, n int, lease time.Duration) ([]ledger.Work, error) {
	select {
	case <-o.let:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return o.Outbox.Claim(ctx, queue, n, lease)
}

// An attempt whose start was decided and not carried out when the server died is not lost: the executor cannot know it yet. The next
// server starts it, however slowly the ledger hands the start out.
func TestAStartThatIsStillToBeCarriedOutIsNotLost(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{})
	defer d.close()
	gate := admission.New(1)
	gate.Hold(executor.ID{Owner: "somebody", Node: "else"})
	d.reopen(func(o *runs.Options) { o.Places = gate })
	d.submit(single)
	await(t, func() bool { return gate.Count().Waiting == 1 })
	let := make(chan struct{})
	d.reopen(func(o *runs.Options) { o.Ledger = slowly{d.ledger, let} })
	<-time.After(300 * time.Millisecond) // in which the attempt was judged once
	close(let)
	d.until("the run's end", func() bool { return d.phase("single").Done() })
	entries, err := d.ledger.Entries(t.Context(), ledger.EntryQuery{Subject: "run/default/single", Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Kind == "node.attempt" {
			t.Errorf("it was begun again: %s", e.Body)
		}
	}
	if p := d.phase("single"); p != workflow.Succeeded {
		t.Errorf("it is %s", p)
	}
}
