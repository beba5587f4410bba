package budget

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/casbin/govaluate"
)

// LongestCondition is the most bytes of a condition's text.
const LongestCondition = 64 << 10

// mostBrackets is how deep brackets of a condition may lie in each other: the library calls itself for each.
const mostBrackets = 1000

// errMadePattern says that a regular expression is computed.
var errMadePattern = errors.New("what follows =~ and !~ must be one text or one name, and not something that is computed")

// Condition is an expression of govaluate's language: a `when` of a workflow, an expr filter of a sensor. It can call no functions.
type Condition struct {
	parsed *govaluate.EvaluableExpression
	tokens []govaluate.ExpressionToken
	// patterns are where in tokens a regular expression stands.
	patterns []int
	// joins is how many additions there are.
	joins int64
}

// ParseCondition reads an expression. With words, what is a name is a text: "heads == heads". The library panics on some expressions,
// which is an error here.
func ParseCondition(text string, words bool) (c *Condition, err error) {
	defer recovered(&err)
	if len(text) > LongestCondition {
		return nil, fmt.Errorf("longer than %d bytes", LongestCondition)
	}
	if err := checkLiterals(text); err != nil {
		return nil, err
	}
	parsed, err := govaluate.NewEvaluableExpression(text)
	if err != nil {
		return nil, err
	}
	c = &Condition{parsed: parsed, tokens: parsed.Tokens()}
	if words {
		for i := range c.tokens {
			if c.tokens[i].Kind == govaluate.VARIABLE {
				c.tokens[i].Kind = govaluate.STRING
			}
		}
	}
	if err := c.look(); err != nil {
		return nil, err
	}
	if words {
		if c.parsed, err = govaluate.NewEvaluableExpressionFromTokens(c.tokens); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%v", r)
	}
}

// checkLiterals refuses brackets that are too deep, and texts that would be too large as regular expressions: the library compiles
// those while it reads the expression.
func checkLiterals(text string) error {
	matching := strings.Contains(text, "=~") || strings.Contains(text, "!~")
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '(':
			if depth++; depth > mostBrackets {
				return fmt.Errorf("%w: more than %d brackets in each other", ErrExceeded, mostBrackets)
			}
		case ')':
			depth--
		case '\\':
			i++
		case '[': // a name with anything in it
			for i++; i < len(text) && text[i] != ']'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '\'', '"':
			var literal strings.Builder
			for i++; i < len(text) && text[i] != c; i++ {
				if text[i] == '\\' && i+1 < len(text) {
					i++
				}
				literal.WriteByte(text[i])
			}
			if !matching {
				continue
			}
			if _, err := patternSize(literal.String()); errors.Is(err, ErrExceeded) {
				return err
			}
		}
	}
	return nil
}

// look finds out what costs.
func (c *Condition) look() error {
	for i, t := range c.tokens {
		switch {
		case t.Kind == govaluate.MODIFIER && t.Value == "+":
			c.joins++
		case t.Kind == govaluate.COMPARATOR && (t.Value == "=~" || t.Value == "!~"):
			at := i + 1
			if at == len(c.tokens) || at+1 < len(c.tokens) && c.tokens[at+1].Kind == govaluate.MODIFIER {
				return errMadePattern
			}
			next := c.tokens[at]
			switch next.Kind {
			case govaluate.VARIABLE: // looked at when its value is known
			case govaluate.PATTERN, govaluate.STRING:
				if _, err := patternSize(fmt.Sprint(next.Value)); err != nil {
					return err
				}
			default:
				return errMadePattern
			}
			c.patterns = append(c.patterns, at)
		}
	}
	return nil
}

// Evaluate gives the expression's value. What it may cost at most is taken from the budget before it is evaluated: every text in it is
// compared, and each addition may copy all of them.
func (c *Condition) Evaluate(b *Budget, values map[string]any) (value any, err error) {
	defer recovered(&err)
	var total, largest int64
	for _, t := range c.tokens {
		size := int64(itemSize)
		switch v := t.Value.(type) {
		case string:
			size += int64(len(v))
			if t.Kind == govaluate.VARIABLE {
				size += Size(values[v], Bytes)
			}
		case *regexp.Regexp:
			size += int64(len(v.String()))
		}
		total, largest = total+size, max(largest, size)
	}
	looked := total
	if c.joins > 0 {
		largest = total
		if err := b.TakeText(total); err != nil {
			return nil, err
		}
		copied := Repeated(total, c.joins)
		if err := b.Take(copied); err != nil {
			return nil, err
		}
		looked += copied
	}
	if err := b.Step(looked); err != nil {
		return nil, err
	}
	if err := c.weighPatterns(b, values, largest); err != nil {
		return nil, err
	}
	return c.parsed.Evaluate(values)
}

func (c *Condition) weighPatterns(b *Budget, values map[string]any, largest int64) error {
	for _, at := range c.patterns {
		text := fmt.Sprint(c.tokens[at].Value)
		if c.tokens[at].Kind == govaluate.VARIABLE {
			text, _ = values[text].(string)
		}
		size, err := patternSize(text)
		if err != nil {
			return err
		}
		if err := b.Take(Repeated(size, stateSize)); err != nil {
			return err
		}
		if err := b.Step(max(0, Repeated(size, stateSize)) + Repeated(largest, size)); err != nil {
			return err
		}
	}
	return nil
}
