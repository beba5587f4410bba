package validate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// member is what steps and tasks have in common.
type member struct {
	name     string
	where    string // templates.main.steps[0].a
	at       *manifest.Tree
	holder   holder
	args     manifest.Arguments
	items    manifest.WithItems
	param    string
	sequence *manifest.Sequence
	when     string
	hooks    manifest.Hooks
	onExit   string
	// found is the template called; nil where it cannot be known.
	found *manifest.Template
	call  call
}

func (m *member) loops() bool { return len(m.items) > 0 || m.param != "" || m.sequence != nil }

// groupItems gives the steps of a group, which may be written as a list or as one step.
func groupItems(group *manifest.Tree) []*manifest.Tree {
	if group.Kind() == manifest.KindMap {
		return []*manifest.Tree{group}
	}
	return group.Items()
}

func (c *checker) steps() {
	scope := newNames(c.scope)
	seen := map[string]bool{}
	for i, group := range c.t.Steps {
		items := groupItems(c.t.Tree.Get("steps").Items()[i])
		var members []*member
		for k, s := range group {
			m := &member{
				name: s.Name, where: fmt.Sprintf("%s.steps[%d].%s", c.where, i, s.Name), at: items[k],
				holder: holder{s.Template, s.TemplateRef, s.Inline}, args: s.Arguments, items: s.WithItems, param: s.WithParam,
				sequence: s.WithSequence, when: s.When, hooks: s.Hooks, onExit: s.OnExit,
			}
			c.memberName(m, fmt.Sprintf("%s.steps[%d]", c.where, i), seen)
			members = append(members, m)
		}
		for _, m := range members {
			own := newNames(scope)
			own.add("steps." + m.name + ".status")
			c.member(m, own, "steps.", fmt.Sprintf("%s.steps[%d] ", c.where, i))
		}
		for _, m := range members {
			c.addOutputs(scope, m, "steps.")
		}
	}
	c.tags(c.t.Tree.Get("outputs"), scope, "outputs", c.way()+c.where+".outputs ")
	c.tags(c.t.Tree.Get("synchronization"), c.scope, "synchronization", c.way()+c.where+" ")
	c.aggregateOutputs()
}

func (c *checker) memberName(m *member, where string, seen map[string]bool) {
	switch {
	case m.name == "":
		c.failAt(m.at, "%s.name is required", where)
	case seen[m.name]:
		c.failAt(m.at.Get("name"), "%s.name '%s' is not unique", where, m.name)
	case isTagged(m.name):
		if part, fault := skeleton(m.name); fault {
			c.failAt(m.at.Get("name"), "%s.name '%s' is invalid: '%s' has more than alpha-numeric characters and '-' beside the tags", where, m.name, part)
		}
	default:
		if fault := fieldName(m.name); fault != "" {
			c.failAt(m.at.Get("name"), "%s.name '%s' is invalid: %s", where, m.name, fault)
		}
	}
	seen[m.name] = true
}

// skeleton finds what stands beside the tags of a name and is not allowed there (isValidStepName in workflow/validate/validate.go of Argo).
func skeleton(name string) (part string, fault bool) {
	last := 0
	for _, tag := range append(expression.Tags(name), expression.Tag{Start: len(name), End: len(name)}) {
		part := name[last:tag.Start]
		last = tag.End
		for i := range len(part) {
			if !alphanumeric(part[i]) && part[i] != '-' {
				return part, true
			}
		}
	}
	return "", false
}

// member checks a step or task in the scope of what ran before it.
func (c *checker) member(m *member, scope *names, root, tagPrefix string) {
	c.arguments(m)
	c.loop(m, scope)
	if m.when != "" && !isTagged(m.when) {
		if _, err := expression.EvalWhen(m.when); err != nil {
			c.failAt(m.at.Get("when"), "%s.when: %v", m.where, err)
		}
	}
	for _, key := range m.at.Keys() {
		if key != "inline" && key != "hooks" {
			c.tags(m.at.Get(key), scope, m.where+"."+key, c.way()+tagPrefix)
		}
	}
	found, ok := c.resolve(c.library, m.holder, m.at, c.way()+m.where)
	if !ok {
		c.memberHooks(m, scope, root, tagPrefix)
		return
	}
	m.call, m.found = found, found.template
	m.call.args, m.call.prefix = &m.args, c.way()+m.where+" "
	c.supplied(m.call)
	c.podless(m)
	via := append(append([]string(nil), c.via[:len(c.via)-1]...), m.where)
	if m.holder.inline != nil {
		c.inline(m, scope, via)
	} else {
		c.checkTemplate(found.library, found.template, via)
	}
	c.memberHooks(m, scope, root, tagPrefix)
}

