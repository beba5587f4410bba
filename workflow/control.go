package workflow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/manifest"
)

func cutKey(key string) (verb, id string, ok bool) { return strings.Cut(key, "/") }

// control carries out a person's command.
func (t *turn) control(c Control) error {
	if c.Verb == Retry {
		return t.retryRun(c)
	}
	if t.s.run.Phase.Done() {
		return fmt.Errorf("%s run %s: it has ended (%s)", c.Verb, t.s.run.Name, t.s.run.Phase)
	}
	switch c.Verb {
	case Suspend:
		if !t.s.run.Suspended {
			t.changeRun(kindRunChange, runChange{Suspended: ptr(true), Actor: t.actor})
		}
		return nil
	case Resume:
		return t.resume(c)
	case Set:
		return t.set(c)
	case Stop, Terminate:
		if c.Nodes != "" {
			return t.stopNodes(c)
		}
		t.shutDown(map[string]string{Stop: "Stop", Terminate: "Terminate"}[c.Verb])
		return nil
	}
	return fmt.Errorf("%q is not something a run can be told: use suspend, resume, stop, terminate, retry or set", c.Verb)
}

func (t *turn) resume(c Control) error {
	nodes, err := t.selectNodes(c.Nodes, func(n *node) bool { return n.Type == NodeSuspend && n.Phase == Running })
	if err != nil {
		return err
	}
	if c.Nodes != "" && len(nodes) == 0 {
		return fmt.Errorf("resume: no suspended node matches %q", c.Nodes)
	}
	if err := suppliedValues(c.Verb, nodes, c.Parameters); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := t.resumeNode(n, c.Parameters); err != nil {
			return err
		}
	}
	if c.Nodes == "" && t.s.run.Suspended {
		t.changeRun(kindRunChange, runChange{Suspended: ptr(false), Actor: t.actor})
		t.freed = append(t.freed, suspendedKey)
	}
	return nil
}

// stopNodes fails the suspended nodes that the selector names, as `argo stop --node-field-selector` does.
func (t *turn) stopNodes(c Control) error {
	nodes, err := t.selectNodes(c.Nodes, func(n *node) bool { return n.Type == NodeSuspend && n.Phase == Running })
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return fmt.Errorf("%s: no suspended node matches %q", c.Verb, c.Nodes)
	}
	for _, n := range nodes {
		t.finish(n, Failed, c.Message, nil)
	}
	return nil
}

// set changes suspended nodes: outputs, message, phase.
func (t *turn) set(c Control) error {
	nodes, err := t.selectNodes(c.Nodes, func(n *node) bool { return n.Type == NodeSuspend && n.Phase == Running })
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return fmt.Errorf("set: no suspended node matches %q", c.Nodes)
	}
	if err := suppliedValues(c.Verb, nodes, c.Parameters); err != nil {
		return err
	}
	for _, n := range nodes {
		outputs, err := setOutputs(n, c.Parameters)
		if err != nil {
			return err
		}
		if c.Phase.Done() {
			t.finish(n, c.Phase, c.Message, outputs)
			continue
		}
		ch := nodeChange{Outputs: outputs}
		if c.Message != "" {
			ch.Message = ptr(joinMessage(n.Message, c.Message))
		}
		t.change(kindChanged, n, ch)
	}
	return nil
}

func joinMessage(before, more string) string {
	if before == "" {
		return more
	}
	return before + "; " + more
}

func setOutputs(n *node, values map[string]string) (*manifest.Outputs, error) {
	if len(values) == 0 {
		return nil, nil
	}
	o := &manifest.Outputs{}
	if n.Outputs != nil {
		*o = *n.Outputs
		o.Parameters = append([]manifest.Parameter(nil), n.Outputs.Parameters...)
	}
	for _, k := range sortedKeys(values) {
		found := false
		for i := range o.Parameters {
			if o.Parameters[i].Name == k {
				o.Parameters[i].Value, found = manifest.NewAnyString(values[k]), true
			}
		}
		if !found {
			return nil, fmt.Errorf("set: node %s has no output parameter %q", n.DisplayName, k)
		}
	}
	return o, nil
}

