package executor

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// TransientError is why a pod could not be started now: something is scarce or away, and nothing is wrong with the pod.
// Nothing is on record, so a later Start is the same attempt and costs none.
type TransientError struct{ Err error }

func (e *TransientError) Error() string { return e.Err.Error() }

// Unwrap gives what was scarce or away.
func (e *TransientError) Unwrap() error { return e.Err }

// RefusedError is why a pod is never started as it is: this executor cannot do it, or its policy does not allow it.
type RefusedError struct {
	// Problems are the fatal ones, each with its field; there is at least one.
	Problems []Problem
}

func (e *RefusedError) Error() string {
	if len(e.Problems) == 0 {
		return "the pod is refused"
	}
	var text []string
	for _, p := range e.Problems[:min(len(e.Problems), shownProblems)] {
		text = append(text, p.text())
	}
	if more := len(e.Problems) - shownProblems; more > 0 {
		text = append(text, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(text, "; ")
}

// shownProblems is how many problems a refusal shows.
const shownProblems = 3

// text is the problem on one line: its field, what it is and what would help.
func (p Problem) text() string {
	text := p.Message
	if p.Path != "" {
		text = p.Path + ": " + text
	}
	if p.Hint != "" {
		text += ": " + p.Hint
	}
	return text
}

// Refused makes the error of the fatal ones among problems; nil if there is none.
func Refused(problems []Problem) error {
	var fatal []Problem
	for _, p := range problems {
		if p.Fatal {
			fatal = append(fatal, p)
		}
	}
	if len(fatal) == 0 {
		return nil
	}
	return &RefusedError{Problems: fatal}
}

// Scarce reports whether an error says that this machine has too little of something at the moment: descriptors,
// memory, processes, buffers or disk.
func Scarce(err error) bool {
	for _, scarce := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.ENOBUFS, syscall.ENOSPC, syscall.EDQUOT,
	} {
		if errors.Is(err, scarce) {
			return true
		}
	}
	var transient *TransientError
	return errors.As(err, &transient)
}
