package definitions

import (
	"context"
	"fmt"
	"slices"

	"github.com/tiphys/tiphys/manifest"
)

// ConditionUndeclared is the type of the condition of a Sensor that listens to what nobody declares.
const ConditionUndeclared = "Undeclared"

// Conditions are what is to be said about a definition among the others; none if it is as it should be.
func (s *Store) Conditions(ctx context.Context, d Definition) ([]Condition, error) {
	found := d.Conditions()
	if d.Kind != "Sensor" || len(found) > 0 {
		return found, nil
	}
	o, diags := object(d)
	if manifest.Failed(diags) {
		return found, nil
	}
	unheard, err := s.listening(ctx, []manifest.Object{o})
	if err != nil {
		return nil, err
	}
	for _, u := range unheard {
		found = append(found, Condition{Type: ConditionUndeclared, Status: "True", Message: u.Path + ": " + u.Message, Hint: u.Hint})
	}
	return found, nil
}

// listening warns of what Sensors listen to that nobody declares: it may come later, and until then they decide on nothing. The objects are declared
// together.
func (s *Store) listening(ctx context.Context, objects []manifest.Object) ([]manifest.Diagnostic, error) {
	together := map[string]manifest.EventSourceSpec{}
	for _, o := range objects {
		if o.Kind == "EventSource" {
			read, _ := manifest.Read[manifest.EventSource](o) // what is wrong with it is said by the rules
			together[define(o, "").Key()] = read.Value.Spec
		}
	}
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
			missing, field, err := s.missing(ctx, define(o, "").Namespace, d, together)
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
func (s *Store) missing(ctx context.Context, namespace string, d manifest.EventDependency, together map[string]manifest.EventSourceSpec) (text, field string, err error) {
	spec, ok := together[key("EventSource", namespace, d.EventSourceName)]
	if !ok {
		source, err := Find[manifest.EventSource](ctx, s, namespace, d.EventSourceName)
		switch {
		case err != nil:
			return "", "", err
		case source.State == Absent:
			return fmt.Sprintf("no EventSource %q is declared in namespace %q", d.EventSourceName, namespace), "eventSourceName", nil
		case source.State == Unreadable:
			return "", "", nil // which is shown where it is
		}
		spec = source.Value.Spec
	}
	for _, names := range spec.Names() {
		if slices.Contains(names, d.EventName) {
			return "", "", nil
		}
	}
	return fmt.Sprintf("EventSource %q has no event %q", d.EventSourceName, d.EventName), "eventName", nil
}
