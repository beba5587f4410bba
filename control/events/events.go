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

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/script"
	"github.com/tiphys/tiphys/server/gate"
)

// Repositories are read at a revision: a branch, a tag, a commit or HEAD.
type Repositories interface {
	// File reads one file of the repository at a URL.
	File(ctx context.Context, url, revision, path string) ([]byte, error)
}

// Programs are evaluated.
type Programs interface {
	// Evaluate evaluates a program of a repository at a revision; what is wrong with the program is a [pipeline.Error].
	Evaluate(ctx context.Context, url, revision, path string, input map[string]any) ([]byte, error)
}

// Options of a Controller; all but Programs and Fault are required.
type Options struct {
	Ledger      ledger.Ledger
	Runs        *runs.Controller
	Definitions *definitions.Store
	// Sources are the kinds of event sources that there are.
	Sources source.Kinds
	Secrets source.Secrets
	// Repositories and Programs are for triggers with a Git source. Without Programs programs are refused.
	Repositories Repositories
	Programs     Programs
	// Egress makes the requests of http triggers and of sources by URL; nil refuses what is to be refused.
	Egress *egress.Client
	// Answers writes on merge requests of forges; nil writes nothing.
	Answers Answers
	// Policy says what a sensor's trigger may declare; nil is that of the built-in roles.
	Policy *access.Policy
	Now    func() time.Time
	Log    *slog.Logger
	// Quarantine has what is computed on; nil lets everything happen.
	Quarantine *quarantine.Book
	// Scripts runs the programs of sensors; nil runs them in this process, where little bounds what they make.
	Scripts sensor.Scripts
	// Fault is called at named points in test builds.
	Fault func(string)
}

// Controller is the event room at work. Methods are safe for concurrent use.
type Controller struct {
	o       Options
	rates   rates
	sources *sources
	roster  *roster
	minds   *minds
	health  health
	clock   source.Clock

	work chan sensor.Firing
	// words says that there is a comment to act on.
	words chan struct{}
	// firing has the keys of the firings that are being carried out: the lease of one that takes long may end.
	firing sync.Map
	// fresh are events that were recorded a moment ago: the sensors need not read them again.
	fresh fresh
}

// New returns a controller; nothing happens until Start.
func New(o Options) *Controller {
	if o.Fault == nil {
		o.Fault = func(string) {}
	}
	if o.Scripts == nil {
		o.Scripts = script.Interpreter{}
	}
	if o.Policy == nil {
		builtIn := access.BuiltIn()
		o.Policy = &builtIn
	}
	c := &Controller{o: o, work: make(chan sensor.Firing, 4096), words: make(chan struct{}, 1), rates: newRates(), minds: newMinds(o.Ledger, o.Quarantine), clock: clock{o.Now}}
	c.sources = newSources(o.Sources, source.Tools{Sink: c, Secrets: o.Secrets, History: c, Clock: c.clock, NewID: c.newID}, o.Log)
	c.roster = &roster{
		store: o.Definitions, sources: c.sources, warn: c.complain, book: o.Quarantine, scripts: o.Scripts,
		byKey: map[string]*sensor.Sensor{}, conditions: map[string]Condition{},
	}
	return c
}

var _ control.Service = (*Controller)(nil)

// Name implements control.Service.
func (c *Controller) Name() string { return "events" }

// Health implements control.Service: it is failing while events cannot be decided on or firings not be recorded, and waits while a source
// fails.
func (c *Controller) Health() control.Health {
	if reason, since := c.health.worst(); reason != "" {
		return control.Health{State: control.Failing, Reason: reason, Since: since}
	}
	failing := 0
	for _, s := range c.sources.states() {
		if s.State == "failing" {
			failing++
		}
	}
	if failing > 0 {
		return control.Health{State: control.Waiting, Reason: fmt.Sprintf("%d event sources fail and are tried again", failing)}
	}
	return control.Health{}
}

// Start implements control.Service. It takes sources and sensors from the definitions: from then on what is delivered is received. What is wrong with a definition
// is its own condition; an error is the ledger's.
func (c *Controller) Start(ctx context.Context) error { return c.roster.load(ctx) }

