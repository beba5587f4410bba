package failure

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Classified is an error that knows its kind. Errors of other packages implement it where an [Error] is not enough.
type Classified interface {
	error
	FailureKind() Kind
}

// Placed is an error that knows where in a file it is. It is Invalid unless it says otherwise. The manifest room's
// diagnostics are such errors; that room imports no other, so this interface names no type of this package.
type Placed interface {
	error
	// At gives file, line and column; line 0 means that the place is not known.
	At() (file string, line, column int)
	// Says gives the path of the field, the problem and what to do next.
	Says() (path, problem, hint string)
}

// Hinted is an error that says what to do next.
type Hinted interface {
	error
	Hint() string
}

// String names the kind, as answers and logs have it.
func (k Kind) String() string { return k.mapping().name }

// KindOf is the kind of the outermost error in err's chain that has one. Where err joins several errors, those with a
// kind must agree; if they do not, it is Unclassified. KindOf(nil) is Unclassified.
//
// KindOf is for telling people and machines what happened. What destroys something must not hang on it: that an object
// was not found is no proof that somebody deleted it.
func KindOf(err error) Kind {
	for err != nil {
		if kind := own(err); kind != Unclassified {
			return kind
		}
		switch wraps := err.(type) { //nolint:errorlint // this walks the chain itself
		case interface{ Unwrap() error }:
			err = wraps.Unwrap()
		case interface{ Unwrap() []error }:
			return agreed(wraps.Unwrap())
		default:
			return Unclassified
		}
	}
	return Unclassified
}

func agreed(errs []error) Kind {
	found := Unclassified
	for _, err := range errs {
		kind := KindOf(err)
		if kind == Unclassified {
			continue
		}
		if found != Unclassified && kind != found {
			return Unclassified
		}
		found = kind
	}
	return found
}

// own is what one error says of itself, without what it wraps. The standard library's errors that have a meaning here
// are known by name.
func own(err error) Kind {
	switch e := err.(type) { //nolint:errorlint // KindOf walks the chain
	case Classified:
		return e.FailureKind()
	case Placed:
		return Invalid
	case *http.MaxBytesError:
		return TooLarge
	}
	if err == context.DeadlineExceeded { //nolint:errorlint // KindOf walks the chain
		return TimedOut
	}
	return Unclassified
}

// Is reports whether an error is of a kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// After is how long to wait before the next try, if the error says so.
func After(err error) (time.Duration, bool) {
	for {
		var e *Error
		if !errors.As(err, &e) {
			return 0, false
		}
		if e.kind == RetryAfter && e.after > 0 {
			return e.after, true
		}
		err = e.err
	}
}

// HintOf says what to do about an error; empty if it does not say.
func HintOf(err error) string {
	for err != nil {
		var hinted Hinted
		if !errors.As(err, &hinted) {
			return ""
		}
		if hint := hinted.Hint(); hint != "" {
			return hint
		}
		err = errors.Unwrap(hinted)
	}
	return ""
}

// PlacesOf are the places that an error names: those of [InvalidAt], of a [Placed] error and of errors that join such.
func PlacesOf(err error) []Place {
	switch e := err.(type) { //nolint:errorlint // this walks the chain itself
	case nil:
		return nil
	case *Error:
		if len(e.places) > 0 {
			return e.places
		}
	case Placed:
		return []Place{PlaceOf(e)}
	}
	switch e := err.(type) { //nolint:errorlint // this walks the chain itself
	case interface{ Unwrap() error }:
		return PlacesOf(e.Unwrap())
	case interface{ Unwrap() []error }:
		var places []Place
		for _, one := range e.Unwrap() {
			places = append(places, PlacesOf(one)...)
		}
		return places
	}
	return nil
}

// PlaceOf is a placed error's place.
func PlaceOf(err Placed) Place {
	var p Place
	p.File, p.Line, p.Column = err.At()
	p.Path, p.Problem, p.Hint = err.Says()
	return p
}
