package validate

import (
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/manifest"
)

// library is the templates of one object.
type library struct {
	id        string
	templates map[string]*manifest.Template
	order     []*manifest.Template
}

func newLibrary(id string, spec, defaults *manifest.Tree) *library {
	l := &library{id: id, templates: map[string]*manifest.Template{}}
	for _, tree := range spec.Get("templates").Items() {
		t := new(manifest.Template)
		_ = manifest.DecodeTree(manifest.ApplyTemplateDefaults(tree, defaults), t, manifest.DecodeOptions{Tagged: true})
		l.order = append(l.order, t)
		if _, dup := l.templates[t.Name]; !dup {
			l.templates[t.Name] = t
		}
	}
	return l
}

// holder is what names a template: a step, a task or a hook.
type holder struct {
	template string
	ref      *manifest.TemplateRef
	inline   *manifest.Template
}

// call is a use of a template.
type call struct {
	library  *library
	template *manifest.Template
	// args are what is given to it; nil for what is not known yet.
	args *manifest.Arguments
	at   *manifest.Tree
	path string
	// prefix goes before messages: the way that led here, as in Argo's messages.
	prefix string
}

// resolve finds the template of a holder. It is not found, without a fault, where its name is a tag.
func (v *validator) resolve(from *library, h holder, at *manifest.Tree, prefix string) (call, bool) {
	c := call{library: from, at: at, path: prefix, prefix: prefix + " "}
	switch {
	case h.inline != nil:
		c.template = h.inline
		return c, true
	case h.ref != nil:
		return v.resolveRef(c, h.ref)
	case h.template == "":
		v.fail(at, prefix, "%s template, templateRef or inline is required", prefix)
		return c, false
	case isTagged(h.template):
		return c, false
	}
	c.template = from.templates[h.template]
	if c.template == nil {
		v.fail(at, prefix, "%s template name '%s' undefined", prefix, h.template)
	}
	return c, c.template != nil
}

func (v *validator) resolveRef(c call, ref *manifest.TemplateRef) (call, bool) {
	where := strings.TrimSpace(c.prefix)
	switch {
	case ref.Name == "":
		v.fail(c.at, where, "%s.templateRef.name is required: resource name is required", where)
		return c, false
	case ref.Template == "":
		v.fail(c.at, where, "%s.templateRef.template is required: template name is required", where)
		return c, false
	case isTagged(ref.Name), isTagged(ref.Template):
		return c, false
	}
	kind := "WorkflowTemplate"
	if ref.ClusterScope {
		kind = "ClusterWorkflowTemplate"
	}
	id := kind + "/" + ref.Name
	if v.libraries[id] == nil {
		o, ok := v.find(kind, ref.Name)
		if !ok {
			v.missing(c.at, where, "%s template reference %s.%s not found", where, ref.Name, ref.Template)
			return c, false
		}
		v.libraries[id] = newLibrary(id, o.Tree.Get("spec"), o.Tree.Lookup("spec.templateDefaults"))
	}
	c.library = v.libraries[id]
	if c.template = c.library.templates[ref.Template]; c.template == nil {
		v.fail(c.at, where, "%s template reference %s.%s not found", where, ref.Name, ref.Template)
	}
	return c, c.template != nil
}

// missing reports an object that is referred to. A template may be stored, and so linted, before those it uses.
func (v *validator) missing(at *manifest.Tree, path, format string, args ...any) {
	switch {
	case v.options.Incomplete:
	case v.template && (v.options.Mode == Lint || v.options.Mode == Strict):
		v.warn(at, path, format, args...)
	default:
		v.fail(at, path, format, args...)
	}
}

// supplied checks that a call gives all that the template wants.
func (v *validator) supplied(c call) {
	if c.args == nil || c.template == nil {
		return
	}
	given := map[string]bool{}
	for _, p := range c.args.Parameters {
		given["p/"+p.Name] = p.Value != nil || p.ValueFrom != nil || isTagged(p.Name)
	}
	for _, a := range c.args.Artifacts {
		given["a/"+a.Name] = true
	}
	for _, p := range c.template.Inputs.Parameters {
		if !given["p/"+p.Name] && p.Value == nil && p.Default == nil && p.ValueFrom == nil {
			v.fail(c.at, c.path, "%stemplates.%s inputs.parameters.%s was not supplied", c.prefix, c.template.Name, p.Name)
		}
	}
	for _, a := range c.template.Inputs.Artifacts {
		if !given["a/"+a.Name] && !a.Optional && !hasLocation(a) {
			v.fail(c.at, c.path, "%stemplates.%s inputs.artifacts.%s was not supplied", c.prefix, c.template.Name, a.Name)
		}
	}
}

