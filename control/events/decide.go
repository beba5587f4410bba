package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/ledger"
)

// workDecide is the name under which Health shows that deciding does not succeed.
const workDecide = "decide on events"

// decideBatch is how many entries are decided on between two commits.
const decideBatch = 128

// decideAll goes through the events in the order of the ledger, from the last one that was decided on. Only this loop has the sensors'
// states changed. What fails is tried again, with growing waits, and shown by Health.
func (c *Controller) decideAll(ctx context.Context) error {
	var rest time.Duration
	for ctx.Err() == nil {
		after, err := c.cursor(ctx)
		if err == nil {
			var next int64
			if next, err = c.decideFrom(ctx, after); next > after {
				rest = 0
			}
		}
		if ctx.Err() != nil {
			break
		}
		rest = c.pause(ctx, workDecide, err, rest)
	}
	return nil //nolint:nilerr // what fails is tried again until ctx ends, and is shown meanwhile
}

// decideFrom decides on the events behind one until ctx ends or something fails, and gives the last that it went past.
func (c *Controller) decideFrom(ctx context.Context, after int64) (int64, error) {
	for ctx.Err() == nil {
		changed := c.o.Ledger.Changed()
		next, err := c.decideSome(ctx, after)
		if err != nil {
			return after, err
		}
		c.health.fine(workDecide)
		if next > after {
			after = next
			continue
		}
		wait(ctx, changed, time.Minute)
	}
	return after, nil
}

// cursor is the last event that was decided on.
func (c *Controller) cursor(ctx context.Context) (int64, error) {
	es, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{Kinds: []string{event.KindDecided}, Newest: true, Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("find the last decision: %w", err)
	}
	if len(es) == 0 {
		return 0, nil
	}
	return es[0].Cause, nil
}

// outcome is what all sensors make of one event.
type outcome struct {
	event   event.Event
	decided event.Decided
	firings []sensor.Firing
	// broken says that no sensor can be asked.
	broken bool
	// gate says whether the event waits for an approval.
	gate standing
}

// decideSome takes the next entries: events up to the next change of a definition, which is decided on by what was declared before it,
// or such changes. It gives the last entry that was taken.
func (c *Controller) decideSome(ctx context.Context, after int64) (int64, error) {
	es, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{
		After: after, Kinds: []string{event.KindReceived, "definition.set", definitions.KindDeleted}, Limit: decideBatch, Bare: true,
	})
	if err != nil || len(es) == 0 {
		return after, err
	}
	n := slices.IndexFunc(es, func(e ledger.Entry) bool { return e.Kind != event.KindReceived })
	if n == 0 {
		return es[0].Seq, c.roster.changed(ctx, es[0])
	}
	if n > 0 {
		es = es[:n]
	}
	var outs []outcome
	for _, entry := range es {
		e, err := c.eventOf(ctx, entry)
		switch {
		case errors.Is(err, ledger.ErrNotFound): // erased before anybody decided on it
		case errors.Is(err, errEvent):
			outs = append(outs, broken(entry, err))
		case err != nil:
			return after, err
		default:
			outs = append(outs, outcome{event: e, decided: event.Decided{EventID: e.ID}})
		}
	}
	if err := c.decide(ctx, outs); err != nil {
		return after, err
	}
	return es[len(es)-1].Seq, nil
}

// broken is the outcome of an event that cannot be read though the ledger can: no sensor decides on it, and the others follow.
func broken(entry ledger.Entry, err error) outcome {
	parts := append(strings.SplitN(strings.TrimPrefix(entry.Subject, "event/"), "/", 3), "", "")
	e := event.Event{ID: fmt.Sprintf("entry-%d", entry.Seq), Namespace: parts[0], Source: parts[1], Subject: parts[2], Seq: entry.Seq}
	return outcome{event: e, broken: true, decided: event.Decided{
		EventID: e.ID, Decisions: []event.Decision{{EventSeq: entry.Seq, Outcome: "error", Reason: err.Error()}},
	}}
}

