package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// Apply changes the state by one entry. It decides nothing: what is derived here (counters, lists of children)
// follows from the entries alone.
func Apply(s *State, e Entry) error { return errors.Join(s.apply(e), s.asleep.err) }

func (s *State) apply(e Entry) error {
	switch b := e.Body.(type) {
	case *submitted:
		return s.applySubmitted(b)
	case *runChange:
		s.applyRun(e.Kind, b)
		return nil
	case *nodeCreated:
		return s.applyCreated(b)
	case *nodeChange:
		return s.applyNode(e.Kind, b)
	}
	return fmt.Errorf("apply entry %s: body of type %T is not known", e.Kind, e.Body)
}

func (s *State) applySubmitted(b *submitted) error {
	if s.start.Name != "" {
		return fmt.Errorf("apply run.submitted: run %s/%s was submitted before", s.run.Namespace, s.run.Name)
	}
	s.start = *b
	s.run = Run{
		UID: b.UID, Namespace: b.Namespace, Name: b.Name, CreatedAt: b.Time, Labels: maps.Clone(b.Labels), Annotations: b.Annotations,
		Template: b.Template, Event: b.Event, ActsFor: b.actsFor(), Earlier: b.Earlier, Suspended: b.Suspended, Conditions: b.Conditions, Message: b.Message,
	}
	if b.Waiting != lockNone {
		s.run.Phase, s.lock = Pending, b.Waiting
	}
	for _, p := range b.Objects {
		s.objects[p.Ref] = p.Body
	}
	return s.loadSpec()
}

// loadSpec gives the typed view of the merged manifest.
func (s *State) loadSpec() error {
	tree, err := decodeGiven(s.start.Workflow, s.start.Given)
	if err != nil {
		return fmt.Errorf("read manifest of run %s: %w", s.start.Name, err)
	}
	s.cache.manifest = tree
	s.spec = looseSpec(tree)
	return nil
}

func (s *State) applyRun(kind string, b *runChange) {
	r := &s.run
	if kind == kindRetried {
		r.FinishedAt, r.Message, r.Failed, r.Shutdown, r.Suspended = nil, "", "", "", false
		s.exit, s.hook, s.expired = "", map[string]string{}, false
		s.retries++
	}
	if b.Phase != nil {
		r.Phase = *b.Phase
	}
	if b.Message != nil {
		r.Message = *b.Message
	}
	if b.StartedAt != nil {
		r.StartedAt = b.StartedAt
	}
	if b.FinishedAt != nil {
		r.FinishedAt = b.FinishedAt
	}
	if b.Suspended != nil {
		r.Suspended = *b.Suspended
	}
	if b.Shutdown != nil {
		r.Shutdown = *b.Shutdown
	}
	if b.Lock != nil {
		s.lock = *b.Lock
	}
	if b.Failed != "" {
		r.Failed = b.Failed
	}
	s.expired = s.expired || b.Expired
	for k, v := range b.Labels {
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[k] = v
		s.cache.globals = nil
	}
	for _, p := range b.Pinned {
		s.objects[p.Ref] = p.Body
	}
	s.applyArguments(b.Parameters)
	if b.Outputs != nil {
		for _, p := range b.Outputs.Parameters {
			s.outputs.Parameters = putParameter(s.outputs.Parameters, p)
		}
		for _, a := range b.Outputs.Artifacts {
			s.outputs.Artifacts = putArtifact(s.outputs.Artifacts, a)
		}
	}
}

func (s *State) applyArguments(values map[string]string) {
	if len(values) == 0 {
		return
	}
	list := append([]manifest.Parameter(nil), s.start.Parameters...)
	for _, k := range sortedKeys(values) {
		list = putParameter(list, manifest.Parameter{Name: k, Value: manifest.NewAnyString(values[k])})
	}
	s.start.Parameters = list
	s.cache.globals = nil
}

func (s *State) applyCreated(b *nodeCreated) error {
	if s.node(b.Node.ID) != nil {
		return fmt.Errorf("apply node.created: node %s (%s) exists", b.Node.ID, b.Node.Name)
	}
	n := &node{Node: b.Node, plan: b.Plan, planned: b.Planned, lock: b.Lock, memo: b.Memo, asked: b.Memo, need: b.Need, pod: b.Pod}
	s.nodes[n.ID] = n
	s.order = append(s.order, n)
	s.count++
	s.attach(n)
	if n.planned {
		n.blockedOn = b.Blocked
		s.blocked[b.Blocked] = append(s.blocked[b.Blocked], n.ID)
	}
	s.recount(n, Node{}, false)
	if b.Settled {
		s.settle(n)
	}
	return nil
}

