// Package validate says, before anything runs, what is wrong with a Workflow, WorkflowTemplate,
// ClusterWorkflowTemplate or CronWorkflow: with the place of each fault, and in Argo's words where Argo has words.
// It is pure. Unlike Argo's, it reports all faults and not only the first.
package validate

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/cron"
	"github.com/tiphys/tiphys/workflow/expression"
)

// Mode says for what a manifest is checked.
type Mode string

// The modes.
const (
	// Default is before a run: everything must be there.
	Default Mode = "default"
	// Lint allows arguments to be missing.
	Lint Mode = "lint"
	// Submit is for a WorkflowTemplate that is about to be run.
	Submit Mode = "submit"
	// Strict is Lint with unknown fields as errors.
	Strict Mode = "strict"
	// Schema is the structure alone, as when an object is stored.
	Schema Mode = "schema"
)

// Options of a check.
type Options struct {
	Mode Mode
	// Find gives a WorkflowTemplate or ClusterWorkflowTemplate; nil knows none.
	Find func(kind, name string) (manifest.Object, bool)
	// Defaults is Argo's workflowDefaults, a tree of a Workflow; may be nil.
	Defaults *manifest.Tree
	// Incomplete passes over references to objects that Find does not know, for checking without a server.
	Incomplete bool
	// Parameters, Labels and Annotations are the names of those that a submission gives beside the manifest.
	Parameters, Labels, Annotations []string
}

// Object checks an object. Kinds that it does not know have no faults.
func Object(o manifest.Object, options Options) []manifest.Diagnostic {
	if options.Mode == "" {
		options.Mode = Default
	}
	v := &validator{
		options: options, evaluator: expression.New(), done: map[string]bool{}, libraries: map[string]*library{},
		reported: map[string]bool{}, outputs: map[string]bool{},
	}
	v.object(o)
	return v.diagnostics
}

// validator is one check.
type validator struct {
	options     Options
	evaluator   *expression.Evaluator
	diagnostics []manifest.Diagnostic
	reported    map[string]bool

	spec    manifest.WorkflowSpec
	tree    *manifest.Tree
	library *library
	globals *names
	// template is set where a WorkflowTemplate is checked by itself: a run may add arguments and labels.
	template bool

	libraries map[string]*library
	// done are the templates that were checked, by library and name.
	done map[string]bool
	// outputs are the global names that templates give; waiting the uses to compare with them at the end.
	outputs    map[string]bool
	anyOutputs bool
	waiting    []waitingTag
}

type waitingTag struct {
	name  string
	fault manifest.Diagnostic
}

func (v *validator) fail(at *manifest.Tree, path, format string, args ...any) {
	v.report(manifest.Diagnostic{Position: at.Here(), Severity: manifest.SeverityError, Path: path, Message: fmt.Sprintf(format, args...)})
}

func (v *validator) warn(at *manifest.Tree, path, format string, args ...any) {
	v.report(manifest.Diagnostic{Position: at.Here(), Severity: manifest.SeverityWarning, Path: path, Message: fmt.Sprintf(format, args...)})
}

// maxDiagnostics is as much as anybody reads.
const maxDiagnostics = 500

// report says a thing once: a template is reached from several places.
func (v *validator) report(d manifest.Diagnostic) {
	key := d.Position.String() + "\x00" + d.Message
	if !v.reported[key] && len(v.diagnostics) < maxDiagnostics {
		v.reported[key] = true
		v.diagnostics = append(v.diagnostics, d)
	}
}

// decode types the object, for the faults that this shows, and tells whether the check can go on.
func (v *validator) decode(o manifest.Object, into any) bool {
	found := o.IntoWith(into, manifest.DecodeOptions{Strict: v.options.Mode == Strict})
	for _, d := range found {
		v.report(d)
	}
	return !manifest.Failed(found) && v.options.Mode != Schema
}

func (v *validator) object(o manifest.Object) {
	switch o.Kind {
	case "Workflow":
		var wf manifest.Workflow
		if v.decode(o, &wf) {
			v.metadataNames(o)
			v.workflow(o, o.Tree.Get("spec"), o.Tree)
		}
	case "WorkflowTemplate", "ClusterWorkflowTemplate":
		var wt manifest.WorkflowTemplate
		if v.decode(o, &wt) {
			v.template = true
			v.workflow(o, o.Tree.Get("spec"), o.Tree)
		}
	case "CronWorkflow":
		var cw manifest.CronWorkflow
		if v.decode(o, &cw) {
			v.cron(o, cw.Spec)
			spec := o.Tree.Lookup("spec.workflowSpec")
			v.workflow(o, spec, o.Tree.Lookup("spec.workflowMetadata"))
		}
	}
}

