package expression

import (
	"fmt"
	"strings"

	"github.com/casbin/govaluate"
)

// EvalWhen evaluates a `when` whose tags have been replaced. Words without quotes are strings, as in Argo:
// "heads == heads", "Error in (Failed, Error)". An empty one is true.
func EvalWhen(when string) (result bool, err error) {
	if strings.TrimSpace(when) == "" {
		return true, nil
	}
	if len(when) > maxSource {
		return false, fmt.Errorf("invalid 'when' expression: longer than %d bytes", maxSource)
	}
	defer func() {
		// The library panics on some expressions that it cannot evaluate.
		if r := recover(); r != nil {
			result, err = false, fmt.Errorf("invalid 'when' expression '%s': %v", when, r)
		}
	}()
	parsed, err := govaluate.NewEvaluableExpression(when)
	if err != nil {
		hint := ""
		if strings.Contains(err.Error(), "Invalid token") {
			hint = ` (hint: try wrapping the affected expression in quotes ("))`
		}
		return false, fmt.Errorf("invalid 'when' expression '%s': %w%s", when, err, hint)
	}
	tokens := parsed.Tokens()
	for i := range tokens {
		if tokens[i].Kind == govaluate.VARIABLE {
			tokens[i].Kind = govaluate.STRING
		}
	}
	if parsed, err = govaluate.NewEvaluableExpressionFromTokens(tokens); err != nil {
		return false, fmt.Errorf("invalid 'when' expression '%s': %w", when, err)
	}
	value, err := parsed.Evaluate(nil)
	if err != nil {
		return false, fmt.Errorf("evaluate 'when' expression '%s': %w", when, err)
	}
	result, ok := value.(bool)
	if !ok {
		return false, fmt.Errorf("expected boolean evaluation for '%s', got %v", when, value)
	}
	return result, nil
}
