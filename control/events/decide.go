package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/ledger"
)

// decideBatch is how many entries are decided on between two commits.
const decideBatch = 128

// pause is how long the loop waits after a failure.
const pause = time.Second

// decideAll goes through the events in the order of the ledger, from the last one that was decided on. Only this
// loop changes the sensors' states.
func (c *Controller) decideAll(ctx context.Context) error {
	after, err := c.cursor(ctx)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		changed := c.o.Ledger.Changed()
		next, err := c.decideSome(ctx, after)
		if err != nil && ctx.Err() == nil {
			c.o.Log.Error("decide on events", "after", after, "error", err)
			wait(ctx, nil, pause)
			continue
		}
		if next > after {
			after = next
			continue
		}
		wait(ctx, changed, time.Minute)
	}
	return nil
}

func wait(ctx context.Context, changed <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-t.C:
	}
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
}

func (c *Controller) decideSome(ctx context.Context, after int64) (int64, error) {
	es, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{
		After: after, Kinds: []string{event.KindReceived, "definition.set", "definition.deleted"}, Limit: decideBatch, Bare: true,
	})
	if err != nil || len(es) == 0 {
		return after, err
	}
	var outs []outcome
	states := map[string]map[string]sensor.State{}
	for _, entry := range es {
		if entry.Kind != event.KindReceived {
			// Sources and sensors changed: what came before was decided by the old ones.
			if err := c.Reload(ctx); err != nil {
				return after, err
			}
			continue
		}
		e, err := c.eventOf(ctx, entry)
		if errors.Is(err, ledger.ErrNotFound) {
			continue // erased before anybody decided on it
		}
		if err != nil {
			return after, err
		}
		out, err := c.decideOne(ctx, e, states)
		if err != nil {
			return after, err
		}
		outs = append(outs, out)
	}
	if err := c.writeOutcomes(ctx, outs); err != nil {
		return after, err
	}
	for _, o := range outs {
		for _, f := range o.firings {
			if f.Problem == "" {
				c.hand(f)
			}
		}
	}
	return es[len(es)-1].Seq, nil
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

func (c *Controller) decideOne(ctx context.Context, e event.Event, cache map[string]map[string]sensor.State) (outcome, error) {
	out := outcome{event: e, decided: event.Decided{EventID: e.ID, EventSeq: e.Seq}}
	doc := sensor.ReadRecorded(e)
	c.mu.RLock()
	sensors := c.sensors
	c.mu.RUnlock()
	for _, s := range sensors {
		if !s.Listens(e.Namespace, e.Source, e.Subject) {
			continue
		}
		states, ok := cache[s.Key]
		if !ok {
			var err error
			if states, err = c.states(ctx, s.Key); err != nil {
				return out, err
			}
			cache[s.Key] = states
		}
		earlier, err := c.earlier(ctx, s.Needs(states, e))
		if err != nil {
			return out, err
		}
		r := s.Decide(states, doc, earlier, e.Time)
		for name, st := range r.States {
			states[name] = st
			out.decided.States = append(out.decided.States, event.StateRow{Sensor: s.Key, Trigger: name, Digest: s.Digest, TriggerState: st})
		}
		out.decided.Decisions = append(out.decided.Decisions, r.Decisions...)
		out.firings = append(out.firings, r.Firings...)
	}
	if len(out.decided.Decisions) == 0 {
		out.decided.Decisions = []event.Decision{{
			EventSeq: e.Seq, Outcome: "no-dependency",
			Reason: fmt.Sprintf("none of the %d sensors listens to %s/%s in namespace %s", len(sensors), e.Source, e.Subject, e.Namespace),
		}}
	}
	return out, nil
}

// states reads what a sensor's triggers remember.
func (c *Controller) states(ctx context.Context, key string) (map[string]sensor.State, error) {
	rows, err := c.o.Ledger.List(ctx, ledger.Query{Table: event.TableSensorState, Owner: key, Limit: 1000})
	if err != nil {
		return nil, fmt.Errorf("read state of sensor %s: %w", key, err)
	}
	states := map[string]sensor.State{}
	for _, row := range rows {
		var sr event.StateRow
		if err := json.Unmarshal(row.Body, &sr); err != nil {
			return nil, fmt.Errorf("decode state of sensor %s: %w", key, err)
		}
		states[sr.Trigger] = sr.TriggerState
	}
	return states, nil
}

// earlier reads the events that a condition has waited with.
func (c *Controller) earlier(ctx context.Context, seqs []int64) (map[int64]event.Event, error) {
	out := map[int64]event.Event{}
	for _, seq := range seqs {
		e, err := c.bySeq(ctx, seq)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[seq] = e
	}
	return out, nil
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
		}
		return nil
	})
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
