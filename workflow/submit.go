package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// submit begins a run.
func (t *turn) submit(c Submit) error {
	if t.s.start.Name != "" {
		return fmt.Errorf("submit run %s/%s: it was submitted before", c.Namespace, c.Name)
	}
	if c.Name == "" || c.UID == "" {
		return errors.New("submit run: it needs a name and a uid")
	}
	m := &merger{c: c, phase: Error}
	tree, err := m.merge()
	if err != nil {
		return err
	}
	b := &submitted{
		UID: c.UID, Namespace: c.Namespace, Name: c.Name, Positions: c.Positions, Event: c.Event, Claims: c.Claims, ScheduledTime: c.ScheduledTime,
		Actor: c.Actor, Time: t.now, Template: m.from, Conditions: append(conditions(m.limits), specWarnings(c.Warnings)...), Labels: m.labels, Annotations: m.annotations,
		Grants: c.Grants, Earlier: c.Earlier,
	}
	spec, _ := tree["spec"].(map[string]any)
	b.Entrypoint = text(spec["entrypoint"])
	if suspended, _ := spec["suspend"].(bool); suspended {
		b.Suspended = true
	}
	if err := t.globalArguments(b, tree, c, m); err != nil && m.failure == "" {
		return err
	}
	if b.Workflow, err = json.Marshal(tree); err != nil {
		return fmt.Errorf("record manifest: %w", err)
	}
	b.Given = expression.Marks(tree)
	for _, ref := range sortedRefs(c.Objects) {
		b.Objects = append(b.Objects, pinned{ref, c.Objects[ref]})
	}
	if spec["synchronization"] != nil && m.failure == "" {
		b.Waiting = lockWaiting
	}
	t.emit(KindSubmitted, "", b)
	if t.err != nil {
		return t.err
	}
	if err := t.computeLabels(spec); err != nil && m.failure == "" {
		m.failure, m.phase = err.Error(), Error
	}
	if m.failure != "" {
		t.abandon(m.phase, m.failure)
		return nil
	}
	if b.Waiting == lockWaiting {
		return t.acquireRun(spec)
	}
	t.beginRun()
	return nil
}

// acquireRun asks for the locks of the whole run.
func (t *turn) acquireRun(spec map[string]any) error {
	locks, err := t.locks(spec["synchronization"], &scope{s: t.s, now: t.now, chance: &t.chance})
	if err != nil {
		t.abandon(Error, err.Error())
		return nil
	}
	if len(locks) == 0 {
		t.changeRun(kindRunChange, runChange{Lock: ptr(lockNone)})
		if t.s.retries > 0 {
			t.resumeRun()
		} else {
			t.beginRun()
		}
		return nil
	}
	t.effect(Acquire{Key: "run", Holder: t.s.runHolder(), Locks: locks, Priority: t.s.priority(), Since: t.s.run.CreatedAt})
	return nil
}

// beginRun starts the entrypoint.
func (t *turn) beginRun() {
	phase := Running
	t.changeRun(kindRunStart, runChange{Phase: &phase, StartedAt: &t.now})
	if d := t.s.deadline(); d != nil {
		t.effect(SetTimer{Key: "deadline", At: *d})
	}
	t.startRoot()
}

func (t *turn) startRoot() {
	s := t.s
	v := invocation{name: s.run.Name, display: s.run.Name, role: roleStep}
	tm, err := s.callee(nil, s.start.Entrypoint, nil, "")
	if err != nil {
		t.createDone(v, NodeSkipped, Error, err.Error())
		return
	}
	v.callee = tm
	v.args = manifest.Arguments{Parameters: s.start.Parameters, Artifacts: s.start.Artifacts}
	t.invoke(v)
	t.runLevelHooks()
}

// merger puts a manifest together from its parts.
type merger struct {
	c                   Submit
	from                string
	failure             string // why the run ends before it begins
	phase               Phase  // in which it ends then
	labels, annotations map[string]string
	limits              []manifest.Diagnostic // what of it the engine and the platform do not do
	tagged              []string              // names of ConfigMaps with tags
}

