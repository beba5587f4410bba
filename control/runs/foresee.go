package runs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// A submission is refused for what its pods will be refused for, as far as that can be seen in the manifest. What shows only when
// a pod is made (a tag, a patch, a template of elsewhere) is refused then, at the executors' door.

// foresight is a manifest that is looked through.
type foresight struct {
	c    *Controller
	s    Submission
	cmd  workflow.Submit
	who  podpolicy.Subject
	tree *manifest.Tree // of the spec, with that of the template which the run is made of
	spec manifest.WorkflowSpec
	// executor is the one that the run asks for, unless a template asks for another.
	executor string
	diags    []manifest.Diagnostic
	// err is why the rights of a pod could not be found out.
	err error
}

const refPath = "spec.workflowTemplateRef"

// foresee says what of the pods of a submission goes beyond their rights. An error says nothing about them.
func (c *Controller) foresee(ctx context.Context, s Submission, cmd workflow.Submit) ([]manifest.Diagnostic, error) {
	f := &foresight{c: c, s: s, cmd: cmd, who: cmd.Claims.Subject(), tree: s.Object.Tree.Get("spec")}
	if f.tree == nil || manifest.Failed(manifest.DecodeTree(f.tree, &f.spec, manifest.DecodeOptions{})) {
		return nil, nil // that is said elsewhere
	}
	if ref := f.spec.WorkflowTemplateRef; ref != nil && !f.made(c.templateOf(ctx, cmd.Namespace, ref.Name, ref.ClusterScope)) {
		return nil, nil
	}
	if f.spec.PodSpecPatch != "" || f.spec.TemplateDefaults != nil || len(c.o.Defaults) > 0 {
		return nil, nil // what pods will be like is not known yet
	}
	f.executor = s.executor(f.tree)
	f.walk(ctx, f.tree.Get("templates"), "spec.templates")
	return f.diags, f.err
}

// made puts the spec of the template that the run is made of under the run's own.
func (f *foresight) made(of map[string]any) bool {
	own, is := f.tree.Value().(map[string]any)
	if of == nil || !is {
		return false
	}
	merged := maps.Clone(of)
	maps.Copy(merged, own)
	tree, err := manifest.NewTree(merged)
	if err != nil {
		return false
	}
	f.tree, f.spec = tree, manifest.WorkflowSpec{}
	return !manifest.Failed(manifest.DecodeTree(tree, &f.spec, manifest.DecodeOptions{}))
}

// walk looks for templates, those that stand inline in steps and tasks too.
func (f *foresight) walk(ctx context.Context, t *manifest.Tree, path string) {
	if t == nil {
		return
	}
	switch t.Kind() {
	case manifest.KindList:
		for i, item := range t.Items() {
			f.walk(ctx, item, manifest.IndexPath(path, i))
		}
	case manifest.KindMap:
		for _, key := range []string{"container", "script", "containerSet", "http"} {
			if kind := t.Get(key); kind != nil && kind.Kind() == manifest.KindMap {
				f.template(ctx, t, path)
				return
			}
		}
		for _, key := range t.Keys() {
			f.walk(ctx, t.Get(key), manifest.JoinPath(path, key))
		}
	}
}

// template judges the pod that a template becomes.
func (f *foresight) template(ctx context.Context, t *manifest.Tree, path string) {
	var tm manifest.Template
	if manifest.Failed(manifest.DecodeTree(t, &tm, manifest.DecodeOptions{})) || tm.PodSpecPatch != "" {
		return
	}
	if tm.HTTP != nil {
		f.headers(ctx, tm.HTTP, path+".http")
		return
	}
	name := first(tm.Metadata.Annotations[AnnotationExecutor], f.executor)
	if strings.Contains(name, "{{") {
		return
	}
	sk := sketch{foresight: f, tm: &tm, path: path, at: map[string]string{"inputs.artifacts": path + ".inputs.artifacts", "outputs.artifacts": path + ".outputs.artifacts"}}
	sk.at["metadata.annotations"] = f.executorPath(t, path)
	pod := executor.Pod{ID: executor.ID{Owner: f.cmd.UID, Node: "foreseen"}, For: f.who, Executor: name, Inputs: tm.Inputs.Artifacts}
	pod.Outputs.Artifacts = tm.Outputs.Artifacts
	pod.Pod.Namespace, pod.Pod.Spec = f.cmd.Namespace, sk.spec()
	for _, claim := range f.spec.VolumeClaimTemplates {
		pod.Claims = append(pod.Claims, executor.Claim{Name: f.cmd.Name + "-" + claim.Name, Owner: f.cmd.UID})
	}
	problems, err := f.c.o.Executors.Judge(ctx, pod)
	f.err = errors.Join(f.err, err)
	for _, p := range problems {
		if p.Path == "metadata.annotations" { // the executor, which is known
			f.note(sk.place(p.Path), p.Message, p.Hint)
			continue
		}
		f.say(sk.place(p.Path), p.Message, p.Hint)
	}
}

