package workflow

import (
	"errors"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/manifest"
)

// Decide takes a command, applies what follows from it to the state, and returns that as entries and effects. An
// error other than [*InvalidError], [*MissingError] and [*RefusedError] means that the state must be loaded again.
func Decide(s *State, c Command) (Decision, error) {
	m := c.command()
	t := &turn{s: s, now: m.Now.UTC().Truncate(time.Microsecond), actor: m.Actor, chance: m.Seed}
	var err error
	switch c := c.(type) {
	case Submit:
		err = t.submit(c)
	case *Submit:
		err = t.submit(*c)
	default:
		if s.start.Name == "" {
			return Decision{}, errors.New("decide: the run has not been submitted")
		}
		err = t.command(c)
	}
	if err == nil {
		err = t.drain()
	}
	if err == nil {
		err = t.err
	}
	if s.asleep.err != nil { // what was decided was decided without what could not be read
		return Decision{}, s.asleep.err
	}
	switch {
	case err == nil:
		return t.out, nil
	case t.err == nil && len(t.out.Entries) == 0 && !submits(c):
		return Decision{}, &RefusedError{err}
	}
	return Decision{}, err
}

// submits tells the first command, whose refusals have types of their own.
func submits(c Command) bool {
	switch c.(type) {
	case Submit, *Submit:
		return true
	}
	return false
}

// turn is one decision in the making.
type turn struct {
	s     *State
	now   time.Time
	actor string
	// chance is the seed of the next text with an expression.
	chance int64
	out    Decision
	queue  []settledChild
	freed  []string
	due    map[string]int // how many of the queue are for a parent
	hit    string         // the node whose outputs came from the cache
	err    error
}

// settledChild is a child that its parent has to hear of.
type settledChild struct{ parent, child string }

func (t *turn) command(c Command) error {
	switch c := c.(type) {
	case Report:
		return t.report(c.Report)
	case Fired:
		return t.fired(c.Key)
	case Got:
		return t.got(c)
	case Control:
		return t.control(c)
	}
	return fmt.Errorf("decide: command %T is not known", c)
}

// emit records an entry and applies it.
func (t *turn) emit(kind, id string, body any) {
	if t.err != nil {
		return
	}
	e := Entry{Kind: kind, Node: id, Body: body}
	if err := Apply(t.s, e); err != nil {
		t.err = err
		return
	}
	t.out.Entries = append(t.out.Entries, e)
}

func (t *turn) effect(e Effect) { t.out.Effects = append(t.out.Effects, e) }

// change records a change of a node.
func (t *turn) change(kind string, n *node, c nodeChange) {
	c.ID = n.ID
	if n.planned && c.Planned != nil && !*c.Planned {
		shown := n.Node
		c.Shown = &shown
	}
	t.emit(kind, n.ID, &c)
}

func (t *turn) changeRun(kind string, c runChange) { t.emit(kind, "", &c) }

// drain lets parents hear of their children, and gives free places to nodes that wait, until nothing is left.
func (t *turn) drain() error {
	for t.err == nil {
		if len(t.queue) > 0 {
			ev := t.queue[0]
			t.queue = t.queue[1:]
			t.due[ev.parent]--
			p, c := t.s.node(ev.parent), t.s.node(ev.child)
			if c == nil {
				continue
			}
			if ev.parent == "" {
				t.topSettled(c)
			} else if p != nil {
				t.childSettled(p, c)
			}
			continue
		}
		if len(t.freed) == 0 {
			break
		}
		key := t.freed[0]
		t.freed = t.freed[1:]
		t.unblock(key)
	}
	return t.err
}

// childSettled tells a node that a child needs nothing more.
func (t *turn) childSettled(p, c *node) {
	switch {
	case c.Role == roleHook || c.Role == roleExit:
		t.hookSettled(p, c)
	case p.Phase.Done() || p.settled && p.Type != NodeRetry: // a daemon that dies is tried again
		return
	case p.Type == NodeStepGroup && p.Role == roleGroup:
		t.advanceStepGroup(p)
	case p.Type == NodeTaskGroup:
		t.advanceTaskGroup(p)
	case p.Type == NodeSteps:
		t.advanceSteps(p, c)
	case p.Type == NodeDAG:
		t.advanceDAG(p, c)
	case p.Type == NodeRetry:
		t.advanceRetry(p, c)
	}
}

