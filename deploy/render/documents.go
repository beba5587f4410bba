package render

import (
	"bytes"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/manifest"
)

// yaml adds the documents of a file. One that holds something else than resources is passed over: Argo CD complains only
// if something was read before the fault, or if the text looks like that of a resource (reposerver/repository,
// getObjsFromYAMLOrJSON).
func (w *walker) yaml(name string, data []byte) {
	found, problems := manifest.Decode(name, data)
	fault := firstFault(problems)
	if fault != nil && !hasBefore(found, *fault) && !looksLikeResource(data) {
		w.passOver(*fault)
		return
	}
	w.problems = append(w.problems, problems...)
	w.addAll(found, fault)
}

// addAll adds what was decoded. What is no object is among the problems already, if there is a fault.
func (w *walker) addAll(found []manifest.Object, fault *manifest.Diagnostic) {
	for _, m := range found {
		o := &unstructured.Unstructured{}
		err := o.UnmarshalJSON(m.Tree.JSON())
		switch {
		case err == nil:
			w.add(m.Position, o)
		case fault == nil:
			w.fail(m.Position, "", err.Error())
		}
	}
}

// json adds the one object of a file. An object of another kind, a package.json say, is passed over.
func (w *walker) json(name string, data []byte) {
	decoder := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	var raw json.RawMessage
	at := manifest.Position{File: name}
	if err := decoder.Decode(&raw); err != nil {
		w.fail(at, "", fmt.Sprintf("it is no JSON: %v", err))
		return
	}
	if decoder.More() {
		w.fail(at, "", "it holds more than one object; a JSON file holds one, or a List")
		return
	}
	found, problems := manifest.Decode(name, raw)
	fault := firstFault(problems)
	if fault != nil && len(raw) > 0 && raw[0] == '{' && !hasKind(raw) {
		w.passOver(*fault)
		return
	}
	w.problems = append(w.problems, problems...)
	w.addAll(found, fault)
}

// hasKind tells whether a JSON object says of what kind it is, which is all that makes it a resource.
func hasKind(raw []byte) bool {
	var o map[string]json.RawMessage
	return json.Unmarshal(raw, &o) == nil && o["kind"] != nil && string(o["kind"]) != `""` && string(o["kind"]) != "null"
}

func firstFault(problems []manifest.Diagnostic) *manifest.Diagnostic {
	for i, p := range problems {
		if p.Severity == manifest.SeverityError {
			return &problems[i]
		}
	}
	return nil
}

// hasBefore tells whether a whole resource was read before a fault.
func hasBefore(found []manifest.Object, fault manifest.Diagnostic) bool {
	for _, o := range found {
		if o.Kind != "" && (fault.Position.Line == 0 || o.Position.Line < fault.Position.Line) {
			return true
		}
	}
	return false
}

func looksLikeResource(data []byte) bool {
	for _, word := range []string{"apiVersion:", "kind:", "metadata:"} {
		if !bytes.Contains(data, []byte(word)) {
			return false
		}
	}
	return true
}

func (w *walker) passOver(fault manifest.Diagnostic) {
	fault.Severity = manifest.SeverityWarning
	fault.Message = "the file is no resource and is passed over: " + fault.Message
	fault.Path, fault.Hint = "", ""
	w.problems = append(w.problems, fault)
}

func (w *walker) fail(at manifest.Position, field, message string) {
	w.problems = append(w.problems, manifest.Diagnostic{Position: at, Severity: manifest.SeverityError, Path: field, Message: message})
}

// add adds an object, or what a list of any kind holds: what has "items" is one, and one without items holds nothing.
func (w *walker) add(at manifest.Position, o *unstructured.Unstructured) {
	if items, has := o.Object["items"]; has && items == nil && o.Object["spec"] == nil && o.Object["status"] == nil {
		return
	}
	if items, is := o.Object["items"].([]any); is {
		for i, item := range items {
			fields, ok := item.(map[string]any)
			one := &unstructured.Unstructured{Object: fields}
			if !ok || one.GetKind() == "" || one.GetAPIVersion() == "" {
				w.fail(at, manifest.IndexPath("items", i), fmt.Sprintf("an item of %s is no resource: it needs apiVersion and kind", o.GetKind()))
				continue
			}
			w.add(at, one)
		}
		return
	}
	if o.GetName() == "" && o.GetGenerateName() == "" {
		w.fail(at, "metadata.name", o.GetKind()+" has no metadata.name")
		return
	}
	w.objects = append(w.objects, o)
}