// attach makes n known to its parent.
func (s *State) attach(n *node) {
	switch {
	case n.Role == roleExit && n.Parent == "":
		s.exit = n.ID
	case n.Role == roleHook && n.Parent == "":
		s.hook[n.Site] = n.ID
	case n.Parent == "":
		s.root = n.ID
	}
	p := s.node(n.Parent)
	if p == nil {
		return
	}
	if n.Role == roleHook || n.Role == roleExit {
		if p.hooks == nil {
			p.hooks = map[string]string{}
		}
		p.hooks[n.Site] = n.ID
		p.hooksOut++
		return
	}
	p.children = append(p.children, n.ID)
	p.open++
}

// settle tells the parent's counters that n needs nothing more.
func (s *State) settle(n *node) {
	if n.settled {
		return
	}
	n.settled = true
	p := s.node(n.Parent)
	if p == nil {
		return
	}
	if n.Role == roleHook || n.Role == roleExit {
		p.hooksOut--
		return
	}
	p.open--
	if n.Phase.bad() {
		p.bad++
		if b := s.node(n.BoundaryID); b != nil && n.Role == roleStep {
			b.failures++
		}
	}
}

func (s *State) applyNode(kind string, b *nodeChange) error {
	n := s.node(b.ID)
	if n == nil {
		return fmt.Errorf("apply %s: node %q does not exist", kind, b.ID)
	}
	switch kind {
	case kindRemoved:
		s.remove(n)
		return nil
	case kindReopened:
		s.reopen(n)
		return nil
	case kindAttempt:
		if b.Pod == nil {
			return nil
		}
	}
	before, wasActive := n.Node, n.active
	n.merge(b)
	if b.Daemoned != nil && *b.Daemoned {
		s.daemons[n.BoundaryID] = append(s.daemons[n.BoundaryID], n.ID)
	}
	if b.Planned != nil {
		s.unblocked(n)
		n.planned, n.blockedOn = *b.Planned, b.Blocked
		if n.planned {
			s.blocked[b.Blocked] = append(s.blocked[b.Blocked], n.ID)
		}
	}
	mergeEngine(n, b)
	s.recount(n, before, wasActive)
	if b.Settled != nil && *b.Settled {
		s.settle(n)
	}
	return nil
}

// unblocked takes a node out of the line of those that wait for a place.
func (s *State) unblocked(n *node) {
	if !n.planned {
		return
	}
	list := s.blocked[n.blockedOn]
	if len(list) > 0 && list[0] == n.ID {
		list = list[1:]
	} else {
		list = without(list, n.ID)
	}
	if s.blocked[n.blockedOn] = list; len(list) == 0 {
		delete(s.blocked, n.blockedOn)
	}
}

// merge copies what is part of the public node.
func (n *Node) merge(b *nodeChange) {
	if b.Type != "" {
		n.Type = b.Type
	}
	if b.Phase != "" {
		n.Phase = b.Phase
	}
	if b.Message != nil {
		n.Message = *b.Message
	}
	if b.Why != nil {
		n.Why = *b.Why
	}
	if b.Waiting != nil {
		n.Waiting = *b.Waiting
	}
	if b.StartedAt != nil {
		n.StartedAt = b.StartedAt
	}
	if b.FinishedAt != nil {
		n.FinishedAt = b.FinishedAt
	}
	if b.Inputs != nil {
		n.Inputs = b.Inputs
	}
	if b.Outputs != nil {
		n.Outputs = b.Outputs
	}
	if b.PodIP != "" {
		n.PodIP = b.PodIP
	}
	if b.Host != "" {
		n.HostNodeName = b.Host
	}
	if b.Daemoned != nil {
		n.Daemoned = b.Daemoned
		if !*b.Daemoned {
			n.Daemoned = nil
		}
	}
	if b.Pod != nil {
		n.Attempt = b.Pod.Attempt
	}
}

func mergeEngine(n *node, b *nodeChange) {
	if b.Lock != nil {
		n.lock = *b.Lock
	}
	if b.Memo != nil {
		n.memo, n.asked = *b.Memo, true
	}
	if b.Need != nil {
		n.need = *b.Need
	}
	if b.Pod != nil {
		pod := *b.Pod
		if pod.Template == nil && n.pod != nil {
			pod.Template = n.pod.Template
		}
		n.pod = &pod
	}
	if b.Wake != nil {
		n.wake = b.Wake
		if b.Wake.IsZero() { // it goes on, and waits no more
			n.wake = nil
		}
	}
	if b.Stopped != "" {
		n.stopped = b.Stopped
	}
	if b.Expect != 0 {
		n.expect = b.Expect
	}
	if b.Refused != 0 {
		n.refused = b.Refused
	}
}

