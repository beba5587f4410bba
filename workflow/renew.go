package workflow

import (
	"bytes"

	"github.com/tiphys/tiphys/manifest"
)

// renewInputs computes the inputs of nodes that were opened again from the run's new arguments, from the root down. Argo does
// so whenever it executes a template (ProcessArgs in workflow/common/util.go).
func (t *turn) renewInputs() {
	for _, n := range t.s.all() {
		if n.gone || n.Phase != Running || n.settled || n.Type.leaf() || n.Inputs == nil || n.Role != roleStep && n.Role != roleAttempt {
			continue
		}
		inputs, err := t.inputsAgain(n)
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

// inputsAgain gives the inputs that a node would have if it were made now.
func (t *turn) inputsAgain(n *node) (*manifest.Inputs, error) {
	p := t.s.node(n.Parent)
	if n.Role == roleAttempt && p != nil {
		return p.Inputs, nil
	}
	callee, err := t.s.templateAt(n.Template)
	if err != nil {
		return nil, err
	}
	v := invocation{name: n.Name, display: n.DisplayName, callee: callee, item: n.Item, index: n.Index, depth: n.Depth}
	b := t.s.node(n.BoundaryID)
	if b == nil {
		v.args = manifest.Arguments{Parameters: t.s.start.Parameters, Artifacts: t.s.start.Artifacts}
		return t.inputs(v)
	}
	tm, err := t.s.within(b)
	if err != nil {
		return nil, err
	}
	st := tm.siteAt(n.Site)
	if st == nil {
		return nil, nil
	}
	list, err := t.prepare(b, tm, st)
	if err != nil {
		return nil, err
	}
	for _, one := range list {
		if one.index == n.Index && bytes.Equal(one.item, n.Item) && one.skip == "" {
			v.args = one.args
			return t.inputs(v)
		}
	}
	return nil, nil
}