// merge gives the manifest that is run: the Workflow over the template it refers to, over the defaults.
func (m *merger) merge() (map[string]any, error) {
	tree, err := decodeGiven(m.c.Workflow, m.c.Given)
	if err != nil {
		return nil, &InvalidError{[]manifest.Diagnostic{{Severity: manifest.SeverityError, Message: "read manifest: " + err.Error()}}}
	}
	spec, _ := tree["spec"].(map[string]any)
	if spec == nil {
		spec = map[string]any{}
	}
	tree["spec"] = spec
	if ref, _ := spec["workflowTemplateRef"].(map[string]any); ref != nil {
		if spec, err = m.fromTemplate(tree, spec, ref); err != nil {
			return nil, err
		}
	}
	if len(m.c.Defaults) > 0 {
		d, err := decodeTree(m.c.Defaults)
		if err != nil {
			return nil, fmt.Errorf("read workflow defaults: %w", err)
		}
		own := spec
		tree = mergeUnder(tree, withoutKeys(d, "status"))
		spec, _ = tree["spec"].(map[string]any)
		mergeLists(spec, own, asMap(d["spec"]))
	}
	if err := m.known(tree, spec); err != nil {
		return nil, err
	}
	spec = m.apply(spec)
	tree["spec"] = spec
	m.metadata(tree, spec)
	m.limits = Unsupported("Workflow", tree, m.c.Platform)
	if m.failure == "" && m.c.Invalid != "" {
		m.failure, m.phase = "invalid spec: "+m.c.Invalid, Failed
	}
	if m.failure == "" {
		if err := m.check(spec); err != nil {
			return nil, err
		}
	}
	return tree, nil
}

