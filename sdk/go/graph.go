package tiphys

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Graph is a template made of tasks: see [Dag] and [Steps].
type Graph struct {
	Template
	kind string
	more Raw
	list []*Task
}

// Dag is a graph: tasks run as soon as what they depend on is over.
func Dag(name string, options ...TemplateOptions) *Graph {
	o := one(options)
	o.Name = name
	more := Raw{}
	more.set("failFast", o.FailFast, o.FailFast != nil)
	more.set("target", o.Target, o.Target != "")
	return &Graph{Template: *newTemplate(o, nil), kind: "tasks", more: more}
}

// Steps are tasks one after another; with the option Beside, side by side.
func Steps(name string, options ...TemplateOptions) *Graph {
	o := one(options)
	o.Name = name
	return &Graph{Template: *newTemplate(o, nil), kind: "steps"}
}

// Dependency is a task, or a [State] of one.
type Dependency interface{ dependency() string }

// State is a state of a task, such as "test.Failed" or "test.AnySucceeded".
type State string

func (s State) dependency() string { return string(s) }

// All are the dependencies of a task: all of them must hold.
func All(dependencies ...Dependency) []Dependency { return dependencies }

// TaskOptions say how a task of a graph is run.
type TaskOptions struct {
	// Args are parameters and artifacts of the template, which gets an input for each parameter. What they refer to is waited for.
	Args Map
	// After are tasks that must have succeeded before, or states of them.
	After []Dependency
	// Beside, in steps, is the task that this one runs side by side with.
	Beside *Task
	// When skips the task if it does not hold.
	When string
	// WithItems is a list: one run of the task per item, which is Item().
	WithItems any
	// WithParam is a reference to a list that is known only when the task starts, or a list.
	WithParam    any
	WithSequence Raw
	// OnExit runs when the task is over.
	OnExit AnyTemplate
	// More are other fields of Argo's task.
	More Raw
}

// Task adds a task that runs a template.
func (g *Graph) Task(name string, template AnyTemplate, options ...TaskOptions) *Task {
	t := &Task{graph: g, name: name, template: template, o: one(options), at: place()}
	switch {
	case name == "":
		g.bad.add("a task needs a name")
	case template == nil:
		g.bad.add("task %s has no template", name)
	case slices.ContainsFunc(g.list, func(other *Task) bool { return other.name == name }):
		g.bad.add("there are two tasks %s", name)
	}
	t.fields = t.plain()
	t.pass()
	t.wait()
	g.list = append(g.list, t)
	return t
}

// Output names what the whole gives to the one who uses it: an output of one of its tasks.
func (g *Graph) Output(name, reference string) *Graph {
	if isArtifact(reference) {
		g.declare("outputs", "artifacts", []Raw{{"name": name, "from": reference}})
	} else {
		g.declare("outputs", "parameters", []Raw{{"name": name, "valueFrom": Raw{"parameter": reference}}})
	}
	return g
}

func (g *Graph) tasks() []*Task { return g.list }

func (g *Graph) body(names func(AnyTemplate) string) Raw {
	if g.kind == "tasks" {
		made := []Raw{}
		for _, t := range g.list {
			made = append(made, t.render(names))
		}
		return merge(g.fields, Raw{"dag": merge(g.more, Raw{"tasks": made})})
	}
	var rows [][]*Task
	for _, t := range g.list {
		at := slices.IndexFunc(rows, func(r []*Task) bool { return t.o.Beside != nil && slices.Contains(r, t.o.Beside) })
		if at < 0 {
			rows = append(rows, []*Task{t})
		} else {
			rows[at] = append(rows[at], t)
		}
	}
	made := [][]Raw{}
	for _, r := range rows {
		row := []Raw{}
		for _, t := range r {
			row = append(row, t.render(names))
		}
		made = append(made, row)
	}
	return merge(g.fields, Raw{"steps": made})
}

// Task is a task of a graph. What it gives are references for the arguments and conditions of later tasks.
type Task struct {
	graph    *Graph
	name     string
	template AnyTemplate
	o        TaskOptions
	fields   Raw
	depends  []string
	at       string
}

func (t *Task) dependency() string { return t.name }

// Name is the task's name.
func (t *Task) Name() string { return t.name }

// Output refers to an output parameter; of a loop, to the JSON list of all.
func (t *Task) Output(name string) string {
	t.check("parameters", name)
	return t.tag("outputs.parameters." + name)
}

// Artifact refers to an output artifact.
func (t *Task) Artifact(name string) string {
	t.check("artifacts", name)
	return t.tag("outputs.artifacts." + name)
}

// Result refers to what it wrote to its standard output.
func (t *Task) Result() string { return t.tag("outputs.result") }

// ExitCode refers to the code that its process ended with.
func (t *Task) ExitCode() string { return t.tag("exitCode") }