// shutDown stops a run. Exit handlers run after Stop and not after Terminate.
func (t *turn) shutDown(strategy string) {
	if t.s.run.Shutdown == strategy || t.s.run.Shutdown == "Terminate" {
		return
	}
	t.changeRun(kindRunChange, runChange{Shutdown: &strategy, Suspended: ptr(false), Actor: t.actor})
	t.freed = append(t.freed, suspendedKey)
	t.halt(func(n *node) (string, bool) { return shutdownMessage(strategy), t.shutdown(n) })
}

// expire ends a run whose deadline has passed; exit handlers still run.
func (t *turn) expire() {
	if t.s.expired || t.s.run.Phase.Done() {
		return
	}
	t.changeRun(kindRunChange, runChange{Expired: true, Suspended: ptr(false)})
	t.freed = append(t.freed, suspendedKey)
	t.halt(func(n *node) (string, bool) { return deadlineMessage, !n.Exit })
}

// halt ends all leaves that a rule selects: pods are asked to stop, what only waits ends at once.
func (t *turn) halt(rule func(*node) (message string, ends bool)) {
	all := slices.Clone(t.s.all())
	for _, n := range all {
		message, ends := rule(n)
		if n.gone || n.Phase.Done() || !ends || n.Daemoned != nil {
			continue
		}
		switch {
		case n.planned, n.lock == lockWaiting, n.memo, n.Type == NodeSuspend, n.asks():
			t.finish(n, Failed, message, nil)
		case n.need && n.open == 0:
			t.finish(n, Failed, message, nil)
		case n.Type == NodePod && n.pod != nil:
			t.stopPod(n, message)
		case n.Type == NodeRetry && n.open == 0 && len(n.children) > 0:
			t.effect(CancelTimer{Key: "retry/" + n.ID})
			last := t.s.node(n.children[len(n.children)-1])
			if last.Phase.bad() && t.s.run.Shutdown != "" {
				message = "Stopped with strategy '" + t.s.run.Shutdown + "'"
			}
			t.finish(n, Failed, message, last.Outputs)
		}
	}
	if t.s.lock == lockWaiting && t.s.root == "" {
		t.abandon(Failed, "Stopped with strategy '"+t.s.run.Shutdown+"'")
	}
}

// abandon ends a run that never had a node.
func (t *turn) abandon(phase Phase, message string) {
	c := runChange{Phase: &phase, Message: &message, StartedAt: &t.now, FinishedAt: &t.now}
	if t.s.lock != lockNone {
		c.Lock = ptr(lockNone)
		t.effect(Release{Holder: t.s.runHolder()})
	}
	t.changeRun(kindRunEnd, c)
	if t.s.deadline() != nil {
		t.effect(CancelTimer{Key: "deadline"})
	}
}

// selectNodes finds the nodes that a field selector names: "displayName=approve,phase!=Failed". An empty selector
// names all.
func (t *turn) selectNodes(selector string, of func(*node) bool) ([]*node, error) {
	var out []*node
	for _, n := range t.s.all() {
		if n.gone || n.planned || !of(n) {
			continue
		}
		ok, err := matches(n, selector)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, n)
		}
	}
	return out, nil
}

func matches(n *node, selector string) (bool, error) {
	for _, term := range strings.Split(selector, ",") {
		if strings.TrimSpace(term) == "" {
			continue
		}
		key, want, ok := strings.Cut(term, "!=")
		not := ok
		if !ok {
			if key, want, ok = strings.Cut(term, "="); !ok {
				return false, fmt.Errorf("node selector %q: want field=value", term)
			}
			want = strings.TrimPrefix(want, "=")
		}
		got, err := nodeSelectorField(n, strings.TrimSpace(key))
		if err != nil {
			return false, err
		}
		if (got == strings.TrimSpace(want)) == not {
			return false, nil
		}
	}
	return true, nil
}

