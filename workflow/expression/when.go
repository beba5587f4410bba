package expression

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/budget"
)

// maxShown is how much of an expression and its value an error shows, in bytes.
const maxShown = 2000

// EvalWhen evaluates a `when` whose tags have been replaced. Words without quotes are strings, as in Argo:
// "heads == heads", "Error in (Failed, Error)". An empty one is true.
func EvalWhen(when string) (result bool, err error) {
	if strings.TrimSpace(when) == "" {
		return true, nil
	}
	if len(when) > maxSource {
		return false, fmt.Errorf("invalid 'when' expression: longer than %d bytes", maxSource)
	}
	condition, err := budget.ParseCondition(when, true)
	if err != nil {
		hint := ""
		if strings.Contains(err.Error(), "Invalid token") {
			hint = ` (hint: try wrapping the affected expression in quotes ("))`
		}
		return false, fmt.Errorf("invalid 'when' expression '%s': %w%s", cut(when, maxShown), shown(err), hint)
	}
	value, err := condition.Evaluate(budget.New(), nil)
	if err != nil {
		return false, fmt.Errorf("evaluate 'when' expression '%s': %w", cut(when, maxShown), shown(err))
	}
	result, ok := value.(bool)
	if !ok {
		return false, fmt.Errorf("expected boolean evaluation for '%s', got %s", cut(when, maxShown), cut(fmt.Sprint(value), maxShown))
	}
	return result, nil
}

// shown is an error of the library's without the length of what it cites.
func shown(err error) error {
	if len(err.Error()) <= maxShown {
		return err
	}
	return errors.New(cut(err.Error(), maxShown))
}