func (v *validator) metadataNames(o manifest.Object) {
	if len(o.Name) > 63 {
		v.fail(o.Tree.Lookup("metadata.name"), "metadata.name", "workflow name %q must not be more than 63 characters long (currently %d)", o.Name, len(o.Name))
	}
}

func (v *validator) cron(o manifest.Object, spec manifest.CronWorkflowSpec) {
	at := o.Tree.Get("spec")
	if len(spec.AllSchedules()) == 0 {
		v.fail(at, "spec.schedules", "cron workflow must have at least one schedule")
	}
	for _, s := range spec.AllSchedules() {
		if _, err := cron.Parse(s, spec.Timezone); err != nil {
			v.fail(at, "spec.schedules", "cron schedule %s is malformed: %v", s, err)
		}
	}
	if p := spec.ConcurrencyPolicy; p != "" && !slices.Contains([]string{"Allow", "Forbid", "Replace"}, p) {
		v.fail(at.Get("concurrencyPolicy"), "spec.concurrencyPolicy", "'%s' is not a valid concurrencyPolicy", p)
	}
	if spec.StartingDeadlineSeconds != nil && *spec.StartingDeadlineSeconds < 0 {
		v.fail(at.Get("startingDeadlineSeconds"), "spec.startingDeadlineSeconds", "startingDeadlineSeconds must be positive")
	}
}

// workflow checks a spec, laid over what it refers to.
func (v *validator) workflow(o manifest.Object, spec, metadata *manifest.Tree) {
	v.tree = v.merge(o, spec)
	if v.tree == nil {
		return
	}
	_ = manifest.DecodeTree(v.tree, &v.spec, manifest.DecodeOptions{Tagged: true})
	v.library = newLibrary("", v.tree, v.tree.Get("templateDefaults"))
	v.globals = v.globalNames(metadata)
	v.templateNames()
	v.specArguments()
	v.specFields()

	entry := v.library.templates[v.spec.Entrypoint]
	switch {
	case v.spec.Entrypoint == "" && !v.template:
		v.fail(v.tree, "spec.entrypoint", "spec.entrypoint is required")
	case v.spec.Entrypoint == "", isTagged(v.spec.Entrypoint):
	case entry == nil:
		v.fail(v.tree.Get("entrypoint"), "spec.entrypoint", "spec.entrypoint template name '%s' undefined", v.spec.Entrypoint)
	default:
		args := &v.spec.Arguments
		if v.lenient() {
			args = nil
		}
		v.supplied(call{library: v.library, template: entry, args: args, at: v.tree.Get("entrypoint")})
		v.checkTemplate(v.library, entry, nil)
	}
	v.exitAndHooks()
	for _, t := range v.library.order {
		v.checkTemplate(v.library, t, nil)
	}
	for _, w := range v.waiting {
		if !v.outputs[w.name] && !v.anyOutputs {
			v.report(w.fault)
		}
	}
}

// lenient tells whether arguments may be missing.
func (v *validator) lenient() bool {
	switch v.options.Mode {
	case Lint, Strict:
		return true
	case Submit:
		return false
	}
	return v.template
}

// merge lays the spec over its workflowTemplateRef's and over the defaults; nil where the reference is unknown.
func (v *validator) merge(o manifest.Object, spec *manifest.Tree) *manifest.Tree {
	if spec.Kind() != manifest.KindMap {
		v.fail(o.Tree, "spec", "spec is required")
		return nil
	}
	merged := spec
	if ref := spec.Get("workflowTemplateRef"); ref != nil {
		kind := "WorkflowTemplate"
		if ref.Get("clusterScope").Text() == "true" {
			kind = "ClusterWorkflowTemplate"
		}
		name := ref.Get("name").Text()
		if name == "" {
			v.fail(ref, "spec.workflowTemplateRef", "spec.workflowTemplateRef.name is required")
			return nil
		}
		if own := spec.Get("templates"); own.Len() > 0 {
			v.fail(own, "spec.templates", manifest.TemplatesBesideRef)
		}
		below, ok := v.find(kind, name)
		if !ok {
			v.missing(ref, "spec.workflowTemplateRef", "%s %q not found", kindPlural(kind), name)
			return nil
		}
		merged = manifest.MergeTrees(spec, below.Tree.Get("spec"))
	}
	return manifest.MergeTrees(merged, v.options.Defaults.Get("spec"))
}