func nodeSelectorField(n *node, key string) (string, error) {
	switch key {
	case "name", "metadata.name":
		return n.Name, nil
	case "id":
		return n.ID, nil
	case "displayName":
		return n.DisplayName, nil
	case "templateName":
		return n.TemplateName, nil
	case "phase":
		return string(n.Phase), nil
	case "type":
		return string(n.Type), nil
	case "templateRef.name", "templateRef.template":
		if n.TemplateRef == nil {
			return "", nil
		}
		if strings.HasSuffix(key, ".name") {
			return n.TemplateRef.Name, nil
		}
		return n.TemplateRef.Template, nil
	}
	name, ok := strings.CutPrefix(key, "inputs.parameters.")
	name, value := strings.CutSuffix(name, ".value")
	if !ok || !value {
		return "", fmt.Errorf("node selector: field %q is not known (name, displayName, templateName, phase, id, type, templateRef.name, templateRef.template, inputs.parameters.NAME.value)", key)
	}
	if n.Inputs != nil {
		for _, p := range n.Inputs.Parameters {
			if p.Name == name {
				return p.Value.Text(), nil
			}
		}
	}
	return "", nil
}

// got takes the answer to a Need or an Acquire.
func (t *turn) got(g Got) error {
	var pins []pinned
	for _, ref := range sortedRefs(g.Objects) {
		if _, known := t.s.objects[ref]; !known {
			pins = append(pins, pinned{ref, g.Objects[ref]})
		}
	}
	if len(pins) > 0 {
		t.changeRun(kindPinned, runChange{Pinned: pins})
	}
	key := strings.TrimPrefix(strings.TrimPrefix(g.Key, "need/"), "lock/")
	if key == "run" {
		return t.gotRunLock(g)
	}
	verb, id, _ := cutKey(key)
	if verb == "objects" || verb == "list" {
		id, _, _ = strings.Cut(id, "/")
	}
	n := t.s.node(id)
	if n == nil || n.Phase.Done() {
		return nil
	}
	switch verb {
	case "objects":
		t.gotObjects(n, g)
	case "memo":
		return t.gotMemo(n, g)
	case "list":
		return t.gotList(n, g)
	case "node":
		t.gotLock(n, g)
	default:
		return fmt.Errorf("decide: nothing was asked for by the key %q", g.Key)
	}
	return nil
}

func (t *turn) gotObjects(n *node, g Got) {
	if !n.need {
		return
	}
	t.change(kindChanged, n, nodeChange{Need: ptr(false), Waiting: ptr("")})
	if g.Error != "" {
		t.finish(n, Error, g.Error, nil)
		return
	}
	t.resumeComposite(n)
}

// retryRun begins a failed run again: what succeeded stays, what did not is set aside as evidence and made anew.
func (t *turn) retryRun(c Control) error {
	s := t.s
	if !s.run.Phase.Done() {
		return fmt.Errorf("retry run %s: it has not ended (%s)", s.run.Name, s.run.Phase)
	}
	if s.run.Phase == Succeeded && !c.RestartSuccessful {
		return fmt.Errorf("retry run %s: it succeeded; only failed nodes are run again, unless restartSuccessful is set with a node selector", s.run.Name)
	}
	if err := t.newArguments(c.Parameters); err != nil {
		return err
	}
	drop, err := t.toDrop(c)
	if err != nil {
		return err
	}
	running := Running
	t.changeRun(kindRetried, runChange{Phase: &running, StartedAt: &t.now, Actor: t.actor, Parameters: c.Parameters})
	all := slices.Clone(s.all())
	for i := len(all) - 1; i >= 0; i-- {
		if n := all[i]; !n.gone && drop[n.ID] {
			t.change(kindRemoved, n, nodeChange{Ended: attemptOf(n)})
		}
	}
	for i := len(all) - 1; i >= 0; i-- {
		n := all[i]
		if n.gone || n.Type.leaf() || n.Phase == Skipped || !s.cache.touched[n.ID] {
			continue
		}
		t.change(kindReopened, n, nodeChange{})
	}
	s.cache.touched = nil
	if len(c.Parameters) > 0 {
		t.renewInputs()
	}
	if spec := asMap(s.cache.manifest["spec"]); spec["synchronization"] != nil {
		pending := Pending
		t.changeRun(kindRunChange, runChange{Phase: &pending, Lock: ptr(lockWaiting)})
		return t.acquireRun(spec)
	}
	t.resumeRun()
	return nil
}