// recount keeps the counters that limits and progress are read from.
func (s *State) recount(n *node, before Node, wasActive bool) {
	was := wasActive
	now := n.takesPlace()
	n.active = now
	if was != now {
		d := 1
		if was {
			d = -1
		}
		if n.Type == NodePod {
			s.pods += d
		}
		if b := s.node(n.BoundaryID); b != nil {
			b.running += d
		}
	}
	if n.planned || n.Phase == "" || n.Type != NodePod && n.Type != NodeHTTP && n.Type != NodeSuspend {
		return
	}
	if !n.counted {
		n.counted = true
		s.progress[1]++
	}
	switch {
	case n.Phase == Succeeded && before.Phase != Succeeded:
		s.progress[0]++
	case n.Phase != Succeeded && before.Phase == Succeeded:
		s.progress[0]-- // one of its hooks went wrong
	}
}

// uncount takes a removed node out of the progress.
func (s *State) uncount(n *node) {
	if !n.counted {
		return
	}
	s.progress[1]--
	if n.Phase == Succeeded {
		s.progress[0]--
	}
}

// takesPlace reports whether the node counts for parallelism: a direct invocation that runs or is about to, as in
// Argo's countActiveChildren; groups and retries do not count, and nor does what waits for a lock.
func (n *node) takesPlace() bool {
	if n.planned || n.lock == lockWaiting || n.memo || n.need || n.Daemoned != nil {
		return false
	}
	switch n.Type {
	case NodePod, NodeSteps, NodeDAG, NodeHTTP, NodeSuspend:
		return n.Phase == Pending || n.Phase == Running
	}
	return false
}

// remove takes a node out of the run's tree; its next attempt number stays known.
func (s *State) remove(n *node) {
	if n.pod != nil {
		s.attempts[n.ID] = n.pod.Attempt + 1
	}
	s.uncount(n)
	if n.active {
		n.Phase = Failed
		s.recount(n, n.Node, true)
	}
	s.unblocked(n)
	delete(s.nodes, n.ID)
	n.gone = true
	if p := s.node(n.Parent); p != nil {
		if n.Role == roleHook || n.Role == roleExit {
			delete(p.hooks, n.Site)
			if !n.settled {
				p.hooksOut--
			}
		} else {
			p.children = without(p.children, n.ID)
			if !n.settled {
				p.open--
			}
		}
	}
	if n.ID == s.root {
		s.root = ""
	}
	s.cache.forget(n.ID)
}

// reopen makes a node that had ended run again, after a manual retry.
func (s *State) reopen(n *node) {
	before, was := n.Node, n.active
	wasSettled := n.settled
	n.Phase, n.Message, n.FinishedAt, n.Outputs, n.Why = Running, "", nil, nil, ""
	n.settled = false
	n.wake = nil
	n.bad, n.open, n.failures = 0, 0, 0
	for _, c := range s.childrenOf(n) {
		if !c.settled {
			n.open++
		} else if c.Phase.bad() {
			n.bad++
		}
	}
	if p := s.node(n.Parent); p != nil && wasSettled && n.Role != roleHook && n.Role != roleExit {
		p.open++
	}
	s.recount(n, before, was)
	s.cache.forget(n.ID)
}

func without(list []string, id string) []string {
	out := list[:0:0]
	for _, x := range list {
		if x != id {
			out = append(out, x)
		}
	}
	return out
}

func putParameter(list []manifest.Parameter, p manifest.Parameter) []manifest.Parameter {
	for i := range list {
		if list[i].Name == p.Name {
			list[i] = p
			return list
		}
	}
	return append(list, p)
}

func putArtifact(list []manifest.Artifact, a manifest.Artifact) []manifest.Artifact {
	for i := range list {
		if list[i].Name == a.Name {
			list[i] = a
			return list
		}
	}
	return append(list, a)
}

// decodeGiven is decodeTree with what was given in its own type.
func decodeGiven(raw json.RawMessage, given []manifest.Given) (map[string]any, error) {
	tree, err := decodeTree(raw)
	if err != nil {
		return nil, err
	}
	for _, g := range given {
		if len(g.Path) == 0 {
			return nil, errors.New("a mark of what was given has no path")
		}
		switch key := g.Path[len(g.Path)-1]; key {
		case "when", "expression", "depends", "from", "fromExpression", "successCondition", "jqFilter":
			if g.Path[0] == "spec" {
				return nil, fmt.Errorf("a value that holds {{ was put into %s: give it to a parameter, and name that in the expression", strings.Join(g.Path, "."))
			}
		}
	}
	return tree, expression.Mark(tree, given)
}

func decodeTree(raw json.RawMessage) (map[string]any, error) {
	var tree map[string]any
	if len(raw) == 0 {
		return map[string]any{}, nil
	}
	if err := unmarshalNumbers(raw, &tree); err != nil {
		return nil, err
	}
	return tree, nil
}
