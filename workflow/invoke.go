package workflow

import (
	"encoding/json"
	"fmt"

	"github.com/tiphys/tiphys/manifest"
)

// invocation asks for a node that runs a template.
type invocation struct {
	name, display string
	parent        *node
	boundary      *node
	after         []string
	role          role
	site          *site
	siteKey       string
	step          string
	callee        *template
	args          manifest.Arguments
	item          json.RawMessage
	index         int
	depth         int
	exit          bool
	hooked        bool
	position      *manifest.Position
	// extra has what is said for the occasion: retries, lastRetry.…
	extra map[string]any
}

// maxDepth is Argo's limit of templates that call templates.
const maxDepth = 100

// newNode makes a node that is not yet part of the run.
func (t *turn) newNode(v invocation, typ NodeType) *node {
	n := &node{
		Node: Node{
			ID: t.s.freeID(v.name), Name: v.name, DisplayName: v.display, Type: typ, StartedAt: ptr(t.now),
			After: v.after, Order: t.s.count + 1, Position: v.position,
		},
		plan: plan{Site: v.siteKey, Step: v.step, Role: v.role, Item: v.item, Index: v.index, Depth: v.depth, Exit: v.exit},
	}
	if v.parent != nil {
		n.Parent = v.parent.ID
	}
	if v.boundary != nil {
		n.BoundaryID = v.boundary.ID
	}
	if v.hooked {
		n.NodeFlag = &NodeFlag{Hooked: true}
	}
	if v.callee != nil {
		n.Template, n.TemplateName, n.TemplateScope = v.callee.key, v.callee.name, v.callee.scope
	}
	if v.site != nil {
		n.TemplateRef = v.site.loose.TemplateRef
	}
	return n
}

// create records a node that is to go on.
func (t *turn) create(n *node) *node {
	t.emit(kindCreated, n.ID, &nodeCreated{Node: n.Node, Plan: n.plan, Planned: n.planned, Lock: n.lock, Memo: n.memo, Need: n.need, Pod: n.pod})
	return t.s.node(n.ID)
}

// createDone records a node that has ended as it is made: skipped, omitted, or refused.
func (t *turn) createDone(v invocation, typ NodeType, phase Phase, message string) {
	n := t.newNode(v, typ)
	n.Phase, n.Message, n.FinishedAt = phase, message, ptr(t.now)
	if phase == Skipped || phase == Omitted {
		n.Why = message
	}
	t.emit(kindCreated, n.ID, &nodeCreated{Node: n.Node, Plan: n.plan, Settled: true})
	n = t.s.node(n.ID)
	if n == nil {
		return
	}
	if phase.bad() && t.s.run.Failed == "" {
		t.changeRun(kindRunChange, runChange{Failed: n.ID})
	}
	t.tell(n)
}

// invoke makes the node of an invocation and sets it going as far as it can go now.
func (t *turn) invoke(v invocation) {
	if v.depth > maxDepth {
		t.createDone(v, NodeSkipped, Error, "Maximum recursion depth exceeded")
		return
	}
	inputs, err := t.inputs(v)
	if err != nil && v.parent != nil && v.role == roleStep && t.needs(v.parent, err) {
		return // it is made when the object is there
	}
	if err != nil {
		t.createDone(v, kindType(v.callee), Error, err.Error())
		return
	}
	n := t.newNode(v, kindType(v.callee))
	n.Inputs = inputs
	n.Phase = Pending
	if rs, err := t.retryStrategy(n, v.callee); err != nil {
		t.createDone(v, n.Type, Error, err.Error())
		return
	} else if rs != nil {
		n.Strategy = rs
		n.Type = NodeRetry
	}
	if v.callee.kind == "resource" || v.callee.kind == "plugin" {
		t.createDone(v, n.Type, Error, unsupported(v.callee.kind))
		return
	}
	t.enter(n, true)
}

// kindType is the type of node that a template makes.
func kindType(tm *template) NodeType {
	if tm == nil {
		return NodeSkipped
	}
	switch tm.kind {
	case "steps":
		return NodeSteps
	case "dag":
		return NodeDAG
	case "suspend":
		return NodeSuspend
	case "http":
		return NodeHTTP
	case "plugin":
		return NodePlugin
	}
	return NodePod
}

// enter takes a node through the gates in front of its template: a place (parallelism), its locks, its memoised
// result. A node that is made now is recorded with the state in which it comes to rest; one that stood before a
// gate is changed.
func (t *turn) enter(n *node, fresh bool) {
	if full, key := t.full(n); full {
		if n.lock == lockHeld {
			// Whoever has the place may need the lock: nobody holds a lock while waiting for a place.
			t.effect(Release{Holder: t.s.holder(n)})
			t.change(kindChanged, n, nodeChange{Lock: ptr(lockNone)})
		}
		t.plan(n, key, fresh)
		return
	}
	if n.Role != roleAttempt {
		if t.atLocks(n, fresh) || t.atMemo(n, fresh) {
			return
		}
	}
	t.begin(n, fresh)
}