// hands is how many firings are carried out at a time.
const hands = 8

// Run implements control.Service: it receives, decides and fires until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range hands {
		wg.Go(func() { c.fireAll(ctx) })
	}
	wg.Go(func() { c.leftovers(ctx) })
	wg.Go(func() { c.heed(ctx) })
	c.sources.start(ctx)
	err := c.decideAll(ctx)
	c.sources.stop()
	wg.Wait()
	return err
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
	to := c.sources.at(r.URL.Path)
	if to == nil {
		gate.Fail(w, failure.NotFoundf("no event source receives at %s", r.URL.Path))
		return
	}
	answer := to.Receive(r.Context(), r)
	if answer.Close {
		w.Header().Set("Connection", "close")
	}
	switch {
	case answer.Status == http.StatusOK:
		w.Header().Set("Content-Type", "application/json")
		filtered := ""
		if answer.Filtered {
			filtered = `,"filtered":true`
		}
		fmt.Fprintf(w, "{\"message\":\"success\",\"id\":%q,\"seq\":%d%s}\n", answer.ID, answer.Seq, filtered)
	default:
		log := c.o.Log.With("path", r.URL.Path, "status", answer.Status)
		if answer.Err != nil {
			log = log.With("error", answer.Err)
		}
		log.Warn("delivery refused", "reason", answer.Reason)
		gate.FailWith(w, answer.Status, errors.New(answer.Reason))
	}
}

// Deliver implements source.Sink.
func (c *Controller) Deliver(ctx context.Context, e event.Event) (source.Receipt, error) {
	seq, id, err := c.Record(ctx, e, 0)
	return source.Receipt{Seq: seq, ID: id}, err
}

// Last implements source.History. Of an event whose body was erased only the time is known.
func (c *Controller) Last(ctx context.Context, namespace, name, subject string) (event.Event, error) {
	of := event.Subject(event.Event{Namespace: namespace, Source: name, Subject: subject})
	entries, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{Subject: of, Kinds: []string{event.KindReceived}, Newest: true, Limit: 1})
	if err != nil {
		return event.Event{}, fmt.Errorf("find the last of %s: %w", of, err)
	}
	if len(entries) == 0 {
		return event.Event{}, fmt.Errorf("find the last of %s: %w", of, ledger.ErrNotFound)
	}
	if entries[0].Pruned {
		return event.Event{Time: entries[0].Time}, nil
	}
	return event.FromEntry(entries[0])
}

// Record writes an event. A delivery that was recorded before gives the first one's sequence and id.
func (c *Controller) Record(ctx context.Context, e event.Event, cause int64) (int64, string, error) {
	draft, err := received(e, cause)
	if err != nil {
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

// received is the entry that records an event.
func received(e event.Event, cause int64) (ledger.Draft, error) {
	draft := ledger.Draft{Actor: e.Actor, Kind: event.KindReceived, Subject: event.Subject(e), Cause: ledger.At(cause), Unique: event.DeliveryKey(e), Also: []string{event.ContentKey(e)}}
	if draft.Actor == "" {
		draft.Actor = "source:" + e.Namespace + "/" + e.Source
	}
	var err error
	draft.Body, err = ledger.Encode(event.Received{Event: e})
	return draft, err
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
	return bySeq(ctx, c.o.Ledger, seq)
}

func bySeq(ctx context.Context, l ledger.Reader, seq int64) (event.Event, error) {
	entry, err := l.Entry(ctx, seq)
	if err != nil {
		return event.Event{}, err
	}
	e, err := event.FromEntry(entry)
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		err = fmt.Errorf("%w: %w", errEvent, err)
	}
	return e, err
}

// errEvent is an event that cannot be read though the ledger can.
var errEvent = errors.New("the event cannot be read")

// newID makes an event's id: the time in milliseconds, so that ids made one after the other lie side by side in the ledger's
// indexes, and ten bytes of chance.
func (c *Controller) newID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(c.o.Now().UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
