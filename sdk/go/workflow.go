package tiphys

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// WorkflowOptions are options of a workflow.
type WorkflowOptions struct {
	Namespace           string
	Labels, Annotations map[string]string
	// Parameters of the workflow with their defaults; nil: the one who submits must set it.
	Parameters Map
	// Entrypoint is the template to start with, where it is not the graph of the workflow's own tasks.
	Entrypoint AnyTemplate
	// OnExit runs when the workflow is over.
	OnExit AnyTemplate
	// Templates that no task names by reference.
	Templates []*Template
	// More are other fields of Argo's workflow spec, and of a CronWorkflow's.
	More Raw
}

// Workflow is a workflow that is being built.
type Workflow struct {
	kind, name string
	o          WorkflowOptions
	graph      *Graph
	added      []AnyTemplate
	cron       Raw
	at         string
}

// NewWorkflow is a workflow. A name that ends with "-" is the beginning of one that is generated for each run.
func NewWorkflow(name string, options ...WorkflowOptions) *Workflow {
	w := &Workflow{kind: "Workflow", name: name, o: one(options), graph: Dag("main"), at: place()}
	if name == "" {
		w.graph.bad.add("a workflow needs a name")
	}
	return w
}

// NewWorkflowTemplate is a WorkflowTemplate: templates for other workflows, or a workflow to submit.
func NewWorkflowTemplate(name string, options ...WorkflowOptions) *Workflow {
	w := NewWorkflow(name, options...)
	w.kind = "WorkflowTemplate"
	return w
}

// NewCronWorkflow is a CronWorkflow: a workflow that is run by the clock, by one schedule or several parted by line feeds.
func NewCronWorkflow(name, schedule string, options ...WorkflowOptions) *Workflow {
	w := NewWorkflow(name, options...)
	w.kind = "CronWorkflow"
	w.cron = Raw{"schedules": strings.Split(schedule, "\n")}
	ofCron := []string{
		"concurrencyPolicy", "failedJobsHistoryLimit", "startingDeadlineSeconds", "stopStrategy", "successfulJobsHistoryLimit", "suspend", "timezone", "when",
	}
	rest := Raw{}
	for k, v := range w.o.More {
		if slices.Contains(ofCron, k) {
			w.cron[k] = v
		} else {
			rest[k] = v
		}
	}
	w.o.More = rest
	return w
}

// Task adds a task to the workflow's own graph, a dag with the name main.
func (w *Workflow) Task(name string, template AnyTemplate, options ...TaskOptions) *Task {
	return w.graph.Task(name, template, options...)
}

// Add keeps a template that no task uses by reference.
func (w *Workflow) Add(template AnyTemplate) { w.added = append(w.added, template) }

// MarshalJSON is the JSON of Argo's object.
func (w *Workflow) MarshalJSON() ([]byte, error) { return w.Render() }

// Render is Argo's object as JSON: keys in order, no white space, a line feed at the end. The error joins all mistakes, each with its
// place in the program.
func (w *Workflow) Render() ([]byte, error) {
	meta := Raw{"name": w.name}
	if strings.HasSuffix(w.name, "-") {
		meta = Raw{"generateName": w.name}
	}
	meta.set("namespace", w.o.Namespace, w.o.Namespace != "")
	meta.set("labels", w.o.Labels, w.o.Labels != nil)
	meta.set("annotations", w.o.Annotations, w.o.Annotations != nil)
	spec, errs := w.spec()
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if w.cron != nil {
		spec = merge(w.cron, Raw{"workflowSpec": spec})
	}
	made, err := encode(placed(Raw{"apiVersion": "argoproj.io/v1alpha1", "kind": w.kind, "metadata": meta, "spec": spec}, w.at))
	if err != nil {
		return nil, fmt.Errorf("write workflow %s: %w", w.name, err)
	}
	return made, nil
}

func (w *Workflow) spec() (Raw, []error) {
	made := merge(w.o.More)
	if w.o.Parameters != nil {
		made["arguments"] = merge(rawOf(made["arguments"]), Raw{"parameters": w.graph.parameters(w.o.Parameters)})
	}
	b := &book{names: map[*Template]string{}, given: map[*Template][]string{}}
	if len(w.graph.list) > 0 {
		made["entrypoint"] = b.enter(w.graph, "main")
	}
	if w.o.Entrypoint != nil && len(w.graph.list) == 0 {
		made["entrypoint"] = b.enter(w.o.Entrypoint, "main")
	}
	if w.o.OnExit != nil {
		made["onExit"] = b.enter(w.o.OnExit, "exit")
	}
	for _, t := range w.added {
		b.enter(t, "template")
	}
	for _, t := range w.o.Templates {
		b.enter(t, "template")
	}
	if w.o.Entrypoint != nil {
		made["entrypoint"] = b.enter(w.o.Entrypoint, "main")
	}
	templates, claims := b.render()
	if len(claims) > 0 {
		made["volumeClaimTemplates"] = append(slices.Clone(listOf(made["volumeClaimTemplates"])), claims...)
	}
	made.set("templates", templates, len(templates) > 0)
	errs := slices.Clone(w.graph.bad.errs)
	for _, t := range b.order {
		if t.book() != &w.graph.Template {
			errs = append(errs, t.mistakes()...)
		}
	}
	return made, append(errs, b.bad.errs...)
}

// book has the templates of one workflow, each under a name of its own.
type book struct {
	order []written
	names map[*Template]string
	given map[*Template][]string
	bad   mistakes
}

// enter enters a template and what it uses, and gives its name.
func (b *book) enter(template AnyTemplate, wanted string) string {
	w, ok := template.(written)
	if !ok {
		if name, named := template.(Name); named {
			return string(name)
		}
		b.bad.add("a template of another WorkflowTemplate cannot stand here: let a task use it")
		return ""
	}
	t := w.book()
	if name, known := b.names[t]; known {
		return name
	}
	if w.wanted() != "" {
		wanted = w.wanted()
	}
	name := b.free(wanted)
	b.order, b.names[t] = append(b.order, w), name
	for _, task := range w.tasks() {
		b.enterTask(task)
	}
	return name
}

func (b *book) enterTask(task *Task) {
	if _, elsewhere := task.template.(TemplateRef); !elsewhere && task.template != nil {
		b.enter(task.template, task.name)
	}
	if used, ok := task.template.(written); ok {
		for _, kv := range task.o.Args {
			name := fmt.Sprint(kv[0])
			if !isArtifact(kv[1]) && !slices.Contains(b.given[used.book()], name) {
				b.given[used.book()] = append(b.given[used.book()], name)
			}
		}
	}
	if _, elsewhere := task.o.OnExit.(TemplateRef); !elsewhere && task.o.OnExit != nil {
		b.enter(task.o.OnExit, task.name+"-exit")
	}
}

func (b *book) free(wanted string) string {
	taken := map[string]bool{}
	for _, n := range b.names {
		taken[n] = true
	}
	name := wanted
	for i := 2; taken[name]; i++ {
		name = fmt.Sprintf("%s-%d", wanted, i)
	}
	return name
}

func (b *book) render() (templates, claims []Raw) {
	var seen []*Volume
	names := func(t AnyTemplate) string {
		if t == nil {
			return ""
		}
		return b.enter(t, "template")
	}
	for _, w := range b.order {
		templates = append(templates, render(w, b.names[w.book()], b.given[w.book()], names))
		for _, c := range w.volumes() {
			if !slices.Contains(seen, c) {
				seen = append(seen, c)
				claims = append(claims, c.fields)
			}
		}
	}
	return templates, claims
}
