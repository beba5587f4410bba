package tiphys

import (
	"regexp"
	"slices"
)

// AnyTemplate is what a task can run: a [Template] or [Graph], a [TemplateRef], or the [Name] of a template that is there.
type AnyTemplate interface{ template() }

// Name is the name of a template that nobody has as a value.
type Name string

func (Name) template() {}

// TemplateRef is a template of a WorkflowTemplate that is kept elsewhere: name, template and, where the scope is the cluster's,
// clusterScope.
type TemplateRef Raw

func (TemplateRef) template() {}

// NewTemplateRef is a template of the WorkflowTemplate name; more may have clusterScope.
func NewTemplateRef(name, template string, more ...Raw) TemplateRef {
	return TemplateRef(merge(merge(Raw{}, more...), Raw{"name": name, "template": template}))
}

// Template is a template. It is written once, however many tasks use it.
type Template struct {
	name   string
	claims []*Volume
	fields Raw
	at     string
	bad    mistakes
}

func (*Template) template() {}

// Inputs are what a template takes: parameters with their defaults, artifacts with the paths where steps find them.
type Inputs struct{ Parameters, Artifacts Map }

// Outputs are what a template gives: parameters with the files that they are read from, artifacts with the paths that they are taken from.
type Outputs struct{ Parameters, Artifacts Map }

// TemplateOptions are options of every template.
type TemplateOptions struct {
	// Name in the manifest; the first task's that uses it if there is none.
	Name    string
	Inputs  Inputs
	Outputs Outputs
	// Retry is how often (an int), or Argo's retryStrategy (a Raw).
	Retry               any
	Labels, Annotations map[string]string
	Volumes             []*Volume
	// FailFast false lets the other branches of a dag go on after a failure; nil is Argo's default, true.
	FailFast *bool
	// Target names the tasks of a dag that are wanted; empty means all.
	Target string
	// More are other fields of Argo's template.
	More Raw
}

// ContainerOptions are options of templates that run a container.
type ContainerOptions struct {
	Command, Args []string
	WorkingDir    string
	// Env has values, or Secret(…) and ConfigMap(…).
	Env Map
	// Mounts are volumes and where they are seen.
	Mounts    []Mount
	Resources Raw

	// Name, Inputs and the following are those of TemplateOptions.
	Name                string
	Inputs              Inputs
	Outputs             Outputs
	Retry               any
	Labels, Annotations map[string]string
	Volumes             []*Volume
	// More are other fields of Kubernetes' container or of Argo's template, by their names. Template has fields of the template where
	// a name has two meanings.
	More, Template Raw
}

// Container is a template that runs a container.
func Container(image string, options ...ContainerOptions) *Template {
	o := one(options)
	own, rest := o.split(image)
	t := newTemplate(o.base(rest), o.Mounts)
	t.fields = merge(t.fields, o.Template, Raw{"container": own})
	return t
}

// Script is a template that runs a source text; Command is its interpreter, sh if none is given.
func Script(image, source string, options ...ContainerOptions) *Template {
	o := one(options)
	if o.Command == nil {
		o.Command = []string{"sh"}
	}
	own, rest := o.split(image)
	own["source"] = source
	t := newTemplate(o.base(rest), o.Mounts)
	t.fields = merge(t.fields, o.Template, Raw{"script": own})
	return t
}

// Suspend is a template that waits: for somebody, or, if duration is not empty, for a time such as "10s".
func Suspend(duration string, options ...TemplateOptions) *Template {
	t := newTemplate(one(options), nil)
	wait := Raw{}
	wait.set("duration", duration, duration != "")
	t.fields["suspend"] = wait
	return t
}

// Object is a template given as Argo's plain object.
func Object(fields Raw) *Template {
	rest := merge(fields)
	name, _ := rest["name"].(string)
	delete(rest, "name")
	return newTemplate(TemplateOptions{Name: name, More: rest}, nil)
}

func newTemplate(o TemplateOptions, mounts []Mount) *Template {
	t := &Template{name: o.Name, fields: merge(o.More), at: place()}
	volumes := []Raw{}
	for _, v := range o.Volumes {
		volumes = append(volumes, v.fields)
	}
	for _, m := range mounts {
		switch {
		case m.volume.claim:
			t.claims = append(t.claims, m.volume)
		case !slices.ContainsFunc(volumes, func(v Raw) bool { return v["name"] == m.volume.name }):
			volumes = append(volumes, m.volume.fields)
		}
	}
	t.declare("inputs", "parameters", t.parameters(o.Inputs.Parameters))
	t.declare("inputs", "artifacts", t.named(o.Inputs.Artifacts, func(path any) Raw { return Raw{"path": path} }))
	t.declare("outputs", "parameters", t.named(o.Outputs.Parameters, func(path any) Raw { return Raw{"valueFrom": Raw{"path": path}} }))
	t.declare("outputs", "artifacts", t.named(o.Outputs.Artifacts, func(path any) Raw { return Raw{"path": path} }))
	if times, ok := o.Retry.(int); ok {
		t.fields["retryStrategy"] = Raw{"limit": times}
	} else {
		t.fields.set("retryStrategy", o.Retry, o.Retry != nil)
	}
	if o.Labels != nil || o.Annotations != nil {
		meta := merge(t.child("metadata"))
		meta.set("labels", o.Labels, o.Labels != nil)
		meta.set("annotations", o.Annotations, o.Annotations != nil)
		t.fields["metadata"] = meta
	}
	t.fields.set("volumes", volumes, len(volumes) > 0)
	return t
}

