package workflow

import (
	"bytes"

	"github.com/tiphys/tiphys/manifest"
)

// renewInputs computes the inputs of nodes that were opened again from the run's new arguments, from the root down. Argo does
// so whenever it executes a template (ProcessArgs in workflow/common/util.go).
func (t *turn) renewInputs() {
	r := renewal{t: t, made: map[string]map[int]prepared{}}
	for _, n := range t.s.all() {
		if n.gone || n.Phase != Running || n.settled || n.Type.leaf() || n.Inputs == nil || n.Role != roleStep && n.Role != roleAttempt {
			continue
		}
		inputs, err := r.inputs(n)
		if err != nil {
			t.finish(n, Error, err.Error(), nil)
			continue
		}
		if inputs != nil {
			t.change(kindChanged, n, nodeChange{Inputs: inputs})
			t.s.cache.forget(n.ID)
		}
	}
}

// renewal computes inputs again. What a step or task makes is prepared once for all items of its loop: its boundary was renewed before.
type renewal struct {
	t    *turn
	made map[string]map[int]prepared // by boundary and site, and then by the place in the loop
}

// inputs gives the inputs that a node would have if it were made now; nil if it would not be.
func (r renewal) inputs(n *node) (*manifest.Inputs, error) {
	t := r.t
	p := t.s.node(n.Parent)
	callee, err := t.s.templateAt(n.Template)
	if err != nil {
		return nil, err
	}
	if n.Role == roleAttempt && p != nil {
		return t.attemptInputs(p, n, callee)
	}
	v := invocation{name: n.Name, display: n.DisplayName, callee: callee, item: n.Item, index: n.Index, depth: n.Depth}
	b := t.s.node(n.BoundaryID)
	if b == nil {
		v.args = manifest.Arguments{Parameters: t.s.start.Parameters, Artifacts: t.s.start.Artifacts}
		return t.inputs(v)
	}
	made, err := r.prepared(b, n.Site)
	if err != nil {
		return nil, err
	}
	one, there := made[n.Index]
	if !there || one.skip != "" || !bytes.Equal(one.item, n.Item) {
		return nil, nil
	}
	v.args = one.args
	return t.inputs(v)
}

// prepared is what a step or task of a boundary would make now.
func (r renewal) prepared(b *node, site string) (map[int]prepared, error) {
	key := b.ID + " " + site
	if made := r.made[key]; made != nil {
		return made, nil
	}
	tm, err := r.t.s.within(b)
	if err != nil {
		return nil, err
	}
	made := map[int]prepared{}
	if st := tm.siteAt(site); st != nil {
		list, err := r.t.prepare(b, tm, st)
		if err != nil {
			return nil, err
		}
		for _, one := range list {
			made[one.index] = one
		}
	}
	r.made[key] = made
	return made, nil
}
