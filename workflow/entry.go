package workflow

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/manifest"
)

// The kinds of a run's entries. The body of each kind is one of the types below.
const (
	// KindSubmitted begins a run; the entry's cause is what led to it.
	KindSubmitted = "run.submitted"

	kindPinned    = "run.pinned" // objects that became known later
	kindRunStart  = "run.started"
	kindRunEnd    = "run.finished"
	kindRunChange = "run.changed"
	kindRunOutput = "run.output"
	kindRetried   = "run.retried"

	kindCreated  = "node.created"
	kindStarted  = "node.started"
	kindChanged  = "node.changed"
	kindFinished = "node.finished"
	kindSettled  = "node.settled" // the hooks of a node have ended too
	kindAttempt  = "node.attempt" // an attempt went away with its machine, or was set aside by a retry
	kindRemoved  = "node.removed" // set aside by a manual retry
	kindReopened = "node.reopened"
)

// submitted is the body of run.submitted.
type submitted struct {
	UID       string `json:"uid"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Workflow is the manifest after merging references and defaults.
	Workflow  json.RawMessage              `json:"workflow"`
	Positions map[string]manifest.Position `json:"positions,omitempty"`
	// Given marks what in the manifest is not the author's.
	Given       []manifest.Given  `json:"given,omitempty"`
	Entrypoint  string            `json:"entrypoint"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Parameters and Artifacts are workflow.parameters and workflow.artifacts, resolved.
	Parameters []manifest.Parameter `json:"parameters,omitempty"`
	Artifacts  []manifest.Artifact  `json:"artifacts,omitempty"`
	Objects    []pinned             `json:"objects,omitempty"`
	Template   string               `json:"from,omitempty"`
	Event      int64                `json:"event,omitempty"`
	// Claims is whom and what the run acts for. Older entries have it in two parts, of which the oldest lack the first.
	Claims        *claims.Record  `json:"claims,omitempty"`
	ActsFor       *claims.ActsFor `json:"actsFor,omitempty"`
	ScheduledTime *time.Time      `json:"scheduledTime,omitempty"`
	Actor         string          `json:"actor,omitempty"`
	Time          time.Time       `json:"time"`
	Suspended     bool            `json:"suspended,omitempty"`
	Conditions    []Condition     `json:"conditions,omitempty"`
	Waiting       lockState       `json:"lock,omitempty"`
	Message       string          `json:"message,omitempty"`
	// For is the second part; runs of the oldest ledgers have nobody. Grants is what the operator gave the pods at the time.
	For    podpolicy.Subject `json:"for,omitzero"`
	Grants []string          `json:"grants,omitempty"`
	// Earlier is the run whose results this one takes; nil for none.
	Earlier *Earlier `json:"earlier,omitempty"`
}

// claimed is whom and what the run acts for, whichever way it is written.
func (b *submitted) claimed() claims.Record {
	switch {
	case b.Claims != nil:
		return *b.Claims
	case b.ActsFor != nil:
		return claims.FromParts(*b.ActsFor, b.For)
	}
	return claims.FromParts(claims.ActsFor{}, b.For)
}

// actsFor is what the run may act for; nil in the oldest ledgers, which did not record it.
func (b *submitted) actsFor() *claims.ActsFor {
	if b.Claims == nil && b.ActsFor == nil {
		return nil
	}
	a := b.claimed().ActsFor()
	return &a
}

// pinned is an object outside the run, as it was when the run took it. A nil Body means that there is none.
type pinned struct {
	Ref
	Body json.RawMessage `json:"body,omitempty"`
}

