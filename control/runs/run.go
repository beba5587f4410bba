package runs

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// live is a run in memory: a cache of its entries. It belongs to the run's actor.
type live struct {
	key string
	// replayed has the state, which is nil until somebody needs it.
	replayed
	// exists says that there is such a run.
	exists bool
}

// ended says that a run need not stay in memory.
func (r *live) ended() bool { return r.state == nil || !r.exists || r.state.Done() }

// message is what a run's actor is asked.
type message struct {
	// command is for the engine; nil if the message is one of the others.
	command workflow.Command
	// look reads the state of a run. What it gives away must not be part of it.
	look func(*live)
	// unload drops the state, since the entries that it is of are not what they were.
	unload bool
	// eraser is who takes the finished run out of lists.
	eraser string
	// forgets is what goes with it.
	forgets forget

	// cause is the entry that led to the command; 0 takes the run's first.
	cause int64
	// unique guards a submission against being made twice.
	unique string
	// item is what is computed on, where that is not the run: what led to a submission, and leads to another after a restart.
	item quarantine.Item
	// settles are outbox items that are done with the message.
	settles []workKey
}

type workKey struct{ queue, key string }

// refused tells errors that leave a run's state as it was.
func refused(err error) bool {
	var invalid *workflow.InvalidError
	var missing *workflow.MissingError
	var no *workflow.RefusedError
	return errors.Is(err, ErrNotFound) || errors.Is(err, errTaken) || errors.As(err, &invalid) || errors.As(err, &missing) || errors.As(err, &no)
}

// errTaken refuses a submission.
var errTaken = errors.New("there is a run of that name")

// find makes the place of a run in memory. Its entries are read when they are needed.
func (c *Controller) find(_ context.Context, key string) (*live, error) { return &live{key: key}, nil }

// handle takes messages through the engine and records what follows in one transaction. Then it is carried out.
func (c *Controller) handle(ctx context.Context, _ string, r *live, batch []*message) []error {
	t := &turn{c: c, run: r}
	answers := make([]error, len(batch))
	for i, m := range batch {
		if answers[i] = t.take(ctx, m); answers[i] != nil && !refused(answers[i]) {
			return all(answers[i], len(batch))
		}
	}
	if len(t.steps) == 0 {
		return answers
	}
	if err := c.write(ctx, t); err != nil {
		return all(err, len(batch))
	}
	c.remember(r)
	if r.exists {
		c.keep(r)
	} else {
		c.unkeep(r.key)
	}
	for _, s := range t.steps {
		for _, e := range s.decision.Effects {
			c.perform(r.place(), e)
		}
	}
	return answers
}

func all(err error, n int) []error {
	out := make([]error, n)
	for i := range out {
		out[i] = err
	}
	return out
}

// turn is a batch of messages on its way into the ledger.
type turn struct {
	c     *Controller
	run   *live
	steps []step
}

// step is what follows from one message.
type step struct {
	message  *message
	decision workflow.Decision
	bodies   []ledger.Encoded
}

// errUnloaded drops the state of a run, as every error does that is no refusal.
var errUnloaded = errors.New("the run is read anew when it is needed")

// take decides what follows from a message.
func (t *turn) take(ctx context.Context, m *message) error {
	if m.unload {
		return errUnloaded
	}
	if m.eraser != "" {
		t.steps = append(t.steps, step{message: m, decision: workflow.Decision{Effects: []workflow.Effect{m.forgets}}})
		t.run.replayed, t.run.exists = replayed{state: workflow.NewState()}, false
		return nil
	}
	if err := t.c.load(ctx, t.run); err != nil {
		return err
	}
	_, submits := m.command.(workflow.Submit)
	switch {
	case submits && t.run.exists:
		return fmt.Errorf("submit %s: %w (delete it, or use generateName): %w", t.run.key, errTaken, ledger.ErrExists)
	case submits:
		t.run.replayed = replayed{state: workflow.NewState()}
	case !t.run.exists:
		return fmt.Errorf("%w: %s", ErrNotFound, t.run.key)
	case m.look != nil:
		m.look(t.run)
		return nil
	}
	var decision workflow.Decision
	err := t.c.compute(t.run.key, m.item, func() (err error) {
		decision, err = workflow.Decide(t.run.state, m.command)
		return err
	})
	if err != nil {
		return err
	}
	t.run.exists = true
	if len(decision.Entries)+len(decision.Effects)+len(m.settles) == 0 {
		return nil
	}
	s := step{message: m, decision: decision, bodies: make([]ledger.Encoded, len(decision.Entries))}
	for i, e := range decision.Entries {
		if s.bodies[i], err = ledger.Encode(e.Body); err != nil {
			return fmt.Errorf("encode %s of run %s: %w", e.Kind, t.run.key, err)
		}
	}
	t.steps = append(t.steps, s)
	return nil
}

