package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control/crons"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/workflow"
)

// The handlers of this file answer in the shapes of Argo Server 4.1 (its REST gateway), so that its clients work.

// argoWorkflow is a run without its nodes, as lists give it.
func argoWorkflow(run workflow.Run) map[string]any {
	labels := map[string]string{"workflows.argoproj.io/phase": string(run.Phase)}
	for k, v := range run.Labels {
		labels[k] = v
	}
	if run.Phase.Done() {
		labels["workflows.argoproj.io/completed"] = "true"
	}
	return map[string]any{
		"apiVersion": manifestVersion, "kind": "Workflow",
		"metadata": map[string]any{
			"name": run.Name, "namespace": run.Namespace, "uid": run.UID, "labels": labels, "annotations": run.Annotations,
			"creationTimestamp": run.CreatedAt.Format(time.RFC3339),
		},
		"spec": map[string]any{},
		"status": map[string]any{
			"phase": run.Phase, "message": run.Message, "progress": run.Progress,
			"startedAt": run.StartedAt, "finishedAt": run.FinishedAt, "conditions": run.Conditions,
		},
	}
}

const manifestVersion = "argoproj.io/v1alpha1"

func (a *API) argoList(w http.ResponseWriter, r *http.Request) {
	q := ledger.Query{Table: "run"}
	if ns := r.PathValue("namespace"); ns != "" && ns != "-" {
		q.KeyPrefix = ns + "/"
	}
	var err error
	if q.Labels, err = labels(r, "listOptions.labelSelector"); err != nil {
		fail(w, err)
		return
	}
	phase, ok := q.Labels["workflows.argoproj.io/phase"]
	if ok {
		delete(q.Labels, "workflows.argoproj.io/phase")
		q.States = []string{phase}
	}
	limit, err := number(r, "listOptions.limit", 100)
	if err == nil {
		q.Limit = min(max(limit, 1), 1000)
		if after := r.URL.Query().Get("listOptions.continue"); after != "" {
			q.After, err = parseCursor(after)
		}
	}
	if err != nil {
		fail(w, err)
		return
	}
	rows, err := a.Ledger.List(r.Context(), q)
	if err != nil {
		fail(w, err)
		return
	}
	items := make([]any, 0, len(rows))
	for _, row := range rows {
		var run workflow.Run
		if err := json.Unmarshal(row.Body, &run); err != nil {
			fail(w, fmt.Errorf("decode run: %w", err))
			return
		}
		items = append(items, argoWorkflow(run))
	}
	meta := map[string]any{}
	if len(rows) == q.Limit {
		meta["continue"] = cursor(rows[len(rows)-1])
	}
	reply(w, map[string]any{"items": items, "metadata": meta})
}

// submission reads a manifest's object: {"workflow": {...}} as Argo's clients send it, or {"manifest": "text", "file":
// "name"} as it was written, so that errors name the user's own file, line and column. Options go with the latter.
func submission(r *http.Request) (s runs.Submission, err error) {
	var body struct {
		Workflow json.RawMessage `json:"workflow"`
		Manifest string          `json:"manifest"`
		File     string          `json:"file"`
		Options  submitOptions   `json:"submitOptions"`
	}
	if err := decode(r, &body); err != nil {
		return s, err
	}
	name, data := "workflow", []byte(body.Workflow)
	if body.Manifest != "" {
		if len(body.Workflow) > 0 {
			return s, badRequest("send a workflow or a manifest, not both")
		}
		name, data = "manifest", []byte(body.Manifest)
		if body.File != "" {
			name = body.File
		}
	}
	objects, diags := manifest.Decode(name, data)
	if err := manifest.FirstError(diags); err != nil {
		return s, &workflow.InvalidError{Diagnostics: diags}
	}
	if body.Manifest != "" {
		objects = slices.DeleteFunc(objects, func(o manifest.Object) bool { return o.Kind != "Workflow" })
	}
	if len(objects) != 1 || objects[0].Kind != "Workflow" {
		return s, badRequest(`send {"workflow": {...}}, or {"manifest": "text"}, with one object of kind Workflow`)
	}
	s.Object = objects[0]
	return s, body.Options.into(&s)
}

func (a *API) argoCreate(w http.ResponseWriter, r *http.Request) {
	s, err := submission(r)
	if err != nil {
		fail(w, err)
		return
	}
	a.submit(w, r, s)
}

func (a *API) submit(w http.ResponseWriter, r *http.Request, s runs.Submission) {
	id := gate.From(r.Context())
	s.Namespace = r.PathValue("namespace")
	s.Actor, s.Role = id.String(), id.RoleIn(namespaceOf(s))
	if err := a.can(r, access.Create, access.Run, namespaceOf(s), s.Name); err != nil {
		fail(w, err)
		return
	}
	run, err := a.Runs.Submit(r.Context(), s)
	if err != nil {
		fail(w, err)
		return
	}
	a.answerRun(w, r, run.Namespace, run.Name)
}

