package definitions

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiphys/tiphys/manifest"
)

// listening warns of what Sensors listen to that nobody declares: it may come later, and until then they decide on nothing. defs are declared together
// with them.
func (s *Store) listening(ctx context.Context, objects []manifest.Object, defs map[string]Definition) ([]manifest.Diagnostic, error) {
	var found []manifest.Diagnostic
	for _, o := range objects {
		if o.Kind != "Sensor" {
			continue
		}
		def, diags := manifest.Read[manifest.Sensor](o)
		if manifest.Failed(diags) {
			continue
		}
		var own []manifest.Diagnostic
		for i, d := range def.Value.Spec.Dependencies {
			path := manifest.IndexPath("spec.dependencies", i)
			missing, field, err := s.missing(ctx, define(o, "").Namespace, d, defs)
			if err != nil {
				return nil, err
			}
			if missing != "" {
				own = append(own, manifest.Diagnostic{Severity: manifest.SeverityWarning, Path: path + "." + field, Message: missing, Hint: "nothing fires until it is declared"})
			}
		}
		found = append(found, manifest.Locate(o.Tree, own)...)
	}
	return found, nil
}

// missing says what of a dependency is not declared, and in which field it is named; empty if all is.
func (s *Store) missing(ctx context.Context, namespace string, d manifest.EventDependency, defs map[string]Definition) (text, field string, err error) {
	source, ok := defs[key("EventSource", namespace, d.EventSourceName)]
	if !ok {
		var state State
		if source, state, err = s.Look(ctx, "EventSource", namespace, d.EventSourceName); err != nil {
			return "", "", err
		}
		if state == Absent {
			return fmt.Sprintf("no EventSource %q is declared in namespace %q", d.EventSourceName, namespace), "eventSourceName", nil
		}
		if state == Unreadable {
			return "", "", nil // which is shown where it is
		}
	}
	var es struct {
		Spec map[string]json.RawMessage `json:"spec"`
	}
	if json.Unmarshal(source.Object, &es) != nil {
		return "", "", nil //nolint:nilerr // what is wrong with it is said where it is declared
	}
	var names []string
	for _, part := range es.Spec {
		var events map[string]json.RawMessage
		if json.Unmarshal(part, &events) != nil {
			continue
		}
		for name := range events {
			names = append(names, name)
		}
	}
	if slices.Contains(names, d.EventName) {
		return "", "", nil
	}
	return fmt.Sprintf("EventSource %q has no event %q", d.EventSourceName, d.EventName), "eventName", nil
}