// resumeRun lets a run that is retried make what is missing.
func (t *turn) resumeRun() {
	s := t.s
	if s.run.Phase != Running {
		t.changeRun(kindRunChange, runChange{Phase: ptr(Running)})
	}
	if d := s.deadline(); d != nil {
		t.effect(SetTimer{Key: "deadline", At: *d})
	}
	if s.node(s.root) == nil {
		t.startRoot()
		return
	}
	for _, n := range slices.Clone(s.all()) {
		if !n.gone && !n.Type.leaf() && n.Phase == Running && !n.settled {
			t.resumeComposite(n)
		}
	}
	t.tryEnd()
}

func attemptOf(n *node) *Attempt {
	a := &Attempt{
		Node: n.ID, Name: n.Name, Phase: n.Phase, Message: n.Message, StartedAt: n.StartedAt, FinishedAt: n.FinishedAt,
		Outputs: n.Outputs, Host: n.HostNodeName, Attempt: n.Attempt, Reason: "Retried",
	}
	return a
}

// selection is what a retry's selector says: with restartSuccessful, which nodes run again whatever became of them; without, which of
// the failed ones do.
type selection struct {
	again map[string]bool
	only  map[string]bool // nil for all
}

// selected reads a retry's selector. One that matches nothing that could run again is refused.
func (t *turn) selected(c Control) (selection, error) {
	var s selection
	if c.Nodes == "" {
		return s, nil
	}
	nodes, err := t.selectNodes(c.Nodes, func(n *node) bool { return c.RestartSuccessful || n.Phase.bad() })
	if err != nil {
		return s, err
	}
	if len(nodes) == 0 && c.RestartSuccessful {
		return s, fmt.Errorf("retry run %s: no node matches %q", t.s.run.Name, c.Nodes)
	}
	if len(nodes) == 0 {
		return s, fmt.Errorf("retry run %s: no node that failed matches %q (restartSuccessful takes others, too)", t.s.run.Name, c.Nodes)
	}
	chosen := map[string]bool{}
	for _, n := range nodes {
		chosen[n.ID] = true
	}
	if c.RestartSuccessful {
		s.again = chosen
		return s, nil
	}
	s.only = chosen
	for _, n := range t.s.all() {
		if p := t.s.node(n.Parent); p != nil && !n.gone && chosen[p.ID] {
			chosen[n.ID] = true // all of what is below
		} else if p != nil && p.Type == NodeRetry && chosen[n.ID] {
			chosen[p.ID] = true // an attempt stands for its node
		}
	}
	return s, nil
}

// takes reports whether a failed node is to run again.
func (s selection) takes(n *node) bool { return s.only == nil || s.only[n.ID] }

// toDrop finds the nodes that a retry sets aside: leaves that ended badly or are selected, what came after them,
// handlers and hooks of the run, and all attempts of a Retry node that ended badly.
func (t *turn) toDrop(c Control) (map[string]bool, error) {
	s := t.s
	selected, err := t.selected(c)
	if err != nil {
		return nil, err
	}
	drop := map[string]bool{}
	failing := map[string]bool{} // ended badly, and so did everything above
	for _, n := range s.all() {
		if n.gone {
			continue
		}
		p := s.node(n.Parent)
		failing[n.ID] = n.Phase.bad() && (p == nil || failing[p.ID])
		chosen := failing[n.ID] && selected.takes(n)
		switch {
		case n.Parent == "" && n.ID != s.root:
			drop[n.ID] = true
		case selected.again[n.ID], p != nil && drop[p.ID]:
			drop[n.ID] = true
		case n.planned:
			drop[n.ID] = true
		case n.Type.leaf() && chosen:
			drop[n.ID] = true
		case p != nil && p.Type == NodeRetry && failing[p.ID]:
			drop[n.ID] = selected.takes(p)
		case n.Role == roleHook || n.Role == roleExit:
			drop[n.ID] = p != nil && failing[p.ID] && selected.takes(p)
		case n.Type == NodeStepGroup && n.open == 0 && len(n.children) == 0 && chosen:
			drop[n.ID] = true
		default:
			drop[n.ID] = s.followsDropped(n, drop, failing, selected)
		}
		if chosen && !n.Type.leaf() && !drop[n.ID] {
			s.cache.touch(n.ID)
		}
		if drop[n.ID] {
			for up := p; up != nil && !selected.again[up.ID]; up = s.node(up.Parent) {
				s.cache.touch(up.ID)
			}
		}
	}
	return drop, nil
}