// namespaceOf is where a submission's run would be: what its manifest says counts more than the path.
func namespaceOf(s runs.Submission) string { return cmp.Or(s.Object.Namespace, s.Namespace, "default") }

// answerRun answers with a run, to who may get it: others are not told what they have done.
func (a *API) answerRun(w http.ResponseWriter, r *http.Request, ns, name string) {
	if a.can(r, access.Get, access.Run, ns, name) != nil {
		reply(w, map[string]any{"metadata": map[string]string{"namespace": ns, "name": name}})
		return
	}
	raw, err := a.Runs.Status(r.Context(), ns, name)
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, raw)
}

// submitOptions are Argo's, as far as they have an effect here.
type submitOptions struct {
	Name         string   `json:"name"`
	GenerateName string   `json:"generateName"`
	EntryPoint   string   `json:"entryPoint"`
	Parameters   []string `json:"parameters"`
	Labels       string   `json:"labels"`
	Annotations  string   `json:"annotations"`
}

// into puts the options into a submission.
func (o submitOptions) into(s *runs.Submission) (err error) {
	s.Name, s.Entrypoint = o.Name, o.EntryPoint
	if o.GenerateName != "" {
		s.Object.GenerateName = o.GenerateName
	}
	if s.Parameters, err = pairs(o.Parameters); err != nil {
		return err
	}
	labels, err := pairs(strings.Split(o.Labels, ","))
	if err != nil {
		return err
	}
	annotations, err := pairs(strings.Split(o.Annotations, ","))
	if err != nil {
		return err
	}
	s.Labels, s.Annotations = over(s.Labels, labels), over(s.Annotations, annotations)
	return nil
}

// over lays what is said at a submission over what its object brings.
func over(below, above map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, below)
	maps.Copy(all, above)
	return all
}

