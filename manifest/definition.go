package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
)

// Declared are the types of what is declared and kept, one for each kind but ClusterWorkflowTemplate, which has
// WorkflowTemplate's.
type Declared interface {
	WorkflowTemplate | CronWorkflow | EventSource | Sensor | Application | ApplicationSet | AppProject | Forge | SecretGrant |
		corev1.ConfigMap | corev1.Secret | corev1.PersistentVolumeClaim
}

// Typed is a declared object with its decoded value.
type Typed[T any] struct {
	// Object has the envelope and the tree with every field's place.
	Object Object
	// Value must not be changed: others have it too.
	Value T
	// Digest is that of [Object.Digest].
	Digest string
}

// Digest is "sha256:" and hex over the object's JSON: the same for the same content, however it was written.
func (o Object) Digest() string {
	sum := sha256.Sum256(o.Tree.JSON())
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Read decodes a declared object. It is the one decoder of its kind: what the server takes and what its controllers later
// read of the ledger go through it, so that both see the same value, or both see the same error.
//
// A value of the wrong type is an error. Text with a tag ("{{x}}") is of the wrong type where a number, a boolean, a list or
// a map is wanted; only within a workflow's spec it is passed over, because there tags are replaced before anything is used.
// Where a tag may stand in a trigger's resource or an ApplicationSet's template the field is kept as it came. Unknown
// fields are warnings, as Kubernetes prunes them. Read does not judge what the values mean: see [Check].
func Read[T Declared](o Object) (Typed[T], []Diagnostic) {
	t := Typed[T]{Object: o}
	if want := KindName[T](); o.Kind != want && (o.Kind != "ClusterWorkflowTemplate" || want != "WorkflowTemplate") {
		return t, []Diagnostic{{Position: o.Position, Severity: SeverityError, Path: "kind", Message: fmt.Sprintf("expected a %s, got kind %q", want, o.Kind)}}
	}
	diagnostics := o.IntoWith(&t.Value, DecodeOptions{Hidden: o.Kind == "Secret"})
	t.Digest = o.Digest()
	return t, diagnostics
}

// ReadJSON is [Read] of one object's JSON as definitions keep it; name says in the error what it is. The error is the first that
// Read finds.
func ReadJSON[T Declared](name string, raw []byte) (Typed[T], error) {
	objects, diagnostics := Decode(name, raw)
	if err := FirstError(diagnostics); err != nil {
		return Typed[T]{}, err
	}
	if len(objects) != 1 {
		return Typed[T]{}, fmt.Errorf("%s: expected one object, got %d", name, len(objects))
	}
	t, diagnostics := Read[T](objects[0])
	return t, FirstError(diagnostics)
}

// KindName is a type's kind, as manifests name it.
func KindName[T Declared]() string { return reflect.TypeFor[T]().Name() }

// Check decodes an object of any kind that can be declared, with [Read], and judges its values as far as this package knows
// what they mean. The diagnostics have positions. known is false for another kind.
func Check(o Object) (diagnostics []Diagnostic, known bool) {
	switch o.Kind {
	case "WorkflowTemplate", "ClusterWorkflowTemplate":
		return problems(Read[WorkflowTemplate](o)), true
	case "CronWorkflow":
		return problems(Read[CronWorkflow](o)), true
	case "EventSource":
		_, diagnostics = LoadEventSource(o)
	case "Sensor":
		_, diagnostics = LoadSensor(o)
	case "Application":
		t, found := Read[Application](o)
		diagnostics = append(found, Locate(o.Tree, t.Value.Validate())...)
	case "ApplicationSet":
		t, found := Read[ApplicationSet](o)
		diagnostics = append(found, Locate(o.Tree, t.Value.Validate())...)
	case "AppProject":
		t, found := Read[AppProject](o)
		diagnostics = append(found, Locate(o.Tree, t.Value.Validate())...)
	case "Forge":
		t, found := Read[Forge](o)
		diagnostics = append(found, Locate(o.Tree, t.Value.Validate())...)
	case "SecretGrant":
		t, found := Read[SecretGrant](o)
		diagnostics = append(found, Locate(o.Tree, t.Value.Validate())...)
	case "ConfigMap":
		return problems(Read[corev1.ConfigMap](o)), true
	case "Secret":
		return problems(Read[corev1.Secret](o)), true
	case "PersistentVolumeClaim":
		return problems(Read[corev1.PersistentVolumeClaim](o)), true
	default:
		return nil, false
	}
	return diagnostics, true
}

func problems[T any](_ Typed[T], diagnostics []Diagnostic) []Diagnostic { return diagnostics }

// Readable says why an object of any kind cannot be decoded: the errors of [Read]. Kinds that no controller reads are
// always readable.
func Readable(o Object) []Diagnostic {
	var diagnostics []Diagnostic
	switch o.Kind {
	case "WorkflowTemplate", "ClusterWorkflowTemplate":
		diagnostics = problems(Read[WorkflowTemplate](o))
	case "CronWorkflow":
		diagnostics = problems(Read[CronWorkflow](o))
	case "EventSource":
		diagnostics = problems(Read[EventSource](o))
	case "Sensor":
		diagnostics = problems(Read[Sensor](o))
	case "Application":
		diagnostics = problems(Read[Application](o))
	case "ApplicationSet":
		diagnostics = problems(Read[ApplicationSet](o))
	case "AppProject":
		diagnostics = problems(Read[AppProject](o))
	case "Forge":
		diagnostics = problems(Read[Forge](o))
	case "SecretGrant":
		diagnostics = problems(Read[SecretGrant](o))
	case "ConfigMap":
		diagnostics = problems(Read[corev1.ConfigMap](o))
	case "Secret":
		diagnostics = problems(Read[corev1.Secret](o))
	case "PersistentVolumeClaim":
		diagnostics = problems(Read[corev1.PersistentVolumeClaim](o))
	}
	return errorsOf(diagnostics)
}

func errorsOf(diagnostics []Diagnostic) []Diagnostic {
	var errs []Diagnostic
	for _, d := range diagnostics {
		if d.Severity == SeverityError {
			errs = append(errs, d)
		}
	}
	return errs
}
