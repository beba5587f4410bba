// Package events receives deliveries, lets the sensors decide on every event in the order of the ledger, and
// carries out what they fire.
package events

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/server/gate"
)

// Options of a Controller; all but Fault are required.
type Options struct {
	Ledger      ledger.Ledger
	Runs        *runs.Controller
	Definitions *definitions.Store
	// Secret gives one key of a Secret.
	Secret source.Lookup
	// Program evaluates a program of a repository at a revision, for triggers with a Git source; what is wrong with the program is
	// a [pipeline.Error].
	Program func(ctx context.Context, url, revision, path string, input map[string]any) ([]byte, error)
	// File reads a file of a repository at a revision, for triggers with a Git source.
	File func(ctx context.Context, url, revision, path string) ([]byte, error)
	Now  func() time.Time
	Log  *slog.Logger
	// Fault is called at named points in test builds.
	Fault func(string)
}

// Controller is the event room at work. Methods are safe for concurrent use.
type Controller struct {
	o     Options
	rates rates

	mu        sync.RWMutex
	sensors   []*sensor.Sensor
	receivers map[string]*source.Receiver // by path
	calendars []*source.Calendar
	reloaded  chan struct{} // closed when the calendars have changed

	work chan sensor.Firing
	// fresh are events that were recorded a moment ago: the sensors need not read them again.
	fresh fresh
}

// New returns a controller; nothing happens until Run.
func New(o Options) *Controller {
	if o.Fault == nil {
		o.Fault = func(string) {}
	}
	return &Controller{
		o: o, receivers: map[string]*source.Receiver{}, reloaded: make(chan struct{}),
		work: make(chan sensor.Firing, 4096), rates: newRates(),
	}
}

// hands is how many firings are carried out at a time.
const hands = 8

// Run decides and fires until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	if err := c.Reload(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for range hands {
		wg.Go(func() { c.fireAll(ctx) })
	}
	wg.Go(func() { c.leftovers(ctx) })
	wg.Go(func() { c.tick(ctx) })
	err := c.decideAll(ctx)
	wg.Wait()
	return err
}