// followsDropped reports whether a node came after one that runs again.
func (s *State) followsDropped(n *node, drop, failing map[string]bool, selected selection) bool {
	for _, a := range n.After {
		prev := s.node(a)
		if drop[a] || prev != nil && failing[prev.ID] && selected.takes(prev) || s.holdsDropped(prev) {
			return true
		}
	}
	return false
}

// holdsDropped reports whether something below n is set aside.
func (s *State) holdsDropped(n *node) bool {
	return n != nil && s.cache.touched[n.ID]
}

// touch marks a node that has to run again because something below it is set aside.
func (c *cache) touch(id string) {
	if c.touched == nil {
		c.touched = map[string]bool{}
	}
	c.touched[id] = true
}

// resumeComposite lets a node make what is missing below it: one that was opened again, or that waited for an object.
func (t *turn) resumeComposite(n *node) {
	if n.gone || n.Phase.Done() || t.err != nil {
		return
	}
	b := n // whose template says what is made
	if n.Type == NodeStepGroup || n.Type == NodeTaskGroup {
		b = t.s.node(n.BoundaryID)
	}
	tm, err := t.s.within(b)
	if err != nil {
		t.finish(n, Error, err.Error(), nil)
		return
	}
	switch n.Type {
	case NodeRetry:
		if len(n.children) == 0 {
			t.newAttempt(n)
		}
	case NodeSteps:
		if k := len(n.children); n.open == 0 {
			var after []string
			if k > 0 {
				after = []string{n.children[k-1]}
			}
			t.startGroup(n, tm, k, after)
		}
	case NodeDAG:
		t.startDAG(n, tm)
	case NodeStepGroup:
		t.fillGroup(n, b, tm)
	case NodeTaskGroup:
		t.refill(n, b, tm)
	}
}

// refill makes the items of a looped task that are missing.
func (t *turn) refill(group, b *node, tm *template) {
	list, err := t.prepare(b, tm, tm.siteAt(group.Site))
	if err != nil {
		t.finish(group, Error, err.Error(), nil)
		return
	}
	t.fillTaskGroup(group, b, list)
}

// deadline is when the run has to have ended; nil for never.
func (s *State) deadline() *time.Time {
	a := s.spec.ActiveDeadlineSeconds
	if a == nil || s.run.StartedAt == nil {
		return nil
	}
	at := s.run.StartedAt.Add(time.Duration(*a) * time.Second)
	return &at
}

func (t *turn) gotMemo(n *node, g Got) error {
	if !n.memo {
		return nil
	}
	if g.Memo == nil || string(g.Memo) == "null" {
		t.change(kindChanged, n, nodeChange{Memo: ptr(false), Waiting: ptr("")})
		t.enter(n, false)
		return nil
	}
	var o manifest.Outputs
	if err := json.Unmarshal(g.Memo, &o); err != nil {
		return fmt.Errorf("read memoised outputs for node %s: %w", n.ID, err)
	}
	why, message := "outputs were taken from the cache", ""
	if e := t.s.earlierOf(n); g.Earlier && e != nil {
		why, message = "it succeeded in run "+e.Run, "original pod: "+e.ID
	}
	t.change(kindChanged, n, nodeChange{Memo: ptr(false), Why: &why})
	t.hit = n.ID
	t.finish(n, Succeeded, message, &o)
	return nil
}