// full reports whether parallelism holds a node back, and who is full: the boundary's id, or "" for the run.
func (t *turn) full(n *node) (bool, string) {
	own := 0
	if n.active {
		own = 1
	}
	if t.s.run.Suspended && n.Type.leaf() && t.stopMessage(n) == "" {
		return true, suspendedKey
	}
	if b := t.s.node(n.BoundaryID); b != nil && n.Type != NodeRetry && n.Role != roleHook && n.Role != roleExit {
		if tm, err := t.s.templateAt(b.Template); err == nil {
			p := tm.loose.Parallelism
			if p != nil && *p > 0 && b.running-own >= int(*p) {
				return true, b.ID
			}
		}
	}
	if p := t.s.spec.Parallelism; p != nil && *p > 0 && n.Type == NodePod && t.s.pods-own >= int(*p) {
		return true, ""
	}
	return false, ""
}

// plan lets a node wait for a place. It is not part of status.nodes until it has one, as in Argo.
func (t *turn) plan(n *node, key string, fresh bool) {
	if !fresh {
		t.change(kindChanged, n, nodeChange{Planned: ptr(true), Blocked: key})
		return
	}
	n.planned = true
	t.emit(kindCreated, n.ID, &nodeCreated{Node: n.Node, Plan: n.plan, Planned: true, Blocked: key, Lock: n.lock})
}

// unblock gives free places to nodes that wait for them.
func (t *turn) unblock(key string) {
	for t.err == nil && len(t.s.blocked[key]) > 0 {
		n := t.s.node(t.s.blocked[key][0])
		if n == nil || !n.planned {
			t.err = fmt.Errorf("node %s waits for a place and is not planned", t.s.blocked[key][0])
			return
		}
		if t.dropBlocked(n) {
			continue
		}
		full, by := t.full(n)
		if full && by == key {
			return
		}
		if full {
			t.plan(n, by, false)
			continue
		}
		t.change(kindStarted, n, nodeChange{Planned: ptr(false), StartedAt: ptr(t.now)})
		t.enter(n, false)
	}
}

// dropBlocked removes a node that must not begin any more because its boundary fails fast.
func (t *turn) dropBlocked(n *node) bool {
	b := t.s.node(n.BoundaryID)
	if b == nil || n.Role == roleHook || n.Role == roleExit || !t.failsFast(b) || b.failures == 0 {
		return false
	}
	p := t.s.node(n.Parent)
	if n.lock != lockNone {
		t.effect(Release{Holder: t.s.holder(n)})
	}
	t.change(kindRemoved, n, nodeChange{})
	if p != nil {
		t.lookAgain(p)
	}
	return true
}

// failsFast reports whether a boundary's template has failFast.
func (t *turn) failsFast(b *node) bool {
	tm, err := t.s.templateAt(b.Template)
	return err == nil && tm.loose.FailFast != nil && *tm.loose.FailFast
}

// begin runs a node's template.
func (t *turn) begin(n *node, fresh bool) {
	tm, err := t.s.within(n)
	if err != nil {
		t.refuse(n, fresh, err)
		return
	}
	switch n.Type {
	case NodeRetry:
		n = t.running(n, fresh)
		t.newAttempt(n)
	case NodeSteps:
		n = t.running(n, fresh)
		t.runningHooks(n)
		t.startGroup(n, tm, 0, nil)
	case NodeDAG:
		n = t.running(n, fresh)
		t.runningHooks(n)
		t.startDAG(n, tm)
	case NodeSuspend:
		t.startSuspend(n, fresh, tm)
	default:
		t.startPod(n, fresh, tm)
	}
}

// running records that a node with children runs.
func (t *turn) running(n *node, fresh bool) *node {
	if fresh {
		n.Phase = Running
		return t.create(n)
	}
	t.change(kindStarted, n, nodeChange{Phase: Running, Message: ptr(""), Waiting: ptr("")})
	return n
}

// refuse ends a node that could not begin.
func (t *turn) refuse(n *node, fresh bool, err error) {
	if fresh {
		n = t.create(n)
	}
	if n != nil {
		t.finish(n, Error, err.Error(), nil)
	}
}

func unsupported(kind string) string {
	return fmt.Sprintf("needs Kubernetes: a %s template cannot run on this machine", kind)
}

// shutdown reports whether the run's shutdown keeps a node from starting work.
func (t *turn) shutdown(n *node) bool {
	switch t.s.run.Shutdown {
	case "Terminate":
		return true
	case "Stop":
		return !n.Exit
	}
	return false
}
