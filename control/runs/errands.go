package runs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/control/actor"
)

// errand is something to do in the world for a run, besides its decisions. It is tried again, with growing waits, until it has
// no error. It is in the outbox as well, for the case that this process dies.
type errand struct {
	what string
	do   func(context.Context) error
	// failed is how often it failed so far.
	failed int
}

// How long a batch of errands, which is one, may take. Requests have limits of their own.
const (
	podTimeout = 5 * time.Minute
	askTimeout = 24 * time.Hour
)

// The waits between tries of what failed.
const (
	firstWait = 100 * time.Millisecond
	mostWait  = 30 * time.Second
)

// fewFailures are not worth telling anybody of: most of what fails succeeds soon.
const fewFailures = 2

// waitAfter is how long to wait after so many failures, from 1.
func waitAfter(failures int) time.Duration {
	return min(firstWait<<min(failures-1, 16), mostWait)
}

// nothing is the state of what has none.
func nothing[K comparable](context.Context, K) (struct{}, error) { return struct{}{}, nil }

// over lets what has no state leave memory when it is idle.
func over(struct{}) bool { return true }

// errands makes a system that does the errands of each key one after the other, in the order in which they were sent.
func errands[K comparable](c *Controller, workers int, timeout time.Duration) *actor.System[K, struct{}, *errand] {
	return actor.New(actor.Options[K, struct{}, *errand]{
		Load: nothing[K], Ended: over, Workers: workers, Mailbox: endless, Batch: 1, Timeout: timeout,
		Handle: func(ctx context.Context, _ K, _ struct{}, batch []*errand) []error {
			select {
			case <-c.started:
				return []error{batch[0].do(ctx)}
			case <-ctx.Done():
				return []error{context.Cause(ctx)}
			}
		},
	})
}

// send has an errand done, again and again until it succeeds or the system stops.
func send[K comparable](c *Controller, to *actor.System[K, struct{}, *errand], key K, e *errand) {
	// The mailbox has room for all, and a stop ends everything: there is nothing to wait for.
	_ = to.Send(context.Background(), key, e, func(err error) {
		if stopping(err) {
			return
		}
		trouble := "errand/" + e.what
		if err == nil {
			if e.failed > 0 {
				c.troubles.over(trouble)
			}
			return
		}
		if e.failed++; e.failed > fewFailures {
			c.troubles.note(trouble, fmt.Sprintf("%s, tried %d times: %s", e.what, e.failed, err), c.o.Now(), false)
		}
		c.o.Log.Warn("this will be tried again", "what", e.what, "failed", e.failed, "error", err)
		time.AfterFunc(waitAfter(e.failed), func() { send(c, to, key, e) })
	})
}

// stopping tells the error of what a stop left undone.
func stopping(err error) bool { return errors.Is(err, actor.ErrStopped) }

// sleep waits; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
