package budget

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

const (
	// LongestPattern is the most bytes of a regular expression's text.
	LongestPattern = 4096
	// LargestPattern is the most states of a regular expression after its counted repeats are written out. RE2's time grows with the
	// product of states and text, and its memory with the states; Go itself allows three million.
	LargestPattern = 10_000
	// stateSize is what a state takes while a pattern is compiled, in bytes.
	stateSize = 200
)

// Pattern is a regular expression (RE2, https://github.com/google/re2/wiki/Syntax) whose cost is known before it is used.
type Pattern struct {
	expression *regexp.Regexp
	size       int64
}

// ParsePattern compiles a regular expression. One that is too long, or too large with its repeats written out, is refused with
// [ErrExceeded] before anything is made of it.
func ParsePattern(text string) (*Pattern, error) {
	size, err := patternSize(text)
	if err != nil {
		return nil, err
	}
	expression, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &Pattern{expression, size}, nil
}

// ParsePattern is [ParsePattern] for one that is compiled while an evaluation runs, which pays for it.
func (b *Budget) ParsePattern(text string) (*Pattern, error) {
	size, err := patternSize(text)
	if err != nil {
		return nil, err
	}
	if err := b.Step(Repeated(size, stateSize)); err != nil {
		return nil, err
	}
	if err := b.Take(Repeated(size, stateSize)); err != nil {
		return nil, err
	}
	return ParsePattern(text)
}

// Match tells whether the pattern is found in a text.
func (p *Pattern) Match(b *Budget, text string) (bool, error) {
	if err := b.Step(p.looked(int64(len(text)))); err != nil {
		return false, err
	}
	return p.expression.MatchString(text), nil
}

// String is the pattern's text.
func (p *Pattern) String() string { return p.expression.String() }

// looked is what the pattern looks through in a text of a length, in bytes.
func (p *Pattern) looked(length int64) int64 { return Repeated(length+1, p.size) }

// patternSize tells how many states a pattern has, which it has at most [LargestPattern].
func patternSize(text string) (int64, error) {
	if len(text) > LongestPattern {
		return 0, fmt.Errorf("%w: a pattern of more than %d characters", ErrExceeded, LongestPattern)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0, err
	}
	size := states(parsed)
	if size < 0 || size > LargestPattern {
		return 0, fmt.Errorf("%w: the pattern %.60q has more than %d states with its repeats written out", ErrExceeded, text, LargestPattern)
	}
	return size, nil
}

// states counts what a part of a pattern becomes; -1 is more than can be counted.
func states(r *syntax.Regexp) int64 {
	var n int64 = 2
	for _, sub := range r.Sub {
		below := states(sub)
		if below < 0 {
			return -1
		}
		if n += below; n > 1<<40 {
			return -1
		}
	}
	switch r.Op {
	case syntax.OpLiteral:
		return n + int64(len(r.Rune))
	case syntax.OpCharClass:
		return n + int64(len(r.Rune))/32 // its ranges, which are searched by halves
	case syntax.OpRepeat:
		return Repeated(n, int64(max(r.Max, r.Min+1, 1)))
	}
	return n
}
