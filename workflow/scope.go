package workflow

import (
	"encoding/json"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

// scope is what the tags of one text can name. It is lazy: a value is looked up when a tag asks for it, so that
// the size of a run does not matter to a step that names one other step.
type scope struct {
	s   *State
	now time.Time
	// chance is the decision's seed, which every text moves on; nil for what is made of a decision again, such as a
	// pod, and must come out the same.
	chance *int64
	// inputs and self are the template whose text this is: {{inputs.…}}, {{node.name}}, {{pod.name}}.
	inputs  *manifest.Inputs
	self    *node
	outputs *manifest.Outputs // declared, for outputs.parameters.NAME.path
	// declared is the inputs block of the template: an optional artifact that did not come has a path all the same.
	declared map[string]any
	// boundary is where {{steps.…}} and {{tasks.…}} are looked up.
	boundary *node
	// outer lets a name that the boundary does not have be that of the one around it: for what belongs to the whole run.
	outer bool
	item  json.RawMessage
	// extra has what is said for the occasion: retries, lastRetry.…, workflow.status, outputs.…
	extra map[string]any
	// alias is the node that its own step's name means in a hook: the item of a loop, not the loop.
	alias     *node
	aliasName string
	// stepName is {{steps.name}} or {{tasks.name}}.
	stepName string
	// called is the node that the text is an argument of; nil if it is none.
	called *called
}

// Lookup implements expression.Scope. It gives the value of a dotted name. Known is false if the scope has no such name. A known name without a
// value (an output that a skipped step does not have) is nil.
func (v *scope) Lookup(name string) (value any, known bool) {
	if x, ok := v.extra[name]; ok {
		return x, true
	}
	root, rest, _ := strings.Cut(name, ".")
	switch root {
	case "workflow":
		return v.workflow(rest)
	case "inputs":
		return v.input(rest)
	case "outputs":
		return v.output(rest)
	case "item":
		return v.loopItem(rest)
	case "node":
		if rest == "name" && v.self != nil {
			return v.self.Name, true
		}
	case "pod":
		switch {
		case rest != "name":
		case v.called != nil:
			return v.s.podOf(v.called)
		case v.self != nil:
			return v.s.podName(v.self), true
		}
	case "steps", "tasks":
		if rest == "name" && v.stepName != "" {
			return v.stepName, true
		}
		return v.sibling(root, rest)
	}
	return nil, false
}

func (v *scope) workflow(rest string) (any, bool) {
	s := v.s
	if x, ok := s.globals()[rest]; ok {
		return x, true
	}
	kind, name, _ := strings.Cut(rest, ".")
	switch kind {
	case "status":
		return string(s.mainPhase()), true
	case "duration":
		end := v.now
		if s.run.FinishedAt != nil {
			end = *s.run.FinishedAt
		}
		if s.run.StartedAt == nil {
			return "0.000000", true
		}
		return strconv.FormatFloat(end.Sub(*s.run.StartedAt).Seconds(), 'f', 6, 64), true
	case "failures":
		return s.failures(), true
	case "outputs":
		return namedOutput(&s.outputs, name)
	case "creationTimestamp":
		if len(name) == 1 {
			return strftime(s.run.CreatedAt, name[0])
		}
	}
	return nil, false
}

// globals are the workflow.… names that do not change during the run.
func (s *State) globals() map[string]any {
	if s.cache.globals != nil {
		return s.cache.globals
	}
	b := &s.start
	labels, annotations := s.run.Labels, s.run.Annotations // those that were computed are the run's only
	g := map[string]any{
		"name": b.Name, "namespace": b.Namespace, "uid": b.UID, "mainEntrypoint": b.Entrypoint,
		"serviceAccountName":        s.spec.ServiceAccountName,
		"creationTimestamp":         b.Time.UTC().Format(time.RFC3339),
		"creationTimestamp.RFC3339": b.Time.UTC().Format(time.RFC3339),
		"creationTimestamp.s":       strconv.FormatInt(b.Time.Unix(), 10),
		"parameters":                parametersJSON(b.Parameters),
		"parameters.json":           parametersJSON(b.Parameters),
		"labels":                    jsonText(labels), "labels.json": jsonText(labels),
		"annotations": jsonText(annotations), "annotations.json": jsonText(annotations),
	}
	if s.spec.ServiceAccountName == "" {
		g["serviceAccountName"] = "default"
	}
	if s.spec.Priority != nil {
		g["priority"] = strconv.Itoa(int(*s.spec.Priority))
	}
	if at := annotations[annotationScheduled]; at != "" {
		g["scheduledTime"] = at
	}
	for _, p := range b.Parameters {
		if p.Value != nil {
			g["parameters."+p.Name] = p.Value.String()
		}
	}
	for k, x := range labels {
		g["labels."+k] = x
	}
	for k, x := range annotations {
		g["annotations."+k] = x
	}
	for _, a := range b.Artifacts {
		g["artifacts."+a.Name] = a
	}
	s.cache.globals = g
	return g
}

// annotationScheduled is where Argo keeps workflow.scheduledTime.
const annotationScheduled = "workflows.argoproj.io/scheduled-time"

func parametersJSON(list []manifest.Parameter) string {
	type pair struct {
		Name  string              `json:"name"`
		Value *manifest.AnyString `json:"value,omitempty"`
	}
	out := make([]pair, 0, len(list))
	for _, p := range list {
		out = append(out, pair{p.Name, p.Value})
	}
	return jsonText(out)
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return "{}"
	}
	return string(b)
}

