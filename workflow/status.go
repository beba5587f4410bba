package workflow

import (
	"time"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/manifest"
)

// Phase of a node or of a run, in Argo's words.
type Phase string

// The phases. Skipped and Omitted are of nodes only; the empty phase is a run that has not begun.
const (
	Pending   Phase = "Pending"
	Running   Phase = "Running"
	Succeeded Phase = "Succeeded"
	Skipped   Phase = "Skipped"
	Failed    Phase = "Failed"
	Error     Phase = "Error"
	Omitted   Phase = "Omitted"
)

// Done reports whether the phase is final.
func (p Phase) Done() bool {
	switch p {
	case Succeeded, Skipped, Failed, Error, Omitted:
		return true
	}
	return false
}

// NodeType in Argo's words.
type NodeType string

// The node types.
const (
	NodePod       NodeType = "Pod"
	NodeContainer NodeType = "Container"
	NodeSteps     NodeType = "Steps"
	NodeStepGroup NodeType = "StepGroup"
	NodeDAG       NodeType = "DAG"
	NodeTaskGroup NodeType = "TaskGroup"
	NodeRetry     NodeType = "Retry"
	NodeSkipped   NodeType = "Skipped"
	NodeSuspend   NodeType = "Suspend"
	NodeHTTP      NodeType = "HTTP"
	NodePlugin    NodeType = "Plugin"
)

// Node is a node in the shape of Argo's status.nodes, plus what Argo has not. It is the body of a row of the
// "node" table (key run-key + "/" + id, owner the run's key) and an element of status.nodes.
type Node struct {
	ID            string                `json:"id"`
	Name          string                `json:"name"`
	DisplayName   string                `json:"displayName"`
	Type          NodeType              `json:"type"`
	TemplateName  string                `json:"templateName,omitempty"`
	TemplateRef   *manifest.TemplateRef `json:"templateRef,omitempty"`
	TemplateScope string                `json:"templateScope,omitempty"`
	Phase         Phase                 `json:"phase,omitempty"`
	BoundaryID    string                `json:"boundaryID,omitempty"`
	Message       string                `json:"message,omitempty"`
	StartedAt     *time.Time            `json:"startedAt"`
	FinishedAt    *time.Time            `json:"finishedAt"`
	Progress      string                `json:"progress,omitempty"`
	PodIP         string                `json:"podIP,omitempty"`
	HostNodeName  string                `json:"hostNodeName,omitempty"`
	Daemoned      *bool                 `json:"daemoned,omitempty"`
	Inputs        *manifest.Inputs      `json:"inputs,omitempty"`
	Outputs       *manifest.Outputs     `json:"outputs,omitempty"`
	// Children and OutboundNodes are empty in rows and entries: [Link] derives them from Parent, After and Order,
	// so that a node with ten thousand children is not written again for each of them.
	Children      []string  `json:"children,omitempty"`
	OutboundNodes []string  `json:"outboundNodes,omitempty"`
	NodeFlag      *NodeFlag `json:"nodeFlag,omitempty"`
	// Waiting says in words what a node waits for: a lock and its holder, a person, a time.
	Waiting string `json:"synchronizationStatus,omitempty"`
	// Why says in words why a node was skipped, omitted or is waiting: "when 'heads == tails' evaluated false".
	Why string `json:"why,omitempty"`
	// Attempt counts the infrastructure attempts at this pod, from 0.
	Attempt int `json:"attempt,omitempty"`
	// Parent is the node that this one is part of: the step group, task group, retry, DAG or hooked node.
	// Empty for the root and for the handlers of the whole run.
	Parent string `json:"parent,omitempty"`
	// After names the nodes whose outbound nodes this one follows (the previous group, a task's dependencies).
	// In Argo's graph the node is then a child of those; without After it is a child of Parent.
	After []string `json:"after,omitempty"`
	// Order counts the nodes of a run in the order in which they came to be.
	Order int `json:"order,omitempty"`
	// Position is where in its file the step or task that made the node stands; absent if not known.
	Position *manifest.Position `json:"position,omitempty"`
}

// NodeFlag marks nodes made by hooks and retries, as Argo does.
type NodeFlag struct {
	Hooked  bool `json:"hooked,omitempty"`
	Retried bool `json:"retried,omitempty"`
}

// Run is the summary of a run: the body of a row of the "run" table (key namespace/name; labels are the run's).
// It holds no nodes and no spec.
type Run struct {
	UID         string            `json:"uid"`
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	Phase       Phase             `json:"phase,omitempty"`
	Message     string            `json:"message,omitempty"`
	Progress    string            `json:"progress,omitempty"` // finished/total pods, "2/3"
	CreatedAt   time.Time         `json:"createdAt"`
	StartedAt   *time.Time        `json:"startedAt,omitempty"`
	FinishedAt  *time.Time        `json:"finishedAt,omitempty"`
	Suspended   bool              `json:"suspended,omitempty"`
	Shutdown    string            `json:"shutdown,omitempty"` // Stop or Terminate
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Outputs     *manifest.Outputs `json:"outputs,omitempty"`
	// Failed names the first node that failed, so that a screen can land on it.
	Failed string `json:"failed,omitempty"`
	// Conditions as Argo has them, and "NoEffect" for fields that have no effect here.
	Conditions []Condition `json:"conditions,omitempty"`
	// Template is the origin if the run was made from a template: "WorkflowTemplate/name".
	Template string `json:"template,omitempty"`
	// Event is the sequence of the ledger entry of the event that led to the run; 0 if none.
	Event int64 `json:"event,omitempty"`
	// ActsFor is what the run may act for; nil in runs of servers that did not record it.
	ActsFor *claims.ActsFor `json:"actsFor,omitempty"`
	// Earlier is the run whose results this one takes, and whose artifacts it therefore reads; nil for none.
	Earlier *Earlier `json:"earlier,omitempty"`
}

// Claims is whom and what the run acts for, as it was settled when the run was submitted.
func (s *State) Claims() claims.Record { return s.start.claimed() }

// For is for whom the run's pods are, as it was found out when the run was submitted.
func (s *State) For() podpolicy.Subject { return s.start.claimed().Subject() }

// Condition follows Argo's status.conditions.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}
