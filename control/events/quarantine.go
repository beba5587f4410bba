package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// itemOf is an event before a sensor.
func itemOf(sensor string, seq int64) quarantine.Item {
	return quarantine.Version(quarantine.KindEvent, sensor, strconv.FormatInt(seq, 10))
}

func firingItem(f sensor.Firing) quarantine.Item {
	return quarantine.Item{Kind: quarantine.KindFiring, Key: f.Key}
}

var _ quarantine.Room = (*Controller)(nil)

// Again implements quarantine.Room. A sensor decides on the event, whatever it has decided on since; a firing is sent again; a definition
// is read again.
func (c *Controller) Again(ctx context.Context, item quarantine.Item, actor string) error {
	switch item.Kind {
	case quarantine.KindEvent:
		return c.redecide(ctx, item, actor)
	case quarantine.KindFiring:
		return c.Redrive(ctx, item.Key, actor)
	}
	key, _ := item.Parts()
	return c.roster.changed(ctx, ledger.Entry{Subject: "definition/" + key})
}

// Drop implements quarantine.Room. What a sensor did not decide on, and what was not fired, stays on record as that. Of a definition only
// a version can be dropped that is not declared any more.
func (c *Controller) Drop(ctx context.Context, item quarantine.Item, _ string) error {
	if item.Kind == quarantine.KindDefinition {
		key, digest := item.Parts()
		kind, namespace, name, _ := subjectOf("definition/" + key)
		d, err := c.roster.store.Latest(ctx, kind, namespace, name)
		if errors.Is(err, ledger.ErrNotFound) || err == nil && d.Digest != digest {
			return nil
		}
		if err != nil {
			return err
		}
		return failure.Errorf(failure.Conflict, "drop %s: declare another version of %s, or delete it", item, key)
	}
	return nil
}

// redecide has one sensor decide on an event that was quarantined.
func (c *Controller) redecide(ctx context.Context, item quarantine.Item, actor string) (err error) {
	key, text := item.Parts()
	seq, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return failure.Invalidf("item %s: NAMESPACE/SENSOR@SEQUENCE is wanted", item)
	}
	e, err := c.bySeq(ctx, seq)
	if err != nil {
		return fmt.Errorf("read event %d: %w", seq, err)
	}
	sensors := c.roster.sensors()
	n := slices.IndexFunc(sensors, func(s *sensor.Sensor) bool { return s.Key == key })
	if n < 0 {
		return failure.NotFoundf("sensor %s is not declared any more", key)
	}
	before, err := c.decidedOn(ctx, e)
	if err != nil {
		return err
	}
	verdict := newVerdict()
	defer func() { verdict.give(err) }()
	out := outcome{event: e, decided: event.Decided{EventID: e.ID, EventSeq: e.Seq}}
	t := &thought{sensor: sensors[n], verdict: verdict, answered: make(chan struct{})}
	t.add(&out, sensor.ReadRecorded(e))
	if err := c.minds.decide(ctx, t); err != nil {
		return err
	}
	out.decided.Decisions = append(slices.DeleteFunc(before, func(d event.Decision) bool { return d.Sensor == key }), out.decided.Decisions...)
	body, err := ledger.Encode(out.decided)
	if err != nil {
		return err
	}
	err = c.o.Ledger.Write(ctx, ledger.On(event.Subject(e)), func(tx ledger.Tx) error {
		made, err := tx.Append(ledger.Draft{Actor: actor, Kind: event.KindRetried, Subject: event.Subject(e), Cause: ledger.At(e.Seq), Body: body})
		if err != nil {
			return err
		}
		for _, f := range out.firings {
			if err := writeFiring(tx, event.Subject(e), e.ID, f, made, lease); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range out.firings {
		if f.Problem == "" {
			c.hand(f)
		}
	}
	return nil
}

// decidedOn is what the sensors have made of an event.
func (c *Controller) decidedOn(ctx context.Context, e event.Event) ([]event.Decision, error) {
	row, err := c.o.Ledger.Row(ctx, event.TableDecision, e.ID)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was decided on event %s: %w", e.ID, err)
	}
	entry, err := c.o.Ledger.Entry(ctx, row.Seq)
	if err != nil || entry.Pruned {
		return nil, err
	}
	body, err := ledger.Read[event.Decided](entry)
	return body.Decisions, err
}
