package validate

import (
	"fmt"
	"slices"

	"github.com/tiphys/tiphys/manifest"
)

const maxName = 128

// fieldName says what is wrong with the name of a template, step or task; "" if nothing.
func fieldName(name string) string {
	if len(name) > maxName {
		return fmt.Sprintf("must be no more than %d characters", maxName)
	}
	for i := range len(name) {
		if c := name[i]; !(alphanumeric(c) || c == '-' && i > 0) {
			return "name must consist of alpha-numeric characters or '-', and must start with an alpha-numeric character (e.g. My-name1-2, 123-NAME)"
		}
	}
	return ""
}

// parameterName says what is wrong with the name of a parameter or artifact.
func parameterName(name string) string {
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && c != '-' && c != '_' {
			return "Parameter/Artifact name must consist of alpha-numeric characters, '_' or '-' e.g. my_param_1, MY-PARAM-1"
		}
	}
	return ""
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// uniqueNames checks the names of a list.
func (v *validator) uniqueNames(list *manifest.Tree, where string, fault func(string) string) {
	seen := map[string]bool{}
	for i, item := range list.Items() {
		name := item.Get("name")
		switch text := name.Text(); {
		case text == "":
			v.fail(item, where, "%s[%d].name is required", where, i)
		case isTagged(text):
		case fault(text) != "":
			v.fail(name, where, "%s[%d].name: '%s' is invalid: %s", where, i, text, fault(text))
		case seen[text]:
			v.fail(name, where, "%s[%d].name '%s' is not unique", where, i, text)
		default:
			seen[text] = true
		}
	}
}

func (v *validator) templateNames() {
	v.uniqueNames(v.tree.Get("templates"), "spec.templates", fieldName)
}

// specArguments checks what the run is given.
func (v *validator) specArguments() {
	at := v.tree.Get("arguments")
	v.uniqueNames(at.Get("parameters"), "spec.arguments.parameters", parameterName)
	v.uniqueNames(at.Get("artifacts"), "spec.arguments.artifacts", parameterName)
	for i, p := range v.spec.Arguments.Parameters {
		node := at.Get("parameters").Items()[i]
		where := "spec.arguments." + p.Name
		if len(p.Enum) == 0 && node.Get("enum") != nil {
			v.fail(node, where, "%s.enum should contain at least one value", where)
		}
		if p.Value == nil && p.ValueFrom == nil {
			if !v.lenient() {
				v.fail(node, where, "%s.value or %s.valueFrom is required", where, where)
			}
			continue
		}
		if p.Value != nil && len(p.Enum) > 0 && !slices.Contains(p.Enum, *p.Value) {
			v.fail(node, where, "%s.value should be present in %s.enum list", where, where)
		}
		if p.ValueFrom != nil && p.ValueFrom.ConfigMapKeyRef == nil && p.ValueFrom.Expression == "" && p.ValueFrom.Event == "" &&
			node.Lookup("valueFrom.supplied") == nil && p.ValueFrom.Default == nil {
			v.fail(node, where, "%s.valueFrom only valid types: configMapKeyRef, supplied, expression", where)
		}
	}
	for i, a := range v.spec.Arguments.Artifacts {
		if !hasLocation(a) && !v.lenient() && !a.Optional {
			v.fail(at.Get("artifacts").Items()[i], "spec.arguments", "spec.arguments.artifacts.%s from, artifact location, or key is required", a.Name)
		}
	}
}