// podless refuses the pod's name in arguments of a template that has no pod.
func (c *checker) podless(m *member) {
	kind := m.found.Type()
	if kind != "steps" && kind != "dag" {
		return
	}
	m.at.Get("arguments").Walk("arguments", func(_ string, node *manifest.Tree) bool {
		if node.Kind() == manifest.KindString && slices.ContainsFunc(expression.Tags(node.Text()), func(tag expression.Tag) bool { return tag.Name == "pod.name" }) {
			c.failAt(node, "%s failed to resolve {{pod.name}}: a %s template has no pod", m.where, kind)
		}
		return true
	})
}

// inline checks a template that is written in its step; it also sees what its step sees.
func (c *checker) inline(m *member, scope *names, via []string) {
	saved := c.globals
	c.globals = scope
	c.checkTemplate(c.library, m.found, via)
	c.globals = saved
}

func (c *checker) memberHooks(m *member, scope *names, root, tagPrefix string) {
	own := newNames(scope)
	c.addOutputs(own, m, root)
	own.add("workflow.status", "workflow.failures")
	for _, name := range m.at.Get("hooks").Keys() {
		hook := m.hooks[name]
		at := m.at.Lookup(manifest.JoinPath("hooks", name))
		where := m.where + ".hooks." + name
		if name != "exit" && hook.Expression == "" {
			c.failAt(at, "%s Expression required", where)
		}
		c.tags(at, own, where, c.way()+tagPrefix)
		h, ok := c.resolve(c.library, holder{template: hook.Template, ref: hook.TemplateRef}, at, c.way()+where)
		if !ok {
			continue
		}
		h.args, h.prefix = &hook.Arguments, c.way()+where+" "
		c.supplied(h)
		c.checkTemplate(h.library, h.template, append(append([]string(nil), c.via[:len(c.via)-1]...), where))
	}
	if m.onExit != "" && !isTagged(m.onExit) && c.library.templates[m.onExit] == nil {
		c.failAt(m.at.Get("onExit"), "%s.onExit template name '%s' undefined", m.where, m.onExit)
	}
}

// loop checks withItems, withParam and withSequence, and adds the item to the scope.
func (c *checker) loop(m *member, scope *names) {
	count := 0
	for _, set := range []bool{len(m.items) > 0, m.param != "", m.sequence != nil} {
		if set {
			count++
		}
	}
	if count > 1 {
		c.failAt(m.at, "%s only one of withItems, withParam or withSequence can be specified", m.where)
	}
	if count == 0 {
		return
	}
	scope.add("item")
	if m.sequence != nil {
		c.sequence(m)
		return
	}
	for _, item := range m.items {
		fields, isMap := item.(map[string]any)
		if text, ok := item.(string); ok && isTagged(text) {
			scope.addAll("item.")
		}
		if isMap {
			for key := range fields {
				scope.add("item." + key)
				scope.addAll("item." + key + ".")
			}
		}
	}
	if m.param != "" {
		scope.addAll("item.")
		if !isTagged(m.param) {
			if _, err := expression.ParamItems(m.param); err != nil {
				c.failAt(m.at.Get("withParam"), "%s %v", m.where, err)
			}
		}
	}
}

func (c *checker) sequence(m *member) {
	s := m.sequence
	at := m.at.Get("withSequence")
	switch {
	case s.Count != nil && s.End != nil:
		c.failAt(at, "%s.withSequence only one of count or end can be defined", m.where)
		return
	case s.Count == nil && s.End == nil:
		c.failAt(at, "%s.withSequence must have either count or end defined", m.where)
		return
	}
	if isTagged(s.Count.Text() + s.Start.Text() + s.End.Text() + s.Format) {
		return
	}
	if _, err := expression.Sequence(*s); err != nil {
		c.failAt(at, "%s: %v", m.where, err)
	}
}