// decide has the sensors decide on events, records that as one, and then hands out what they fire.
func (c *Controller) decide(ctx context.Context, outs []outcome) (err error) {
	if len(outs) == 0 {
		return nil
	}
	verdict := newVerdict()
	defer func() { verdict.give(err) }()
	sensors := c.roster.sensors()
	docs := make([]*sensor.Document, len(outs))
	held := map[string]event.Approval{}
	for i := range outs {
		if outs[i].event.Filtered != "" {
			outs[i].decided.Decisions = []event.Decision{{EventSeq: outs[i].event.Seq, Outcome: outcomeFiltered, Reason: outs[i].event.Filtered}}
			continue
		}
		if outs[i].gate, err = c.approval(ctx, outs[i].event, held); err != nil {
			return err
		}
	}
	for _, s := range sensors {
		t := &thought{sensor: s, verdict: verdict, answered: make(chan struct{})}
		for i := range outs {
			e := outs[i].event
			if e.Filtered != "" {
				continue
			}
			if outs[i].gate.reason != "" && s.Listens(e.Namespace, e.Source, e.Subject) {
				outs[i].decided.Decisions = append(outs[i].decided.Decisions,
					event.Decision{Sensor: s.Key, EventSeq: e.Seq, Outcome: outcomeUnapproved, Reason: outs[i].gate.reason, Digest: s.Digest})
				continue
			}
			if !outs[i].broken && s.Listens(e.Namespace, e.Source, e.Subject) {
				if docs[i] == nil {
					docs[i] = sensor.ReadRecorded(e)
				}
				t.add(&outs[i], docs[i])
			}
		}
		if len(t.outs) == 0 {
			continue
		}
		if err := c.minds.decide(ctx, t); err != nil {
			return err
		}
	}
	for i := range outs {
		if len(outs[i].decided.Decisions) == 0 {
			outs[i].decided.Decisions = []event.Decision{unheard(outs[i].event, len(sensors))}
		}
	}
	if err := c.writeOutcomes(ctx, outs); err != nil {
		return err
	}
	for _, o := range outs {
		for _, f := range o.firings {
			if f.Problem == "" {
				c.hand(f)
			}
		}
		if o.gate.word != nil {
			c.listen()
		}
	}
	return nil
}

// outcomeFiltered is the outcome of an event that the filter of its source leaves out, as of one that a sensor's own does.
const outcomeFiltered = "filtered"

func unheard(e event.Event, sensors int) event.Decision {
	return event.Decision{
		EventSeq: e.Seq, Outcome: "no-dependency",
		Reason: fmt.Sprintf("none of the %d sensors listens to %s/%s in namespace %s", sensors, e.Source, e.Subject, e.Namespace),
	}
}

// eventOf is the event of an entry that was read without its body.
func (c *Controller) eventOf(ctx context.Context, entry ledger.Entry) (event.Event, error) {
	if e, ok := c.fresh.take(entry); ok && !entry.Pruned {
		return e, nil
	}
	return c.bySeq(ctx, entry.Seq)
}

// hand gives a firing to a worker; a full queue leaves it to the outbox.
func (c *Controller) hand(f sensor.Firing) {
	select {
	case c.work <- f:
	default:
	}
}

func (c *Controller) writeOutcomes(ctx context.Context, outs []outcome) error {
	if len(outs) == 0 {
		return nil
	}
	bodies := make([]ledger.Encoded, len(outs))
	for i, o := range outs {
		var err error
		if bodies[i], err = ledger.Encode(o.decided); err != nil {
			return err
		}
	}
	return c.o.Ledger.Write(ctx, ledger.On(event.Subject(outs[0].event)), func(tx ledger.Tx) error {
		for i, o := range outs {
			if err := writeDecided(tx, o.event, bodies[i], o.firings); err != nil {
				return err
			}
			if err := writeHeld(tx, o); err != nil {
				return err
			}
			if err := enqueueWord(tx, o.gate.word, ledger.At(o.event.Seq)); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeHeld records that an event waits for an approval.
func writeHeld(tx ledger.Tx, o outcome) error {
	if o.gate.held == nil {
		return nil
	}
	_, err := tx.Append(ledger.Draft{Actor: "system", Kind: event.KindHeld, Subject: event.Subject(o.event), Cause: ledger.At(o.event.Seq), Body: o.gate.held})
	return err
}

// writeDecided needs no unique key: the loop that decides is one, and goes on from the last event that has a decision.
func writeDecided(tx ledger.Tx, e event.Event, body ledger.Encoded, firings []sensor.Firing) error {
	decided, err := tx.Append(ledger.Draft{Actor: "system", Kind: event.KindDecided, Subject: event.Subject(e), Cause: ledger.At(e.Seq), Body: body})
	if err != nil {
		return err
	}
	for _, f := range firings {
		if err := writeFiring(tx, event.Subject(e), e.ID, f, decided, lease); err != nil {
			return err
		}
	}
	return nil
}
