package manifest

import (
	"fmt"
	"strings"
)

// Bounds of names, as Kubernetes has them.
const (
	maxName      = 253
	maxNamespace = 63
)

// CheckName judges the name and the namespace of an object that is declared: they become parts of keys, paths, host names
// and labels. The rules are Kubernetes' (RFC 1123).
func CheckName(o Object) []Diagnostic {
	var found []Diagnostic
	fail := func(path, message, hint string) {
		found = append(found, Diagnostic{Position: o.Tree.Position(path), Severity: SeverityError, Path: path, Message: message, Hint: hint})
	}
	switch {
	case o.Name == "" && o.GenerateName != "":
		fail("metadata.generateName", "what is declared needs a name of its own", "set metadata.name")
	case o.Name == "":
		fail("metadata.name", "metadata.name is required", "")
	case !subdomain(o.Name):
		fail("metadata.name", fmt.Sprintf("%q is not a name", o.Name), "use lower-case letters, digits, '-' and '.', and begin and end with a letter or digit")
	}
	if o.Namespace != "" && !label(o.Namespace) {
		fail("metadata.namespace", fmt.Sprintf("%q is not the name of a namespace", o.Namespace), "use lower-case letters, digits and '-', and begin and end with a letter or digit")
	}
	return found
}

// subdomain reports whether a name is labels with dots between them.
func subdomain(name string) bool {
	if len(name) > maxName {
		return false
	}
	for part := range strings.SplitSeq(name, ".") {
		if !letters(part) {
			return false
		}
	}
	return true
}

func label(name string) bool { return len(name) <= maxNamespace && letters(name) }

func letters(part string) bool {
	if part == "" || part[0] == '-' || part[len(part)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(part, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}