// failures is workflow.failures: a JSON list of the nodes of any type that failed, quoted once more, as Argo has it.
func (s *State) failures() string {
	type failure struct {
		DisplayName  string     `json:"displayName"`
		Message      string     `json:"message"`
		TemplateName string     `json:"templateName"`
		Phase        string     `json:"phase"`
		PodName      string     `json:"podName"`
		FinishedAt   *time.Time `json:"finishedAt"`
	}
	list := []failure{}
	for _, n := range s.all() {
		if n.gone || n.planned || !n.Phase.bad() {
			continue
		}
		pod := ""
		if n.Type == NodePod {
			pod = s.podName(n)
		}
		list = append(list, failure{n.DisplayName, n.Message, n.TemplateName, string(n.Phase), pod, n.FinishedAt})
	}
	b, err := json.Marshal(list)
	if err != nil {
		return `"[]"`
	}
	return strconv.Quote(string(b))
}

func (v *scope) input(rest string) (any, bool) {
	if v.inputs == nil {
		return nil, false
	}
	if rest == "parameters" {
		return parametersJSON(v.inputs.Parameters), true
	}
	if name, ok := strings.CutPrefix(rest, "parameters."); ok {
		for _, p := range v.inputs.Parameters {
			if p.Name == name {
				if p.Value == nil {
					return nil, true
				}
				return p.Value.String(), true
			}
		}
		return nil, false
	}
	name, ok := strings.CutPrefix(rest, "artifacts.")
	if !ok {
		return nil, false
	}
	for _, a := range v.inputs.Artifacts {
		switch name {
		case a.Name:
			return a, true
		case a.Name + ".path":
			return a.Path, true
		}
	}
	return v.absentArtifact(name)
}

// absentArtifact is what a declared input artifact that did not come can be asked for: its path. Argo knows the path of every
// declared one (SubstituteParams in workflow/common/util.go).
func (v *scope) absentArtifact(name string) (any, bool) {
	list, _ := v.declared["artifacts"].([]any)
	for _, x := range list {
		m, _ := x.(map[string]any)
		declared := text(m["name"])
		switch {
		case declared == "":
		case name == declared:
			return nil, true
		case name == declared+".path":
			path, err := substituteText(text(m["path"]), v)
			return path, err == nil
		}
	}
	return nil, false
}

