// Package manifest is what users write: the Argo kinds as Go types, and their decoding from YAML or JSON with
// file, line and column in every error. It imports no other room of the program.
package manifest

import "fmt"

// Position is a place in a file, counted from 1. Line 0 means that the place is not known.
type Position struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String gives file:line:column, leaving out what is not known.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.File == "":
		return fmt.Sprintf("%d:%d", p.Line, p.Column)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Severity of a diagnostic.
type Severity string

// Errors keep a manifest from being used; warnings are shown and do not.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one thing to say about a manifest.
type Diagnostic struct { //nolint:errname // warnings are diagnostics too
	Position Position `json:"position"`
	Severity Severity `json:"severity"`
	// Path is the field, e.g. "spec.templates[0].container".
	Path string `json:"path,omitempty"`
	// Message says what is wrong, in the words of Argo where Argo has words for it.
	Message string `json:"message"`
	// Hint says what to do next; may be empty.
	Hint string `json:"hint,omitempty"`
	// Unknown says that the fault is a field that there is none of.
	Unknown UnknownField `json:"-"`
}

// UnknownField says what became of a field that there is none of.
type UnknownField int

// What became of it.
const (
	// NotUnknown is a fault of another kind.
	NotUnknown UnknownField = iota
	// PassedOver is an unknown field that has no effect.
	PassedOver
	// ReadAsAnother is one in the wrong case, which is read as the field that was meant.
	ReadAsAnother
)

// Error implements error: "file:line:column: message (hint)".
func (d Diagnostic) Error() string {
	s := d.Message
	if p := d.Position.String(); p != "" {
		s = p + ": " + s
	}
	if d.Hint != "" {
		s += " (" + d.Hint + ")"
	}
	return s
}

// At is where it is; with [Diagnostic.Says] it makes diagnostics errors that name their place (failure.Placed).
func (d Diagnostic) At() (file string, line, column int) {
	return d.Position.File, d.Position.Line, d.Position.Column
}

// Says gives the field, what is wrong and what to do next.
func (d Diagnostic) Says() (path, problem, hint string) { return d.Path, d.Message, d.Hint }
