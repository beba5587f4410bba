package executor

import (
	"errors"
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
	p := e.Problems[0]
	if p.Path == "" {
		return p.Message
	}
	return p.Path + ": " + p.Message
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
