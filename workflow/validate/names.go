package validate

import (
	"strings"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// names are what tags may refer to at some place, over those of the place around it.
type names struct {
	own      map[string]bool
	prefixes []string
	// lookup decides what would be too much to list.
	lookup func(name string) bool
	parent *names
}

func newNames(parent *names) *names { return &names{own: map[string]bool{}, parent: parent} }

func (n *names) add(list ...string) {
	for _, name := range list {
		n.own[name] = true
	}
}

// addAll allows everything that begins so, where the rest is only known at run time.
func (n *names) addAll(prefix string) { n.prefixes = append(n.prefixes, prefix) }

func (n *names) has(name string) bool {
	for ; n != nil; n = n.parent {
		if n.own[name] || n.lookup != nil && n.lookup(name) {
			return true
		}
		for _, p := range n.prefixes {
			if strings.HasPrefix(name, p) {
				return true
			}
		}
	}
	return false
}

// globalNames are the workflow.* names. What only exists at run time is allowed, as in Argo.
func (v *validator) globalNames(metadata *manifest.Tree) *names {
	n := newNames(nil)
	n.add("workflow.name", "workflow.namespace", "workflow.uid", "workflow.mainEntrypoint", "workflow.serviceAccountName",
		"workflow.parameters", "workflow.parameters.json", "workflow.labels", "workflow.labels.json",
		"workflow.annotations", "workflow.annotations.json", "node.name", "steps.name", "tasks.name", "pod.name", "retries")
	for _, prefix := range []string{"workflow.creationTimestamp", "workflow.scheduledTime", "workflow.duration", "lastRetry.", "cronworkflow."} {
		n.addAll(prefix)
	}
	if v.spec.OnExit != "" || len(v.spec.Hooks) > 0 {
		// Argo refuses the status in a run that has no exit handler, and takes it anywhere in one that has.
		n.add("workflow.status")
	}
	if v.spec.Priority != nil {
		n.add("workflow.priority")
	}
	if v.template {
		for _, prefix := range []string{"workflow.parameters.", "workflow.labels.", "workflow.annotations.", "workflow.priority"} {
			n.addAll(prefix)
		}
	}
	for _, p := range v.spec.Arguments.Parameters {
		n.add("workflow.parameters." + p.Name)
	}
	for _, a := range v.spec.Arguments.Artifacts {
		n.add("workflow.artifacts." + a.Name)
	}
	for _, kind := range []string{"labels", "annotations"} {
		for _, from := range []*manifest.Tree{
			metadata.Lookup("metadata." + kind), metadata.Get(kind), v.tree.Lookup("workflowMetadata." + kind),
			v.options.Defaults.Lookup("metadata." + kind),
		} {
			for _, key := range from.Keys() {
				n.add("workflow." + kind + "." + key)
			}
		}
	}
	for kind, given := range map[string][]string{"parameters": v.options.Parameters, "labels": v.options.Labels, "annotations": v.options.Annotations} {
		for _, name := range given {
			n.add("workflow." + kind + "." + name)
		}
	}
	for _, key := range v.tree.Lookup("workflowMetadata.labelsFrom").Keys() {
		n.add("workflow.labels." + key)
	}
	return n
}

// tags checks every tag in a part of a manifest. prefix goes before the message.
func (v *validator) tags(t *manifest.Tree, scope *names, path, prefix string) {
	t.Walk(path, func(path string, node *manifest.Tree) bool {
		for _, key := range node.Keys() {
			v.textTags(node, key, scope, path, prefix)
		}
		if node.Kind() == manifest.KindString {
			v.textTags(node, node.Text(), scope, path, prefix)
		}
		return true
	})
}

func (v *validator) textTags(node *manifest.Tree, text string, scope *names, path, prefix string) {
	if !strings.Contains(text, "{{") {
		return
	}
	tags := expression.Tags(text)
	for _, tag := range tags {
		v.tag(node, tag, scope, path, prefix)
	}
	if open := expression.Unclosed(text); open != "" {
		v.report(manifest.Diagnostic{
			Position: node.Find(open), Severity: manifest.SeverityError, Path: path, Message: prefix + open + " opens a tag that is not closed",
			Hint: "close it by }}",
		})
	}
}

func (v *validator) tag(node *manifest.Tree, tag expression.Tag, scope *names, path, prefix string) {
	d := manifest.Diagnostic{Position: node.Find(tag.Text), Severity: manifest.SeverityError, Path: path,
		Message: prefix + "failed to resolve " + tag.Text}
	switch {
	case tag.Literal && scope.has(tag.Name):
		return
	case tag.Literal:
		d.Severity, d.Message = manifest.SeverityWarning, prefix+tag.Text+" is not a tag of workflows and stays as it is"
		v.report(d)
		return
	case tag.Expression != "":
		v.expressionTag(d, tag, scope, prefix)
		return
	case len(tag.Inner) > 0:
		for _, inner := range tag.Inner {
			v.tag(node, inner, scope, path, prefix)
		}
		return
	}
	if scope.has(tag.Name) {
		return
	}
	root, _, _ := strings.Cut(tag.Name, ".")
	switch {
	case tag.Name == root:
		d.Severity, d.Message = manifest.SeverityWarning, prefix+tag.Text+" is only a tag within a loop and stays as it is"
		v.report(d)
	case strings.HasPrefix(tag.Name, "workflow.outputs."):
		v.waiting = append(v.waiting, waitingTag{name: tag.Name, fault: d})
	default:
		d.Hint = suggestion(tag.Name, scope)
		v.report(d)
	}
}

// expressionTag refuses what cannot be parsed. An unknown name is only warned of: the expression may be made
// for it (`x ?? "default"`).
func (v *validator) expressionTag(d manifest.Diagnostic, tag expression.Tag, scope *names, prefix string) {
	used, err := v.evaluator.Names(tag.Expression)
	if err != nil {
		d.Message = prefix + "failed to evaluate expression " + tag.Text + ": " + err.Error()
		v.report(d)
		return
	}
	for _, name := range used {
		rest, isParameter := strings.CutPrefix(name, "inputs.parameters.")
		if !isParameter || strings.ContainsAny(rest, ".*") || scope.has(name) {
			continue
		}
		d.Severity, d.Message = manifest.SeverityWarning, prefix+name+" is not known in "+tag.Text
		v.report(d)
	}
}

// suggestion finds the known name that differs in one letter or in case.
func suggestion(name string, scope *names) string {
	best := ""
	for n := scope; n != nil; n = n.parent {
		for candidate := range n.own {
			if near(candidate, name) && (best == "" || candidate < best) {
				best = candidate
			}
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean {{" + best + "}}?"
}

// near tells whether two names are equal but for case, or for one or two letters.
func near(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	if len(a)-len(b) > 2 || len(b)-len(a) > 2 {
		return false
	}
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	return len(a)-start-end <= 2 && len(b)-start-end <= 2 && start+end >= len("inputs.parameters.")
}

func isTagged(text string) bool { return strings.Contains(text, "{{") }
