package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// Kinds of the entries of this room. Their bodies are [Received], [Decided], [Fired], [Settled].
const (
	KindReceived = "event.received"
	KindDecided  = "sensor.decided"
	// KindRetried says what a sensor made of an event that had been quarantined, beside what the others had made of it.
	KindRetried  = "sensor.retried"
	KindFired    = "trigger.fired"
	KindDone     = "trigger.done"
	KindFailed   = "trigger.failed"
	KindRedriven = "trigger.redriven"
)

// Tables of the rows that are derived from them.
const (
	TableEvent       = "event"        // key: event id; owner: the source, namespace/name; state: fired, or none
	TableDecision    = "decision"     // key: event id; owner: the event's source
	TableSensorState = "sensor-state" // key: sensor namespace/name/trigger; owner: sensor
	TableFiring      = "firing"       // key: the firing's key; owner: event id; states pending, done, dead
)

// maxRowData is the most of an event's data that its row repeats, in bytes; the entry always has it.
const maxRowData = 1 << 10

// TriggerState is what one trigger of a sensor remembers: the newest event of each satisfied dependency.
type TriggerState struct {
	Saved map[string]SavedEvent `json:"saved,omitempty"`
	// Fired counts the firings.
	Fired int64 `json:"fired,omitempty"`
}

// SavedEvent is an event that satisfies a dependency until the condition fires.
type SavedEvent struct {
	Event int64 `json:"event"` // ledger sequence
	// Time is when it was saved; resets look at it.
	Time time.Time `json:"time"`
}

// Decided is the body of the entries "sensor.decided" and "sensor.retried": everything that the sensors made of one event, in one entry
// however many they are. Its cause is the event's entry.
type Decided struct {
	EventID string `json:"eventID"`
	// EventSeq is the event's entry.
	EventSeq  int64      `json:"event,omitempty"`
	Decisions []Decision `json:"decisions"`
	// States are the new states of the triggers that changed.
	States []StateRow `json:"states,omitempty"`
}

// Fired is the body of an entry "trigger.fired". Its cause is the decision's entry, its unique key FiringKey(Key).
type Fired struct {
	Key     string           `json:"key"`
	EventID string           `json:"eventID"`
	Sensor  string           `json:"sensor"`
	Trigger string           `json:"trigger"`
	Number  int64            `json:"number"`
	Events  map[string]int64 `json:"events,omitempty"`
	// Firing is the whole sensor.Firing, for whoever carries it out.
	Firing json.RawMessage `json:"firing,omitempty"`
}