func (v *scope) output(rest string) (any, bool) {
	if v.outputs == nil {
		return nil, false
	}
	for _, p := range v.outputs.Parameters {
		if rest == "parameters."+p.Name+".path" && p.ValueFrom != nil {
			return p.ValueFrom.Path, true
		}
	}
	for _, a := range v.outputs.Artifacts {
		if rest == "artifacts."+a.Name+".path" {
			return a.Path, true
		}
	}
	return nil, false
}

func (v *scope) loopItem(rest string) (any, bool) {
	if v.item == nil {
		return nil, false
	}
	var item any
	if err := unmarshalNumbers(v.item, &item); err != nil {
		return nil, false
	}
	if rest == "" {
		return item, true
	}
	if m, ok := item.(map[string]any); ok {
		x, ok := m[rest]
		return x, ok
	}
	return nil, false
}

// sibling looks up steps.NAME.… or tasks.NAME.… in the boundary, or in the nearest one around it that has the name.
func (v *scope) sibling(root, rest string) (any, bool) {
	x, ok := v.member(root, rest)
	for around := *v; !ok && v.outer && around.boundary != nil; {
		around.boundary = v.s.node(around.boundary.BoundaryID)
		x, ok = around.member(root, rest)
	}
	return x, ok
}

// member looks up steps.NAME.… or tasks.NAME.… in the boundary itself.
func (v *scope) member(root, rest string) (any, bool) {
	if v.boundary == nil {
		return nil, false
	}
	if (root == "steps") != (v.boundary.Type == NodeSteps) {
		return nil, false
	}
	t, err := v.s.within(v.boundary)
	if err != nil {
		return nil, false
	}
	name, field, _ := strings.Cut(rest, ".")
	st := t.byName[name]
	if st == nil {
		return nil, false
	}
	if v.alias != nil && v.aliasName == name {
		return v.s.nodeField(v.alias, field)
	}
	full := st.nodeName(v.boundary)
	if n := v.s.find(full); n != nil && n.Type != NodeTaskGroup && !n.planned {
		return v.s.nodeField(n, field)
	}
	if st.loop {
		return v.s.loopField(v.boundary, st, full, field)
	}
	return nil, false
}

// lastAttempt is the newest attempt of a Retry node, and any other node itself: what is asked of a step that is retried is asked of that
// (buildLocalScope in workflow/controller/operator.go of Argo).
func (s *State) lastAttempt(n *node) *node {
	if n.Type == NodeRetry && len(n.children) > 0 {
		if last := s.node(n.children[len(n.children)-1]); last != nil {
			return last
		}
	}
	return n
}

// nodeField gives a field of a node: status, outputs.result, outputs.parameters.NAME, …
func (s *State) nodeField(n *node, field string) (any, bool) {
	last := s.lastAttempt(n)
	switch field {
	case "id":
		return last.ID, true
	case "ip":
		return last.PodIP, true
	case "status":
		return string(n.Phase), true
	case "startedAt":
		return timeText(last.StartedAt), true
	case "finishedAt":
		return timeText(last.FinishedAt), true
	case "hostNodeName":
		return last.HostNodeName, true
	case "name":
		return n.Name, true
	case "exitCode":
		if n.Outputs != nil && n.Outputs.ExitCode != nil {
			return *n.Outputs.ExitCode, true
		}
		return nil, n.settled || n.Phase.Done()
	}
	name, ok := strings.CutPrefix(field, "outputs")
	if !ok || !n.Phase.Done() && n.Outputs == nil {
		return nil, false
	}
	name = strings.TrimPrefix(name, ".")
	if n.Outputs != nil {
		if x, ok := namedOutput(n.Outputs, name); ok {
			return x, true
		}
	}
	return s.absentOutput(n, name)
}

