package expression

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Language is one in which a text is evaluated after its tags were replaced.
type Language int

// The languages.
const (
	// Plain is text that is not evaluated.
	Plain Language = iota
	// Expr is expr-lang.
	Expr
	// JQ is jq's filters.
	JQ
	// When is govaluate's.
	When
)

// SubstituteCode is [Evaluator.SubstituteText] for a text that is evaluated next. Argo puts values in as they are, so that a
// value can rewrite the expression; here each is a literal, and can decide what the expression gives but not what it asks:
// within quotes it is escaped; without them it is a number, a boolean, but for When any JSON, or a string. A value that is a word
// may be a part of a name. What cannot be put in as a literal where it stands is an error.
//
// A When that is nothing but one tag is its value: whoever wrote it left the whole decision to the value, as in Argo.
func (e *Evaluator) SubstituteCode(text string, lang Language, scope Scope, o Options) (string, []Unresolved, error) {
	return e.SubstituteDataCode(Data{[]part{{text, false}}}, lang, scope, o)
}

// SubstituteDataCode is [Evaluator.SubstituteCode] for a text with parts that are not the author's: they are values too.
func (e *Evaluator) SubstituteDataCode(text Data, lang Language, scope Scope, o Options) (string, []Unresolved, error) {
	s := e.pass(scope, o)
	result, err := s.code(text, "", lang)
	return result, s.unresolved, err
}

// code puts values into an expression.
func (s *substitution) code(d Data, path string, lang Language) (string, error) {
	pieces, err := s.pieces(d, path)
	if err != nil {
		return "", err
	}
	if lang == When && len(pieces) == 1 {
		return pieces[0].text, nil
	}
	var b strings.Builder
	reader := quotes{lang: lang}
	for i, p := range pieces {
		if !p.given {
			reader.read(p.text)
			b.WriteString(p.text)
			continue
		}
		after := byte(0)
		if i+1 < len(pieces) && !pieces[i+1].given {
			after = firstByte(pieces[i+1].text)
		}
		literal, err := reader.literal(p.text, lastByte(b.String()), after)
		if err != nil {
			return "", fmt.Errorf("put a value into %.200q: %w", d.String(), err)
		}
		b.WriteString(literal)
	}
	return b.String(), nil
}

// pieces parts an expression into what the author wrote and the values that come in between; white space around is left out.
func (s *substitution) pieces(d Data, path string) ([]part, error) {
	var out []part
	add := func(p part) {
		if p.text != "" || p.given {
			out = append(out, p)
		}
	}
	for n, p := range d.parts {
		if p.given {
			add(p)
			continue
		}
		text := p.text
		if n == 0 {
			text = strings.TrimLeft(text, " \t\r\n")
		}
		if n == len(d.parts)-1 {
			text = strings.TrimRight(text, " \t\r\n")
		}
		last := 0
		for _, tag := range scan(text, s.options.Roots) {
			value, ok := s.tag(tag, path)
			if !ok {
				continue
			}
			if s.left -= 2 * len(value); s.left < 0 {
				return nil, fmt.Errorf("replace %s in %s: %w (more than %d bytes)", tag.Text, path, ErrTooLarge, s.options.MaxBytes)
			}
			add(part{text[last:tag.Start], false})
			add(part{value, true})
			last = tag.End
		}
		add(part{text[last:], false})
	}
	return out, nil
}

func firstByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

func lastByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

// quotes follows where in an expression a text ends.
type quotes struct {
	lang Language
	// in is the quote that is open: ' " ` or [ (a name of govaluate), / or * of a comment; 0 for none.
	in byte
	// escaped says that the text ended with the backslash of an escape.
	escaped bool
}

func (q *quotes) read(text string) {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if q.escaped {
			q.escaped = false
			continue
		}
		next := firstByte(text[i+1:])
		switch {
		case q.in == 0:
			q.open(c, next)
		case q.in == '/':
			if c == '\n' {
				q.in = 0
			}
		case q.in == '*':
			if c == '*' && next == '/' {
				q.in = 0
				i++
			}
		case c == '\\' && q.in != '`':
			q.escaped = true
		case q.closes(c):
			q.in = 0
		}
	}
}

