// Package workflow is the engine: what a run does next. It is pure: no clock, no I/O, no goroutine.
//
// [Decide] takes a run's [State] and a [Command] and returns a [Decision]: entries (what is now so) and effects
// (what the world is asked to do). [Apply] changes a State by one entry. Replaying a run's entries through Apply
// from [NewState] gives the same State that Decide left behind. Names, ids, phases and messages are Argo's
// (4.1); the deviations are in docs/compatibility.md.
//
// The caller owns the State, gives the time and a seed in each command, writes the entries and effects to the
// ledger in one transaction, and throws the State away (to load it again) if that write fails, because Decide
// has already applied the entries to it.
package workflow

import (
	"encoding/json"
	"time"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// Meta is what every command has.
type Meta struct {
	// Now is the time of the decision, UTC.
	Now time.Time
	// Seed feeds the random functions of expressions. What they give is recorded in the entries, so a replay does
	// not need it.
	Seed int64
	// Actor is who asked: "user:ada", "system".
	Actor string
}

// Command is something that a run is told. One of [Submit], [Report], [Fired], [Got], [Control].
type Command interface{ command() Meta }

// Submit begins a run. It must be the first command. A manifest that cannot be run is refused with a
// [*InvalidError]; objects that are needed first with a [*MissingError], to be submitted again with them in Objects.
type Submit struct {
	Meta
	UID       string
	Namespace string
	// Name is final: a generateName has been completed by the caller.
	Name string
	// Workflow is the manifest as JSON, with Positions of its fields by path where known.
	Workflow  json.RawMessage
	Positions map[string]manifest.Position
	// Given marks what in it is not the author's: no tag is looked for there.
	Given []manifest.Given
	// Parameters override spec.arguments; Entrypoint, Labels and Annotations add to the manifest.
	Parameters  map[string]string
	Entrypoint  string
	Labels      map[string]string
	Annotations map[string]string
	// Objects are the templates and ConfigMaps that the manifest refers to, pinned into the run.
	Objects map[Ref]json.RawMessage
	// Defaults is merged under the spec: Argo's workflowDefaults (JSON of a Workflow); may be nil.
	Defaults json.RawMessage
	// Invalid, if not empty, makes a run that ends at once as Failed with "invalid spec: " and this message: what
	// becomes of a Workflow that is an object before anybody looks at it (Argo's controller).
	Invalid string
	// Warnings are what was found in the manifest that does not keep it from running; the run shows them.
	Warnings []manifest.Diagnostic
	// Platform is what the run's executor does not do: the fields are refused, or the run records that they have no effect.
	Platform executor.Fields
	// Event is the ledger sequence of the event that led to the run; 0 if none.
	Event int64
	// Claims is whom and what the run acts for, which is recorded and which its pods carry; nil, if nobody asked, is nobody.
	Claims *claims.Record
	// ScheduledTime is set for runs of a CronWorkflow.
	ScheduledTime *time.Time
	// Grants is what the operator gives the run's pods, for the record.
	Grants []string
	// Earlier is a run of which this is a repetition that takes the results of steps that succeeded there; nil for none.
	Earlier *Earlier
}

// Ref names an object outside the run. Kind is WorkflowTemplate, ClusterWorkflowTemplate, ConfigMap or Secret.
type Ref struct {
	Kind, Namespace, Name string
}

// Report says what an executor reported of a pod.
type Report struct {
	Meta
	Report executor.Report
}

// Fired says that a timer asked for by [SetTimer] is due.
type Fired struct {
	Meta
	Key string
}

// Got answers a [Need] or an [Acquire].
type Got struct {
	Meta
	// Key is the Key of the effect that asked.
	Key string
	// Objects answers a Need; a name that does not exist has a nil value.
	Objects map[Ref]json.RawMessage
	// Granted answers an Acquire; if it is false, Waiting says who holds the lock, and another Got follows later.
	Granted bool
	Waiting string
	// Memo answers a Need for a memoised result: the stored outputs, nil for a miss.
	Memo json.RawMessage
	// Earlier says that Memo is what the node of the earlier run left.
	Earlier bool
	// Keys answers a Need for a list of artifacts, in order.
	Keys []string
	// Error says that the answer cannot be had.
	Error string
}

// Control is a person's or the API's command.
type Control struct {
	Meta
	// Verb is one of the Verb constants.
	Verb string
	// Nodes selects nodes by Argo's field selector (e.g. "displayName=approve") for resume, set and retry.
	Nodes string
	// Parameters are output parameters for Resume and Set, or new arguments for Retry.
	Parameters map[string]string
	// Phase and Message are for Set.
	Phase   Phase
	Message string
	// RestartSuccessful is for Retry.
	RestartSuccessful bool
}

// The verbs of Control.
const (
	Suspend   = "suspend"
	Resume    = "resume"
	Stop      = "stop"      // no new steps, exit handlers run
	Terminate = "terminate" // no new steps, no exit handlers
	Retry     = "retry"     // of a failed run: failed nodes again, as new attempts
	Set       = "set"       // a suspended node's outputs, phase, message
)

func (m Meta) command() Meta { return m }

// MetaOf gives what every command has.
func MetaOf(c Command) Meta { return c.command() }

// Decision is what Decide returns.
type Decision struct {
	Entries []Entry
	Effects []Effect
}

// Entry is one fact of a run; its kind is the ledger entry's. Entry bodies are versioned by kind: a body that
// was once written is understood for ever.
type Entry struct {
	// Kind is "run.submitted", "run.started", "run.finished", "node.created", …
	Kind string
	// Node is the id of the node it is about; empty for the run.
	Node string
	// Body marshals to the ledger entry's body; DecodeEntry reads it back.
	Body any
}

// Effect is something that the world is asked to do, once by Key. One of the types below.
type Effect interface {
	// EffectKey is unique within the run: "start/NODE/ATTEMPT".
	EffectKey() string
}

// StartPod asks for a pod; [Pod] gives it.
type StartPod struct {
	Node    string `json:"node"`
	Attempt int    `json:"attempt"`
}

// StopPod asks a pod to end.
type StopPod struct {
	Node    string        `json:"node"`
	Attempt int           `json:"attempt"`
	Grace   time.Duration `json:"grace"`
}

// SetTimer asks for a Fired at a time; the same Key moves it.
type SetTimer struct {
	Key string    `json:"key"`
	At  time.Time `json:"at"`
}

// CancelTimer takes a SetTimer back.
type CancelTimer struct {
	Key string `json:"key"`
}

// Need asks for objects that only became known during the run, for a memoised result, or for a list of artifacts. If there is a node of an
// earlier run its outputs are the result, if it succeeded; only otherwise a memoised one is.
type Need struct {
	Key     string       `json:"key"`
	Refs    []Ref        `json:"refs,omitempty"`
	Memo    *Memo        `json:"memo,omitempty"`
	Earlier *EarlierNode `json:"earlier,omitempty"`
	List    *List        `json:"list,omitempty"`
}

// List asks for the keys below a folder of the built-in store, on behalf of a node.
type List struct {
	Node   string `json:"node"`
	Folder string `json:"folder"`
}

// Memo names a memoised result.
type Memo struct {
	Cache  string        `json:"cache"`
	Key    string        `json:"key"`
	MaxAge time.Duration `json:"maxAge,omitempty"`
}

// PutMemo stores a memoised result.
type PutMemo struct {
	Memo
	Node    string          `json:"node"`
	Outputs json.RawMessage `json:"outputs"`
}

// Acquire asks for locks, all or none, for a holder. Holders wait in order of priority, then of time.
type Acquire struct {
	Key      string    `json:"key"`
	Holder   string    `json:"holder"` // namespace/run or namespace/run/node
	Locks    []Lock    `json:"locks"`
	Priority int32     `json:"priority"`
	Since    time.Time `json:"since"`
}

// Lock names a mutex (Limit 1) or a semaphore (its limit is read from the ConfigMap at the time of the grant).
type Lock struct {
	// Name is Argo's: "default/Mutex/name" or "default/ConfigMap/name/key".
	Name string `json:"name"`
	// Limit is 1 for a mutex; 0 means that it is read from Ref.
	Limit int    `json:"limit,omitempty"`
	Ref   Ref    `json:"ref,omitzero"`
	Key   string `json:"key,omitempty"`
}

// Release gives a holder's locks back, or withdraws its place in the queue.
type Release struct {
	Holder string `json:"holder"`
}

// DeleteClaims asks that claims of a run that has ended are deleted.
type DeleteClaims struct {
	// Owner is the run's uid: a claim of that name that is not the run's stays. Empty for claims that belong to nobody in particular.
	Owner     string   `json:"owner,omitempty"`
	Namespace string   `json:"namespace"`
	Names     []string `json:"names"`
}

// Request asks for one HTTP request of an http template, made in the server's process; it is answered by a Report.
type Request struct {
	Node    string                `json:"node"`
	Attempt int                   `json:"attempt"`
	HTTP    manifest.HTTPTemplate `json:"http"`
}

// EffectKey implements Effect.
func (e StartPod) EffectKey() string { return podKey("start", e.Node, e.Attempt) }

// EffectKey implements Effect.
func (e DeleteClaims) EffectKey() string { return "claims" }

// EffectKey implements Effect.
func (e StopPod) EffectKey() string { return podKey("stop", e.Node, e.Attempt) }

// EffectKey implements Effect.
func (e SetTimer) EffectKey() string { return "timer/" + e.Key }

// EffectKey implements Effect.
func (e CancelTimer) EffectKey() string { return "timer/" + e.Key }

// EffectKey implements Effect.
func (e Need) EffectKey() string { return "need/" + e.Key }

// EffectKey implements Effect.
func (e PutMemo) EffectKey() string { return "memo/" + e.Node }

// EffectKey implements Effect.
func (e Acquire) EffectKey() string { return "lock/" + e.Key }

// EffectKey implements Effect.
func (e Release) EffectKey() string { return "release/" + e.Holder }

// EffectKey implements Effect.
func (e Request) EffectKey() string { return podKey("http", e.Node, e.Attempt) }

func podKey(verb, node string, attempt int) string {
	b, _ := json.Marshal(attempt)
	return verb + "/" + node + "/" + string(b)
}

// InvalidError says that a manifest cannot be run.
type InvalidError struct{ Diagnostics []manifest.Diagnostic }

// Error gives the first diagnostics, one a line.
func (e *InvalidError) Error() string {
	s := ""
	for i, d := range e.Diagnostics {
		if i > 0 {
			s += "\n"
		}
		s += d.Error()
	}
	return s
}

// FailureKind implements failure.Classified.
func (e *InvalidError) FailureKind() failure.Kind { return failure.Invalid }

// Unwrap gives the diagnostics that are errors.
func (e *InvalidError) Unwrap() []error {
	var errs []error
	for _, d := range e.Diagnostics {
		if d.Severity == manifest.SeverityError {
			errs = append(errs, d)
		}
	}
	return errs
}

// RefusedError says that a command was refused before it changed anything: the state is as it was.
type RefusedError struct{ Reason error }

// Error gives the reason.
func (e *RefusedError) Error() string { return e.Reason.Error() }

// FailureKind implements failure.Classified.
func (e *RefusedError) FailureKind() failure.Kind { return failure.Conflict }

// Unwrap gives the reason.
func (e *RefusedError) Unwrap() error { return e.Reason }

// MissingError says which objects a Submit needs.
type MissingError struct{ Refs []Ref }

// Error names the objects.
func (e *MissingError) Error() string {
	s := "needs objects that were not given:"
	for _, r := range e.Refs {
		s += " " + r.Kind + "/" + r.Namespace + "/" + r.Name
	}
	return s
}

// FailureKind implements failure.Classified: the manifest refers to what there is not.
func (e *MissingError) FailureKind() failure.Kind { return failure.Invalid }
