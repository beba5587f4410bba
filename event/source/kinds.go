package source

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/manifest"
)

// Kinds are the kinds of event sources that there are, by name. Their zero value has none.
type Kinds struct {
	byName map[string]Kind
}

// NewKinds makes a registry. Two kinds of one name, and one that no EventSource has a place for, are errors.
func NewKinds(kinds ...Kind) (Kinds, error) {
	k := Kinds{byName: map[string]Kind{}}
	known := typesOfSpec()
	for _, kind := range kinds {
		name := kind.Name()
		if k.byName[name] != nil {
			return Kinds{}, fmt.Errorf("event source type %q is registered twice", name)
		}
		if !slices.Contains(known, name) {
			return Kinds{}, fmt.Errorf("event source type %q is no field of an EventSource's spec", name)
		}
		k.byName[name] = kind
	}
	return k, nil
}

// typesOfSpec are the fields of an EventSource's spec that hold events.
func typesOfSpec() []string {
	var names []string
	for f := range reflect.TypeFor[manifest.EventSourceSpec]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Type.Kind() == reflect.Map && name != "service" && name != "template" {
			names = append(names, name)
		}
	}
	return names
}

// Limits says by Go type what of an EventSource has no effect, and which types of sources are refused. docs/compatibility.md is
// compared with it.
func (k Kinds) Limits() map[string]manifest.Limit {
	limits := map[string]manifest.Limit{
		"EventSource": {NoEffect: []string{"status"}},
	}
	spec := manifest.Limit{NoEffect: []string{"eventBusName", "replicas", "service", "template"}}
	for _, name := range typesOfSpec() {
		kind := k.byName[name]
		if kind == nil {
			spec.Refused = append(spec.Refused, name)
			continue
		}
		maps.Copy(limits, kind.Limits())
	}
	limits["EventSourceSpec"] = spec
	return limits
}

func refusal(kind string) (message, hint string) {
	return fmt.Sprintf("event source type %q is understood but not run by this version", kind), "send its events to a webhook source instead"
}

// Check lists what of an EventSource this program does not do, at its place: errors for what is refused, among it filters and
// calendars that cannot be read, and warnings for what has no effect. What does not decode is left to whoever decodes it.
func (k Kinds) Check(o manifest.Object) []manifest.Diagnostic {
	var tree any
	read, diagnostics := manifest.Read[manifest.EventSource](o)
	if err := json.Unmarshal(o.Tree.JSON(), &tree); err != nil || manifest.Failed(diagnostics) {
		return nil
	}
	es := read.Value
	es.Namespace, es.Name = o.Namespace, o.Name
	found := manifest.Support{Types: k.Limits(), Refuse: refusal}.Find(reflect.TypeFor[manifest.EventSource](), tree)
	// What decoding says, or the list, is not said again.
	known := map[string]bool{}
	for _, d := range append(manifest.ValidateEventSource(&es), found...) {
		known[d.Message] = true
	}
	for _, e := range k.Events(&es) {
		for _, d := range e.Check() {
			if !known[d.Message] {
				found = append(found, d)
			}
		}
	}
	return manifest.Locate(o.Tree, found)
}

// Event is one event of an EventSource with its kind.
type Event struct {
	Definition
	// Type is the key under spec; Kind is nil if it is not run by this version.
	Type string
	Kind Kind
}

// Key names the event among all.
func (e Event) Key() string { return e.Namespace + "/" + e.Source + "/" + e.Event }

// Check is the kind's, or the refusal of a type that is not run.
func (e Event) Check() []manifest.Diagnostic {
	if e.Kind == nil {
		message, hint := refusal(e.Type)
		return []manifest.Diagnostic{{Severity: manifest.SeverityError, Path: e.Path(e.Type), Message: message, Hint: hint}}
	}
	return e.Kind.Check(e.Definition)
}

// Content is what the event is made of, as JSON: two events with the same content work alike.
func (e Event) Content() ([]byte, error) {
	part := reflect.ValueOf(e.Spec).Elem()
	for i := range part.NumField() {
		name, _, _ := strings.Cut(part.Type().Field(i).Tag.Get("json"), ",")
		if name == e.Type && part.Field(i).Kind() == reflect.Map {
			content, err := json.Marshal([]any{e.Type, e.Key(), part.Field(i).MapIndex(reflect.ValueOf(e.Event)).Interface()})
			if err != nil {
				return nil, fmt.Errorf("read event %s: %w", e.Key(), err)
			}
			return content, nil
		}
	}
	return nil, fmt.Errorf("read event %s: there is no event source type %q", e.Key(), e.Type)
}

// Events are the events of an EventSource, in the order of their names.
func (k Kinds) Events(es *manifest.EventSource) []Event {
	var events []Event
	for kind, names := range es.Spec.Names() {
		for _, name := range names {
			d := Definition{Namespace: es.Namespace, Source: es.Name, Event: name, Spec: &es.Spec}
			if d.Namespace == "" {
				d.Namespace = "default"
			}
			events = append(events, Event{Definition: d, Type: kind, Kind: k.byName[kind]})
		}
	}
	slices.SortFunc(events, func(a, b Event) int { return strings.Compare(a.Event+"\x00"+a.Type, b.Event+"\x00"+b.Type) })
	return events
}
