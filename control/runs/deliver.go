package runs

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// view gives what f makes of a run. f must not keep the state, and may be called more than once.
func view[T any](ctx context.Context, c *Controller, key string, f func(*live) T) (T, error) {
	var seen atomic.Pointer[T]
	err := c.runs.Ask(ctx, key, &message{look: func(r *live) {
		v := f(r)
		seen.Store(&v)
	}})
	if v := seen.Load(); err == nil && v != nil {
		return *v, nil
	}
	var none T
	return none, err
}

// deliver brings a run what happened in the world: a report, an answer, a timer. It must not be lost, so it is delivered again, with
// growing waits up to mostToDeliver, until it is on record; Health shows it. then is called when it is, or when the run has no use for it; it may be nil and must not wait.
func (c *Controller) deliver(key string, cmd workflow.Command, then func(), settles ...workKey) {
	c.deliverMessage(key, &message{command: cmd, settles: settles}, then, 0)
}

func (c *Controller) deliverMessage(key string, m *message, then func(), failed int) {
	// A full mailbox holds the sender back until the run has caught up, or everything stops.
	_ = c.runs.Send(context.Background(), key, m, func(err error) {
		trouble := "deliver/" + key
		switch {
		case stopping(err):
			return
		case err == nil:
			if failed > 0 {
				c.troubles.over(trouble)
			}
		case errors.Is(err, ErrNotFound), refused(err):
			if !errors.Is(err, ErrNotFound) {
				c.useless(key, m, err)
			}
			c.settle(key, m.settles...)
		default:
			if failed++; failed > fewFailures && !errors.As(err, new(*stalledError)) { // which is shown already
				c.troubles.note(trouble, fmt.Sprintf("run %s cannot go on, tried %d times: %s", key, failed, err), c.o.Now(), false)
			}
			c.o.Log.Warn("a run cannot go on, this will be tried again", "run", key, "command", fmt.Sprintf("%T", m.command),
				"failed", failed, "error", err)
			time.AfterFunc(waitToDeliver(failed), func() { c.deliverMessage(key, m, then, failed) })
			return
		}
		if then != nil {
			then()
		}
	})
}

// mostToDeliver is the longest wait between two tries to tell a run something: one that cannot be taken up is read whole each time.
const mostToDeliver = 5 * time.Minute

func waitToDeliver(failures int) time.Duration {
	return min(firstWait<<min(failures-1, 16), mostToDeliver)
}

// settle takes finished work of a run out of the outbox, without waiting for it. If that is lost the work is repeated, which is harmless.
func (c *Controller) settle(run string, works ...workKey) {
	for _, w := range works {
		if w.key == "" {
			continue
		}
		send(c, c.asks, w.queue+"/"+w.key, &errand{what: "settle " + w.key, do: func(ctx context.Context) error {
			return c.o.Ledger.Write(ctx, ledger.On(subject(run)), func(tx ledger.Tx) error { return tx.Cancel(w.queue, w.key) })
		}})
	}
}