// Settled is the body of the entries "trigger.done", "trigger.failed" and "trigger.redriven".
type Settled struct {
	Key     string `json:"key"`
	Attempt int    `json:"attempt,omitempty"`
	// Result names what was made: a run's key, an object, an HTTP status.
	Result string `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
	// Dead says that a failure was the last attempt: the firing is a dead letter.
	Dead bool `json:"dead,omitempty"`
}

// EventRow is the body of a row of table "event".
type EventRow struct { //nolint:revive // event.Row would be taken for any row of the room
	Event
	// DataBytes is the size of the data; Data is left out of the row where it is large, and the lists of commits and of
	// changed files always: the entry has them.
	DataBytes int `json:"dataBytes"`
	// Firings counts what it led to.
	Firings int `json:"firings,omitempty"`
}

// DecisionRow is the body of a row of table "decision": in short what every sensor that listens made of an event. The entry that the
// row names as its last change has the reasons.
type DecisionRow struct {
	EventID   string    `json:"eventID"`
	EventSeq  int64     `json:"event"`
	Decisions []Outcome `json:"decisions"`
}

// Outcome is a [Decision] in short.
type Outcome struct {
	Sensor  string `json:"sensor"`
	Trigger string `json:"trigger"`
	Outcome string `json:"outcome"`
}

// FiringRow is the body of a row of table "firing".
type FiringRow struct {
	Fired
	FiredAt  time.Time `json:"firedAt"`
	Attempts int       `json:"attempts,omitempty"`
	Result   string    `json:"result,omitempty"`
	Error    string    `json:"error,omitempty"`
}

// StateRow is the body of a row of table "sensor-state".
type StateRow struct {
	Sensor  string `json:"sensor"`
	Trigger string `json:"trigger"`
	Digest  string `json:"digest,omitempty"`
	TriggerState
}

// Subject is the subject of an event's entries: event/namespace/source/subject.
func Subject(e Event) string { return "event/" + e.Namespace + "/" + e.Source + "/" + e.Subject }

// DeliveryKey is the unique key that keeps a delivery from being counted twice by the same source; empty for an
// event without delivery id, and for a replay.
func DeliveryKey(e Event) string { return deliveryKey(e, e.Delivery) }

// ContentKey is the unique key of a signed delivery's content; empty where [Event.Content] is, and for a replay.
func ContentKey(e Event) string { return deliveryKey(e, e.Content) }

func deliveryKey(e Event, id string) string {
	if id == "" || e.ReplayOf != 0 {
		return ""
	}
	return "delivery/" + e.Namespace + "/" + e.Source + "/" + e.Subject + "/" + id
}

// FiringKey is the unique key that keeps a firing from being counted twice.
func FiringKey(key string) string { return "firing/" + key }

// Replay makes a new event that repeats a recorded one.
func Replay(e Event, id string, now time.Time) Event {
	e.ReplayOf, e.Seq = e.Seq, 0
	e.ID, e.Time, e.Delivery, e.Content, e.Filtered = id, now, "", "", ""
	return e
}

// FromEntry reads an event back from its entry.
func FromEntry(entry ledger.Entry) (Event, error) {
	if entry.Kind != KindReceived {
		return Event{}, fmt.Errorf("read event %d: the entry is %q, not %q", entry.Seq, entry.Kind, KindReceived)
	}
	if entry.Pruned {
		return Event{}, fmt.Errorf("read event %d: its body was erased: %w", entry.Seq, ledger.ErrNotFound)
	}
	body, err := ledger.Read[Received](entry)
	body.Event.Seq = entry.Seq
	return body.Event, err
}

// Rows is the projection of this room.
type Rows struct{}

var _ ledger.Projection = Rows{}

// Tables implements ledger.Projection.
func (Rows) Tables() []string {
	return []string{TableEvent, TableDecision, TableSensorState, TableFiring, TableApproval}
}

// Version implements ledger.Projection.
func (Rows) Version() int { return 2 }

// Wants implements ledger.Projection.
func (Rows) Wants(kind string) bool {
	switch kind {
	case KindReceived, KindDecided, KindRetried, KindFired, KindDone, KindFailed, KindRedriven, KindHeld, KindApproved:
		return true
	}
	return false
}

// Apply implements ledger.Projection.
func (Rows) Apply(e ledger.Entry, rows ledger.Rows) error {
	if e.Pruned || len(e.Body) == 0 {
		return nil // what was erased leaves no row
	}
	switch e.Kind {
	case KindReceived:
		return applyReceived(e, rows)
	case KindDecided, KindRetried:
		return applyDecided(e, rows)
	case KindFired:
		return applyFired(e, rows)
	case KindDone, KindFailed, KindRedriven:
		return applySettled(e, rows)
	case KindHeld, KindApproved:
		return applyApproval(e, rows)
	}
	return nil
}

func put(rows ledger.Rows, row ledger.Row, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("write row %s %s: %w", row.Table, row.Key, err)
	}
	row.Body = raw
	return rows.Put(row)
}

func applyReceived(e ledger.Entry, rows ledger.Rows) error {
	body, err := ledger.Read[Received](e)
	if err != nil {
		return err
	}
	ev := body.Event
	row := EventRow{DataBytes: len(ev.Data)}
	if len(ev.Data) > maxRowData {
		ev.Data = nil
	}
	labels := map[string]string{"type": ev.Type, "source": ev.Source}
	if g := ev.Git; g != nil {
		for name, value := range map[string]string{"repo": g.Repo.FullName, "branch": g.Branch, "tag": g.Tag, "commit": g.SHA} {
			if value != "" {
				labels[name] = value
			}
		}
		if g.PR != nil {
			labels["mr"] = strconv.Itoa(g.PR.Number)
		}
		short := *g
		short.Commits, short.ChangedFiles = nil, nil
		ev.Git = &short
	}
	row.Event = ev
	return put(rows, ledger.Row{Table: TableEvent, Key: ev.ID, Owner: sourceKey(ev.Namespace, ev.Source), Time: e.Time, Labels: labels, Stamp: ledger.Stamp{Field: "seq"}}, row)
}

func sourceKey(namespace, name string) string { return namespace + "/" + name }

// sourceOf is the source in the subject of an event's entries; see [Subject].
func sourceOf(subject string) string {
	parts := strings.SplitN(subject, "/", 4)
	if len(parts) < 3 || parts[0] != "event" {
		return ""
	}
	return sourceKey(parts[1], parts[2])
}

func applyDecided(e ledger.Entry, rows ledger.Rows) error {
	body, err := ledger.Read[Decided](e)
	if err != nil {
		return err
	}
	short := DecisionRow{EventID: body.EventID, EventSeq: body.EventSeq, Decisions: make([]Outcome, len(body.Decisions))}
	if short.EventSeq == 0 && len(body.Decisions) > 0 { // written before the body named it
		short.EventSeq = body.Decisions[0].EventSeq
	}
	for i, d := range body.Decisions {
		short.Decisions[i] = Outcome{Sensor: d.Sensor, Trigger: d.Trigger, Outcome: d.Outcome}
	}
	if err := put(rows, ledger.Row{Table: TableDecision, Key: body.EventID, Owner: sourceOf(e.Subject), Time: e.Time}, short); err != nil {
		return err
	}
	for _, state := range body.States {
		word := "idle"
		if len(state.Saved) > 0 {
			word = "waiting"
		}
		row := ledger.Row{Table: TableSensorState, Key: state.Sensor + "/" + state.Trigger, Owner: state.Sensor, State: word, Time: e.Time}
		if err := put(rows, row, state); err != nil {
			return err
		}
	}
	return nil
}

func applyFired(e ledger.Entry, rows ledger.Rows) error {
	body, err := ledger.Read[Fired](e)
	if err != nil {
		return err
	}
	body.Firing = nil // the entry and the outbox have it
	row := ledger.Row{Table: TableFiring, Key: body.Key, Owner: body.EventID, State: "pending", Time: e.Time,
		Labels: map[string]string{"sensor": body.Sensor, "trigger": body.Trigger}}
	if err := put(rows, row, FiringRow{Fired: body, FiredAt: e.Time}); err != nil {
		return err
	}
	of, err := rows.Get(TableEvent, body.EventID)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil // pruned
	}
	if err != nil {
		return err
	}
	var ev EventRow
	if err := json.Unmarshal(of.Body, &ev); err != nil {
		return fmt.Errorf("read row of event %s: %w", body.EventID, err)
	}
	ev.Firings++
	of.State = "fired"
	return put(rows, of, ev)
}

func applySettled(e ledger.Entry, rows ledger.Rows) error {
	body, err := ledger.Read[Settled](e)
	if err != nil {
		return err
	}
	row, err := rows.Get(TableFiring, body.Key)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var firing FiringRow
	if err := json.Unmarshal(row.Body, &firing); err != nil {
		return fmt.Errorf("read row of firing %s: %w", body.Key, err)
	}
	if body.Attempt > 0 {
		firing.Attempts = body.Attempt
	}
	switch {
	case e.Kind == KindDone:
		row.State, firing.Result, firing.Error = "done", body.Result, ""
	case e.Kind == KindRedriven:
		row.State, firing.Error, firing.Attempts = "pending", "", 0
	case body.Dead:
		row.State, firing.Error = "dead", body.Error
	default:
		firing.Error = body.Error
	}
	return put(rows, row, firing)
}