func (c *checker) arguments(m *member) {
	at := m.at.Get("arguments")
	where := m.where + ".arguments."
	c.uniqueNames(at.Get("parameters"), where+"parameters", parameterName)
	c.uniqueNames(at.Get("artifacts"), where+"artifacts", parameterName)
	for i, p := range m.args.Parameters {
		if f := p.ValueFrom; f != nil && (f.Path != "" || f.Parameter != "" || f.JSONPath != "" || f.JQFilter != "" || f.Event != "") {
			c.failAt(at.Get("parameters").Items()[i], "%s%s.valueFrom only allows: default, configMapKeyRef, supplied and expression", where, p.Name)
		}
		if len(p.Enum) > 0 && p.Value != nil && !isTagged(p.Value.Text()) && !slices.ContainsFunc(p.Enum, func(e manifest.AnyString) bool { return e.String() == p.Value.Text() }) {
			c.failAt(at.Get("parameters").Items()[i], "%s%s.value should be present in %s%s.enum list", where, p.Name, where, p.Name)
		}
		if p.Value == nil && p.ValueFrom == nil && p.Default == nil {
			c.failAt(at.Get("parameters").Items()[i], "%s%s.value or %s%s.valueFrom is required", where, p.Name, where, p.Name)
		}
	}
	for i, a := range m.args.Artifacts {
		if !hasLocation(a) && !a.Optional {
			c.failAt(at.Get("artifacts").Items()[i], "%sartifacts.%s from, artifact location, or key is required", where, a.Name)
		}
	}
}

// addOutputs adds what a step or task leaves to a scope.
func (c *checker) addOutputs(scope *names, m *member, root string) {
	prefix := root + m.name
	if isTagged(m.name) {
		scope.addAll(root)
		return
	}
	scope.add(prefix+".id", prefix+".status", prefix+".startedAt", prefix+".finishedAt", prefix+".hostNodeName")
	t := m.found
	if t == nil {
		scope.addAll(prefix + ".")
		return
	}
	if t.Daemon != nil && *t.Daemon {
		scope.add(prefix + ".ip")
	}
	kind := t.Type()
	result := slices.Contains([]string{"container", "script", "containerSet", "data", "http", "plugin", "suspend"}, kind)
	if result {
		scope.add(prefix+".outputs.result", prefix+".exitCode")
	}
	if m.loops() {
		scope.add(prefix+".outputs.result", prefix+".outputs.parameters")
	}
	if len(t.Outputs.Parameters) > 0 {
		scope.add(prefix + ".outputs.parameters")
	}
	for _, p := range t.Outputs.Parameters {
		scope.add(prefix + ".outputs.parameters." + p.Name)
	}
	for _, a := range t.Outputs.Artifacts {
		scope.add(prefix + ".outputs.artifacts." + a.Name)
	}
}

func (c *checker) dag() {
	tasks := map[string]*member{}
	depends := map[string][]string{}
	seen := map[string]bool{}
	var order []*member
	for i := range c.t.DAG.Tasks {
		task := &c.t.DAG.Tasks[i]
		m := &member{
			name: task.Name, where: c.where + ".tasks." + task.Name, at: c.t.Tree.Lookup("dag.tasks").Items()[i],
			holder: holder{task.Template, task.TemplateRef, task.Inline}, args: task.Arguments, items: task.WithItems, param: task.WithParam,
			sequence: task.WithSequence, when: task.When, hooks: task.Hooks, onExit: task.OnExit,
		}
		c.memberName(m, c.where+".tasks", seen)
		tasks[task.Name] = m
		order = append(order, m)
	}
	uses := c.dependencyStyle()
	for i := range c.t.DAG.Tasks {
		depends[order[i].name] = c.dependencies(&c.t.DAG.Tasks[i], order[i], tasks, uses)
	}
	c.dagTargets(tasks)
	sorted, cycle := topological(order, depends)
	if cycle != "" {
		c.failAt(c.t.Tree.Get("dag"), "%s cycle detected: %s", c.where, cycle)
		return
	}
	all := newNames(c.scope)
	outputs := map[string]*names{}
	for _, name := range sorted {
		m := tasks[name]
		own := newNames(c.scope)
		own.lookup = func(tag string) bool { return c.fromAncestor(tag, name, depends, outputs) }
		c.member(m, own, "tasks.", m.where+" ")
		c.addOutputs(all, m, "tasks.")
		outputs[name] = newNames(nil)
		c.addOutputs(outputs[name], m, "tasks.")
	}
	c.tags(c.t.Tree.Get("outputs"), all, "outputs", c.way()+c.where+".outputs ")
	c.tags(c.t.Tree.Get("synchronization"), c.scope, "synchronization", c.way()+c.where+" ")
	c.tags(c.t.Tree.Lookup("dag.target"), c.scope, "dag.target", c.way()+c.where+" ")
	c.aggregateOutputs()
}

