package manifest

import (
	"encoding/json"
	"fmt"
)

// SpecPath is where a kind has its WorkflowSpec: "spec", or "spec.workflowSpec" of a CronWorkflow.
func (o Object) SpecPath() string {
	if o.Kind == "CronWorkflow" {
		return "spec.workflowSpec"
	}
	return "spec"
}

// Templates gives the templates of a Workflow, WorkflowTemplate, ClusterWorkflowTemplate or CronWorkflow by name,
// as trees. Of templates with the same name the first is given.
func (o Object) Templates() map[string]*Tree {
	list := o.Tree.Lookup(o.SpecPath() + ".templates").Items()
	templates := make(map[string]*Tree, len(list))
	for _, t := range list {
		name := t.Get("name").Text()
		if _, dup := templates[name]; !dup {
			templates[name] = t
		}
	}
	return templates
}

// DecodeTemplate decodes a template's JSON once its tags have been replaced: text is taken where a number,
// boolean, list or map is wanted, if it is one.
func DecodeTemplate(raw []byte) (Template, error) {
	tree, err := ParseTree(raw)
	if err != nil {
		return Template{}, fmt.Errorf("decode template: %w", err)
	}
	var t Template
	if err := FirstError(DecodeTree(tree, &t, DecodeOptions{Substituted: true})); err != nil {
		return Template{}, fmt.Errorf("decode template: %w", err)
	}
	return t, nil
}

// withItems reads a list; text that is a JSON list, as a replaced tag leaves it; or one item. Numbers are
// [json.Number], so that they keep their text.
func withItems(t *Tree) WithItems {
	if t.kind == KindString {
		if parsed, err := ParseTree([]byte(t.text)); err == nil && parsed.kind == KindList {
			t = parsed
		}
	}
	if t.kind == KindList {
		items, _ := t.Value().([]any)
		return items
	}
	return WithItems{t.Value()}
}

// UnmarshalJSON reads what withItems may hold.
func (w *WithItems) UnmarshalJSON(raw []byte) error {
	t, err := ParseTree(raw)
	if err != nil {
		return err
	}
	*w = nil
	if t.kind != KindNull {
		*w = withItems(t)
	}
	return nil
}

// UnmarshalJSON takes a list of steps, or a single step.
func (p *ParallelSteps) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '{' {
		*p = make(ParallelSteps, 1)
		return json.Unmarshal(raw, &(*p)[0])
	}
	var list []WorkflowStep
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	*p = list
	return nil
}

// UnmarshalJSON keeps all fields.
func (a *ObjectArtifact) UnmarshalJSON(raw []byte) error {
	t, err := ParseTree(raw)
	if err != nil {
		return err
	}
	fields, ok := t.Unstructured().(map[string]any)
	if !ok {
		return fmt.Errorf("expected map, got %s", t.Kind())
	}
	*a = ObjectArtifact{Key: t.Get("key").Text(), Fields: fields}
	return nil
}

// MarshalJSON writes all fields.
func (a ObjectArtifact) MarshalJSON() ([]byte, error) {
	fields := make(map[string]any, len(a.Fields)+1)
	for k, v := range a.Fields {
		fields[k] = v
	}
	if a.Key != "" {
		fields["key"] = a.Key
	}
	return json.Marshal(fields)
}

// AllSchedules is schedules and, from 3.x, schedule.
func (s CronWorkflowSpec) AllSchedules() []string {
	if s.Schedule == "" {
		return s.Schedules
	}
	return append([]string{s.Schedule}, s.Schedules...)
}

// AllMutexes is mutexes and, from 3.x, mutex at their end, as Argo's own conversion has it.
func (s *Synchronization) AllMutexes() []MutexRef {
	if s == nil || s.Mutex == nil {
		return s.mutexes()
	}
	return append(append([]MutexRef(nil), s.Mutexes...), *s.Mutex)
}

// AllSemaphores is semaphores and, from 3.x, semaphore at their end.
func (s *Synchronization) AllSemaphores() []SemaphoreRef {
	if s == nil {
		return nil
	}
	if s.Semaphore == nil {
		return s.Semaphores
	}
	return append(append([]SemaphoreRef(nil), s.Semaphores...), *s.Semaphore)
}

func (s *Synchronization) mutexes() []MutexRef {
	if s == nil {
		return nil
	}
	return s.Mutexes
}

// Type is which of the template types is set, as the name of its field; "" for none and "several" for more than
// one.
func (t *Template) Type() string {
	found := ""
	for _, candidate := range []struct {
		name string
		set  bool
	}{
		{"container", t.Container != nil}, {"script", t.Script != nil}, {"steps", t.Steps != nil},
		{"dag", t.DAG != nil}, {"suspend", t.Suspend != nil}, {"resource", t.Resource != nil},
		{"http", t.HTTP != nil}, {"containerSet", t.ContainerSet != nil}, {"data", t.Data != nil},
		{"plugin", t.Plugin != nil},
	} {
		if !candidate.set {
			continue
		}
		if found != "" {
			return "several"
		}
		found = candidate.name
	}
	return found
}