func (a *API) argoSubmit(w http.ResponseWriter, r *http.Request) {
	var body struct {
		ResourceKind  string        `json:"resourceKind"`
		ResourceName  string        `json:"resourceName"`
		SubmitOptions submitOptions `json:"submitOptions"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	s, err := a.fromTemplate(r, body.ResourceKind, r.PathValue("namespace"), body.ResourceName)
	if err != nil {
		fail(w, err)
		return
	}
	if err := body.SubmitOptions.into(&s); err != nil {
		fail(w, err)
		return
	}
	a.submit(w, r, s)
}

// fromTemplate makes a submission of a WorkflowTemplate, ClusterWorkflowTemplate or CronWorkflow that the caller may get.
func (a *API) fromTemplate(r *http.Request, kind, namespace, name string) (runs.Submission, error) {
	kinds := map[string]string{
		"workflowtemplate": "WorkflowTemplate", "workflowtemplates": "WorkflowTemplate", "wftmpl": "WorkflowTemplate",
		"clusterworkflowtemplate": "ClusterWorkflowTemplate", "cwft": "ClusterWorkflowTemplate",
		"cronworkflow": "CronWorkflow", "cronwf": "CronWorkflow", "cronworkflows": "CronWorkflow",
	}
	known, ok := kinds[strings.ToLower(kind)]
	if !ok {
		return runs.Submission{}, badRequest("a run cannot be made from a %s: use WorkflowTemplate, ClusterWorkflowTemplate or CronWorkflow", kind)
	}
	if err := a.can(r, access.Get, known, namespace, name); err != nil {
		return runs.Submission{}, err
	}
	d, err := a.Definitions.Get(r.Context(), known, namespace, name)
	if err != nil {
		return runs.Submission{}, err
	}
	var spec any = map[string]any{"workflowTemplateRef": map[string]any{"name": name, "clusterScope": known == "ClusterWorkflowTemplate"}}
	s := runs.Submission{Namespace: namespace}
	if known == "CronWorkflow" {
		var cron struct {
			Spec struct {
				WorkflowSpec     map[string]any     `json:"workflowSpec"`
				WorkflowMetadata *metav1.ObjectMeta `json:"workflowMetadata"`
			} `json:"spec"`
		}
		if err := json.Unmarshal(d.Object, &cron); err != nil {
			return s, fmt.Errorf("decode CronWorkflow %s: %w", name, err)
		}
		spec = cron.Spec.WorkflowSpec
		s.Labels, s.Annotations = crons.Metadata(name, cron.Spec.WorkflowMetadata, a.Now())
	}
	raw, err := json.Marshal(map[string]any{
		"apiVersion": manifestVersion, "kind": "Workflow", "metadata": map[string]any{"generateName": name + "-", "namespace": namespace}, "spec": spec,
	})
	if err != nil {
		return runs.Submission{}, fmt.Errorf("make workflow from %s: %w", name, err)
	}
	objects, diags := manifest.Decode(known+"/"+name, raw)
	if err := manifest.FirstError(diags); err != nil {
		return runs.Submission{}, &workflow.InvalidError{Diagnostics: diags}
	}
	s.Object = objects[0]
	return s, nil
}

func pairs(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range list {
		if p == "" {
			continue
		}
		k, v, ok := strings.Cut(p, "=")
		if !ok {
			return nil, badRequest("%q is not of the form name=value", p)
		}
		out[k] = v
	}
	return out, nil
}

func (a *API) argoLint(w http.ResponseWriter, r *http.Request) {
	s, err := submission(r)
	if err != nil {
		fail(w, err)
		return
	}
	s.Namespace = r.PathValue("namespace")
	if err := a.can(r, access.Get, access.Run, namespaceOf(s), ""); err != nil {
		fail(w, err)
		return
	}
	if err := a.Runs.Lint(r.Context(), s); err != nil {
		fail(w, err)
		return
	}
	reply(w, s.Object.Tree)
}

func (a *API) argoGet(w http.ResponseWriter, r *http.Request) {
	a.answerRun(w, r, r.PathValue("namespace"), r.PathValue("name"))
}

// verbs maps Argo's paths to the engine's commands.
var verbs = map[string]string{ //nolint:gochecknoglobals // a constant table
	"suspend": workflow.Suspend, "resume": workflow.Resume, "stop": workflow.Stop,
	"terminate": workflow.Terminate, "retry": workflow.Retry, "set": workflow.Set,
}

func (a *API) argoVerb(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("verb") == "resubmit" {
		a.resubmit(w, r)
		return
	}
	verb, ok := verbs[r.PathValue("verb")]
	if !ok {
		fail(w, badRequest("unknown command %q", r.PathValue("verb")))
		return
	}
	var body struct {
		NodeFieldSelector string   `json:"nodeFieldSelector"`
		Message           string   `json:"message"`
		Phase             string   `json:"phase"`
		OutputParameters  string   `json:"outputParameters"`
		RestartSuccessful bool     `json:"restartSuccessful"`
		Parameters        []string `json:"parameters"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	params, err := pairs(body.Parameters)
	if err != nil {
		fail(w, err)
		return
	}
	if body.OutputParameters != "" {
		if err := json.Unmarshal([]byte(body.OutputParameters), &params); err != nil {
			fail(w, badRequest("outputParameters: %w", err))
			return
		}
	}
	ns, name := r.PathValue("namespace"), r.PathValue("name")
	err = a.Runs.Control(r.Context(), ns, name, workflow.Control{
		Meta: workflow.Meta{Actor: gate.From(r.Context()).String()}, Verb: verb, Nodes: body.NodeFieldSelector, Parameters: params,
		Phase: workflow.Phase(body.Phase), Message: body.Message, RestartSuccessful: body.RestartSuccessful,
	})
	if err != nil {
		fail(w, err)
		return
	}
	a.answerRun(w, r, ns, name)
}

func (a *API) argoDelete(w http.ResponseWriter, r *http.Request) {
	if err := a.Runs.Delete(r.Context(), r.PathValue("namespace"), r.PathValue("name"), gate.From(r.Context()).String()); err != nil {
		fail(w, err)
		return
	}
	reply(w, struct{}{})
}

// argoLog answers with the logs of one pod or, without a podName, of the run's pods one after another.
func (a *API) argoLog(w http.ResponseWriter, r *http.Request) {
	run, err := a.Runs.Summary(r.Context(), r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		fail(w, err)
		return
	}
	q := r.URL.Query()
	nodes, _, err := runs.Nodes(r.Context(), a.Ledger, runs.Key(run.Namespace, run.Name), 0, math.MaxInt)
	if err != nil {
		fail(w, err)
		return
	}
	container := q.Get("logOptions.container")
	if container == "" {
		container = "main"
	}
	w.Header().Set("Content-Type", "application/json")
	for _, n := range workflow.Link(nodes) {
		if n.Type != workflow.NodePod || q.Get("podName") != "" && q.Get("podName") != n.ID && !strings.HasSuffix(q.Get("podName"), suffixOf(n.ID)) {
			continue
		}
		log, err := a.Logs.Log(r.Context(), run, n, container, executor.LogOptions{Follow: q.Get("logOptions.follow") == "true"})
		if err != nil {
			continue // a pod that never started has none
		}
		argoLines(w, n.ID, log)
		_ = log.Close()
	}
}

// suffixOf is the hash at the end of a node's id, which its pod's name ends with too.
func suffixOf(id string) string { return id[strings.LastIndex(id, "-")+1:] }