// Reload takes sources and sensors from the definitions.
func (c *Controller) Reload(ctx context.Context) error {
	sensors, err := c.loadSensors(ctx)
	if err != nil {
		return err
	}
	defs, err := c.o.Definitions.List(ctx, "EventSource", "")
	if err != nil {
		return fmt.Errorf("load event sources: %w", err)
	}
	receivers := map[string]*source.Receiver{}
	var calendars []*source.Calendar
	for _, d := range defs {
		var es manifest.EventSource
		if err := json.Unmarshal(d.Object, &es); err != nil {
			return fmt.Errorf("decode EventSource %s/%s: %w", d.Namespace, d.Name, err)
		}
		r, diags := source.New(&es, c.o.Secret, source.Options{Now: c.o.Now, NewID: c.newID})
		cals, more := source.NewCalendars(&es)
		c.complain(d, append(diags, more...))
		for _, route := range r.Routes() {
			receivers[route.Path] = r
		}
		calendars = append(calendars, cals...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sensors, c.receivers, c.calendars = sensors, receivers, calendars
	close(c.reloaded)
	c.reloaded = make(chan struct{})
	return nil
}

func (c *Controller) loadSensors(ctx context.Context) ([]*sensor.Sensor, error) {
	defs, err := c.o.Definitions.List(ctx, "Sensor", "")
	if err != nil {
		return nil, fmt.Errorf("load sensors: %w", err)
	}
	var sensors []*sensor.Sensor
	for _, d := range defs {
		var def manifest.Sensor
		if err := json.Unmarshal(d.Object, &def); err != nil {
			return nil, fmt.Errorf("decode Sensor %s/%s: %w", d.Namespace, d.Name, err)
		}
		s, diags := sensor.New(&def, d.Digest)
		c.complain(d, diags)
		if s != nil {
			sensors = append(sensors, s)
		}
	}
	return sensors, nil
}

func (c *Controller) complain(d definitions.Definition, diags []manifest.Diagnostic) {
	for _, diag := range diags {
		if diag.Position.Line == 0 {
			diag.Position = d.Position
		}
		c.o.Log.Warn("definition", "of", d.Key(), "severity", string(diag.Severity), "problem", diag.Error())
	}
}

// ServeHTTP receives a delivery. It answers after the event is in the ledger.
func (c *Controller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.RLock()
	rec := c.receivers[r.URL.Path]
	c.mu.RUnlock()
	if rec == nil {
		gate.Fail(w, failure.NotFoundf("no event source receives at %s", r.URL.Path))
		return
	}
	e, refusal := rec.Receive(r.Context(), r)
	if refusal != nil {
		c.refused(w, r, refusal)
		return
	}
	seq, id, err := c.Record(r.Context(), e, 0)
	if err != nil {
		c.o.Log.Error("record event", "path", r.URL.Path, "error", err)
		text := "the event could not be recorded; send it again"
		if errors.Is(err, ledger.ErrNoSpace) {
			text = "the event could not be recorded, because this server's disk is full; send it again when there is room"
		}
		gate.Fail(w, failure.New(failure.RetryAfter, text))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, "{\"message\":\"success\",\"id\":%q,\"seq\":%d}\n", id, seq)
}

func (c *Controller) refused(w http.ResponseWriter, r *http.Request, refusal *source.Refusal) {
	if refusal.Close {
		w.Header().Set("Connection", "close")
	}
	if refusal.Dropped {
		fmt.Fprintln(w, `{"message":"success","dropped":true}`)
		return
	}
	c.o.Log.Warn("delivery refused", "path", r.URL.Path, "status", refusal.Status, "reason", refusal.Reason)
	gate.FailWith(w, refusal.Status, refusal)
}

// Record writes an event. A delivery that was recorded before gives the first one's sequence and id.
func (c *Controller) Record(ctx context.Context, e event.Event, cause int64) (int64, string, error) {
	draft := ledger.Draft{Actor: e.Actor, Kind: event.KindReceived, Subject: event.Subject(e), Cause: ledger.At(cause), Unique: event.DeliveryKey(e)}
	if draft.Actor == "" {
		draft.Actor = "source:" + e.Namespace + "/" + e.Source
	}
	var err error
	if draft.Body, err = ledger.Encode(event.Received{Event: e}); err != nil {
		return 0, "", err
	}
	var made ledger.Ref
	err = c.o.Ledger.Write(ctx, ledger.Anyone(draft.Subject), func(tx ledger.Tx) error {
		if made, err = tx.Append(draft); err == nil {
			c.fresh.put(made, e)
		}
		return err
	})
	var again *ledger.ExistsError
	if errors.As(err, &again) {
		first, err := c.bySeq(ctx, again.Seq())
		if err != nil {
			return 0, "", fmt.Errorf("find first delivery %s: %w", e.Delivery, err)
		}
		return again.Seq(), first.ID, nil
	}
	return made.Seq(), e.ID, err
}

// Replay records an event once more, caused by the first.
func (c *Controller) Replay(ctx context.Context, id, actor string) (event.Event, error) {
	e, err := c.Event(ctx, id)
	if err != nil {
		return e, err
	}
	again := event.Replay(e, c.newID(), c.o.Now().UTC())
	again.Actor = actor
	seq, _, err := c.Record(ctx, again, e.Seq)
	again.Seq = seq
	return again, err
}

// Event gives a recorded event with its data.
func (c *Controller) Event(ctx context.Context, id string) (event.Event, error) {
	row, err := c.o.Ledger.Row(ctx, event.TableEvent, id)
	if err != nil {
		return event.Event{}, fmt.Errorf("event %s: %w", id, err)
	}
	var er event.EventRow
	if err := json.Unmarshal(row.Body, &er); err != nil {
		return event.Event{}, fmt.Errorf("decode event %s: %w", id, err)
	}
	return c.bySeq(ctx, er.Seq)
}

func (c *Controller) bySeq(ctx context.Context, seq int64) (event.Event, error) {
	entry, err := c.o.Ledger.Entry(ctx, seq)
	if err != nil {
		return event.Event{}, err
	}
	return event.FromEntry(entry)
}

// DryRun tells what the sensors would decide on a recorded event now, without recording anything.
func (c *Controller) DryRun(ctx context.Context, id string) ([]event.Decision, error) {
	e, err := c.Event(ctx, id)
	if err != nil {
		return nil, err
	}
	c.mu.RLock()
	sensors := c.sensors
	c.mu.RUnlock()
	doc := sensor.Read(e)
	var out []event.Decision
	for _, s := range sensors {
		states, err := c.states(ctx, s.Key)
		if err != nil {
			return nil, err
		}
		earlier, err := c.earlier(ctx, s.Needs(states, e))
		if err != nil {
			return nil, err
		}
		out = append(out, s.Decide(states, doc, earlier, c.o.Now()).Decisions...)
	}
	return out, nil
}

// Unheard are the decisions of the sensors that do not listen to an event; they are not recorded.
func (c *Controller) Unheard(e event.Event) []event.Decision {
	c.mu.RLock()
	defer c.mu.RUnlock()
	doc := sensor.Read(e)
	var out []event.Decision
	for _, s := range c.sensors {
		if !s.Listens(e.Namespace, e.Source, e.Subject) {
			out = append(out, s.Decide(nil, doc, nil, c.o.Now()).Decisions...)
		}
	}
	return out
}

// newID makes an event's id: the time in milliseconds, so that ids made one after the other lie side by side in the ledger's
// indexes, and ten bytes of chance.
func (c *Controller) newID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(c.o.Now().UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Waiting tells where the condition of every sensor's trigger stands.
func (c *Controller) Waiting(ctx context.Context) ([]SensorState, error) {
	c.mu.RLock()
	sensors := c.sensors
	c.mu.RUnlock()
	out := make([]SensorState, 0, len(sensors))
	for _, s := range sensors {
		states, err := c.states(ctx, s.Key)
		if err != nil {
			return nil, err
		}
		out = append(out, SensorState{Sensor: s.Key, Suspended: s.Suspended, Triggers: s.Triggers(states)})
	}
	return out, nil
}

// SensorState is where a sensor stands.
type SensorState struct {
	Sensor    string           `json:"sensor"`
	Suspended bool             `json:"suspended,omitempty"`
	Triggers  []sensor.Waiting `json:"triggers"`
}