func (q *quotes) open(c, next byte) {
	switch {
	case c == '"', c == '\'' && q.lang != JQ, c == '`' && q.lang == Expr, c == '[' && q.lang == When:
		q.in = c
	case c == '#' && q.lang == JQ:
		q.in = '/'
	case c == '/' && (next == '/' || next == '*') && q.lang == Expr:
		q.in = next
	case c == '\\' && q.lang == When:
		q.escaped = true
	}
}

// closes tells whether a character ends what is open. govaluate takes either quote for the end.
func (q *quotes) closes(c byte) bool {
	switch {
	case q.in == '[':
		return c == ']'
	case q.lang == When:
		return c == '\'' || c == '"'
	}
	return c == q.in
}

var (
	// numberLiteral is JSON's, and with leading zeros, which are govaluate's too.
	numberLiteral = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
	word          = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	nameParts     = regexp.MustCompile(`^[A-Za-z0-9_.]*$`)
)

// literal gives a value as it can stand here, between two characters of the expression.
func (q *quotes) literal(value string, before, after byte) (string, error) {
	if q.escaped {
		return "", fmt.Errorf("a value cannot follow a backslash: take the backslash away")
	}
	switch q.in {
	case '/', '*':
		return "", nil // of a comment
	case '\'', '"':
		return q.escape(value), nil
	case '`', '[':
		if strings.ContainsAny(value, "`[]\\") {
			return "", fmt.Errorf("its value has one of ` [ ] \\, which cannot stand here: put the tag in quotes")
		}
		return value, nil
	}
	if after == '.' && !inName(before) && q.lang != When {
		if literal, ok := q.jsonLiteral(strings.TrimSpace(value)); ok {
			return literal, nil // of which a field is taken
		}
	}
	if inName(before) || inName(after) {
		if nameParts.MatchString(value) {
			return value, nil
		}
		return "", fmt.Errorf("its value %.60q cannot be a part of a name or number: put the whole in quotes", value)
	}
	return q.bare(value), nil
}

func inName(c byte) bool {
	return c == '_' || c == '.' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= 0x80
}

// bare gives a value that stands for itself.
func (q *quotes) bare(value string) string {
	trimmed := strings.TrimSpace(value)
	switch {
	case trimmed == "" && q.lang == When:
		return value // nothing, which is an error in Argo too
	case numberLiteral.MatchString(trimmed), trimmed == "true", trimmed == "false", q.lang != When && trimmed == q.null():
		return trimmed
	case q.lang == When && word.MatchString(trimmed) && !strings.EqualFold(trimmed, "in"):
		return trimmed // a string without quotes
	}
	if q.lang != When {
		if literal, ok := q.jsonLiteral(trimmed); ok {
			return literal
		}
	}
	return `"` + q.escape(value) + `"`
}

// jsonLiteral gives a JSON list, object, string or null in a form that the language reads as the same.
func (q *quotes) jsonLiteral(text string) (string, bool) {
	if text == "" || !strings.ContainsRune(`{["n`, rune(text[0])) {
		return "", false
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var value any
	if d.Decode(&value) != nil || d.More() {
		return "", false
	}
	var b strings.Builder
	q.write(&b, value)
	return b.String(), true
}

func (q *quotes) write(b *strings.Builder, value any) {
	switch v := value.(type) {
	case string:
		b.WriteString(`"` + q.escape(v) + `"`)
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			q.write(b, item)
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		for i, key := range sortedKeys(v) {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`"` + q.escape(key) + `":`)
			q.write(b, v[key])
		}
		b.WriteByte('}')
	case nil:
		b.WriteString(q.null())
	default:
		fmt.Fprint(b, v)
	}
}

func (q *quotes) null() string {
	if q.lang == JQ {
		return "null"
	}
	return "nil"
}

// ends tells whether a character would end the string literal that is open, or the one that is made.
func (q *quotes) ends(r rune) bool {
	switch {
	case q.lang == When:
		return r == '\'' || r == '"'
	case q.in == '\'':
		return r == '\''
	}
	return r == '"'
}

// escape makes a value a part of a string literal.
func (q *quotes) escape(value string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(value, "\uFFFD") {
		switch {
		case r == '\\', q.ends(r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 && q.lang != When:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
