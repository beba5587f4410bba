package workflow

import (
	"maps"
	"strings"

	"github.com/tiphys/tiphys/manifest"
)

// called is the node that arguments are for. What only it has, the name of its pod and the numbers of its attempts, is known where its arguments
// are made, or for each attempt: in Argo such a tag survives until then (reference 1.12, rule 9).
type called struct {
	name string
	tm   *template
	// retried says that the names are those of each attempt, which come later.
	retried bool
}

// calls gives the node that a step or task makes of a template.
func (s *State) calls(name string, tm *template) *called {
	if tm == nil {
		return nil
	}
	return &called{name: name, tm: tm, retried: s.retryTree(tm) != nil}
}

// pod is the name of the called node's pod; it is false if it has none, or one for each attempt.
func (s *State) podOf(c *called) (any, bool) {
	if c.retried || kindType(c.tm) != NodePod {
		return nil, false
	}
	return s.podName(&node{Node: Node{Name: c.name, TemplateName: c.tm.name}}), true
}

// keeps says which names stay for the attempts.
func (c *called) keeps(name string) bool {
	if c == nil || !c.retried {
		return false
	}
	return name == "retries" || strings.HasPrefix(name, "lastRetry.") || name == "pod.name" && kindType(c.tm) == NodePod
}

// speaksOfAttempts reports whether a text in a tree has a tag of what only an attempt has.
func speaksOfAttempts(v any) bool {
	return anyText(v, func(text string) bool {
		return strings.Contains(text, "{{") && len(wordsIn(text, "retries"))+len(wordsIn(text, "lastRetry"))+len(wordsIn(text, "pod")) > 0
	})
}

// attemptInputs are the inputs of an attempt: those of its Retry node, unless they speak of the attempt itself.
func (t *turn) attemptInputs(n, attempt *node, callee *template) (*manifest.Inputs, error) {
	var st *site
	var args map[string]any
	b := t.s.node(n.BoundaryID)
	if b != nil && n.Role == roleStep {
		tm, err := t.s.within(b)
		if err != nil {
			return nil, err
		}
		if st = tm.siteAt(n.Site); st != nil {
			args, _ = st.tree["arguments"].(map[string]any)
		}
	}
	if !speaksOfAttempts(args) && !speaksOfAttempts(callee.tree["inputs"]) {
		return n.Inputs, nil
	}
	v := invocation{
		name: attempt.Name, display: attempt.DisplayName, parent: n, boundary: b, role: roleAttempt, callee: callee, item: n.Item, index: n.Index, depth: n.Depth,
		extra: t.retryValues(attempt),
	}
	switch {
	case st != nil:
		sc := t.siteScope(b, st)
		sc.item, sc.called = n.Item, &called{name: attempt.Name, tm: callee}
		extra := map[string]any{}
		maps.Copy(extra, v.extra)
		maps.Copy(extra, sc.extra) // those of the boundary's own attempt come first
		sc.extra = extra
		var err error
		if v.args, err = t.arguments(args, callee, sc); err != nil {
			return nil, err
		}
	case b == nil && n.Role == roleStep:
		v.args = manifest.Arguments{Parameters: t.s.start.Parameters, Artifacts: t.s.start.Artifacts}
	default:
		return n.Inputs, nil // of a hook, whose arguments are those of its moment
	}
	return t.inputs(v)
}