// runChange is the body of the run entries that change some fields. Nil leaves a field as it is.
type runChange struct {
	Phase      *Phase      `json:"phase,omitempty"`
	Message    *string     `json:"message,omitempty"`
	StartedAt  *time.Time  `json:"startedAt,omitempty"`
	FinishedAt *time.Time  `json:"finishedAt,omitempty"`
	Suspended  *bool       `json:"suspended,omitempty"`
	Shutdown   *string     `json:"shutdown,omitempty"`
	Lock       *lockState  `json:"lock,omitempty"`
	Failed     string      `json:"failed,omitempty"`
	Actor      string      `json:"actor,omitempty"`
	Progress   string      `json:"progress,omitempty"`
	Outputs    *outputList `json:"outputs,omitempty"`
	Pinned     []pinned    `json:"pinned,omitempty"`
	Expired    bool        `json:"expired,omitempty"` // the deadline has passed
	// Parameters are new arguments given with a retry.
	Parameters map[string]string `json:"parameters,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// outputList are outputs published under a global name.
type outputList struct {
	Parameters []manifest.Parameter `json:"parameters,omitempty"`
	Artifacts  []manifest.Artifact  `json:"artifacts,omitempty"`
}

// nodeCreated is the body of node.created.
type nodeCreated struct {
	Node    Node `json:"node"`
	Plan    plan `json:"plan"`
	Planned bool `json:"planned,omitempty"`
	// Blocked says who is full when Planned: the boundary's id, or empty for the run.
	Blocked string    `json:"blocked,omitempty"`
	Settled bool      `json:"settled,omitempty"`
	Lock    lockState `json:"lock,omitempty"`
	Memo    bool      `json:"memo,omitempty"`
	Need    bool      `json:"need,omitempty"`
	Pod     *podStart `json:"pod,omitempty"`
}

// nodeChange is the body of the other node entries. Nil leaves a field as it is.
type nodeChange struct {
	// ID is the node's id, so that a ledger entry about a run tells which node it is about.
	ID         string     `json:"id"`
	Type       NodeType   `json:"type,omitempty"`
	Phase      Phase      `json:"phase,omitempty"`
	Message    *string    `json:"message,omitempty"`
	Why        *string    `json:"why,omitempty"`
	Waiting    *string    `json:"waiting,omitempty"`
	StartedAt  *time.Time `json:"startedAt,omitempty"`
	FinishedAt *time.Time `json:"finishedAt,omitempty"`
	// Inputs are those of a node that goes on after a retry with new arguments.
	Inputs   *manifest.Inputs  `json:"inputs,omitempty"`
	Outputs  *manifest.Outputs `json:"outputs,omitempty"`
	PodIP    string            `json:"podIP,omitempty"`
	Host     string            `json:"hostNodeName,omitempty"`
	Daemoned *bool             `json:"daemoned,omitempty"`
	Planned  *bool             `json:"planned,omitempty"`
	Blocked  string            `json:"blocked,omitempty"`
	Settled  *bool             `json:"settled,omitempty"`
	Lock     *lockState        `json:"lock,omitempty"`
	Memo     *bool             `json:"memo,omitempty"`
	Need     *bool             `json:"need,omitempty"`
	Pod      *podStart         `json:"pod,omitempty"`
	Wake     *time.Time        `json:"wake,omitempty"`
	Stopped  string            `json:"stopped,omitempty"`
	Expect   int               `json:"expect,omitempty"`
	// Refused is how many attempts in a row, this one the last, never began.
	Refused int `json:"refused,omitempty"`
	// Shown is the whole node when it comes to be shown after it has waited for a place: it had no row until then.
	Shown *Node `json:"shown,omitempty"`
	// Ended is what is left of an attempt that is over while its node goes on or goes away.
	Ended *Attempt `json:"ended,omitempty"`
}

// Attempt is the evidence of one attempt at a node that status.nodes does not show: the body of a row of the
// "attempt" table (key run-key + "/" + node id + "/" + number, owner the run's key).
type Attempt struct {
	Node       string            `json:"node"`
	Name       string            `json:"name"`
	Attempt    int               `json:"attempt"`
	Phase      Phase             `json:"phase"`
	Reason     string            `json:"reason,omitempty"`
	Message    string            `json:"message,omitempty"`
	StartedAt  *time.Time        `json:"startedAt,omitempty"`
	FinishedAt *time.Time        `json:"finishedAt,omitempty"`
	Outputs    *manifest.Outputs `json:"outputs,omitempty"`
	Host       string            `json:"hostNodeName,omitempty"`
}

// DecodeEntry reads an entry back from the ledger: kind and body as Entry had them. The node may be left empty;
// the body has it.
func DecodeEntry(kind, node string, body json.RawMessage) (Entry, error) {
	e := Entry{Kind: kind, Node: node}
	switch {
	case kind == KindSubmitted:
		e.Body = &submitted{}
	case kind == kindCreated:
		e.Body = &nodeCreated{}
	case strings.HasPrefix(kind, "run."):
		e.Body = &runChange{}
	case strings.HasPrefix(kind, "node."):
		e.Body = &nodeChange{}
	default:
		return Entry{}, fmt.Errorf("decode entry of a run: kind %q is not known", kind)
	}
	if len(body) == 0 {
		return e, nil
	}
	if err := json.Unmarshal(body, e.Body); err != nil {
		return Entry{}, fmt.Errorf("decode entry %s: %w", kind, err)
	}
	switch b := e.Body.(type) {
	case *nodeCreated:
		e.Node = b.Node.ID
	case *nodeChange:
		e.Node = b.ID
	}
	return e, nil
}
