package api

import (
	"errors"
	"fmt"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/ledger"
)

// missingError says that there is no such thing, and where to look for its name.
type missingError struct {
	what, hint string
	err        error
}

func (n *missingError) Error() string { return "there is no " + n.what }
func (n *missingError) Hint() string  { return n.hint }
func (n *missingError) Unwrap() error { return n.err }

// missing puts the error of something that is not there into a person's words; other errors stay as they are.
func missing(err error, hint, format string, args ...any) error {
	if !errors.Is(err, ledger.ErrNotFound) && !errors.Is(err, runs.ErrNotFound) {
		return err
	}
	return &missingError{fmt.Sprintf(format, args...), hint, err}
}

func missingRun(err error, namespace, name string) error {
	return missing(err, "tiphys list shows the runs of every namespace", "run %s in namespace %s", name, namespace)
}
