package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// template is one template as it stands in a manifest, before substitution.
type template struct {
	key   string // scope#name, and @site for inline templates
	scope string // Argo's templateScope: "local/name", "namespaced/name", "cluster/name"
	name  string
	path  string // its place in the run's manifest; empty for other objects
	kind  string // the field that gives its type: "container", "steps", …
	// tagged says that the name of a step or task holds tags; see within.
	tagged bool
	tree   map[string]any

	groups [][]*site // of a steps template
	tasks  []*site   // of a dag template
	byName map[string]*site
	loose  manifest.Template // typed; fields that hold tags are zero
	leaf   any               // tree without what is rendered on its own
}

// site is a step or task as it stands in its template.
type site struct {
	key   string // "0/1" for steps, "3" for tasks
	group int
	index int
	name  string
	path  string
	tree  map[string]any
	loose manifest.WorkflowStep
	// Dependencies and Depends are of tasks.
	dependencies []string
	depends      string
	loop         bool
}

// templateKinds are the fields of which a template has exactly one.
var templateKinds = [...]string{"container", "script", "steps", "dag", "suspend", "http", "containerSet", "data", "resource", "plugin"}

// missingTemplateError says which object a template comes from that the run does not have yet.
type missingTemplateError struct{ ref Ref }

func (e missingTemplateError) Error() string {
	return fmt.Sprintf("%ss.argoproj.io %q not found", strings.ToLower(e.ref.Kind), e.ref.Name)
}

// templateAt gives a template by its key.
func (s *State) templateAt(key string) (*template, error) {
	if t := s.cache.templates[key]; t != nil {
		return t, nil
	}
	t, err := s.readTemplate(key)
	if err != nil {
		return nil, err
	}
	s.cache.templates[key] = t
	return t, nil
}

func (s *State) readTemplate(key string) (*template, error) {
	if at := strings.LastIndexByte(key, '@'); at >= 0 {
		owner, err := s.templateAt(key[:at])
		if err != nil {
			return nil, err
		}
		st := owner.siteAt(key[at+1:])
		if st == nil {
			return nil, fmt.Errorf("template %s has no step %s", key[:at], key[at+1:])
		}
		inline, _ := st.tree["inline"].(map[string]any)
		return s.newTemplate(key, owner.scope, st.path+".inline", inline)
	}
	scope, name, _ := strings.Cut(key, "#")
	spec, path, err := s.specOf(scope)
	if err != nil {
		return nil, err
	}
	list, _ := spec["templates"].([]any)
	if i, ok := s.cache.index(scope, list)[name]; ok {
		tree, _ := list[i].(map[string]any)
		if path != "" {
			path = path + ".templates[" + strconv.Itoa(i) + "]"
		}
		return s.newTemplate(key, scope, path, tree)
	}
	if strings.HasPrefix(scope, "local/") {
		return nil, fmt.Errorf("template name '%s' undefined", name)
	}
	_, object, _ := strings.Cut(scope, "/")
	return nil, fmt.Errorf("template %s not found in workflow template %s", name, object)
}

// specOf gives the spec that a scope's templates are read from, and its path if it is the run's own manifest.
func (s *State) specOf(scope string) (map[string]any, string, error) {
	kind, name, _ := strings.Cut(scope, "/")
	ref := Ref{Kind: "WorkflowTemplate", Namespace: s.run.Namespace, Name: name}
	switch kind {
	case "local":
		spec, _ := s.cache.manifest["spec"].(map[string]any)
		return spec, "spec", nil
	case "cluster":
		ref = Ref{Kind: "ClusterWorkflowTemplate", Name: name}
	}
	if spec, ok := s.cache.specs[ref]; ok {
		return spec, "", nil
	}
	raw, known := s.objects[ref]
	if !known {
		return nil, "", missingTemplateError{ref}
	}
	if raw == nil {
		return nil, "", errors.New(missingTemplateError{ref}.Error())
	}
	tree, err := decodeTree(raw)
	if err != nil {
		return nil, "", fmt.Errorf("read %s %s: %w", ref.Kind, ref.Name, err)
	}
	spec, _ := tree["spec"].(map[string]any)
	s.cache.specs[ref] = spec
	return spec, "", nil
}

func (s *State) newTemplate(key, scope, path string, tree map[string]any) (*template, error) {
	if tree == nil {
		return nil, fmt.Errorf("template %s is empty", key)
	}
	kind := ""
	for _, k := range templateKinds {
		if v, ok := tree[k]; ok && v != nil {
			kind = k
			break
		}
	}
	if spec, _ := s.cache.manifest["spec"].(map[string]any); spec != nil {
		if d, _ := spec["templateDefaults"].(map[string]any); d != nil {
			tree = mergeUnder(tree, dropKinds(d, kind))
		}
	}
	if kind == "" {
		for _, k := range templateKinds {
			if tree[k] != nil {
				kind = k
				break
			}
		}
	}
	t := &template{key: key, scope: scope, path: path, kind: kind, tree: tree, byName: map[string]*site{}}
	t.name = text(tree["name"])
	if kind == "" {
		return nil, fmt.Errorf("templates.%s: template type unspecified", t.name)
	}
	looseInto(withoutKeys(tree, "steps", "dag"), &t.loose)
	leaf := withoutKeys(tree, "inputs", "steps", "dag", "retryStrategy", "synchronization", "memoize", "metrics")
	t.leaf = leaf
	t.readSites()
	for _, st := range t.sites() {
		t.tagged = t.tagged || st.hasTags()
	}
	return t, nil
}

