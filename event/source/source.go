// Package source is the seam between the world and the events of the ledger: what a kind of event source is, and what it may
// use of the program around it. Each kind has a folder below this one: hook (webhooks, generic, the forges) and calendar.
//
// A source acknowledges what it took after the event is durable, and never before: [Sink.Deliver] returns after the commit. Every
// kind runs the suite in event/source/sourcetest.
package source

import (
	"context"
	"net/http"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// Kind is a kind of event source. It holds no state; its methods are safe for concurrent use.
type Kind interface {
	// Name is the key under an EventSource's spec: "webhook", "calendar".
	Name() string
	// Limits says by Go type what of this kind's part of a manifest has no effect.
	Limits() map[string]manifest.Limit
	// Check says what is wrong with one event, by paths from the definition's root. It reads nothing but the definition.
	Check(Definition) []manifest.Diagnostic
	// Open makes the source of one event. Nothing happens outside until Run. A definition with errors is refused.
	Open(Definition, Tools) (Source, error)
}

// Definition is one named event of an EventSource.
type Definition struct {
	Namespace, Source, Event string
	// Spec is the whole EventSource's; a kind reads its own map at Event. It must not be changed.
	Spec *manifest.EventSourceSpec
}

// Path is the place of the event in its manifest.
func (d Definition) Path(kind string) string { return manifest.JoinPath("spec."+kind, d.Event) }

// Source is one event of an EventSource at work.
type Source interface {
	// Run takes what happens outside until ctx ends, which is no error. An error means that it cannot go on now; whoever runs it
	// shows the error and runs it again after a wait. It is called once at a time.
	Run(ctx context.Context) error
}

// Receiver is a Source that others call over HTTP, also while Run was not called yet.
type Receiver interface {
	Source
	// Routes are the paths at which it wants to be called. They do not change.
	Routes() []Route
	// Receive takes a request at one of the routes. The answer is a success only after the event is durable.
	Receive(context.Context, *http.Request) Answer
}

// Open is a [Receiver] that may take deliveries from anybody.
type Open interface {
	// Unauthenticated says that nothing is asked of a sender that would prove who they are.
	Unauthenticated() bool
}

// Route is a path at which a [Receiver] is called.
type Route struct {
	Path string `json:"path"`
	// Declared says that the path is an endpoint that the definition names: another event's own path comes before it.
	Declared bool `json:"declared,omitempty"`
}

// Answer is what a sender is told.
type Answer struct {
	// Status is an HTTP status: 2xx if the event is durable or was left out on purpose, 503 for what may pass.
	Status int
	// Receipt names the recorded event; its Seq is 0 where none was recorded.
	Receipt
	// Filtered says that the source's filter left the event out: it is recorded, and no sensor is asked.
	Filtered bool
	// Reason says why no event was recorded, for the sender and the log; it holds no secret.
	Reason string
	// Close says that the connection must be closed: the body was not read to its end.
	Close bool
	// Err is the fault of this server behind a status of 500 and above, for its operator; nil if the sender is at fault.
	Err error
}

// Receipt names a recorded event.
type Receipt struct {
	// Seq is the event's entry, ID the event's id; for a delivery that was recorded before, those of the first.
	Seq int64
	ID  string
}

// Sink takes events.
type Sink interface {
	// Deliver records an event and returns after it is durable. A delivery that was recorded before is a success. After an
	// error nothing is recorded: the caller must not acknowledge, and delivers the event again when it comes again.
	Deliver(ctx context.Context, e event.Event) (Receipt, error)
}

// Secrets are read when they are needed, so that a replaced one is worth nothing at once.
type Secrets interface {
	// Secret gives one key of a Secret. Any error is taken for one that may pass: a sender that is told otherwise may give up.
	Secret(ctx context.Context, namespace, name, key string) (secret.Value, error)
}

// History is what was recorded before.
type History interface {
	// Last is the newest recorded event of one event of a source; ledger.ErrNotFound if there is none.
	Last(ctx context.Context, namespace, source, subject string) (event.Event, error)
}

// Clock is the time that a source lives in.
type Clock interface {
	Now() time.Time
	// Wait returns nil when a time has come, and the context's error if that ends before.
	Wait(ctx context.Context, until time.Time) error
}

// Tools are what a source may use of the program around it. All are required.
type Tools struct {
	Sink    Sink
	Secrets Secrets
	History History
	Clock   Clock
	// NewID makes the id of an event.
	NewID func() string
}

// The waits between two attempts to record an event.
const (
	firstWait   = time.Second
	longestWait = time.Minute
)

// Insist delivers an event as often as it takes, with growing waits, for sources that nobody asks again: what they let go is lost.
// The error is the context's.
func (t Tools) Insist(ctx context.Context, e event.Event) error {
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		if _, err := t.Sink.Deliver(ctx, e); err == nil {
			return nil
		}
		if err := t.Clock.Wait(ctx, t.Clock.Now().Add(wait)); err != nil {
			return err
		}
	}
}
