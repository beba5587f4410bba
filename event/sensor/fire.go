package sensor

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
)

// fire makes the firing of a trigger (or of its dead-letter trigger) from the events used.
func (s *Sensor) fire(b *budget.Budget, def *manifest.Trigger, number int64, last event.Event, events map[string]event.Event) Firing {
	f := Firing{Sensor: s.Key, Trigger: def.Template.Name, Type: def.Template.Type(), Number: number,
		Key:    fmt.Sprintf("%s/%s/%s/%d", last.ID, s.Key, def.Template.Name, number),
		Events: map[string]int64{}, Policy: def.Policy, RetryStrategy: def.RetryStrategy, RateLimit: def.RateLimit,
		AtLeastOnce: def.AtLeastOnce, ServiceAccount: s.ServiceAccount}
	for name, e := range events {
		f.Events[name] = e.Seq
	}
	if err := f.fill(b, def, events); err != nil {
		f.Problem = err.Error()
	}
	if def.DLQTrigger != nil && def.DLQTrigger.Template != nil {
		dlq := s.fire(b, def.DLQTrigger, number, last, events)
		f.DLQ = &dlq
	}
	return f
}

// fill applies the parameters.
func (f *Firing) fill(b *budget.Budget, def *manifest.Trigger, events map[string]event.Event) error {
	template := *def.Template
	var given []manifest.Given
	if len(def.Parameters) > 0 {
		raw, err := json.Marshal(def.Template)
		if err != nil {
			return fmt.Errorf("read trigger template: %w", err)
		}
		if raw, given, err = ApplyParameters(b, raw, def.Parameters, events); err != nil {
			return fmt.Errorf("apply parameters to the trigger's template: %w", err)
		}
		template = manifest.TriggerTemplate{}
		if err := json.Unmarshal(raw, &template); err != nil {
			return fmt.Errorf("the parameters make the trigger's template unreadable: %w", err)
		}
	}
	f.Template = &template
	switch {
	case template.K8S != nil:
		return f.object(b, template.K8S.Source, template.K8S.Parameters, events, given)
	case template.ArgoWorkflow != nil:
		return f.object(b, template.ArgoWorkflow.Source, template.ArgoWorkflow.Parameters, events, given)
	case template.HTTP != nil:
		return f.request(b, template.HTTP, events)
	}
	return f.message(b, &template, events)
}

// object resolves the parameters of an object, and applies them where the object is at hand. Given marks what of the trigger's
// template came from events already.
func (f *Firing) object(b *budget.Budget, source *manifest.TriggerSource, parameters []manifest.TriggerParameter, events map[string]event.Event, given []manifest.Given) error {
	values, err := ResolveAll(b, parameters, events)
	if err != nil {
		return err
	}
	f.Parameters = values
	marks := givens{}
	var resource json.RawMessage
	switch {
	case source == nil:
		return fmt.Errorf("the trigger has no source")
	case len(source.Resource) > 0:
		resource = source.Resource
		for _, m := range given {
			if len(m.Path) > 3 && m.Path[1] == "source" && m.Path[2] == "resource" {
				marks.list = append(marks.list, manifest.Given{Path: m.Path[3:], From: m.From, To: m.To})
			}
		}
	case source.Inline != "":
		objects, diagnostics := manifest.Decode("inline", []byte(source.Inline))
		if err := manifest.FirstError(diagnostics); err != nil {
			return fmt.Errorf("read the inline source: %w", err)
		}
		if len(objects) != 1 {
			return fmt.Errorf("the inline source has %d objects, want one", len(objects))
		}
		resource = objects[0].Tree.JSON()
		if slices.ContainsFunc(given, func(m manifest.Given) bool { return len(m.Path) > 2 && m.Path[1] == "source" }) {
			// What of it the event gave cannot be told from the rest any more.
			if err := marks.whole(resource); err != nil {
				return err
			}
		}
	default:
		return nil // to be fetched
	}
	f.Resource, f.Given, err = marks.apply(b, append([]byte(nil), resource...), values)
	return err
}

func (f *Firing) request(b *budget.Budget, h *manifest.HTTPTrigger, events map[string]event.Event) error {
	raw, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("read http trigger: %w", err)
	}
	if raw, _, err = ApplyParameters(b, raw, h.Parameters, events); err != nil {
		return fmt.Errorf("apply parameters to the http trigger: %w", err)
	}
	var applied manifest.HTTPTrigger
	if err := json.Unmarshal(raw, &applied); err != nil {
		return fmt.Errorf("the parameters make the http trigger unreadable: %w", err)
	}
	f.Template.HTTP = &applied
	headers, err := ResolveAll(b, h.DynamicHeaders, events)
	if err != nil {
		return fmt.Errorf("resolve dynamic headers: %w", err)
	}
	for _, v := range headers {
		if f.Headers == nil {
			f.Headers = map[string]string{}
		}
		f.Headers[v.Dest] = v.Text
	}
	if h.Payload != nil {
		f.Payload, f.PlainPayload, err = asJSON(Payload(b, h.Payload, events))
	}
	return err
}

// asJSON keeps a body that is not JSON as a JSON string, so that a firing can be stored.
func asJSON(body []byte, err error) (stored json.RawMessage, plain bool, _ error) {
	if err != nil || json.Valid(body) {
		return body, false, err
	}
	stored, err = json.Marshal(string(body))
	return stored, true, err
}

// message handles the types that are kept as written: their parameters and payload have the same names.
func (f *Firing) message(b *budget.Budget, template *manifest.TriggerTemplate, events map[string]event.Event) error {
	kind := template.Type()
	if kind == "" || kind == "log" {
		return nil
	}
	raw, err := json.Marshal(template)
	if err != nil {
		return fmt.Errorf("read %s trigger: %w", kind, err)
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(raw, &whole); err != nil {
		return fmt.Errorf("read %s trigger: %w", kind, err)
	}
	var own struct {
		Parameters []manifest.TriggerParameter `json:"parameters"`
		Payload    []manifest.TriggerParameter `json:"payload"`
	}
	if err := json.Unmarshal(whole[kind], &own); err != nil {
		return fmt.Errorf("read %s trigger: %w", kind, err)
	}
	applied, _, err := ApplyParameters(b, whole[kind], own.Parameters, events)
	if err != nil {
		return fmt.Errorf("apply parameters to the %s trigger: %w", kind, err)
	}
	whole[kind] = applied
	if raw, err = json.Marshal(whole); err != nil {
		return fmt.Errorf("read %s trigger: %w", kind, err)
	}
	var next manifest.TriggerTemplate
	if err := json.Unmarshal(raw, &next); err != nil {
		return fmt.Errorf("the parameters make the %s trigger unreadable: %w", kind, err)
	}
	f.Template = &next
	if own.Payload != nil {
		f.Payload, f.PlainPayload, err = asJSON(Payload(b, own.Payload, events))
	}
	return err
}