func hasLocation(a manifest.Artifact) bool {
	return a.From != "" || a.FromExpression != "" || a.S3 != nil || a.Git != nil || a.HTTP != nil || a.Raw != nil || a.GCS != nil ||
		a.Azure != nil || a.OSS != nil || a.HDFS != nil || a.Artifactory != nil || a.Plugin != nil
}

// checkTemplate checks a template by itself, once. prefix is the way that led to it.
func (v *validator) checkTemplate(l *library, t *manifest.Template, via []string) {
	key := fmt.Sprintf("%s/%s/%p", l.id, t.Name, t)
	if v.done[key] || len(via) > 100 {
		return
	}
	v.done[key] = true
	via = append(append([]string(nil), via...), "templates."+t.Name)
	c := &checker{validator: v, library: l, t: t, via: via, where: "templates." + t.Name}
	c.check()
}

// checker checks one template.
type checker struct {
	*validator
	library *library
	t       *manifest.Template
	via     []string
	where   string
	scope   *names
}

// failAt reports a fault of this template; the way that led to the template goes before it.
func (c *checker) failAt(at *manifest.Tree, format string, args ...any) {
	if at == nil {
		at = c.t.Tree
	}
	c.fail(at, c.where, "%s%s", c.way(), fmt.Sprintf(format, args...))
}

// way is what led to the template, itself not included.
func (c *checker) way() string {
	if len(c.via) < 2 {
		return ""
	}
	return strings.Join(c.via[:len(c.via)-1], " ") + " "
}

func (c *checker) check() {
	c.scope = newNames(c.globals)
	c.inputs()
	switch c.t.Type() {
	case "":
		c.failAt(nil, "%s template type unspecified. choose one of: container, containerSet, steps, script, resource, dag, suspend, http, data, plugin", c.where)
		return
	case "several":
		c.failAt(nil, "%s multiple template types specified. choose one of: container, containerSet, steps, script, resource, dag, suspend, http, data, plugin", c.where)
		return
	case "steps":
		c.steps()
	case "dag":
		c.dag()
	default:
		c.leaf()
	}
	c.outputNames()
	c.limits()
	c.metrics(c.t.Tree, c.t.Metrics, c.where+" ")
	c.metricTags(c.t.Tree, c.scope, c.way()+c.where+".metrics: ")
}

func (c *checker) inputs() {
	c.scope.add("inputs.parameters")
	at := c.t.Tree.Get("inputs")
	c.uniqueNames(at.Get("parameters"), c.where+".inputs.parameters", parameterName)
	c.uniqueNames(at.Get("artifacts"), c.where+".inputs.artifacts", parameterName)
	for _, p := range c.t.Inputs.Parameters {
		c.scope.add("inputs.parameters." + p.Name)
	}
	for i, a := range c.t.Inputs.Artifacts {
		c.scope.add("inputs.artifacts."+a.Name, "inputs.artifacts."+a.Name+".path")
		kind := c.t.Type()
		needsPath := kind == "container" || kind == "script"
		if needsPath && a.Path == "" {
			c.failAt(at.Get("artifacts").Items()[i], "%s.inputs.artifacts.%s.path must be specified", c.where, a.Name)
		}
		if (kind == "steps" || kind == "dag") && a.Path != "" {
			c.failAt(at.Get("artifacts").Items()[i], "%s.inputs.artifacts.%s.path only valid in container/script templates", c.where, a.Name)
		}
	}
}

// limits are what holds for all templates.
func (c *checker) limits() {
	kind := c.t.Type()
	composite := kind == "steps" || kind == "dag"
	if c.t.Parallelism != nil && !composite {
		c.failAt(c.t.Tree.Get("parallelism"), "%s.parallelism is only valid for steps and dag templates", c.where)
	}
	if deadline := c.t.ActiveDeadlineSeconds; deadline != nil && !isTagged(deadline.Text()) {
		if n, err := parseSeconds(deadline.Text()); err != nil || n < 0 || n == 0 && !composite {
			c.failAt(c.t.Tree.Get("activeDeadlineSeconds"), "%s.activeDeadlineSeconds must be a positive integer > 0", c.where)
		}
	}
	if r := c.t.RetryStrategy; r != nil && r.Limit != nil && !isTagged(r.Limit.Text()) {
		if _, err := parseSeconds(r.Limit.Text()); err != nil {
			c.failAt(c.t.Tree.Get("retryStrategy"), "%s.retryStrategy.limit '%s' is not a number", c.where, r.Limit.Text())
		}
	}
	if kind == "http" {
		if c.t.PodResources != nil {
			c.failAt(c.t.Tree.Get("podResources"), "%s.podResources is not supported for HTTP templates", c.where)
		}
		if len(c.t.ResourceClaims) > 0 {
			c.failAt(c.t.Tree.Get("resourceClaims"), "%s.resourceClaims is not supported for HTTP templates", c.where)
		}
	}
	c.podResources(c.t.Tree, c.t.PodResources, c.where)
}
