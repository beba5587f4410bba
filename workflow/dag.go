package workflow

import (
	"fmt"
	"strings"
)

// graph is a DAG's tasks with what the boundary has seen of them. It is derived from the nodes and kept up as they
// settle, so that a settled task costs its own edges and not the whole graph.
type graph struct {
	tm      *template
	deps    [][]int
	rdeps   [][]int
	logic   []*dependsLogic
	targets []int
	wanted  []bool // needed for a target
	pending []int  // dependencies that have not settled
	seen    []bool // tasks that have settled
}

// graphOf gives the graph of a DAG node.
func (s *State) graphOf(n *node) (*graph, error) {
	if g := s.cache.graphs[n.ID]; g != nil {
		return g, nil
	}
	tm, err := s.within(n)
	if err != nil {
		return nil, err
	}
	g := &graph{tm: tm}
	if err := g.link(); err != nil {
		return nil, err
	}
	sc := &scope{s: s, now: s.run.CreatedAt, inputs: n.Inputs, self: n, boundary: n}
	dag, _ := tm.tree["dag"].(map[string]any)
	target, err := substituteText(text(dag["target"]), sc)
	if err != nil {
		return nil, err
	}
	if err := g.aim(target); err != nil {
		return nil, err
	}
	g.pending, g.seen = make([]int, len(tm.tasks)), make([]bool, len(tm.tasks))
	for i, deps := range g.deps {
		g.pending[i] = len(deps)
	}
	for i, st := range tm.tasks {
		if c := s.find(n.Name + "." + st.name); c != nil && c.settled {
			g.settled(i)
		}
	}
	s.cache.graphs[n.ID] = g
	return g, nil
}

// link finds the edges between the tasks.
func (g *graph) link() error {
	n := len(g.tm.tasks)
	g.deps, g.rdeps, g.logic = make([][]int, n), make([][]int, n), make([]*dependsLogic, n)
	for i, st := range g.tm.tasks {
		logic, err := parseDepends(st, g.tm)
		if err != nil {
			return err
		}
		g.logic[i] = logic
		for _, name := range logic.tasks {
			d := g.tm.byName[name]
			if d == nil {
				return fmt.Errorf("task '%s' depends on '%s', which is not a task of template %s", st.name, name, g.tm.name)
			}
			g.deps[i] = append(g.deps[i], d.index)
			g.rdeps[d.index] = append(g.rdeps[d.index], i)
		}
	}
	return nil
}

// aim finds the targets: those named, or the tasks on which nothing depends; and what they need.
func (g *graph) aim(target string) error {
	g.wanted = make([]bool, len(g.tm.tasks))
	if names := strings.Fields(target); len(names) > 0 {
		for _, name := range names {
			st := g.tm.byName[name]
			if st == nil {
				return fmt.Errorf("target '%s' is not defined", name)
			}
			g.targets = append(g.targets, st.index)
		}
	} else {
		for i := range g.tm.tasks {
			if len(g.rdeps[i]) == 0 {
				g.targets = append(g.targets, i)
			}
		}
	}
	stack := append([]int(nil), g.targets...)
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if g.wanted[i] {
			continue
		}
		g.wanted[i] = true
		stack = append(stack, g.deps[i]...)
	}
	return nil
}

// settled counts a task that has settled against those that depend on it.
func (g *graph) settled(i int) {
	if g.seen[i] {
		return
	}
	g.seen[i] = true
	for _, d := range g.rdeps[i] {
		g.pending[d]--
	}
}

// startDAG begins the tasks that depend on nothing.
func (t *turn) startDAG(n *node, tm *template) {
	g, err := t.s.graphOf(n)
	if err != nil {
		t.finish(n, Error, err.Error(), nil)
		return
	}
	for i := range tm.tasks {
		if g.pending[i] == 0 {
			t.startTask(n, g, i)
		}
	}
	t.lookAgain(n)
}

// advanceDAG begins the tasks that a settled one was the last to hold back.
func (t *turn) advanceDAG(n, c *node) {
	g, err := t.s.graphOf(n)
	if err != nil {
		t.finish(n, Error, err.Error(), nil)
		return
	}
	if st := g.tm.siteAt(c.Site); st != nil {
		g.settled(st.index)
		for _, d := range g.rdeps[st.index] {
			if g.pending[d] == 0 {
				t.startTask(n, g, d)
			}
		}
	}
	t.endDAG(n)
}

// startTask makes the node of a task whose dependencies have all settled, unless there is one.
func (t *turn) startTask(n *node, g *graph, i int) {
	st := g.tm.tasks[i]
	name := n.Name + "." + st.name
	if !g.wanted[i] || t.err != nil || t.s.find(name) != nil || t.failsFast(n) && n.failures > 0 {
		return
	}
	var after []string
	for _, d := range g.deps[i] {
		if c := t.s.find(n.Name + "." + g.tm.tasks[d].name); c != nil {
			after = append(after, c.ID)
		}
	}
	v := invocation{
		name: name, display: st.name, parent: n, boundary: n, after: after, site: st, siteKey: st.key, step: st.name,
		depth: n.Depth + 1, exit: n.Exit, position: t.s.position(st.path),
	}
	v.callee, _ = t.calleeOf(g.tm, st, t.siteScope(n, st))
	if !g.logic[i].eval(func(task string) dependencyResult { return t.s.dependency(n, task) }) {
		t.createDone(v, NodeSkipped, Omitted, "omitted: depends condition not met")
		return
	}
	list, err := t.prepare(n, g.tm, st)
	switch {
	case err != nil && t.needs(n, err):
	case err != nil:
		t.createDone(v, NodeSkipped, Error, err.Error())
	case !st.loop:
		t.invokePrepared(n, n, after, list[0], name)
	case len(list) == 0:
		t.createDone(v, NodeSkipped, Skipped, emptyLoop)
	default:
		t.startTaskGroup(n, v, list)
	}
}

