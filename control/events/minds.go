package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tiphys/tiphys/control/actor"
	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/ledger"
)

// mind is what a sensor remembers: the states of its triggers, by name. It is a cache of the ledger's rows.
type mind struct{ states map[string]sensor.State }

// verdict says once whether what was decided is on record.
type verdict struct {
	given chan struct{}
	err   error
}

func newVerdict() *verdict { return &verdict{given: make(chan struct{})} }

func (v *verdict) give(err error) {
	v.err = err
	close(v.given)
}

// thought is a batch of events before one sensor. The sensor's mind belongs to it from the deciding to the verdict: if what was decided
// is not recorded, the mind that has already changed is thrown away.
type thought struct {
	sensor   *sensor.Sensor
	outs     []*outcome
	docs     []*sensor.Document
	verdict  *verdict
	answered chan struct{} // closed when outs are complete
}

func (t *thought) add(o *outcome, d *sensor.Document) {
	t.outs, t.docs = append(t.outs, o), append(t.docs, d)
}

// minds has one owner for each sensor's mind.
type minds struct {
	ledger ledger.Reader
	book   *quarantine.Book
	owners *actor.System[string, *mind, *thought]
}

func newMinds(l ledger.Reader, book *quarantine.Book) *minds {
	m := &minds{ledger: l, book: book}
	m.owners = actor.New(actor.Options[string, *mind, *thought]{Load: m.load, Handle: m.handle, Batch: 1})
	return m
}

// errMind is a mind that cannot be read though the ledger can.
var errMind = errors.New("what it remembers cannot be read")

// load reads what a sensor's triggers remember.
func (m *minds) load(ctx context.Context, key string) (*mind, error) {
	states, err := m.states(ctx, key)
	return &mind{states}, err
}

func (m *minds) states(ctx context.Context, key string) (map[string]sensor.State, error) {
	rows, err := m.ledger.List(ctx, ledger.Query{Table: event.TableSensorState, Owner: key, Limit: 1000})
	if err != nil {
		return nil, fmt.Errorf("read state of sensor %s: %w", key, err)
	}
	states := map[string]sensor.State{}
	for _, row := range rows {
		var sr event.StateRow
		if err := json.Unmarshal(row.Body, &sr); err != nil {
			return nil, fmt.Errorf("read state of trigger %s of sensor %s: %w: %w", row.Key, key, errMind, err)
		}
		states[sr.Trigger] = sr.TriggerState
	}
	return states, nil
}

// decide has a sensor decide. It returns when the outcomes are complete; the sensor then waits for the verdict. A fault of the sensor's
// own is an outcome, and no error: it keeps no other sensor from deciding.
func (m *minds) decide(ctx context.Context, t *thought) error {
	failed := make(chan error, 1)
	err := m.owners.Send(ctx, t.sensor.Key, t, func(err error) {
		if err != nil {
			failed <- err
		}
	})
	if err == nil {
		select {
		case <-t.answered:
			return nil
		case err = <-failed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !errors.Is(err, errMind) {
		return err
	}
	for _, o := range t.outs {
		o.decided.Decisions = append(o.decided.Decisions, fault(t.sensor, o.event, err))
	}
	return nil
}

// fault is the decision of a sensor that could not decide.
func fault(s *sensor.Sensor, e event.Event, err error) event.Decision {
	return event.Decision{Sensor: s.Key, EventSeq: e.Seq, Outcome: "error", Reason: err.Error(), Digest: s.Digest}
}

// handle decides, and holds the mind until it is known whether that is on record.
func (m *minds) handle(ctx context.Context, _ string, own *mind, batch []*thought) []error {
	answers := make([]error, len(batch))
	for i, t := range batch {
		answers[i] = m.think(ctx, own, t)
	}
	return answers
}

func (m *minds) think(ctx context.Context, own *mind, t *thought) error {
	for i, o := range t.outs {
		if err := m.one(ctx, own, t.sensor, o, t.docs[i]); err != nil {
			return err
		}
	}
	close(t.answered)
	select {
	case <-t.verdict.given:
		return t.verdict.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// one decides on one event.
func (m *minds) one(ctx context.Context, own *mind, s *sensor.Sensor, o *outcome, doc *sensor.Document) error {
	earlier, err := m.earlier(ctx, s.Needs(own.states, o.event))
	if err != nil {
		return err
	}
	r, err := quarantine.Value(m.book, itemOf(s.Key, o.event.Seq), func() (sensor.Result, error) {
		return s.TryDecide(ctx, own.states, doc, earlier, o.event.Time)
	})
	if errors.As(err, new(*quarantine.PanicError)) {
		return err // it is tried again, alone
	}
	if sensor.Unsettled(ctx, err) {
		return err // it is tried again, and the events behind it wait
	}
	if err != nil {
		o.decided.Decisions = append(o.decided.Decisions, fault(s, o.event, err))
		return nil
	}
	for name, st := range r.States {
		own.states[name] = st
		o.decided.States = append(o.decided.States, event.StateRow{Sensor: s.Key, Trigger: name, Digest: s.Digest, TriggerState: st})
	}
	o.decided.Decisions = append(o.decided.Decisions, r.Decisions...)
	o.firings = append(o.firings, r.Firings...)
	return nil
}

// earlier reads the events that a condition has waited with.
func (m *minds) earlier(ctx context.Context, seqs []int64) (map[int64]event.Event, error) {
	out := map[int64]event.Event{}
	for _, seq := range seqs {
		e, err := bySeq(ctx, m.ledger, seq)
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
