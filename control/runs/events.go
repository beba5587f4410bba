package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// recover loads the runs that have not ended and has their unfinished effects carried out again. Everything an
// effect does is idempotent by its key, so that repeating one that was done does nothing.
func (c *Controller) recover(ctx context.Context) error {
	states := []string{string(workflow.Pending), string(workflow.Running), ""}
	var after *ledger.Cursor
	for {
		rows, err := c.o.Ledger.List(ctx, ledger.Query{Table: tableRun, States: states, After: after, Limit: 1000})
		if err != nil {
			return fmt.Errorf("list runs: %w", err)
		}
		for _, row := range rows {
			if err := c.with(row.Key, func(r *live) error { return c.take(ctx, r) }); err != nil {
				c.o.Log.Error("a run cannot be taken up", "run", row.Key, "error", err)
			}
		}
		if len(rows) < 1000 {
			return nil
		}
		after = &ledger.Cursor{Time: rows[len(rows)-1].Time, Key: rows[len(rows)-1].Key}
	}
}

func (c *Controller) take(ctx context.Context, r *live) error {
	if err := c.load(ctx, r); err != nil {
		return err
	}
	c.know(r)
	return nil
}

// know keeps which run a uid belongs to, for reports.
func (c *Controller) know(r *live) {
	uid := r.state.Run().UID
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uids[uid] = r.key
}

// receive brings what the executor reports to the runs.
func (c *Controller) receive(ctx context.Context) {
	reports := c.o.Executors.Reports()
	for {
		select {
		case <-ctx.Done():
			return
		case rep, ok := <-reports:
			if !ok {
				return
			}
			c.received(ctx, rep)
		}
	}
}

func (c *Controller) received(ctx context.Context, rep executor.Report) {
	c.mu.Lock()
	key, ok := c.uids[rep.ID.Owner]
	c.mu.Unlock()
	if !ok {
		// An application's pod, or one of a run that had ended and whose last acknowledgement was lost.
		if c.o.Orphan != nil {
			c.o.Orphan(ctx, rep)
		}
		return
	}
	if rep.Reason == executor.ReasonNotLaunched {
		c.launchAgain(ctx, key, rep.ID)
		return
	}
	c.report(ctx, key, rep, workKey{})
	if !rep.Phase.Done() || ctx.Err() != nil {
		return
	}
	c.o.Fault("acknowledge")
	c.later(func(ctx context.Context) {
		if err := c.o.Executors.Acknowledge(ctx, rep.ID); err != nil {
			c.o.Log.Error("acknowledge pod", "run", key, "node", rep.ID.Node, "error", err)
		}
	})
}

// launchAgain starts a pod whose attempt is on record but which an earlier process did not come to launch: only this
// process has the secrets that go with it.
func (c *Controller) launchAgain(ctx context.Context, key string, id executor.ID) {
	err := c.with(key, func(r *live) error {
		if r.state == nil {
			if err := c.take(ctx, r); err != nil {
				return err
			}
		}
		c.perform(r, workflow.StartPod{Node: id.Node, Attempt: id.Attempt})
		return nil
	})
	if err != nil && ctx.Err() == nil {
		c.o.Log.Error("launch pod again", "run", key, "node", id.Node, "error", err)
	}
}

// report tells a run what became of a pod, and settles the effect that led to it, if any.
func (c *Controller) report(ctx context.Context, key string, rep executor.Report, settles ...workKey) {
	if rep.ID.Owner == "" {
		rep.ID.Owner = key
	}
	c.command(ctx, key, workflow.Report{Meta: c.meta(system), Report: rep}, settles...)
}

// command takes a command to a run. It is tried again while the ledger cannot be written (a full disk), because
// what was reported must not be lost.
func (c *Controller) command(ctx context.Context, key string, cmd workflow.Command, settles ...workKey) {
	wait := 100 * time.Millisecond
	for {
		err := c.with(key, func(r *live) error {
			d := decision{run: r, cmd: cmd}
			for _, s := range settles {
				if s.key != "" {
					d.settles = append(d.settles, s)
				}
			}
			return c.do(ctx, d)
		})
		if err == nil || ctx.Err() != nil {
			return
		}
		c.o.Log.Error("a run cannot go on", "run", key, "command", fmt.Sprintf("%T", cmd), "error", err)
		if !errors.Is(err, ledger.ErrNoSpace) {
			return
		}
		if !sleep(ctx, wait) {
			return
		}
		wait = min(2*wait, 10*time.Second)
	}
}

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

// idle is how long the loops wait when nothing is due; a commit wakes them earlier.
const idle = 30 * time.Second

// timers fires what is due.
func (c *Controller) timers(ctx context.Context) {
	c.drainQueue(ctx, queueTimers, func(w ledger.Work, b effectBody) {
		c.command(ctx, b.Run, workflow.Fired{Meta: c.meta(system), Key: b.Type}, workKey{queueTimers, w.Key})
	})
}

// retries carries out effects that were left over: by an earlier process, or because they failed.
func (c *Controller) retries(ctx context.Context) {
	c.drainQueue(ctx, queueEffects, func(w ledger.Work, b effectBody) { c.again(ctx, w, b) })
}

func (c *Controller) again(ctx context.Context, w ledger.Work, b effectBody) {
	if b.Type == typeGot {
		var a lockAnswer
		if err := json.Unmarshal(b.Effect, &a); err != nil {
			c.o.Log.Error("decode answer", "key", w.Key, "error", err)
			return
		}
		got := workflow.Got{Meta: c.meta(system), Key: a.Key, Granted: a.Granted, Waiting: a.Waiting, Error: a.Error}
		c.command(ctx, b.Run, got, workKey{queueEffects, w.Key})
		return
	}
	e, err := decodeEffect(b)
	if err != nil {
		c.o.Log.Error("decode effect", "key", w.Key, "error", err)
		return
	}
	err = c.with(b.Run, func(r *live) error {
		if r.state == nil {
			if err := c.take(ctx, r); err != nil {
				return err
			}
		}
		c.perform(r, e)
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		c.settle(ctx, b.Run, w.Key)
	}
}

// drainQueue claims what is due in a queue until ctx ends, waking at each commit that may have brought work and
// at the time the next item falls due.
func (c *Controller) drainQueue(ctx context.Context, queue string, f func(ledger.Work, effectBody)) {
	for ctx.Err() == nil {
		changed := c.o.Ledger.Changed()
		works, err := c.o.Ledger.Outbox().Claim(ctx, queue, 256, lease)
		if err != nil {
			if ctx.Err() == nil {
				c.o.Log.Error("claim work", "queue", queue, "error", err)
			}
			if !sleep(ctx, time.Second) {
				return
			}
			continue
		}
		for _, w := range works {
			var b effectBody
			if err := json.Unmarshal(w.Body, &b); err != nil {
				c.o.Log.Error("decode work", "queue", queue, "key", w.Key, "error", err)
				continue
			}
			f(w, b)
		}
		if len(works) > 0 {
			continue
		}
		next, err := c.o.Ledger.Outbox().Next(ctx, queue)
		wait := idle
		if err == nil && !next.IsZero() {
			wait = min(wait, max(next.Sub(c.o.Now()), time.Millisecond))
		}
		if !wake(ctx, changed, wait, queue == queueEffects) {
			return
		}
	}
}

// wake waits for a commit or a time. Effects are carried out by who decided them, so that their queue is looked
// at only now and then.
func wake(ctx context.Context, changed <-chan struct{}, d time.Duration, lazy bool) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	if lazy {
		changed = nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-changed:
		return true
	case <-t.C:
		return true
	}
}