// Status refers to its phase, such as Succeeded.
func (t *Task) Status() string { return t.tag("status") }

// Succeeded is a state for the option After, as are the following.
func (t *Task) Succeeded() State { return State(t.name + ".Succeeded") }

// Failed is a state for the option After.
func (t *Task) Failed() State { return State(t.name + ".Failed") }

// Errored is a state for the option After.
func (t *Task) Errored() State { return State(t.name + ".Errored") }

// Skipped is a state for the option After.
func (t *Task) Skipped() State { return State(t.name + ".Skipped") }

func (t *Task) tag(rest string) string { return Tag(t.graph.kind + "." + t.name + "." + rest) }

func (t *Task) check(kind, name string) {
	if w, ok := t.template.(written); ok && !w.book().declares("outputs", kind, name) {
		t.graph.bad.add("task %s has no output %s: declare it under Outputs.%s of its template", t.name, name, strings.ToUpper(kind[:1])+kind[1:])
	}
}

// plain are the fields that need no other task.
func (t *Task) plain() Raw {
	made := merge(t.o.More)
	made.set("when", t.o.When, t.o.When != "")
	made.set("withItems", t.o.WithItems, t.o.WithItems != nil)
	if t.o.WithParam != nil {
		made["withParam"] = text(t.o.WithParam)
	}
	made.set("withSequence", t.o.WithSequence, t.o.WithSequence != nil)
	return made
}

// pass makes arguments, artifacts apart from parameters.
func (t *Task) pass() {
	if t.o.Args == nil {
		return
	}
	args := Raw{}
	var files []Raw
	var params Map
	for _, kv := range t.o.Args {
		if !isArtifact(kv[1]) {
			params = append(params, kv)
			continue
		}
		name := fmt.Sprint(kv[0])
		if w, ok := t.template.(written); ok && !w.book().declares("inputs", "artifacts", name) {
			t.graph.bad.add("task %s is given the artifact %s, and its template has no place for it: declare its path under Inputs.Artifacts", t.name, name)
		}
		files = append(files, Raw{"name": name, "from": kv[1]})
	}
	args.set("parameters", t.graph.parameters(params), len(params) > 0)
	args.set("artifacts", files, len(files) > 0)
	t.fields["arguments"] = args
}

// wait finds what the task depends on: what it says, and what its arguments and conditions refer to.
func (t *Task) wait() {
	bad := &t.graph.bad
	before := t.graph.list
	switch {
	case t.graph.kind == "steps" && t.o.After != nil:
		bad.add("task %s has After, and steps run one after another anyway: use Beside, or a Dag", t.name)
	case t.graph.kind == "tasks" && t.o.Beside != nil:
		bad.add("task %s has Beside, and tasks of a dag run side by side anyway: use After, or Steps", t.name)
	case t.o.Beside != nil && !slices.Contains(before, t.o.Beside):
		bad.add("task %s is beside %s, which is not a task before it", t.name, t.o.Beside.name)
	}
	for _, d := range t.o.After {
		name, _, _ := strings.Cut(d.dependency(), ".")
		at := slices.IndexFunc(before, func(b *Task) bool { return b.name == name })
		if task, ok := d.(*Task); at < 0 || ok && before[at] != task {
			bad.add("task %s is after %s, which is not a task before it", t.name, d.dependency())
		}
		t.depends = append(t.depends, d.dependency())
	}
	_, raw := t.o.More["depends"]
	_, older := t.o.More["dependencies"]
	if t.graph.kind != "tasks" || raw || older {
		return
	}
	used := text([]any{t.fields["arguments"], t.fields["when"], t.fields["withParam"], t.fields["withSequence"]})
	for _, b := range before {
		name := regexp.QuoteMeta(b.name)
		named := regexp.MustCompile(`\{\{[^}]*\btasks(\.` + name + `\.|\[\\?["']` + name + `\\?["']\])`)
		known := slices.ContainsFunc(t.depends, func(d string) bool { return d == b.name || strings.HasPrefix(d, b.name+".") })
		if !known && named.MatchString(used) {
			t.depends = append(t.depends, b.name)
		}
	}
}

func (t *Task) render(names func(AnyTemplate) string) Raw {
	made := placed(merge(t.fields, Raw{"name": t.name}), t.at)
	if len(t.depends) > 0 {
		made["depends"] = strings.Join(t.depends, " && ")
	}
	target := func(template AnyTemplate) (string, any) {
		if ref, ok := template.(TemplateRef); ok {
			return "templateRef", ref
		}
		return "template", names(template)
	}
	field, value := target(t.template)
	made[field] = value
	if t.o.OnExit != nil {
		field, value := target(t.o.OnExit)
		made["hooks"] = merge(rawOf(made["hooks"]), Raw{"exit": Raw{field: value}})
	}
	return made
}