func (t *Template) child(field string) Raw {
	return rawOf(t.fields[field])
}

// declare adds inputs or outputs to those that the template has.
func (t *Template) declare(where, kind string, list []Raw) {
	if len(list) > 0 {
		all := append(slices.Clone(listOf(t.child(where)[kind])), list...)
		t.fields[where] = merge(t.child(where), Raw{kind: all})
	}
}

func (t *Template) declares(where, kind, name string) bool {
	return slices.ContainsFunc(listOf(t.child(where)[kind]), func(p Raw) bool { return p["name"] == name })
}

// listOf is a list of objects, however the program wrote it.
func listOf(v any) []Raw {
	var list []Raw
	switch v := v.(type) {
	case []Raw:
		return v
	case []map[string]any:
		for _, r := range v {
			list = append(list, r)
		}
	case []any:
		for _, r := range v {
			list = append(list, rawOf(r))
		}
	}
	return list
}

func rawOf(v any) Raw {
	switch v := v.(type) {
	case Raw:
		return v
	case map[string]any:
		return v
	}
	return nil
}

func (t *Template) parameters(values Map) []Raw {
	return t.bad.named(values, func(v any) Raw {
		if v == nil {
			return Raw{}
		}
		return Raw{"value": text(v)}
	})
}

func (t *Template) named(values Map, of func(any) Raw) []Raw { return t.bad.named(values, of) }

// named makes Argo's list of a Map.
func (m *mistakes) named(values Map, of func(any) Raw) []Raw {
	var list []Raw
	for _, kv := range values {
		name, ok := kv[0].(string)
		if !ok {
			m.add("a Map has %v where the name of a value is wanted", kv[0])
		}
		fields := rawOf(kv[1])
		if fields == nil {
			fields = of(kv[1])
		}
		list = append(list, merge(fields, Raw{"name": name}))
	}
	return list
}

func (t *Template) book() *Template                   { return t }
func (t *Template) tasks() []*Task                    { return nil }
func (t *Template) mistakes() []error                 { return t.bad.errs }
func (t *Template) wanted() string                    { return t.name }
func (t *Template) volumes() []*Volume                { return t.claims }
func (t *Template) body(func(AnyTemplate) string) Raw { return t.fields }

// written is a template that is written into the workflow.
type written interface {
	AnyTemplate
	book() *Template
	tasks() []*Task
	mistakes() []error
	wanted() string
	volumes() []*Volume
	body(names func(AnyTemplate) string) Raw
}

// render is Argo's object, with an input for each argument that somebody gives it.
func render(w written, name string, given []string, names func(AnyTemplate) string) Raw {
	made := placed(merge(w.body(names), Raw{"name": name}), w.book().at)
	inputs := rawOf(made["inputs"])
	list := slices.Clone(listOf(inputs["parameters"]))
	for _, g := range given {
		if !w.book().declares("inputs", "parameters", g) {
			list = append(list, Raw{"name": g})
		}
	}
	if len(list) > 0 {
		made["inputs"] = merge(inputs, Raw{"parameters": list})
	}
	return made
}

// containerFields are the fields of a Kubernetes container; every other option of a container is a field of its template.
func containerFields() []string {
	return []string{
		"args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "ports", "readinessProbe", "resizePolicy",
		"resources", "restartPolicy", "securityContext", "startupProbe", "stdin", "stdinOnce", "terminationMessagePath", "terminationMessagePolicy",
		"tty", "volumeDevices", "volumeMounts", "workingDir",
	}
}

// base are the options that every template has.
func (o ContainerOptions) base(more Raw) TemplateOptions {
	return TemplateOptions{
		Name: o.Name, Inputs: o.Inputs, Outputs: o.Outputs, Retry: o.Retry, Labels: o.Labels, Annotations: o.Annotations, Volumes: o.Volumes, More: more,
	}
}

// split sorts the options of a container from those of its template.
func (o ContainerOptions) split(image string) (own, rest Raw) {
	own, rest = Raw{}, Raw{}
	for k, v := range o.More {
		if slices.Contains(containerFields(), k) {
			own[k] = v
		} else {
			rest[k] = v
		}
	}
	own["image"] = image
	own.set("command", o.Command, o.Command != nil)
	own.set("args", o.Args, o.Args != nil)
	own.set("workingDir", o.WorkingDir, o.WorkingDir != "")
	own.set("resources", o.Resources, o.Resources != nil)
	if o.Env != nil {
		var m mistakes
		own["env"] = m.named(o.Env, func(v any) Raw { return Raw{"value": text(v)} })
	}
	if len(o.Mounts) > 0 {
		mounts := slices.Clone(listOf(own["volumeMounts"]))
		for _, m := range o.Mounts {
			mounts = append(mounts, m.fields)
		}
		own["volumeMounts"] = mounts
	}
	return own, rest
}

// artifactTag is a reference to an artifact, and to nothing else.
const artifactTag = `^\{\{((tasks|steps)\.[^.{}]+\.outputs|inputs|workflow\.outputs)\.artifacts\.[^.{}]+\}\}$`

func isArtifact(value any) bool {
	s, ok := value.(string)
	return ok && regexp.MustCompile(artifactTag).MatchString(s)
}

// one takes the options that were given, if any.
func one[T any](options []T) T {
	var none T
	if len(options) == 0 {
		return none
	}
	return options[0]
}
