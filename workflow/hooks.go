package workflow

import "fmt"

// hook is a lifecycle hook as it stands in a step, task or spec.
type hook struct {
	name string
	tree map[string]any
}

// hooksOf lists the hooks of a step, task or spec: the exit handler last.
func hooksOf(tree map[string]any) []hook {
	var out []hook
	m, _ := tree["hooks"].(map[string]any)
	for _, name := range sortedKeys(m) {
		if h, _ := m[name].(map[string]any); h != nil && name != "exit" {
			out = append(out, hook{name, h})
		}
	}
	if h, _ := m["exit"].(map[string]any); h != nil {
		return append(out, hook{"exit", h})
	}
	if name := text(tree["onExit"]); name != "" {
		out = append(out, hook{"exit", map[string]any{"template": name}})
	}
	return out
}

// hooksAt gives the hooks of a node, and the template and step that have them.
func (t *turn) hooksAt(n *node) (*template, *site, []hook) {
	if n.Role != roleStep || n.Type == NodeTaskGroup || n.Site == "" {
		return nil, nil, nil
	}
	b := t.s.node(n.BoundaryID)
	if b == nil {
		return nil, nil, nil
	}
	tm, err := t.s.within(b)
	if err != nil {
		return nil, nil, nil
	}
	st := tm.siteAt(n.Site)
	if st == nil || st.tree["hooks"] == nil && st.tree["onExit"] == nil {
		return nil, nil, nil
	}
	return tm, st, hooksOf(st.tree)
}

func (t *turn) hasHooks(n *node) bool {
	_, _, hooks := t.hooksAt(n)
	return len(hooks) > 0
}

// runningHooks runs the hooks whose expression has become true while the node runs. For an attempt they are the
// hooks of its Retry node.
func (t *turn) runningHooks(n *node) {
	if n.Role == roleAttempt {
		if p := t.s.node(n.Parent); p != nil {
			n = p
		}
	}
	tm, st, hooks := t.hooksAt(n)
	for _, h := range hooks {
		if h.name != "exit" {
			t.runHook(n, tm, st, h)
		}
	}
}

// runHooks runs the hooks of a node that has ended.
func (t *turn) runHooks(n *node) {
	tm, st, hooks := t.hooksAt(n)
	for _, h := range hooks {
		t.runHook(n, tm, st, h)
	}
}

func (t *turn) runHook(n *node, tm *template, st *site, h hook) {
	if _, fired := n.hooks[h.name]; fired || t.err != nil {
		return
	}
	if t.s.run.Shutdown == "Terminate" {
		return
	}
	b := t.s.node(n.BoundaryID)
	sc := t.siteScope(b, st)
	sc.alias, sc.aliasName, sc.item = n, st.name, n.Item
	if !t.fires(h, sc, n, n.Phase.Done()) {
		return
	}
	v := invocation{
		name: n.Name + ".hooks." + h.name, display: n.DisplayName + ".hooks." + h.name, parent: n, boundary: b,
		role: roleHook, siteKey: h.name, depth: n.Depth + 1, exit: n.Exit, hooked: true, position: n.Position,
	}
	if h.name == "exit" {
		v.name, v.display, v.role, v.exit = n.Name+".onExit", n.DisplayName+".onExit", roleExit, true
	}
	t.invokeHook(v, tm, h, sc)
}

// fires samples a hook's expression. An exit handler needs none. What cannot be evaluated while the node runs is not true yet;
// after its end it is an error of the node, which names the hook.
func (t *turn) fires(h hook, sc *scope, n *node, ended bool) bool {
	expression, _ := h.tree["expression"].(string)
	if expression == "" {
		return h.name == "exit"
	}
	ok, err := evalBool(expression, sc)
	if err != nil && ended {
		t.spoil(n, fmt.Errorf("hook %s: %w", h.name, err))
	}
	return err == nil && ok
}

// spoil makes an Error of a node that has ended, because of one of its hooks, as Argo does (executeTmplLifeCycleHook in
// workflow/controller/hooks.go returns the error of the expression).
func (t *turn) spoil(n *node, err error) {
	t.change(kindFinished, n, nodeChange{Phase: Error, Message: ptr(err.Error())})
	if t.s.run.Failed == "" {
		t.changeRun(kindRunChange, runChange{Failed: n.ID})
	}
}