// write records a turn in one transaction.
func (c *Controller) write(ctx context.Context, t *turn) error {
	root := ledger.At(t.run.root)
	var done written
	err := c.o.Ledger.Write(ctx, ledger.On(subject(t.run.key)), func(tx ledger.Tx) error {
		root, done = ledger.At(t.run.root), written{} // the decision may be written more than once
		for i := range t.steps {
			if err := c.writeStep(tx, t, &t.steps[i], &root, &done); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		t.run.root = root.Seq()
		t.run.entries, t.run.tail = t.run.entries+done.entries, t.run.tail+done.entries
		if done.entries > 0 {
			t.run.last = done.last.Seq()
		}
	}
	return err
}

// written are the entries of a turn that change the state.
type written struct {
	entries int64
	last    ledger.Ref
}

func (c *Controller) writeStep(tx ledger.Tx, t *turn, s *step, root *ledger.Ref, done *written) error {
	m := s.message
	if m.eraser != "" {
		*root, *done = ledger.Ref{}, written{}
		if err := deleteRun(tx, t.run.key, m.eraser); err != nil {
			return err
		}
		return enqueue(tx, place{run: t.run.key, uid: m.forgets.Owner}, m.forgets)
	}
	cause := ledger.At(m.cause)
	if cause.IsZero() {
		cause = *root
	}
	actor := actorOf(m.command)
	for i, e := range s.decision.Entries {
		draft := ledger.Draft{Actor: actor, Kind: e.Kind, Subject: subject(t.run.key), Cause: cause, Body: s.bodies[i]}
		if i == 0 {
			draft.Unique = m.unique
		}
		rec, err := tx.Append(draft)
		if err != nil {
			return fmt.Errorf("append %s: %w", e.Kind, err)
		}
		done.entries, done.last = done.entries+1, rec
		if e.Kind == workflow.KindSubmitted {
			// Everything that a run does is caused by its submission, so that a trail stays short.
			*root, cause = rec, rec
		}
		c.o.Fault("append")
	}
	from := t.run.place()
	from.root = *root
	for _, e := range s.decision.Effects {
		if err := enqueue(tx, from, e); err != nil {
			return err
		}
	}
	for _, w := range m.settles {
		if err := tx.Cancel(w.queue, w.key); err != nil {
			return fmt.Errorf("settle %s: %w", w.key, err)
		}
	}
	return nil
}

// remember keeps which run a uid belongs to, for reports, as long as the run goes on.
func (c *Controller) remember(r *live) {
	if !r.exists {
		if c.troubles.over(runTrouble(r.key)) { // a stalled one was deleted
			c.mu.Lock()
			defer c.mu.Unlock()
			maps.DeleteFunc(c.uids, func(_, key string) bool { return key == r.key })
		}
		return
	}
	run := r.state.Run()
	c.mu.Lock()
	defer c.mu.Unlock()
	if run.Phase.Done() {
		delete(c.uids, run.UID)
	} else {
		c.uids[run.UID] = r.key
	}
}

// load reads a run's entries and replays them, unless that was done.
func (c *Controller) load(ctx context.Context, r *live) error {
	if r.state != nil {
		return nil
	}
	found, err := c.replay(ctx, r.key)
	var stalled *stalledError
	switch {
	case err == nil:
		r.replayed, r.exists = found, found.root != 0
		c.replayed(r.key)
	case errors.As(err, &stalled):
		c.stalled(r.key, err)
	}
	return err
}

// replayPage is how many entries are read at a time.
const replayPage = 5000

// replay gives the state of a run, from what was kept of it and what came after. What cannot be replayed so is replayed from its start.
func (c *Controller) replay(ctx context.Context, key string) (replayed, error) {
	r, err := c.kept(ctx, key)
	if err != nil {
		return r, err
	}
	from := r.last
	err = c.replayOn(ctx, key, &r)
	var stalled *stalledError
	if from > 0 && errors.As(err, &stalled) {
		c.o.Log.Warn("a run cannot be replayed from what was kept of it: it is replayed from its start", "run", key, "error", err)
		r = replayed{state: workflow.NewState()}
		err = c.replayOn(ctx, key, &r)
	}
	return r, err
}

// replayOn replays what came after a state.
func (c *Controller) replayOn(ctx context.Context, key string, r *replayed) error {
	var failed error
	for after := r.last; ; {
		es, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{Subject: subject(key), After: after, Limit: replayPage})
		if err != nil {
			return fmt.Errorf("read run %s: %w", key, err)
		}
		err = c.compute(key, quarantine.Item{}, func() error {
			for _, e := range es {
				after = e.Seq
				switch e.Kind {
				case KindDeleted:
					*r, failed = replayed{state: workflow.NewState()}, nil
					continue
				case kindMemo, KindSetAside, KindStalled, KindResumed:
					continue
				case workflow.KindSubmitted:
					*r, failed = replayed{state: workflow.NewState(), root: e.Seq}, nil
				}
				r.last, r.entries, r.tail = e.Seq, r.entries+1, r.tail+1
				if failed == nil {
					failed = replayEntry(r.state, e)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(es) < replayPage {
			if failed != nil {
				return &stalledError{fmt.Errorf("replay run %s: %w", key, failed)}
			}
			return nil
		}
	}
}

// replayEntry changes a state by one entry. What cannot be replayed matters only while the run has not been deleted, or submitted anew.
func replayEntry(state *workflow.State, e ledger.Entry) error {
	entry, err := workflow.DecodeEntry(e.Kind, "", e.Body)
	if err == nil {
		err = workflow.Apply(state, entry)
	}
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	return nil
}

func actorOf(cmd workflow.Command) string {
	if a := workflow.MetaOf(cmd).Actor; a != "" {
		return a
	}
	return system
}

// system is the actor of what nobody in particular does.
const system = "system"