// finish ends a node. Its locks go back, its hooks run, and then its parent hears of it.
func (t *turn) finish(n *node, phase Phase, message string, outputs *manifest.Outputs) {
	if n.Phase.Done() && n.Phase != "" && n.FinishedAt != nil {
		return
	}
	now := t.now
	c := nodeChange{Phase: phase, FinishedAt: &now, Outputs: outputs}
	if message != n.Message {
		c.Message = &message
	}
	if n.Waiting != "" {
		empty := ""
		c.Waiting = &empty
	}
	if n.Type == NodeSuspend && n.Why != "" {
		c.Why = ptr("") // it waits no more
	}
	if n.StartedAt == nil {
		c.StartedAt = &now
	}
	if n.planned {
		no := false
		c.Planned = &no
	}
	t.conclude(n, c)
}

// conclude records the end of a node that c describes.
func (t *turn) conclude(n *node, c nodeChange) {
	held := n.lock != lockNone
	wasActive := n.active
	if held {
		none := lockNone
		c.Lock = &none
	}
	hooks := t.hasHooks(n)
	if !hooks {
		yes := true
		c.Settled = &yes
	}
	wasSettled := n.settled
	t.change(kindFinished, n, c)
	if held {
		t.effect(Release{Holder: t.s.holder(n)})
	}
	t.ended(n, wasActive)
	if hooks && !wasSettled {
		t.runHooks(n)
		t.trySettle(n)
	} else if p := t.s.node(n.Parent); !wasSettled || n.Role == roleAttempt && p != nil && !p.Phase.Done() {
		t.tell(n)
	}
}

// ended is what follows from every end of a node, however it was recorded.
func (t *turn) ended(n *node, wasActive bool) {
	if n.pod != nil && (n.pod.Deadline != nil || n.Type == NodeSuspend) {
		t.effect(CancelTimer{Key: "node/" + n.ID})
	}
	if n.Phase.bad() && t.s.run.Failed == "" && n.Type.leaf() {
		t.changeRun(kindRunChange, runChange{Failed: n.ID})
	}
	if n.Outputs != nil {
		t.publish(n.Outputs)
	}
	if n.Type == NodeSteps || n.Type == NodeDAG {
		t.killDaemons(n)
	}
	if n.Phase == Succeeded {
		t.storeMemo(n)
	}
	if wasActive {
		t.free(n)
	}
}

// free gives back the place that a node took.
func (t *turn) free(n *node) {
	if n.BoundaryID != "" && len(t.s.blocked[n.BoundaryID]) > 0 {
		t.freed = append(t.freed, n.BoundaryID)
	}
	if len(t.s.blocked[""]) > 0 {
		t.freed = append(t.freed, "")
	}
}

// tell puts the end of n in the queue of what parents hear of.
func (t *turn) tell(n *node) {
	if t.due == nil {
		t.due = map[string]int{}
	}
	t.due[n.Parent]++
	t.queue = append(t.queue, settledChild{n.Parent, n.ID})
}

// trySettle settles a node once its hooks have ended too.
func (t *turn) trySettle(n *node) {
	if n.settled || !n.fulfilled() || n.hooksOut > 0 {
		return
	}
	yes := true
	t.change(kindSettled, n, nodeChange{Settled: &yes})
	t.tell(n)
}

// publish makes outputs with a global name the run's.
func (t *turn) publish(o *manifest.Outputs) {
	var list outputList
	for _, p := range o.Parameters {
		if p.GlobalName != "" && p.Value != nil {
			list.Parameters = append(list.Parameters, manifest.Parameter{Name: p.GlobalName, Value: p.Value})
		}
	}
	for _, a := range o.Artifacts {
		if a.GlobalName != "" {
			g := a
			g.Name, g.GlobalName = a.GlobalName, ""
			list.Artifacts = append(list.Artifacts, g)
		}
	}
	if len(list.Parameters)+len(list.Artifacts) > 0 {
		t.changeRun(kindRunOutput, runChange{Outputs: &list})
	}
}

func ptr[T any](v T) *T { return &v }
