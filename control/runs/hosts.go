package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// AnnotationHostRefused is put on a run at its submission and says why it may not use an executor that shows pods the
// files of its machine. A manifest cannot take it away: what the server annotates wins.
const AnnotationHostRefused = "tiphys.dev/host-refused"

// refusedHost gives the reason why a pod may not use an executor as an error if that one shows it its machine's files.
func (c *Controller) refusedHost(ctx context.Context, name, why string) error {
	views, err := c.hostViews(ctx)
	if err == nil && views[name] {
		err = errors.New(why)
	}
	return err
}

// hostViews has the names of the executors that show pods the files of their machine; the default is there by its empty
// name, too.
type hostViews map[string]bool

func (c *Controller) hostViews(ctx context.Context) (hostViews, error) {
	views := hostViews{}
	for _, name := range append([]string{""}, c.o.Executors.Names()...) {
		named, err := c.o.Executors.Named(name)
		if err != nil {
			return nil, err
		}
		can, err := named.Capabilities(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask executor %s: %w", named.Name, err)
		}
		views[name] = can.Can[executor.AbilityHostView]
	}
	return views, nil
}

// platform is what the executor of a run does not do. What a template's own executor does not do is said when its pod is made.
func (c *Controller) platform(ctx context.Context, s Submission) (executor.Fields, error) {
	var wf struct {
		Metadata annotated `json:"metadata"`
		Spec     hostSpec  `json:"spec"`
	}
	if json.Unmarshal(s.Object.Tree.JSON(), &wf) != nil {
		return executor.Fields{}, nil //nolint:nilerr // what cannot be read is refused for that
	}
	name := first(wf.Spec.PodMetadata.Annotations[AnnotationExecutor], s.Annotations[AnnotationExecutor],
		wf.Spec.WorkflowMetadata.Annotations[AnnotationExecutor], wf.Metadata.Annotations[AnnotationExecutor])
	named, err := c.o.Executors.Named(name)
	if err != nil {
		return executor.Fields{}, nil //nolint:nilerr // a tag, or a name that there is not, which the pods say
	}
	can, err := named.Capabilities(ctx)
	if err != nil {
		return executor.Fields{}, fmt.Errorf("ask executor %s: %w", named.Name, err)
	}
	return can.Fields, nil
}

// refuseHost notes in the command why the host executor is refused to this run, and refuses the submission if one of
// its templates would use it. A template that only shows while the run goes (a templateRef, an annotation with a tag)
// is held to the same note when its pod is made.
func (c *Controller) refuseHost(ctx context.Context, s Submission, cmd *workflow.Submit) error {
	if c.o.Hosts == nil {
		return nil
	}
	events := s.Events
	if len(events) == 0 && s.Event != 0 {
		events = []int64{s.Event}
	}
	reason, hint := c.o.Hosts.Refuse(ctx, s.Origin, s.Source, events)
	if reason == "" {
		return nil
	}
	cmd.Annotations = maps.Clone(cmd.Annotations)
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[AnnotationHostRefused] = reason + ": " + hint
	views, err := c.hostViews(ctx)
	if err != nil {
		return err
	}
	path, uses := c.usesHost(ctx, views, s, cmd)
	if !uses {
		return nil
	}
	d := manifest.Diagnostic{Severity: manifest.SeverityError, Path: path, Message: reason, Hint: hint, Position: s.Object.Position}
	if p := s.Object.Tree.Position(path); p.Line > 0 {
		d.Position = p
	}
	return &workflow.InvalidError{Diagnostics: []manifest.Diagnostic{d}}
}

// usesHost reports whether a template of the manifest, or of the template that it names, would be executed on a view of
// this machine, and the path of what says so.
func (c *Controller) usesHost(ctx context.Context, views hostViews, s Submission, cmd *workflow.Submit) (string, bool) {
	var wf struct {
		Metadata annotated `json:"metadata"`
		Spec     hostSpec  `json:"spec"`
	}
	if json.Unmarshal(s.Object.Tree.JSON(), &wf) != nil {
		return "", false // what cannot be read is refused for that
	}
	run, path := views[""], "spec"
	for _, a := range []struct {
		path string
		is   annotated
	}{
		{"metadata", wf.Metadata}, {"spec.workflowMetadata", wf.Spec.WorkflowMetadata}, {"", annotated{cmd.Annotations}},
		{"spec.podMetadata", wf.Spec.PodMetadata},
	} {
		run, path = a.is.choose(views, a.path+".annotations", run, path)
	}
	if views.templates(wf.Spec.Templates, run) {
		return path, true
	}
	ref := wf.Spec.WorkflowTemplateRef
	if ref.Name == "" {
		return "", false
	}
	kind := "WorkflowTemplate"
	if ref.ClusterScope {
		kind = "ClusterWorkflowTemplate"
	}
	raw, err := c.o.Objects.Object(ctx, workflow.Ref{Kind: kind, Namespace: cmd.Namespace, Name: ref.Name})
	var tmpl struct {
		Spec hostSpec `json:"spec"`
	}
	if err != nil || json.Unmarshal(raw, &tmpl) != nil {
		return "", false // that it is not there is said elsewhere
	}
	run, _ = tmpl.Spec.PodMetadata.choose(views, "", run, "")
	return path, views.templates(tmpl.Spec.Templates, run)
}

// hostSpec is what of a spec says where its pods execute.
type hostSpec struct {
	Templates           json.RawMessage `json:"templates"`
	PodMetadata         annotated       `json:"podMetadata"`
	WorkflowMetadata    annotated       `json:"workflowMetadata"`
	WorkflowTemplateRef struct {
		Name         string `json:"name"`
		ClusterScope bool   `json:"clusterScope"`
	} `json:"workflowTemplateRef"`
}

type annotated struct {
	Annotations map[string]string `json:"annotations"`
}

// choose gives what the annotation says, or what held before.
func (a annotated) choose(views hostViews, path string, was bool, wasPath string) (bool, string) {
	if v := a.Annotations[AnnotationExecutor]; v != "" {
		return views[v], path
	}
	return was, wasPath
}

// templates looks through templates, those that stand inline in steps and tasks too.
func (views hostViews) templates(raw json.RawMessage, run bool) bool {
	var v any
	return len(raw) > 0 && json.Unmarshal(raw, &v) == nil && views.any(v, run)
}

func (views hostViews) any(v any, run bool) bool {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if views.any(item, run) {
				return true
			}
		}
	case map[string]any:
		if isPod(v) {
			return views.template(v, run)
		}
		for _, item := range v {
			if views.any(item, run) {
				return true
			}
		}
	}
	return false
}

// isPod tells a template that becomes a pod.
func isPod(template map[string]any) bool {
	for _, key := range []string{"container", "script", "containerSet"} {
		if _, ok := template[key].(map[string]any); ok {
			return true
		}
	}
	return false
}

func (views hostViews) template(template map[string]any, run bool) bool {
	meta, _ := template["metadata"].(map[string]any)
	annotations, _ := meta["annotations"].(map[string]any)
	if v, ok := annotations[AnnotationExecutor].(string); ok && v != "" {
		return views[v]
	}
	return run
}