func (t *turn) invokeHook(v invocation, owner *template, h hook, sc *scope) {
	name, err := substituteText(text(h.tree["template"]), sc)
	if err == nil {
		ref, rerr := templateRef(h.tree["templateRef"], sc)
		if err = rerr; err == nil {
			v.callee, err = t.s.callee(owner, name, ref, "")
		}
	}
	if err == nil {
		args, _ := h.tree["arguments"].(map[string]any)
		v.args, err = t.arguments(args, v.callee, sc)
	}
	if err != nil {
		t.createDone(v, NodeSkipped, Error, err.Error())
		return
	}
	t.invoke(v)
}

// hookSettled lets a node settle once the last of its hooks has.
func (t *turn) hookSettled(p, _ *node) { t.trySettle(p) }

// runLevelHooks runs the hooks of the whole run whose expression has become true.
func (t *turn) runLevelHooks() {
	spec, _ := t.s.cache.manifest["spec"].(map[string]any)
	if spec["hooks"] == nil || t.s.run.Shutdown == "Terminate" {
		return
	}
	for _, h := range hooksOf(spec) {
		if _, fired := t.s.hook[h.name]; fired || h.name == "exit" || t.err != nil {
			continue
		}
		sc := &scope{s: t.s, now: t.now, chance: &t.chance}
		root := t.s.node(t.s.root)
		if !t.fires(h, sc, root, root != nil && root.settled) {
			continue
		}
		name := t.s.run.Name + ".hooks." + h.name
		t.invokeHook(invocation{name: name, display: name, role: roleHook, siteKey: h.name, depth: 1, hooked: true}, nil, h, sc)
	}
}

// topSettled is told of the root, of the run's hooks and of its exit handler.
func (t *turn) topSettled(n *node) {
	if n.ID == t.s.root {
		t.runLevelHooks()
	}
	t.tryEnd()
}

// tryEnd ends the run once its root, its hooks and its exit handler have ended.
func (t *turn) tryEnd() {
	s := t.s
	root := s.node(s.root)
	if t.err != nil || s.run.Phase.Done() || root == nil || !root.settled {
		return
	}
	for _, name := range sortedKeys(s.hook) {
		if h := s.node(s.hook[name]); h != nil && !h.settled {
			return
		}
	}
	exit := s.node(s.exit)
	if exit == nil && t.startExit() {
		return
	}
	if exit = s.node(s.exit); exit != nil && !exit.settled {
		return
	}
	t.end(root, exit)
}

// startExit begins the exit handler, if there is one that is to run.
func (t *turn) startExit() bool {
	spec, _ := t.s.cache.manifest["spec"].(map[string]any)
	hooks := hooksOf(spec)
	if len(hooks) == 0 || t.s.run.Shutdown == "Terminate" {
		return false
	}
	h := hooks[len(hooks)-1]
	sc := &scope{s: t.s, now: t.now, chance: &t.chance}
	if h.name != "exit" {
		return false
	}
	if !t.fires(h, sc, t.s.node(t.s.root), true) {
		return false
	}
	name := t.s.run.Name + ".onExit"
	t.invokeHook(invocation{name: name, display: name, role: roleExit, siteKey: "exit", depth: 1, exit: true, hooked: true}, nil, h, sc)
	return true
}

// end gives the run its phase: the root's, unless only the exit handler went wrong (reference 1.12, rule 4).
func (t *turn) end(root, exit *node) {
	phase, message := t.s.mainPhase(), root.Message
	if phase == Succeeded {
		message = ""
		if exit != nil && exit.Phase.bad() {
			phase, message = exit.Phase, exit.Message
		}
	} else if t.s.run.Shutdown != "" {
		message = "Stopped with strategy '" + t.s.run.Shutdown + "'"
	}
	for _, b := range sortedKeys(t.s.daemons) {
		t.killDaemonsOf(b)
	}
	progress := t.s.progressText()
	c := runChange{Phase: &phase, Message: &message, FinishedAt: &t.now, Progress: progress}
	if t.s.lock != lockNone {
		c.Lock = ptr(lockNone)
		t.effect(Release{Holder: t.s.runHolder()})
	}
	t.changeRun(kindRunEnd, c)
	if t.s.deadline() != nil {
		t.effect(CancelTimer{Key: "deadline"})
	}
	t.collectClaims(phase)
}

// mainPhase is the phase that the root alone gives the run; Running until it has ended.
func (s *State) mainPhase() Phase {
	root := s.node(s.root)
	if root == nil || !root.Phase.Done() {
		if s.run.Phase == "" {
			return Pending
		}
		return s.run.Phase
	}
	if root.Phase.bad() {
		return root.Phase
	}
	return Succeeded
}
