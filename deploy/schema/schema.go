// Package schema judges Kubernetes' own kinds as its API server would, and fills in what a manifest leaves out: the fields and their types by
// the Go types of k8s.io/api, everything else by the rules and defaults that Kubernetes itself is built with (k8s.io/kubernetes/pkg/apis), so that
// what is refused, what is taken and what comes of it are the same here and there.
//
// OpenAPI documents would say less (Kubernetes' own have no rule that concerns two fields, such as a selector and its labels) and cost
// more: those of one version are 5 MB to read, where these rules are functions that nothing has to be read for.
//
// It is pure, and safe for any manifest: what is outside of a type's fields is not descended into.
package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/capabilities"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/failure"
)

const (
	// maxSize is the most bytes of an object: what etcd takes of Kubernetes.
	maxSize = 3 << 19
	// maxProblems is how many problems of one object are named.
	maxProblems = 20
)

// Checker judges objects. It keeps what it has learned of their types; it is for one goroutine.
type Checker struct {
	shapes shapes
}

// Check says what keeps an object from being taken, each with the path of its field; all of it is fatal. A kind that Kubernetes has not got itself
// is judged by its metadata alone. An object that has generateName needs no name. It is false for an object that nobody may decode, since values of it are of
// other types than its fields.
func (c *Checker) Check(o *unstructured.Unstructured) ([]deploy.Problem, bool) {
	r := c.judge(o, nil)
	return r.problems, !r.unreadable
}

// CheckChange says what keeps an object from taking the place of an old one, such as another selector of a Deployment.
func (c *Checker) CheckChange(o, old *unstructured.Unstructured) []deploy.Problem {
	return c.judge(o, old).problems
}

func (c *Checker) judge(o, old *unstructured.Unstructured) *report {
	r := &report{key: deploy.KeyOf(o)}
	gvk := o.GroupVersionKind()
	k, known := kindOf(gvk)
	if !known {
		if message := unserved(gvk); message != "" {
			r.add("apiVersion", message)
		} else {
			c.metadata(r, o)
		}
		return r
	}
	c.shapes.object(r, k.made(), o.Object)
	if r.unreadable {
		return r
	}
	now, err := k.read(o)
	if err != nil {
		r.unreadable = true
		r.add("", err.Error())
		return r
	}
	var before any
	if old != nil {
		if before, err = k.read(old); err != nil { // it is there and cannot be read: then it cannot be compared either
			before = nil
		}
	}
	settle(now, before)
	// Kubernetes asks its operator whether pods may be privileged. Here that is answered by the policy of the door (access/podpolicy).
	capabilities.Setup(true, 0)
	list, err := k.judge(now, before)
	if err != nil {
		r.add("", err.Error())
	}
	for _, e := range list {
		r.field(e)
	}
	return r
}

// read decodes an object and completes it.
func (k kind) read(o *unstructured.Unstructured) (any, error) {
	raw, err := json.Marshal(o.Object)
	if err != nil {
		return nil, failure.Invalidf("write the object: %v", err)
	}
	if len(raw) > maxSize {
		return nil, failure.Invalidf("the object has %d bytes, more than the %d that Kubernetes keeps: split it", len(raw), maxSize)
	}
	made := k.made()
	if err := json.Unmarshal(raw, made); err != nil {
		return nil, failure.Invalidf("read the object: %v", err)
	}
	if m, ok := made.(metav1.Object); ok {
		k.named(m)
	}
	k.complete(made)
	return made, nil
}

// settle gives an object what the server keeps of the old one, whatever the new one says.
func settle(now, old any) {
	n, ok1 := now.(metav1.Object)
	o, ok2 := old.(metav1.Object)
	if !ok1 || !ok2 {
		return
	}
	if o.GetResourceVersion() == "" {
		o.SetResourceVersion("1")
	}
	n.SetResourceVersion(o.GetResourceVersion())
	n.SetUID(o.GetUID())
	n.SetCreationTimestamp(o.GetCreationTimestamp())
	n.SetDeletionTimestamp(o.GetDeletionTimestamp())
	n.SetDeletionGracePeriodSeconds(o.GetDeletionGracePeriodSeconds())
	n.SetGeneration(o.GetGeneration())
	n.SetName(o.GetName())
	n.SetNamespace(o.GetNamespace())
}

// suffix is as long as what the server puts behind a generateName.
const suffix = "xxxxx"

// named gives an object what it has on the server, whatever its manifest says.
func (k kind) named(m metav1.Object) {
	if base := m.GetGenerateName(); m.GetName() == "" && base != "" {
		m.SetName(base[:min(len(base), validation.DNS1123LabelMaxLength-len(suffix))] + suffix)
	}
	switch {
	case k.clustered:
		m.SetNamespace("")
	case m.GetNamespace() == "": // it comes from the Application
		m.SetNamespace("default")
	}
}

// report collects the problems of one object.
type report struct {
	key      deploy.Key
	problems []deploy.Problem
	more     int
	// unreadable says that a value has the wrong type, so that the object cannot be decoded.
	unreadable bool
}

func (r *report) add(path, message string) {
	if len(r.problems) >= maxProblems {
		r.more++
		last := &r.problems[len(r.problems)-1]
		last.Message, _, _ = strings.Cut(last.Message, " (and ")
		last.Message += fmt.Sprintf(" (and %d more)", r.more)
		return
	}
	r.problems = append(r.problems, deploy.Problem{Key: r.key, Path: path, Message: message, Fatal: true})
}

// maxShown is how many characters of a value, and of a rule's text, are shown.
const maxShown = 200

// field adds what a rule of Kubernetes found.
func (r *report) field(e *field.Error) {
	detail, _, cut := strings.Cut(e.Detail, ", regex used for validation")
	if cut && strings.Contains(detail, "(") {
		detail += ")"
	}
	detail = shorten(detail)
	value := ""
	if text, shown := r.shown(e.BadValue); shown {
		value = text + " "
	}
	said := func(text string) string {
		if detail == "" {
			return text
		}
		return text + ": " + detail
	}
	path := shorten(e.Field)
	switch e.Type {
	case field.ErrorTypeRequired:
		r.add(path, said("is required"))
	case field.ErrorTypeDuplicate:
		r.add(path, said(value+"is there more than once"))
	case field.ErrorTypeNotSupported:
		r.add(path, said(value+"is not allowed"))
	case field.ErrorTypeForbidden:
		r.add(path, said("is not allowed here"))
	case field.ErrorTypeNotFound:
		r.add(path, said(value+"is not there"))
	case field.ErrorTypeTooLong, field.ErrorTypeTooMany:
		r.add(path, said("is too long"))
	default:
		r.add(path, said(value+"is not valid"))
	}
}

// shown is a value as a message has it: a short one, and none of a Secret.
func (r *report) shown(value any) (string, bool) {
	if r.key.Kind == "Secret" && r.key.Group == "" {
		return "", false
	}
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.String:
		return fmt.Sprintf("%.80q", v.String()), true
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Bool:
		return fmt.Sprint(v), true
	}
	return "", false
}

func shorten(text string) string { return failure.Clip(text, maxShown) }
