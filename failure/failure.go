// Package failure gives errors a meaning. An error says of itself whether the request was wrong, was refused, names
// something that is not there, and so on; one table says which HTTP status, gRPC code and exit code that is. The
// package imports no other room, so that every room can use it.
package failure

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind is what an error means to whoever gets it.
type Kind int

// The kinds. The zero value is an error that nobody classified: something broke, and it is not known what to do about it.
const (
	Unclassified Kind = iota
	// Invalid: the request or the manifest is wrong, and stays wrong until it is changed.
	Invalid
	// TooLarge: what was sent is larger than is taken.
	TooLarge
	// Unauthenticated: it is not known who asks.
	Unauthenticated
	// Refused: it is known who asks, and that one may not.
	Refused
	// NotFound: what was asked for is not there.
	NotFound
	// Conflict: the request is right, and what is there does not allow it now.
	Conflict
	// RetryAfter: the same request may succeed later; [After] says when to try again.
	RetryAfter
	// Waiting: something else must happen first, and will without a person.
	Waiting
	// TimedOut: it took longer than it may take.
	TimedOut
	// NoSpace: there is no room to store it.
	NoSpace
	// Stalled: it does not go on until a person does something.
	Stalled
)

// Place is where in a file something is wrong. What is not known is zero.
type Place struct {
	File string
	// Line and Column count from 1.
	Line, Column int
	// Path is the field, e.g. "spec.syncPolicy.automated.prune".
	Path string
	// Problem says what is wrong, and Hint what to do next.
	Problem, Hint string
}

// String is "file:line:column: problem (hint)", without what is not known.
func (p Place) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		if p.File != "" {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%d:%d", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(p.Problem)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Error is an error with a meaning. Constructors make it; [KindOf], [After], [HintOf] and [PlacesOf] read it through
// whatever was wrapped around it.
type Error struct {
	kind   Kind
	text   string
	hint   string
	after  time.Duration
	places []Place
	err    error
}

// Error implements error. The hint is not part of it: whoever shows the error shows the hint beside it.
func (e *Error) Error() string {
	if e.text == "" && e.err != nil {
		return e.err.Error()
	}
	return e.text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.err }

// FailureKind implements [Classified].
func (e *Error) FailureKind() Kind { return e.kind }

// Hint says what to do next; may be empty.
func (e *Error) Hint() string { return e.hint }

// New makes an error of a kind, for a package's variables: errors.Is finds the variable again.
func New(kind Kind, text string) error { return &Error{kind: kind, text: text} }

// Errorf makes an error of a kind. Like fmt.Errorf it keeps what %w names.
func Errorf(kind Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{kind: kind, text: err.Error(), err: unwrapped(err)}
}

// unwrapped is what %w named: the formatted error itself where that is several.
func unwrapped(err error) error {
	if several, ok := err.(interface{ Unwrap() []error }); ok && len(several.Unwrap()) > 0 {
		return err
	}
	return errors.Unwrap(err)
}

// Mark gives an error a kind and leaves its text as it is; nil stays nil.
func Mark(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{kind: kind, err: err}
}

// WithHint says what to do about an error, and keeps its text and kind; nil stays nil.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Error{kind: KindOf(err), hint: hint, err: err}
}

// Invalidf says that the request is wrong.
func Invalidf(format string, args ...any) error { return Errorf(Invalid, format, args...) }

// InvalidAt says what is wrong at which places, one a line. It is nil if there are none.
func InvalidAt(places ...Place) error {
	if len(places) == 0 {
		return nil
	}
	lines := make([]string, len(places))
	for i, p := range places {
		lines[i] = p.String()
	}
	return &Error{kind: Invalid, text: strings.Join(lines, "\n"), places: places}
}

// Refusedf says that whoever asks may not.
func Refusedf(format string, args ...any) error { return Errorf(Refused, format, args...) }

// NotFoundf says that something is not there.
func NotFoundf(format string, args ...any) error { return Errorf(NotFound, format, args...) }

// Conflictf says that what is there does not allow what was asked.
func Conflictf(format string, args ...any) error { return Errorf(Conflict, format, args...) }

// Later says that the same may succeed when it is tried again after a while; nil stays nil.
func Later(after time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &Error{kind: RetryAfter, after: max(after, 0), err: err}
}

// Waitingf says what is waited for.
func Waitingf(format string, args ...any) error { return Errorf(Waiting, format, args...) }

// Stalledf says what a person must do before it goes on.
func Stalledf(format string, args ...any) error { return Errorf(Stalled, format, args...) }

// Clip bounds what a message says, in bytes: a text that others chose may be of any length.
func Clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
