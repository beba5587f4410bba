package api

import (
	"github.com/tiphys/tiphys/failure"
)

// missing puts the error of something that is not there into a person's words; other errors stay as they are.
func missing(err error, hint, format string, args ...any) error {
	if !failure.Is(err, failure.NotFound) {
		return err
	}
	return failure.WithHint(failure.NotFoundf("there is no "+format, args...), hint)
}

func missingRun(err error, namespace, name string) error {
	return missing(err, "tiphys list shows the runs of every namespace", "run %s in namespace %s", name, namespace)
}