func (tm *template) readSites() {
	switch tm.kind {
	case "steps":
		list, _ := tm.tree["steps"].([]any)
		for g, group := range list {
			members, ok := group.([]any)
			if !ok {
				members = []any{group}
			}
			var out []*site
			for i, m := range members {
				tree, _ := m.(map[string]any)
				st := newSite(tree)
				st.key, st.group, st.index = strconv.Itoa(g)+"/"+strconv.Itoa(i), g, i
				st.path = fmt.Sprintf("%s.steps[%d][%d]", tm.path, g, i)
				if !ok {
					st.path = fmt.Sprintf("%s.steps[%d]", tm.path, g)
				}
				out = append(out, st)
				tm.byName[st.name] = st
			}
			tm.groups = append(tm.groups, out)
		}
	case "dag":
		dag, _ := tm.tree["dag"].(map[string]any)
		list, _ := dag["tasks"].([]any)
		for i, m := range list {
			tree, _ := m.(map[string]any)
			st := newSite(tree)
			st.key, st.index = strconv.Itoa(i), i
			st.path = fmt.Sprintf("%s.dag.tasks[%d]", tm.path, i)
			st.depends = text(tree["depends"])
			if deps, ok := tree["dependencies"].([]any); ok {
				for _, d := range deps {
					st.dependencies = append(st.dependencies, text(d))
				}
			}
			tm.tasks = append(tm.tasks, st)
			tm.byName[st.name] = st
		}
	}
	if tm.path == "" {
		for _, st := range tm.byName {
			st.path = ""
		}
	}
}

func newSite(tree map[string]any) *site {
	st := &site{tree: tree}
	looseInto(withoutKeys(tree, "inline", "arguments", "withItems", "withParam", "withSequence", "depends", "dependencies", "when"), &st.loose)
	st.name = st.loose.Name
	for _, k := range [...]string{"withItems", "withParam", "withSequence"} {
		if v, ok := tree[k]; ok && v != nil {
			st.loop = true
		}
	}
	return st
}

func (tm *template) siteAt(key string) *site {
	g, i, steps := strings.Cut(key, "/")
	n, err := strconv.Atoi(g)
	if err != nil {
		return nil
	}
	if !steps {
		if n < len(tm.tasks) {
			return tm.tasks[n]
		}
		return nil
	}
	m, err := strconv.Atoi(i)
	if err != nil || n >= len(tm.groups) || m >= len(tm.groups[n]) {
		return nil
	}
	return tm.groups[n][m]
}

// continues reports whether a step goes on after this phase.
func (st *site) continues(p Phase) bool {
	c := st.loose.ContinueOn
	return c != nil && (p == Failed && c.Failed || p == Error && c.Error)
}

// callee resolves what a step names: template, templateRef or inline, relative to the template it stands in.
func (s *State) callee(owner *template, name string, ref *manifest.TemplateRef, inlineSite string) (*template, error) {
	switch {
	case inlineSite != "":
		return s.templateAt(owner.key + "@" + inlineSite)
	case ref != nil && ref.Name != "":
		scope := "namespaced/"
		if ref.ClusterScope {
			scope = "cluster/"
		}
		return s.templateAt(scope + ref.Name + "#" + ref.Template)
	}
	scope := "local/" + s.run.Name
	if owner != nil {
		scope = owner.scope
	}
	return s.templateAt(scope + "#" + name)
}

// mergeUnder puts defaults under a tree: maps are merged, everything else is the tree's own.
func mergeUnder(tree, defaults map[string]any) map[string]any {
	out := make(map[string]any, len(tree)+len(defaults))
	for k, v := range defaults {
		out[k] = v
	}
	for k, v := range tree {
		if m, ok := v.(map[string]any); ok {
			if d, ok := out[k].(map[string]any); ok {
				out[k] = mergeUnder(m, d)
				continue
			}
		}
		if v != nil || out[k] == nil {
			out[k] = v
		}
	}
	return out
}

// dropKinds leaves out of template defaults the types that the template is not of.
func dropKinds(d map[string]any, kind string) map[string]any {
	out := make(map[string]any, len(d))
	for k, v := range d {
		out[k] = v
	}
	if kind == "" {
		return out
	}
	for _, k := range templateKinds {
		if k != kind {
			delete(out, k)
		}
	}
	return out
}

// withoutKeys is a shallow copy of a tree that lacks some keys.
func withoutKeys(tree map[string]any, keys ...string) map[string]any {
	out := make(map[string]any, len(tree))
	for k, v := range tree {
		out[k] = v
	}
	for _, k := range keys {
		delete(out, k)
	}
	return out
}

// looseInto decodes what can be decoded before substitution.
func looseInto(tree any, v any) {
	t, err := manifest.NewTree(tree)
	if err != nil {
		return
	}
	manifest.DecodeTree(t, v, manifest.DecodeOptions{Tagged: true})
}

func looseSpec(tree map[string]any) manifest.WorkflowSpec {
	var spec manifest.WorkflowSpec
	m, _ := tree["spec"].(map[string]any)
	looseInto(withoutKeys(m, "templates", "templateDefaults"), &spec)
	return spec
}

// decodeValue decodes a substituted tree. The common case goes through encoding/json, which is quicker; only what
// needs a string turned into another type goes through the manifest room.
func decodeValue(value, v any) error {
	raw, err := json.Marshal(value)
	if err == nil && json.Unmarshal(raw, v) == nil {
		return nil
	}
	return manifest.DecodeValue(value, v)
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case expression.Data:
		return v.String()
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func itoa(i int) string { return strconv.Itoa(i) }
