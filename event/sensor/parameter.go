package sensor

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
)

// Value is a parameter after its source was looked up.
type Value struct {
	Dest      string `json:"dest"`
	Operation string `json:"operation,omitempty"`
	Text      string `json:"text"`
	// Raw says that Text is JSON to be put in as it is; otherwise it is a string.
	Raw bool `json:"raw,omitempty"`
	// Own says that Text is the sensor's own, and not of an event.
	Own bool `json:"own,omitempty"`
}

// envelope is the context of an event as parameters see it.
func envelope(e event.Event) map[string]any {
	m := map[string]any{"id": e.ID, "source": e.Source, "specversion": "1.0", "type": e.Type,
		"datacontenttype": contentType, "subject": e.Subject}
	if !e.Time.IsZero() {
		m["time"] = e.Time.UTC().Format(time.RFC3339)
	}
	return m
}

// Resolve looks up one parameter's source (argo-events 1.9, sensors/triggers/params.go): data before context, a
// template before a key, a template that fails or gives nothing falls back to the key, then to the value; with
// nothing selected the whole event. ok is false where the dependency has no event here and there is no value: the
// parameter is then left out. What it makes is taken from the budget.
func Resolve(b *budget.Budget, src manifest.ParameterSource, events map[string]event.Event) (v Value, ok bool, err error) {
	e, have := events[src.DependencyName]
	if !have {
		if src.Value == nil {
			return Value{}, false, nil
		}
		return Value{Text: *src.Value, Own: true}, true, nil
	}
	var why error
	for _, from := range []struct {
		template, key string
		tree          func() (json.RawMessage, error)
	}{
		{src.DataTemplate, src.DataKey, func() (json.RawMessage, error) { return e.Data, nil }},
		{src.ContextTemplate, src.ContextKey, func() (json.RawMessage, error) { return json.Marshal(envelope(e)) }},
	} {
		if from.template == "" && from.key == "" {
			continue
		}
		tree, err := from.tree()
		if err == nil && len(tree) == 0 {
			err = errors.New("the event has no data")
		}
		if err != nil {
			why = err
			continue
		}
		text, raw, err := lookup(b, from.template, from.key, tree, src.UseRawData, e.Time)
		if err == nil {
			return Value{Text: text, Raw: raw}, true, nil
		}
		if spent := b.Spent(); spent != nil {
			return Value{}, false, fmt.Errorf("parameter from dependency %q: %w", src.DependencyName, spent)
		}
		why = err
	}
	switch {
	case src.Value != nil:
		return Value{Text: *src.Value, Own: true}, true, nil
	case why != nil:
		return Value{}, false, fmt.Errorf("parameter from dependency %q: %w", src.DependencyName, why)
	}
	if err := b.Take(2 * int64(len(e.Data))); err != nil {
		return Value{}, false, fmt.Errorf("parameter from dependency %q: %w", src.DependencyName, err)
	}
	whole, err := json.Marshal(map[string]any{"context": envelope(e), "data": base64.StdEncoding.EncodeToString(e.Data)})
	if err != nil {
		return Value{}, false, fmt.Errorf("parameter from dependency %q: %w", src.DependencyName, err)
	}
	return Value{Text: string(whole), Raw: src.UseRawData}, true, nil
}

func lookup(b *budget.Budget, template, key string, tree json.RawMessage, wantRaw bool, now time.Time) (text string, raw bool, err error) {
	if err := b.Step(int64(len(tree))); err != nil {
		return "", false, err
	}
	if template != "" {
		var input any
		if err := json.Unmarshal(tree, &input); err != nil {
			return "", false, err
		}
		if text, err = render(b, template, input, now); err == nil {
			return text, false, nil
		}
		if key == "" {
			return "", false, err
		}
	}
	if err := checkPath(key); err != nil {
		return "", false, err
	}
	r := gjson.GetBytes(tree, key)
	if !r.Exists() {
		return "", false, fmt.Errorf("path %.200q does not exist", key)
	}
	if err := b.Take(int64(len(r.Raw))); err != nil {
		return "", false, err
	}
	if wantRaw && r.Type != gjson.String {
		return r.Raw, true, nil
	}
	return r.String(), false, nil
}

// ResolveAll looks up a list of parameters; those whose dependency has no event here are left out.
func ResolveAll(b *budget.Budget, parameters []manifest.TriggerParameter, events map[string]event.Event) ([]Value, error) {
	var values []Value
	for _, p := range parameters {
		if p.Src == nil {
			return nil, fmt.Errorf("parameter for %q has no source", p.Dest)
		}
		v, ok, err := Resolve(b, *p.Src, events)
		if err != nil {
			return nil, err
		}
		if ok {
			v.Dest, v.Operation = p.Dest, p.Operation
			values = append(values, v)
		}
	}
	return values, nil
}

// Apply puts values into a JSON document at their sjson paths. Given marks what in it came from events, in the texts that hold
// something like a tag: that must stay a text.
func Apply(b *budget.Budget, target []byte, values []Value) (result []byte, given []manifest.Given, err error) {
	return new(givens).apply(b, target, values)
}

// apply puts one value in; kept is what it was appended to or put before, nil for nothing.
func apply(b *budget.Budget, target []byte, v Value) (result []byte, kept *string, err error) {
	size := int64(len(target) + len(v.Text))
	if err := b.Step(size + size*int64(strings.Count(v.Dest, ".")/8)); err != nil {
		return nil, nil, fmt.Errorf("apply parameter to %.200s: %w", v.Dest, err)
	}
	if err := checkDestination(v.Dest); err != nil {
		return nil, nil, fmt.Errorf("apply parameter: %w", err)
	}
	current := gjson.GetBytes(target, v.Dest)
	raw, text := v.Raw, v.Text
	switch {
	case v.Dest == "":
		return nil, nil, errors.New("apply parameter: it has no destination")
	case !current.Exists() || v.Operation == "" || v.Operation == "overwrite":
	case v.Operation == "append":
		old := current.String()
		kept, text, raw = &old, old+text, false
	case v.Operation == "prepend":
		old := current.String()
		kept, text, raw = &old, text+old, false
	default:
		return nil, nil, fmt.Errorf("apply parameter to %.200s: unknown operation %q", v.Dest, v.Operation)
	}
	if raw {
		target, err = sjson.SetRawBytes(target, v.Dest, []byte(text))
	} else {
		target, err = sjson.SetBytes(target, v.Dest, text)
	}
	if err == nil && len(target) > 16*maxOutput {
		err = errTooLarge
	}
	if err != nil {
		return nil, nil, fmt.Errorf("apply parameter to %.200s: %w", v.Dest, err)
	}
	return target, kept, nil
}

// ApplyParameters is [ResolveAll] and [Apply].
func ApplyParameters(b *budget.Budget, target []byte, parameters []manifest.TriggerParameter, events map[string]event.Event) ([]byte, []manifest.Given, error) {
	values, err := ResolveAll(b, parameters, events)
	if err != nil {
		return nil, nil, err
	}
	return Apply(b, target, values)
}

// Payload builds a body from parameters. One without destination is the body itself.
func Payload(b *budget.Budget, parameters []manifest.TriggerParameter, events map[string]event.Event) ([]byte, error) {
	values, err := ResolveAll(b, parameters, events)
	if err != nil {
		return nil, fmt.Errorf("build payload: %w", err)
	}
	body := []byte("{}")
	for _, v := range values {
		if v.Dest == "" {
			body = []byte(v.Text)
			continue
		}
		if body, _, err = apply(b, body, v); err != nil {
			return nil, fmt.Errorf("build payload: %w", err)
		}
	}
	return body, nil
}