// executorAt is the executor that the annotations of some metadata name; empty if they name none.
func executorAt(t *manifest.Tree, metadata string) string {
	if found := t.Lookup(metadata + ".annotations"); found != nil {
		if name := found.Get(AnnotationExecutor); name != nil {
			return name.Text()
		}
	}
	return ""
}

// executorPath is what says where a template executes.
func (f *foresight) executorPath(t *manifest.Tree, path string) string {
	if executorAt(t, "metadata") != "" {
		return path + ".metadata.annotations"
	}
	for _, at := range []string{"spec.podMetadata", "spec.workflowMetadata", "metadata"} {
		if executorAt(f.s.Object.Tree, at) != "" {
			return at + ".annotations"
		}
	}
	return path
}

func (f *foresight) headers(ctx context.Context, h *manifest.HTTPTemplate, path string) {
	policy, err := f.c.o.Executors.Policy(ctx)
	if err != nil {
		f.err = errors.Join(f.err, err)
		return
	}
	for i, header := range h.Headers {
		if header.ValueFrom == nil || header.ValueFrom.SecretKeyRef == nil {
			continue
		}
		at := fmt.Sprintf("%s.headers[%d].valueFrom.secretKeyRef.name", path, i)
		for _, p := range policy.Header(f.who, f.cmd.Namespace, at, header.ValueFrom.SecretKeyRef.Name) {
			f.say(p.Path, p.Message, p.Hint)
		}
	}
}

// say notes a refusal with its place, unless what it is about holds a tag and so is not known yet.
func (f *foresight) say(path, message, hint string) {
	if below, ok := strings.CutPrefix(path, "spec."); ok {
		if t := f.tree.Lookup(below); t != nil && strings.Contains(string(t.JSON()), "{{") {
			return
		}
	}
	f.note(path, message, hint)
}

// note notes a refusal with its place.
func (f *foresight) note(path, message, hint string) {
	d := manifest.Diagnostic{Severity: manifest.SeverityError, Path: path, Message: path + ": " + message, Hint: hint, Position: f.s.Object.Position}
	where := path
	if f.s.Object.Tree.Lookup(path) == nil && f.s.Object.Tree.Lookup(refPath) != nil {
		where = refPath
	}
	if p := f.s.Object.Tree.Position(where); p.Line > 0 {
		d.Position = p
	}
	if !slices.Contains(f.diags, d) {
		f.diags = append(f.diags, d)
	}
}

// sketch is the pod of a template as far as the manifest shows it, and where in the manifest its fields come from.
type sketch struct {
	*foresight
	tm   *manifest.Template
	path string
	at   map[string]string // a field of the pod, to where it stands
}

// spec puts the parts together in the order of workflow.Pod.
func (k *sketch) spec() corev1.PodSpec {
	w, tm := &k.foresight.spec, k.tm
	p := corev1.PodSpec{SecurityContext: w.SecurityContext, ImagePullSecrets: w.ImagePullSecrets, ServiceAccountName: first(tm.ServiceAccountName, w.ServiceAccountName)}
	if w.HostNetwork != nil {
		p.HostNetwork = *w.HostNetwork
	}
	if tm.SecurityContext != nil {
		p.SecurityContext = tm.SecurityContext
		k.at["spec.securityContext"] = k.path + ".securityContext"
	}
	if tm.ServiceAccountName != "" {
		k.at["spec.serviceAccountName"] = k.path + ".serviceAccountName"
	}
	add := func(c corev1.Container, path string) {
		k.at[fmt.Sprintf("spec.containers[%d]", len(p.Containers))] = path
		p.Containers = append(p.Containers, c)
	}
	switch {
	case tm.Container != nil:
		add(*tm.Container, k.path+".container")
	case tm.Script != nil:
		add(tm.Script.Container, k.path+".script")
	case tm.ContainerSet != nil:
		for i, c := range tm.ContainerSet.Containers {
			add(c.Container, fmt.Sprintf("%s.containerSet.containers[%d]", k.path, i))
		}
	}
	for i, c := range tm.Sidecars {
		add(c.Container, fmt.Sprintf("%s.sidecars[%d]", k.path, i))
	}
	for i, c := range tm.InitContainers {
		k.at[fmt.Sprintf("spec.initContainers[%d]", i)] = fmt.Sprintf("%s.initContainers[%d]", k.path, i)
		p.InitContainers = append(p.InitContainers, c.Container)
	}
	seen := map[string]bool{}
	volumes := func(list []corev1.Volume, path string) {
		for i, v := range list {
			if !seen[v.Name] {
				seen[v.Name] = true
				k.at[fmt.Sprintf("spec.volumes[%d]", len(p.Volumes))] = fmt.Sprintf("%s[%d]", path, i)
				p.Volumes = append(p.Volumes, v)
			}
		}
	}
	volumes(tm.Volumes, k.path+".volumes")
	volumes(w.Volumes, "spec.volumes")
	return p
}

// place gives the field of the manifest that a field of the pod comes from.
func (k *sketch) place(field string) string {
	for end := len(field); end > 0; end = strings.LastIndexAny(field[:end], ".[") {
		if to, known := k.at[field[:end]]; known {
			return to + field[end:]
		}
	}
	return field
}