func kindPlural(kind string) string { return strings.ToLower(kind) + "s.argoproj.io" }

func (v *validator) find(kind, name string) (manifest.Object, bool) {
	if v.options.Find == nil {
		return manifest.Object{}, false
	}
	return v.options.Find(kind, name)
}

func (v *validator) specFields() {
	if gc := v.spec.PodGC; gc != nil {
		if _, err := metav1.LabelSelectorAsSelector(gc.LabelSelector); err != nil {
			v.fail(v.tree.Lookup("podGC.labelSelector"), "spec.podGC", "podGC.labelSelector invalid: %v", err)
		}
		valid := []string{"", "OnPodCompletion", "OnPodSuccess", "OnWorkflowCompletion", "OnWorkflowSuccess"}
		if !slices.Contains(valid, gc.Strategy) {
			v.fail(v.tree.Get("podGC"), "spec.podGC", "podGC.strategy unknown strategy '%s'", gc.Strategy)
		}
	}
	if gc := v.spec.VolumeClaimGC; gc != nil && !slices.Contains([]string{"", "OnWorkflowCompletion", "OnWorkflowSuccess"}, gc.Strategy) {
		v.fail(v.tree.Get("volumeClaimGC"), "spec.volumeClaimGC", "volumeClaimGC.strategy unknown strategy '%s'", gc.Strategy)
	}
	if v.spec.Parallelism != nil && *v.spec.Parallelism < 0 {
		v.fail(v.tree.Get("parallelism"), "spec.parallelism", "spec.parallelism must not be negative")
	}
	v.podResources(v.tree, v.spec.PodResources, "spec")
	v.metrics(v.tree, v.spec.Metrics, "")
	v.metricTags(v.tree, v.globals, "spec.metrics: ")
	for i, plugin := range v.spec.ExecutorPlugins {
		v.executorPlugin(v.tree.Get("executorPlugins").Items()[i], plugin)
	}
}

func (v *validator) executorPlugin(at *manifest.Tree, plugin map[string]any) {
	tree, err := manifest.NewTree(plugin)
	if err != nil {
		return
	}
	const where = "spec.executorPlugins"
	container := tree.Lookup("spec.sidecar.container")
	switch {
	case tree.Lookup("metadata.name").Text() == "":
		v.fail(at, where, "spec.executorPlugins: executor plugin metadata name is mandatory")
	case container == nil:
		v.fail(at, where, "spec.executorPlugins: sidecar container is mandatory")
	case container.Get("name").Text() == "":
		v.fail(at, where, "spec.executorPlugins: sidecar container name is mandatory")
	case container.Get("ports").Len() == 0:
		v.fail(at, where, "spec.executorPlugins: at least one port is mandatory")
	}
}

// exitAndHooks checks onExit and the workflow's hooks, in whose templates the run's end is known.
func (v *validator) exitAndHooks() {
	for _, name := range []string{"workflow.status", "workflow.failures"} {
		v.globals.add(name)
	}
	if name := v.spec.OnExit; name != "" && !isTagged(name) {
		if t := v.library.templates[name]; t == nil {
			v.fail(v.tree.Get("onExit"), "spec.onExit", "spec.onExit template name '%s' undefined", name)
		} else {
			v.supplied(call{library: v.library, template: t, args: &v.spec.Arguments, at: v.tree.Get("onExit")})
			v.checkTemplate(v.library, t, nil)
		}
	}
	for name, hook := range v.spec.Hooks {
		at := v.tree.Lookup(manifest.JoinPath("hooks", name))
		where := "spec.hooks." + name
		if name != "exit" && hook.Expression == "" {
			v.fail(at, where, "%s Expression required", where)
		}
		c, ok := v.resolve(v.library, holder{template: hook.Template, ref: hook.TemplateRef}, at, where)
		if !ok {
			continue
		}
		c.args = &hook.Arguments
		v.supplied(c)
		v.checkTemplate(c.library, c.template, nil)
		v.tags(at, v.globals, where, "")
	}
}
