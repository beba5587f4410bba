package runs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// The outbox queues of runs.
const (
	queueEffects = "run"
	queueTimers  = "timer"
)

// kindSubmitted is the kind of a run's first entry.
const kindSubmitted = "run.submitted"

// lease is how long an effect may take before another process may take it up.
const lease = 10 * time.Minute

// decision is one command on its way through the engine.
type decision struct {
	run *live
	cmd workflow.Command
	// cause is the entry that led to the command; 0 takes the run's last one.
	cause int64
	// settles are outbox items that are done with this decision.
	settles []workKey
	// also runs in the same transaction after the entries were appended; may be nil.
	also func(tx ledger.Tx, last ledger.Ref) error
	// unique guards a submission against being made twice.
	unique string
}

type workKey struct{ queue, key string }

// do takes a command through the engine and into the ledger, and then has the effects carried out. The caller
// holds run.mu.
func (c *Controller) do(ctx context.Context, d decision) error {
	if d.run.state == nil {
		if err := c.load(ctx, d.run); err != nil {
			return err
		}
	}
	dec, err := workflow.Decide(d.run.state, d.cmd)
	if err != nil {
		return err
	}
	if len(dec.Entries) == 0 && len(dec.Effects) == 0 && len(d.settles) == 0 {
		return nil
	}
	granted, err := c.write(ctx, d, dec)
	if err != nil {
		d.run.state = nil // Decide has already changed it; the ledger has the truth
		return err
	}
	for _, e := range dec.Effects {
		c.perform(d.run, e)
	}
	c.tell(granted)
	c.evict(d.run)
	return nil
}

// write records a decision in one transaction and returns the locks that were granted to anybody by it.
func (c *Controller) write(ctx context.Context, d decision, dec workflow.Decision) ([]grant, error) {
	known := &limits{known: map[string]limitOf{}}
	for range limitTries {
		granted, err := c.writeWith(ctx, d, dec, known)
		var unknown *unknownLimitError
		if !errors.As(err, &unknown) {
			return granted, err
		}
		n, err := c.limit(ctx, unknown.lock)
		known.known[unknown.lock.Name] = limitOf{n, err}
	}
	return nil, fmt.Errorf("read the limits of semaphores: there are still unknown ones after %d rounds", limitTries)
}

// writeWith is write with the limits of semaphores that are known so far: they are read before the transaction, not within.
func (c *Controller) writeWith(ctx context.Context, d decision, dec workflow.Decision, known *limits) ([]grant, error) {
	var granted []grant
	actor, root := actorOf(d.cmd), ledger.At(d.run.root)
	err := c.o.Ledger.Write(ctx, ledger.On(subject(d.run.key)), func(tx ledger.Tx) error {
		granted, known.missing = granted[:0], nil
		root = ledger.At(d.run.root)
		cause := ledger.At(d.cause)
		if d.cause == 0 {
			cause = root
		}
		var last ledger.Ref
		for i, e := range dec.Entries {
			draft := ledger.Draft{Actor: actor, Kind: e.Kind, Subject: subject(d.run.key), Cause: cause, Body: e.Body}
			if i == 0 {
				draft.Unique = d.unique
			}
			rec, err := tx.Append(draft)
			if err != nil {
				return fmt.Errorf("append %s: %w", e.Kind, err)
			}
			last = rec
			if e.Kind == kindSubmitted {
				// Everything that a run does is caused by its submission, so that a trail stays short.
				root, cause = rec, rec
			}
			c.o.Fault("append")
		}
		for _, e := range dec.Effects {
			g, err := c.enqueue(known.of, tx, d.run, root, e)
			if err != nil {
				return err
			}
			granted = append(granted, g...)
		}
		if known.missing != nil {
			return &unknownLimitError{*known.missing}
		}
		for _, s := range d.settles {
			if err := tx.Cancel(s.queue, s.key); err != nil {
				return fmt.Errorf("settle %s: %w", s.key, err)
			}
		}
		if d.also != nil {
			return d.also(tx, last)
		}
		return nil
	})
	if err == nil {
		d.run.root = root.Seq()
	}
	return granted, err
}

// load reads a run's entries and replays them.
func (c *Controller) load(ctx context.Context, r *live) error {
	state, root, err := c.replay(ctx, r.key)
	if err != nil {
		return err
	}
	r.state, r.root = state, root
	return nil
}

// replayPage is how many entries are read at a time.
const replayPage = 5000

func (c *Controller) replay(ctx context.Context, key string) (*workflow.State, int64, error) {
	state := workflow.NewState()
	var after, root int64
	for {
		es, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{Subject: subject(key), After: after, Limit: replayPage})
		if err != nil {
			return nil, 0, fmt.Errorf("read run %s: %w", key, err)
		}
		for _, e := range es {
			after = e.Seq
			if e.Kind == KindDeleted {
				state, root = workflow.NewState(), 0
				continue
			}
			entry, err := workflow.DecodeEntry(e.Kind, "", e.Body)
			if err != nil {
				return nil, 0, fmt.Errorf("read run %s, entry %d: %w", key, e.Seq, err)
			}
			if entry.Kind == kindSubmitted {
				state = workflow.NewState()
				root = e.Seq
			}
			if err := workflow.Apply(state, entry); err != nil {
				return nil, 0, fmt.Errorf("replay run %s, entry %d: %w", key, e.Seq, err)
			}
		}
		if len(es) < replayPage {
			break
		}
	}
	if root == 0 {
		return nil, 0, fmt.Errorf("%w: %s", ErrNotFound, key)
	}
	return state, root, nil
}

// evict drops a run that has ended from memory.
func (c *Controller) evict(r *live) {
	if r.state == nil || !r.state.Run().Phase.Done() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, r.key)
}

// with calls f with the run locked. There is never more than one copy of a run: one that was evicted while we
// waited for it is asked for again.
func (c *Controller) with(key string, f func(*live) error) error {
	for {
		r := c.get(key)
		r.mu.Lock()
		c.mu.Lock()
		current := c.live[key] == r
		c.mu.Unlock()
		if !current {
			r.mu.Unlock()
			continue
		}
		err := f(r)
		if r.state == nil {
			c.mu.Lock()
			delete(c.live, key)
			c.mu.Unlock()
		}
		r.mu.Unlock()
		return err
	}
}

// get gives the run in memory, making an empty place for one that is not there.
func (c *Controller) get(key string) *live {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.live[key]
	if !ok {
		r = &live{key: key}
		c.live[key] = r
	}
	return r
}

func actorOf(cmd workflow.Command) string {
	if a := workflow.MetaOf(cmd).Actor; a != "" {
		return a
	}
	return system
}

// system is the actor of what nobody in particular does.
const system = "system"