// fromAncestor tells whether a tag is an output of a task that the given one waits for. It is asked per tag: listing
// the outputs of all ancestors of all tasks would be quadratic.
func (c *checker) fromAncestor(tag, of string, depends map[string][]string, outputs map[string]*names) bool {
	rest, ok := strings.CutPrefix(tag, "tasks.")
	if !ok {
		return false
	}
	task, _, _ := strings.Cut(rest, ".")
	if outputs[task] == nil {
		for name := range outputs {
			if isTagged(name) {
				return true // a task whose name is only known when it runs
			}
		}
		return false
	}
	return outputs[task].has(tag) && reaches(of, task, depends)
}

// dependencyStyle tells whether the tasks use depends or dependencies at all, and refuses both together.
func (c *checker) dependencyStyle() bool {
	var old, rich bool
	for i := range c.t.DAG.Tasks {
		old = old || len(c.t.DAG.Tasks[i].Dependencies) > 0
		rich = rich || c.t.DAG.Tasks[i].Depends != ""
	}
	if old && rich {
		c.failAt(c.t.Tree.Get("dag"), "%s cannot use both 'depends' and 'dependencies' in the same DAG template", c.where)
	}
	if rich {
		for i := range c.t.DAG.Tasks {
			if task := &c.t.DAG.Tasks[i]; task.ContinueOn != nil {
				c.failAt(c.t.Tree.Lookup("dag.tasks").Items()[i].Get("continueOn"),
					"%s cannot use 'continueOn' when using 'depends'. Instead use 'dep-task.Failed'/'dep-task.Errored'", c.where)
			}
		}
	}
	return old || rich
}

func (c *checker) dependencies(task *manifest.DAGTask, m *member, tasks map[string]*member, uses bool) []string {
	if uses && task.Name != "" && task.Name[0] >= '0' && task.Name[0] <= '9' {
		c.failAt(m.at.Get("name"), "%s name cannot begin with a digit when using either 'depends' or 'dependencies'", m.where)
	}
	named := task.Dependencies
	if task.Depends != "" {
		parsed, err := expression.ParseDepends(task.Depends)
		if err != nil {
			c.failAt(m.at.Get("depends"), "%s.depends: %v", m.where, err)
			return nil
		}
		named = parsed.Tasks()
		for _, name := range named {
			results := parsed.Results(name)
			aggregate := slices.Contains(results, "AnySucceeded") || slices.Contains(results, "AllFailed")
			if other := tasks[name]; other != nil && aggregate && !other.loops() {
				c.failAt(m.at.Get("depends"), "%s can only use 'AnySucceeded' and 'AllFailed' on '%s' if it has withItems, withParam or withSequence", m.where, name)
			}
		}
	}
	var known []string
	for _, name := range named {
		if tasks[name] == nil {
			c.failAt(m.at, "%s dependency '%s' not defined", m.where, name)
			continue
		}
		known = append(known, name)
	}
	return known
}

func (c *checker) dagTargets(tasks map[string]*member) {
	if isTagged(c.t.DAG.Target) {
		return
	}
	for target := range strings.FieldsSeq(c.t.DAG.Target) {
		if tasks[target] == nil {
			c.failAt(c.t.Tree.Lookup("dag.target"), "%s target '%s' is not defined", c.where, target)
		}
	}
}

// topological orders tasks by their dependencies, or shows a cycle.
func topological(order []*member, depends map[string][]string) (sorted []string, cycle string) {
	const open, closed = 1, 2
	state := map[string]int{}
	var way []string
	var visit func(name string) bool
	visit = func(name string) bool {
		way = append(way, name)
		switch state[name] {
		case open:
			cycle = strings.Join(way[slices.Index(way, name):], "->")
			return false
		case closed:
			way = way[:len(way)-1]
			return true
		}
		state[name] = open
		for _, d := range depends[name] {
			if !visit(d) {
				return false
			}
		}
		state[name] = closed
		sorted = append(sorted, name)
		way = way[:len(way)-1]
		return true
	}
	for _, m := range order {
		if !visit(m.name) {
			return nil, cycle
		}
	}
	return sorted, ""
}

// reaches tells whether a task waits for another, directly or not.
func reaches(from, to string, depends map[string][]string) bool {
	seen := map[string]bool{}
	queue := depends[from]
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		if next == to {
			return true
		}
		if !seen[next] {
			seen[next] = true
			queue = append(slices.Clip(queue), depends[next]...)
		}
	}
	return false
}
