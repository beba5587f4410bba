package workflow

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/manifest"
)

// known refuses parameters from outside that nobody declared: a slip of the pen would otherwise be taken and have no effect. A
// parameter is declared by spec.arguments, as an input of the template that the run begins with, or by a tag that reads it.
func (m *merger) known(tree, spec map[string]any) error {
	names := map[string]bool{}
	list, _ := asMap(spec["arguments"])["parameters"].([]any)
	for _, p := range list {
		names[text(asMap(p)["name"])] = true
	}
	entry := text(spec["entrypoint"])
	if m.c.Entrypoint != "" {
		entry = m.c.Entrypoint
	}
	templates, _ := spec["templates"].([]any)
	for _, x := range templates {
		if t := asMap(x); text(t["name"]) == entry {
			inputs, _ := asMap(t["inputs"])["parameters"].([]any)
			for _, p := range inputs {
				names[text(asMap(p)["name"])] = true
			}
		}
	}
	for _, name := range sortedKeys(m.c.Parameters) {
		if !names[name] && !m.reads(tree, name) {
			return invalid("spec.arguments.parameters", undeclared(name, sortedKeys(names)))
		}
	}
	return nil
}

// reads reports whether a text of the manifest, or of an object that it refers to, names a parameter of the workflow.
func (m *merger) reads(tree map[string]any, name string) bool {
	if readsParameter(tree, name) {
		return true
	}
	for _, raw := range m.c.Objects {
		if object, err := decodeTree(raw); err == nil && readsParameter(object, name) {
			return true
		}
	}
	return false
}

func readsParameter(v any, name string) bool {
	return anyText(v, func(text string) bool { return textReads(text, name) })
}

// textReads looks at every place of a text that speaks of parameters of the workflow. A tag that speaks of all of them reads each.
func textReads(s, name string) bool {
	for _, rest := range wordsIn(s, "workflow") {
		group, rest, ok := fieldOf(rest)
		if !ok || group != "parameters" {
			continue
		}
		read, _, named := fieldOf(rest)
		if read == name && named || (!named || read == "json") && strings.Contains(s, "{{") {
			return true
		}
	}
	return false
}

// undeclared words that there is no parameter of a name, and which may be meant.
func undeclared(name string, known []string) string {
	message := fmt.Sprintf("parameter %q is not declared", name)
	if near := manifest.Nearest(name, known); near != "" {
		return message + fmt.Sprintf(": did you mean %q?", near)
	}
	if len(known) == 0 {
		return message + ": there are none"
	}
	return message + ": there are " + strings.Join(known, ", ")
}

// outsideEnum says that a parameter's value is not one of those that it may have; empty if it is.
func outsideEnum(p manifest.Parameter) string {
	if len(p.Enum) == 0 || p.Value == nil {
		return ""
	}
	allowed := make([]string, 0, len(p.Enum))
	for _, e := range p.Enum {
		if e.String() == p.Value.String() {
			return ""
		}
		allowed = append(allowed, e.String())
	}
	return fmt.Sprintf("parameter %q cannot be %q: it is one of %s", p.Name, p.Value.String(), strings.Join(allowed, ", "))
}

// newArguments checks the arguments of a retry as those of a submission are.
func (t *turn) newArguments(values map[string]string) error {
	var known []string
	for _, p := range t.s.start.Parameters {
		known = append(known, p.Name)
		if v, ok := values[p.Name]; ok {
			p.Value = manifest.NewAnyString(v)
			if fault := outsideEnum(p); fault != "" {
				return fmt.Errorf("retry run %s: %s", t.s.run.Name, fault)
			}
		}
	}
	for _, name := range sortedKeys(values) {
		if !slices.Contains(known, name) && !readsParameter(t.s.cache.manifest, name) {
			return fmt.Errorf("retry run %s: %s", t.s.run.Name, undeclared(name, known))
		}
	}
	return nil
}

// suppliedValues checks what is supplied to suspended nodes: each value is of an output of one of them, and one that it may have.
func suppliedValues(verb string, nodes []*node, values map[string]string) error {
	var known []string
	for _, n := range nodes {
		if n.Outputs == nil {
			continue
		}
		for _, p := range n.Outputs.Parameters {
			known = append(known, p.Name)
			if v, ok := values[p.Name]; ok {
				p.Value = manifest.NewAnyString(v)
				if fault := outsideEnum(p); fault != "" {
					return fmt.Errorf("%s: node %s: %s", verb, n.DisplayName, fault)
				}
			}
		}
	}
	for _, name := range sortedKeys(values) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s: no suspended node has an output parameter %q: %s", verb, name, undeclared(name, known))
		}
	}
	return nil
}

// namedConfigMaps are the ConfigMaps that parameters are taken from and whose names hold tags of the workflow itself, if they are not
// there yet. Argo replaces those of name and key (substituteAndGetConfigMapValue in workflow/common/util.go).
func (m *merger) namedConfigMaps(sc *scope) []Ref {
	var refs []Ref
	for _, name := range m.tagged {
		done, err := substituteText(name, sc)
		ref := Ref{Kind: "ConfigMap", Namespace: m.c.Namespace, Name: done}
		if _, there := m.c.Objects[ref]; err == nil && !there && !strings.Contains(done, "{{") && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// mergeLists merges those lists of a spec whose items have keys: what the spec does not have itself is that of the base. The keys are
// those of Argo's own types (the patchMergeKey tags of WorkflowSpec in pkg/apis/workflow/v1alpha1/workflow_types.go).
func mergeLists(out, spec, base map[string]any) {
	keys := map[string]func(any) string{
		"volumes":              func(x any) string { return text(asMap(x)["name"]) },
		"imagePullSecrets":     func(x any) string { return text(asMap(x)["name"]) },
		"volumeClaimTemplates": func(x any) string { return text(asMap(asMap(x)["metadata"])["name"]) },
		"hostAliases":          func(x any) string { return text(asMap(x)["ip"]) },
		"tolerations":          func(x any) string { return text(asMap(x)["key"]) },
	}
	for field, key := range keys {
		own, _ := spec[field].([]any)
		below, _ := base[field].([]any)
		if len(own) == 0 || len(below) == 0 {
			continue
		}
		merged := slices.Clone(own)
		for _, x := range below {
			if !slices.ContainsFunc(own, func(o any) bool { return key(o) == key(x) }) {
				merged = append(merged, x)
			}
		}
		out[field] = merged
	}
}