// absentOutput is what an output is worth that its node did not leave: the producer's default if it was skipped
// or omitted, otherwise nothing, which is known but nil (reference 1.12, rule 5).
func (s *State) absentOutput(n *node, name string) (any, bool) {
	t, err := s.templateAt(n.Template)
	if err != nil {
		return nil, n.Phase == Skipped || n.Phase == Omitted
	}
	absent := n.Phase == Skipped || n.Phase == Omitted
	if p, ok := strings.CutPrefix(name, "parameters."); ok {
		for _, d := range t.loose.Outputs.Parameters {
			if d.Name != p {
				continue
			}
			if absent && d.ValueFrom != nil && d.ValueFrom.Default != nil {
				return d.ValueFrom.Default.String(), true
			}
			return nil, absent
		}
		return nil, false
	}
	if a, ok := strings.CutPrefix(name, "artifacts."); ok {
		for _, d := range t.loose.Outputs.Artifacts {
			if d.Name == a {
				return nil, true
			}
		}
		return nil, false
	}
	return nil, absent
}

// namedOutput reads outputs by the part of a name behind "outputs.".
func namedOutput(o *manifest.Outputs, name string) (any, bool) {
	switch name {
	case "result":
		if o.Result != nil {
			return *o.Result, true
		}
		return nil, false
	case "parameters":
		if len(o.Parameters) == 0 {
			return nil, false
		}
		m := map[string]string{}
		for _, p := range o.Parameters {
			m[p.Name] = p.Value.Text()
		}
		return jsonText(m), true
	}
	if p, ok := strings.CutPrefix(name, "parameters."); ok {
		for _, x := range o.Parameters {
			if x.Name == p && x.Value != nil {
				return x.Value.String(), true
			}
		}
	}
	if a, ok := strings.CutPrefix(name, "artifacts."); ok {
		for _, x := range o.Artifacts {
			if x.Name == a {
				return x, true
			}
		}
	}
	return nil, false
}

// loopField aggregates a field over the items of a loop, in order of the items, as JSON (reference 1.12, rule 8).
func (s *State) loopField(boundary *node, st *site, full, field string) (any, bool) {
	group := s.find(full)
	if boundary.Type == NodeSteps {
		group = s.find(boundary.Name + "[" + strconv.Itoa(st.group) + "]")
	}
	if group == nil {
		return nil, false
	}
	key := group.ID + " " + st.key + " " + field
	if x, ok := s.cache.aggregates[key]; ok {
		return x, true
	}
	var items []*node
	for _, c := range s.childrenOf(group) {
		if c.Site == st.key && c.Item != nil {
			items = append(items, c)
		}
	}
	if field == "status" || field == "id" || field == "startedAt" || field == "finishedAt" {
		return s.nodeField(group, field)
	}
	sort.SliceStable(items, func(i, j int) bool { return items[i].Index < items[j].Index })
	// Argo leaves out what items left that did not succeed (processAggregateNodeOutputs in workflow/controller/operator.go).
	items = slices.DeleteFunc(items, func(n *node) bool { return n.Phase != Succeeded })
	value, ok := aggregate(items, strings.TrimPrefix(field, "outputs."))
	if ok && group.open == 0 {
		s.cache.aggregates[key] = value
	}
	return value, ok
}

func aggregate(items []*node, field string) (any, bool) {
	if field == "result" {
		list := make([]string, 0, len(items))
		for _, n := range items {
			if n.Outputs != nil && n.Outputs.Result != nil {
				list = append(list, *n.Outputs.Result)
			}
		}
		return expression.Aggregate(list), true
	}
	if field == "parameters" {
		list := make([]map[string]string, 0, len(items))
		for _, n := range items {
			if n.Outputs == nil || len(n.Outputs.Parameters) == 0 {
				continue
			}
			m := map[string]string{}
			for _, p := range n.Outputs.Parameters {
				m[p.Name] = p.Value.Text()
			}
			list = append(list, m)
		}
		return jsonText(list), true
	}
	name, ok := strings.CutPrefix(field, "parameters.")
	if !ok {
		return nil, false
	}
	list := make([]string, 0, len(items))
	for _, n := range items {
		if n.Outputs == nil {
			continue
		}
		for _, p := range n.Outputs.Parameters {
			if p.Name == name && p.Value != nil {
				list = append(list, p.Value.String())
			}
		}
	}
	return jsonText(list), true
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