// fromTemplate merges the referenced template under the spec: its lists by what Kubernetes tells their items apart by. Own templates
// beside the reference are refused, as Argo does (WorkflowTemplateRefFields in workflow/validate/validate.go).
func (m *merger) fromTemplate(tree, spec, r map[string]any) (map[string]any, error) {
	if own, _ := spec["templates"].([]any); len(own) > 0 {
		return spec, invalid("spec.templates", manifest.TemplatesBesideRef)
	}
	name := text(r["name"])
	cluster, _ := r["clusterScope"].(bool)
	ref := Ref{Kind: "WorkflowTemplate", Namespace: m.c.Namespace, Name: name}
	if cluster {
		ref = Ref{Kind: "ClusterWorkflowTemplate", Name: name}
	}
	m.from = ref.Kind + "/" + name
	raw, known := m.c.Objects[ref]
	if !known {
		return nil, &MissingError{[]Ref{ref}}
	}
	if raw == nil {
		m.failure = missingTemplateError{ref}.Error()
		return spec, nil
	}
	object, err := decodeTree(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", ref.Kind, name, err)
	}
	base, _ := object["spec"].(map[string]any)
	args := mergeArguments(spec["arguments"], base["arguments"])
	out := mergeUnder(spec, base)
	mergeLists(out, spec, base)
	if args != nil {
		out["arguments"] = args
	}
	if meta, _ := base["workflowMetadata"].(map[string]any); meta != nil {
		out["workflowMetadata"] = mergeUnder(asMap(out["workflowMetadata"]), meta)
	}
	tree["spec"] = out
	return out, nil
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// mergeArguments merges two argument blocks by name; a has precedence.
func mergeArguments(a, b any) map[string]any {
	x, y := asMap(a), asMap(b)
	if x == nil && y == nil {
		return nil
	}
	out := map[string]any{}
	for _, kind := range [...]string{"parameters", "artifacts"} {
		var list []any
		seen := map[string]int{}
		for _, src := range [...]map[string]any{y, x} {
			items, _ := src[kind].([]any)
			for _, it := range items {
				m := asMap(it)
				if i, ok := seen[text(m["name"])]; ok {
					old := asMap(list[i])
					if m["value"] != nil {
						old = withoutKeys(old, "valueFrom")
					} else if m["valueFrom"] != nil {
						old = withoutKeys(old, "value")
					}
					list[i] = mergeUnder(m, old)
					continue
				}
				seen[text(m["name"])] = len(list)
				list = append(list, it)
			}
		}
		if list != nil {
			out[kind] = list
		}
	}
	return out
}

// apply puts what was said at submission into the spec.
func (m *merger) apply(spec map[string]any) map[string]any {
	if m.c.Entrypoint != "" {
		spec["entrypoint"] = m.c.Entrypoint
	}
	if len(m.c.Parameters) == 0 {
		return spec
	}
	var given []any
	for _, k := range sortedKeys(m.c.Parameters) {
		given = append(given, map[string]any{"name": k, "value": expression.Opaque(m.c.Parameters[k])})
	}
	spec["arguments"] = mergeArguments(map[string]any{"parameters": given}, spec["arguments"])
	return spec
}

// metadata gathers labels and annotations: those of the manifest, of workflowMetadata and of the submission.
func (m *merger) metadata(tree, spec map[string]any) {
	meta := asMap(tree["metadata"])
	extra := asMap(spec["workflowMetadata"])
	m.labels, m.annotations = map[string]string{}, map[string]string{}
	for _, src := range [...]map[string]any{meta, extra} {
		for k, v := range asMap(src["labels"]) {
			m.labels[k] = text(v)
		}
		for k, v := range asMap(src["annotations"]) {
			m.annotations[k] = text(v)
		}
	}
	for k, v := range m.c.Labels {
		m.labels[k] = v
	}
	for k, v := range m.c.Annotations {
		m.annotations[k] = v
	}
	if at := m.c.ScheduledTime; at != nil {
		m.annotations[annotationScheduled] = at.UTC().Format(time.RFC3339)
	}
	if kind, name, ok := strings.Cut(m.from, "/"); ok {
		key := "workflows.argoproj.io/workflow-template"
		if kind == "ClusterWorkflowTemplate" {
			key = "workflows.argoproj.io/cluster-workflow-template"
		}
		m.labels[key] = name
	}
}

// check collects every object that the templates name, and refuses what one machine cannot do.
func (m *merger) check(spec map[string]any) error {
	w := &walker{c: m.c, missing: map[Ref]bool{}, done: map[Ref]bool{}}
	w.spec(spec)
	m.tagged = w.tagged
	if len(w.missing) > 0 {
		e := &MissingError{}
		for r := range w.missing {
			e.Refs = append(e.Refs, r)
		}
		sortRefs(e.Refs)
		return e
	}
	if refused := m.c.refused(m.limits); len(refused) > 0 {
		return &InvalidError{refused}
	}
	if text(spec["entrypoint"]) == "" {
		return &InvalidError{[]manifest.Diagnostic{{
			Severity: manifest.SeverityError, Path: "spec.entrypoint", Message: "entrypoint is required",
			Hint: "name the template to begin with",
		}}}
	}
	return nil
}

// walker looks through specs for what a run needs from outside.
type walker struct {
	c       Submit
	missing map[Ref]bool
	done    map[Ref]bool
	// tagged are the names of ConfigMaps that hold tags, and so are known later.
	tagged []string
}

func (w *walker) spec(spec map[string]any) {
	list, _ := spec["templates"].([]any)
	for _, x := range list {
		w.template(asMap(x))
	}
	w.template(asMap(spec["templateDefaults"]))
	w.values(spec["arguments"])
	w.hooks(spec)
}

func (w *walker) template(tree map[string]any) {
	w.values(tree["inputs"])
	groups, _ := tree["steps"].([]any)
	for _, group := range groups {
		members, ok := group.([]any)
		if !ok {
			members = []any{group}
		}
		for _, x := range members {
			w.site(asMap(x))
		}
	}
	tasks, _ := asMap(tree["dag"])["tasks"].([]any)
	for _, x := range tasks {
		w.site(asMap(x))
	}
}

func (w *walker) site(tree map[string]any) {
	w.reference(tree["templateRef"])
	w.values(tree["arguments"])
	w.hooks(tree)
	if inline := asMap(tree["inline"]); inline != nil {
		w.template(inline)
	}
}

func (w *walker) hooks(tree map[string]any) {
	for _, h := range hooksOf(tree) {
		w.reference(h.tree["templateRef"])
		w.values(h.tree["arguments"])
	}
}

// reference notes an object, and looks through it if it is there. Names with tags are asked for during the run.
func (w *walker) reference(v any) {
	tree := asMap(v)
	name := text(tree["name"])
	if name == "" || strings.Contains(name, "{{") {
		return
	}
	ref := Ref{Kind: "WorkflowTemplate", Namespace: w.c.Namespace, Name: name}
	if cluster, _ := tree["clusterScope"].(bool); cluster {
		ref = Ref{Kind: "ClusterWorkflowTemplate", Name: name}
	}
	if w.done[ref] {
		return
	}
	w.done[ref] = true
	raw, known := w.c.Objects[ref]
	if !known {
		w.missing[ref] = true
		return
	}
	if object, err := decodeTree(raw); err == nil && raw != nil {
		w.spec(asMap(object["spec"]))
	}
}

// values notes the ConfigMaps that parameters are taken from.
func (w *walker) values(v any) {
	params, _ := asMap(v)["parameters"].([]any)
	for _, p := range params {
		cm := asMap(asMap(asMap(p)["valueFrom"])["configMapKeyRef"])
		name := text(cm["name"])
		if strings.Contains(name, "{{") {
			w.tagged = append(w.tagged, name)
			continue
		}
		if name == "" {
			continue
		}
		ref := Ref{Kind: "ConfigMap", Namespace: w.c.Namespace, Name: name}
		if _, known := w.c.Objects[ref]; !known {
			w.missing[ref] = true
		}
	}
}

// globalArguments resolves workflow.parameters: literal values may name workflow.name and the like; values from
// ConfigMaps are read; every parameter must have a value.
func (t *turn) globalArguments(b *submitted, tree map[string]any, c Submit, m *merger) error {
	spec := asMap(tree["spec"])
	tmp := NewState()
	tmp.run = Run{UID: b.UID, Namespace: b.Namespace, Name: b.Name, CreatedAt: b.Time, Labels: b.Labels, Annotations: b.Annotations}
	tmp.start = *b
	tmp.spec = looseSpec(tree)
	tmp.objects = c.Objects
	tt := &turn{s: tmp, now: t.now}
	sc := &scope{s: tmp, now: t.now, chance: &t.chance}
	params, _ := asMap(spec["arguments"])["parameters"].([]any)
	for _, x := range params {
		done, err := substitute(x, sc)
		if err != nil {
			return invalid("spec.arguments.parameters", err.Error())
		}
		var p manifest.Parameter
		if err := decodeValue(done, &p); err != nil {
			return invalid("spec.arguments.parameters", err.Error())
		}
		if p.Value == nil && p.ValueFrom != nil {
			err := tt.parameterFrom(&p, sc)
			var missing missingTemplateError
			if errors.As(err, &missing) {
				return &MissingError{[]Ref{missing.ref}}
			}
			if err != nil && m.failure == "" {
				m.failure = err.Error()
			}
		}
		if p.Value == nil {
			p.Value = p.Default
		}
		if fault := outsideEnum(p); fault != "" && m.failure == "" {
			return invalid("spec.arguments.parameters", fault)
		}
		if p.Value == nil && m.failure == "" {
			return invalid("spec.arguments.parameters", fmt.Sprintf("spec.arguments.%s.value or spec.arguments.%s.valueFrom is required", p.Name, p.Name))
		}
		b.Parameters = append(b.Parameters, p)
		tmp.start.Parameters = b.Parameters
		tmp.cache.globals = nil
	}
	if refs := m.namedConfigMaps(sc); len(refs) > 0 {
		return &MissingError{refs}
	}
	artifacts, _ := asMap(spec["arguments"])["artifacts"].([]any)
	for _, x := range artifacts {
		done, err := substitute(x, sc)
		if err != nil {
			return invalid("spec.arguments.artifacts", err.Error())
		}
		var a manifest.Artifact
		if err := decodeValue(done, &a); err != nil {
			return invalid("spec.arguments.artifacts", err.Error())
		}
		b.Artifacts = append(b.Artifacts, a)
	}
	return nil
}

func invalid(path, message string) error {
	return &InvalidError{[]manifest.Diagnostic{{Severity: manifest.SeverityError, Path: path, Message: message}}}
}