// startTaskGroup makes the node of a looped task and those of its items.
func (t *turn) startTaskGroup(n *node, v invocation, list []prepared) {
	v.callee = list[0].callee
	group := t.newNode(v, NodeTaskGroup)
	group.Phase = Running
	group = t.create(group)
	if group == nil {
		return
	}
	t.fillTaskGroup(group, n, list)
}

// fillTaskGroup makes the nodes of a looped task's items, leaving out those that are there already.
func (t *turn) fillTaskGroup(group, b *node, list []prepared) {
	for _, p := range list {
		if group.need {
			return
		}
		t.invokePrepared(group, b, nil, p, group.Name+p.suffix)
	}
	t.lookAgain(group)
}

// advanceTaskGroup ends a looped task once all of its items have ended.
func (t *turn) advanceTaskGroup(group *node) {
	if group.open > 0 || group.need || group.Phase.Done() {
		return
	}
	phase := Succeeded
	if group.bad > 0 {
		for _, c := range t.s.childrenOf(group) {
			if c.Phase.bad() {
				phase = c.Phase
			}
		}
	}
	t.finish(group, phase, "", nil)
}

// endDAG ends a DAG once all of its tasks that began have ended.
func (t *turn) endDAG(n *node) {
	if n.open > 0 || n.need || n.Phase.Done() || t.err != nil || t.due[n.ID] > 0 {
		return
	}
	g, err := t.s.graphOf(n)
	if err != nil {
		t.finish(n, Error, err.Error(), nil)
		return
	}
	phase := t.s.assess(n, g)
	if phase.bad() {
		message := ""
		if t.failsFast(n) && n.failures > 0 && phase == Failed {
			message = failFastMessage
		}
		t.finish(n, phase, message, nil)
		return
	}
	outputs, err := t.compositeOutputs(n, g.tm)
	if err != nil {
		t.finish(n, Error, err.Error(), nil)
		return
	}
	t.finish(n, Succeeded, "", outputs)
}

// assess gives a DAG's phase: that of its targets, where a task that did not run inherits the worst phase of the
// branches that lead to it (reference 1.12, rule 3).
func (s *State) assess(n *node, g *graph) Phase {
	branch := make([]Phase, len(g.deps))
	var visit func(i int)
	state := make([]uint8, len(g.deps))
	order := make([]int, 0, len(g.deps))
	visit = func(root int) {
		stack := []int{root}
		for len(stack) > 0 {
			i := stack[len(stack)-1]
			if state[i] == 0 {
				state[i] = 1
				for _, d := range g.deps[i] {
					if state[d] == 0 {
						stack = append(stack, d)
					}
				}
				continue
			}
			stack = stack[:len(stack)-1]
			if state[i] == 1 {
				state[i] = 2
				order = append(order, i)
			}
		}
	}
	for _, i := range g.targets {
		visit(i)
	}
	for _, i := range order {
		branch[i] = s.branchPhase(n, g, i, branch)
	}
	result := Succeeded
	for _, i := range g.targets {
		if branch[i].bad() && !g.tm.tasks[i].continues(branch[i]) {
			result = branch[i]
			if dag := asMap(g.tm.tree["dag"]); dag["failFast"] != false {
				break // as in Argo, the first that failed decides, unless failFast is off
			}
		}
	}
	return result
}

func (s *State) branchPhase(n *node, g *graph, i int, branch []Phase) Phase {
	c := s.find(n.Name + "." + g.tm.tasks[i].name)
	if c != nil {
		switch c.Phase {
		case Succeeded, Failed, Error:
			return c.Phase
		case Running:
			return Succeeded // a daemon
		}
	}
	worst := Succeeded
	for _, d := range g.deps[i] {
		if branch[d].bad() {
			worst = branch[d]
			if branch[d] == Error {
				break
			}
		}
	}
	if c == nil && !worst.bad() && n.failures > 0 {
		return Failed
	}
	return worst
}

// dependency is what a depends expression can ask of a task.
func (s *State) dependency(n *node, task string) dependencyResult {
	c := s.find(n.Name + "." + task)
	if c == nil {
		return dependencyResult{}
	}
	r := dependencyResult{
		Succeeded: c.Phase == Succeeded, Failed: c.Phase == Failed, Errored: c.Phase == Error,
		Skipped: c.Phase == Skipped, Omitted: c.Phase == Omitted, Daemoned: c.Daemoned != nil && *c.Daemoned && c.Phase != Pending,
	}
	if c.Type == NodeTaskGroup {
		r.AllFailed = len(c.children) > 0
		for _, x := range s.childrenOf(c) {
			if x.Phase == Succeeded {
				r.AnySucceeded = true
			}
			if x.Phase != Failed {
				r.AllFailed = false
			}
		}
	}
	return r
}
