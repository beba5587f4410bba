package budget

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/gobwas/glob/syntax"
)

// Glob is a pattern of names in the syntax of github.com/gobwas/glob, which is Argo CD's: "*" is any text without
// separators, "**" any text, "?" one character that is no separator, "[abc]", "[a-c]" and "[!a-c]" one character of a
// class, "{a,b*}" alternatives, which may nest, and "\" takes its meaning from the next character. It matches whole texts.
//
// The library reads the pattern. Its own matching tries one way after the other, which a hostile pattern makes take for
// ever; here a regular expression does that, whose cost is known.
type Glob struct {
	// literal is the only text that matches where pattern is nil.
	literal string
	pattern *Pattern
}

// ParseGlob reads a glob. One that is too long or too large is refused with [ErrExceeded].
func ParseGlob(text string, separators ...rune) (*Glob, error) {
	if !strings.ContainsAny(text, `*?[]{}\`) {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("the pattern %q is not UTF-8", text)
		}
		return &Glob{literal: text}, nil
	}
	if len(text) > LongestPattern {
		return nil, fmt.Errorf("%w: a pattern of more than %d characters", ErrExceeded, LongestPattern)
	}
	expression, err := globExpression(text, separators)
	if err != nil {
		return nil, err
	}
	pattern, err := ParsePattern(expression)
	if err != nil {
		return nil, fmt.Errorf("the pattern %q: %w", text, err)
	}
	return &Glob{pattern: pattern}, nil
}

// Match tells whether the pattern is that of a whole text.
func (g *Glob) Match(b *Budget, text string) (bool, error) {
	if g.pattern == nil {
		return text == g.literal, nil
	}
	return g.pattern.Match(b, text)
}

// MatchGlob tells whether a pattern that nobody waits to hear of is that of a text. What cannot be read, or takes too much,
// matches nothing.
func MatchGlob(pattern, text string, separators ...rune) bool {
	g, err := ParseGlob(pattern, separators...)
	if err != nil {
		return false
	}
	ok, err := g.Match(New(), text)
	return ok && err == nil
}

// globExpression writes a glob as a regular expression.
func globExpression(text string, separators []rune) (string, error) {
	within := "."
	if len(separators) > 0 {
		within = "[^" + escaped(string(separators)) + "]"
	}
	var b strings.Builder
	b.WriteString("^(?s:")
	lexer, braces := syntax.NewLexer(text), 0
	for {
		switch t := lexer.Next(); t.Type {
		case syntax.EOF:
			if braces > 0 {
				return "", fmt.Errorf("the pattern %q has a { without }", text)
			}
			b.WriteString(")$")
			return b.String(), nil
		case syntax.Text:
			b.WriteString(regexp.QuoteMeta(t.Data))
		case syntax.Any:
			b.WriteString(within + "*")
		case syntax.Super:
			b.WriteString(".*")
		case syntax.Single:
			b.WriteString(within)
		case syntax.TermsOpen:
			braces++
			b.WriteString("(?:")
		case syntax.TermSeparator:
			b.WriteByte('|')
		case syntax.TermsClose:
			braces--
			b.WriteByte(')')
		case syntax.RangeOpen:
			class, err := globClass(lexer)
			if err != nil {
				return "", fmt.Errorf("the pattern %q: %w", text, err)
			}
			b.WriteString(class)
		default:
			return "", fmt.Errorf("the pattern %q: %s", text, t.Data)
		}
	}
}

// globClass writes a class whose "[" was read.
func globClass(lexer *syntax.Lexer) (string, error) {
	not, low, class := "", "", ""
	for {
		switch t := lexer.Next(); t.Type {
		case syntax.Not:
			not = "^"
		case syntax.RangeLo:
			low = t.Data
		case syntax.RangeBetween:
		case syntax.RangeHi:
			if low > t.Data {
				return "", fmt.Errorf("the range %s-%s has its end before its beginning", low, t.Data)
			}
			class = escaped(low) + "-" + escaped(t.Data)
		case syntax.Text:
			class = escaped(t.Data)
		case syntax.RangeClose:
			if class == "" {
				return "", fmt.Errorf("a class is empty")
			}
			return "[" + not + class + "]", nil
		case syntax.Error:
			return "", fmt.Errorf("%s", t.Data)
		default:
			return "", fmt.Errorf("a [ without ]")
		}
	}
}

// escaped writes characters for the inside of a class.
func escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		fmt.Fprintf(&b, `\x{%x}`, r)
	}
	return b.String()
}
