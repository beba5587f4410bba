package definitions

import (
	"context"
	"fmt"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// State is how a controller sees a definition.
type State int

// The states. The zero value is the one that holds everything as it is, so that nothing is destroyed by forgetting to set it.
const (
	// Unreadable: it is declared, and what was declared cannot be decoded. What there is of it stays as it is.
	Unreadable State = iota
	// Present: it is declared and decoded.
	Present
	// Absent: it was never declared, or a definition.deleted entry took it away. What there is of it may go.
	Absent
)

// String names the state.
func (s State) String() string {
	switch s {
	case Present:
		return "present"
	case Absent:
		return "absent"
	}
	return "unreadable"
}

// Reader is what controllers see of the definitions. [Store] is one. The functions [Find] and [All] decode what it gives.
type Reader interface {
	// Look gives one definition and its state. The error is one of reading at all, and says nothing about the definition.
	Look(ctx context.Context, kind, namespace, name string) (Definition, State, error)
	// List gives every definition of a kind, in all namespaces if namespace is empty, those that cannot be read among them. That
	// one is not in the list is no proof that somebody deleted it: Look tells.
	List(ctx context.Context, kind, namespace string) ([]Definition, error)
	// Changes gives what was declared and deleted after a sequence of the ledger, oldest first and of the kinds that are named (all
	// if none is), and the sequence to ask after next.
	Changes(ctx context.Context, after int64, kinds ...string) ([]News, int64, error)
	// Await is Changes, and waits until there is something to tell or ctx ends.
	Await(ctx context.Context, after int64, kinds ...string) ([]News, int64, error)
}

// Seen is a definition of one kind as a controller sees it.
type Seen[T manifest.Declared] struct {
	Definition
	State State
	// Value is the decoded object where the state is Present, with the namespace and name of the definition. It must not be changed:
	// others have it too.
	Value T
	// Problem says why it is unreadable, with the place and what to do: an error of kind [failure.Stalled].
	Problem error
}

// Find gives one definition, decoded. The error is one of reading at all; then nothing is known about the definition.
func Find[T manifest.Declared](ctx context.Context, r Reader, namespace, name string) (Seen[T], error) {
	d, state, err := r.Look(ctx, manifest.KindName[T](), namespace, name)
	if err != nil || state == Absent {
		return Seen[T]{Definition: d, State: state}, err
	}
	return Decode[T](d), nil
}

// All gives every definition of a kind, decoded, in all namespaces if namespace is empty. One that cannot be read is among them
// as such, and concerns no other.
func All[T manifest.Declared](ctx context.Context, r Reader, namespace string) ([]Seen[T], error) {
	list, err := r.List(ctx, manifest.KindName[T](), namespace)
	if err != nil {
		return nil, err
	}
	seen := make([]Seen[T], len(list))
	for i, d := range list {
		seen[i] = Decode[T](d)
	}
	return seen, nil
}

// Decode decodes a definition that is declared, or was.
func Decode[T manifest.Declared](d Definition) Seen[T] {
	if d.unread != nil {
		return Seen[T]{Definition: d, Problem: unreadable(d, manifest.Diagnostic{Message: d.unread.Error()})}
	}
	return d.memo.get(func() any { return decode[T](d) }).(Seen[T]) //nolint:forcetypeassert // a definition's kind has one type
}

func decode[T manifest.Declared](d Definition) Seen[T] {
	seen := Seen[T]{Definition: d}
	o, diagnostics := object(d)
	if len(diagnostics) == 0 {
		var t manifest.Typed[T]
		t, diagnostics = manifest.Read[T](o)
		seen.Value = t.Value
	}
	if errs := errorsOf(diagnostics); len(errs) > 0 {
		return Seen[T]{Definition: d, Problem: unreadable(d, errs...)}
	}
	if meta, ok := any(&seen.Value).(metav1.Object); ok {
		meta.SetNamespace(d.Namespace)
		meta.SetName(d.Name)
	}
	seen.State = Present
	return seen
}

// object reads a definition's manifest back; the diagnostics say why it cannot be read.
func object(d Definition) (manifest.Object, []manifest.Diagnostic) {
	objects, diagnostics := manifest.Decode(d.Key(), d.Object)
	if errs := errorsOf(diagnostics); len(errs) > 0 {
		return manifest.Object{}, errs
	}
	if len(objects) != 1 {
		return manifest.Object{}, []manifest.Diagnostic{{Severity: manifest.SeverityError, Message: "it is not one object"}}
	}
	return objects[0], nil
}

func errorsOf(diagnostics []manifest.Diagnostic) []manifest.Diagnostic {
	var errs []manifest.Diagnostic
	for _, d := range diagnostics {
		if d.Severity == manifest.SeverityError {
			errs = append(errs, d)
		}
	}
	return errs
}

// unreadable is the error of a definition that cannot be read. The place is that of its manifest as it was declared: the
// ledger keeps its content in another form, with other lines.
func unreadable(d Definition, diagnostics ...manifest.Diagnostic) error {
	places := make([]failure.Place, len(diagnostics))
	said := make([]string, len(diagnostics))
	for i, diag := range diagnostics {
		said[i] = diag.Message
		places[i] = failure.Place{
			File: d.Position.File, Line: d.Position.Line, Column: d.Position.Column, Path: diag.Path, Problem: diag.Message, Hint: diag.Hint,
		}
	}
	text := fmt.Sprintf("%s cannot be read: %s", d.Key(), strings.Join(said, "; "))
	if at := d.Position.String(); at != "" {
		text += " (declared at " + at + ")"
	}
	return failure.WithHint(failure.Errorf(failure.Stalled, "%s%w", text, quiet{failure.InvalidAt(places...)}),
		"what there is of it stays as it is: declare it again as it should be, or delete it")
}

// quiet keeps an error's places and not its text, which the error around it says in other words.
type quiet struct{ error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.error }

// Condition is what is shown of a definition beside its manifest, in the shape of Kubernetes' conditions.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Message string `json:"message"`
	// Hint says what to do.
	Hint string `json:"hint,omitempty"`
}

// ConditionUnreadable is the type of the condition of a definition that cannot be read.
const ConditionUnreadable = "Unreadable"

// Conditions are what is to be said about a definition; none if it is as it should be.
func (d Definition) Conditions() []Condition {
	var diagnostics []manifest.Diagnostic
	if d.unread != nil {
		diagnostics = []manifest.Diagnostic{{Message: d.unread.Error()}}
	} else if o, found := object(d); len(found) > 0 {
		diagnostics = found
	} else {
		diagnostics = manifest.Readable(o)
	}
	if len(diagnostics) == 0 {
		return nil
	}
	err := unreadable(d, diagnostics...)
	return []Condition{{Type: ConditionUnreadable, Status: "True", Message: err.Error(), Hint: failure.HintOf(err)}}
}

// memo is a definition's decoded form, made once.
type memo struct {
	seq  int64
	once sync.Once
	made any
}

// get makes the decoded form, or gives the one that was made; nil makes it each time.
func (m *memo) get(decode func() any) any {
	if m == nil {
		return decode()
	}
	m.once.Do(func() { m.made = decode() })
	return m.made
}
