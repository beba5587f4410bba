package script

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Limits of matching, in one program: patterns backtrack, so that what one takes cannot be told from its text.
const (
	// maxLuaPatternSteps bounds the characters that patterns look at.
	maxLuaPatternSteps = 10_000_000
	// maxLuaPatternDepth bounds how deep a match calls itself.
	maxLuaPatternDepth = 200
	maxLuaCaptures     = 32
)

// Lengths of captures that are not texts.
const (
	captureOpen     = -1
	capturePosition = -2
)

type capture struct{ start, length int }

// luaPattern matches a pattern of Lua 5.1 (reference manual, 5.4.1) within a number of steps.
type luaPattern struct {
	// l is who matches: a pattern that is none, or takes too many steps, is an error of the program.
	l             *lua.LState
	text, pattern string
	captures      []capture
	steps         *int
	depth         int
}

// fail ends the match with an error of Lua's: it does not return.
func (m *luaPattern) fail(format string, args ...any) { m.l.RaiseError(format, args...) }

func (m *luaPattern) step() {
	if *m.steps++; *m.steps > maxLuaPatternSteps {
		m.fail("patterns take more steps than allowed")
	}
}

// at tries the pattern from one place of the text, and gives where the match ends, or -1.
func (m *luaPattern) at(s, p int) int {
	m.captures = m.captures[:0]
	return m.match(s, p)
}

func (m *luaPattern) match(s, p int) int {
	if m.depth++; m.depth > maxLuaPatternDepth {
		m.fail("pattern is too complex")
	}
	defer func() { m.depth-- }()
	for {
		m.step()
		if p == len(m.pattern) {
			return s
		}
		switch next := m.special(p); {
		case m.pattern[p] == '(':
			return m.open(s, p+1)
		case m.pattern[p] == ')':
			return m.close(s, p+1)
		case m.pattern[p] == '$' && p+1 == len(m.pattern):
			if s == len(m.text) {
				return s
			}
			return -1
		case next == 'b':
			if s = m.balance(s, p+2); s < 0 {
				return -1
			}
			p += 4
			continue
		case next == 'f':
			if p = m.frontier(s, p+2); p < 0 {
				return -1
			}
			continue
		case next >= '0' && next <= '9':
			if s = m.same(s, next); s < 0 {
				return -1
			}
			p += 2
			continue
		}
		end := m.itemEnd(p)
		matches := s < len(m.text) && m.single(m.text[s], p, end)
		quantifier := byte(0)
		if end < len(m.pattern) {
			quantifier = m.pattern[end]
		}
		switch quantifier {
		case '?':
			if matches {
				if r := m.match(s+1, end+1); r >= 0 {
					return r
				}
			}
			p = end + 1
			continue
		case '+', '*':
			if quantifier == '+' && !matches {
				return -1
			}
			return m.most(s, p, end, quantifier == '+')
		case '-':
			return m.fewest(s, p, end)
		}
		if !matches {
			return -1
		}
		s, p = s+1, end
	}
}

// special is what follows a percent sign; 0 if there is none.
func (m *luaPattern) special(p int) byte {
	if m.pattern[p] == '%' && p+1 < len(m.pattern) {
		return m.pattern[p+1]
	}
	return 0
}

// open begins a capture.
func (m *luaPattern) open(s, p int) int {
	c := capture{s, captureOpen}
	if p < len(m.pattern) && m.pattern[p] == ')' {
		c.length = capturePosition
		p++
	}
	if len(m.captures) == maxLuaCaptures {
		m.fail("pattern has more than %d captures", maxLuaCaptures)
	}
	n := len(m.captures)
	m.captures = append(m.captures, c)
	r := m.match(s, p)
	if r < 0 {
		m.captures = m.captures[:n]
	}
	return r
}

// close ends the capture that was begun last.
func (m *luaPattern) close(s, p int) int {
	for i := len(m.captures) - 1; i >= 0; i-- {
		if m.captures[i].length != captureOpen {
			continue
		}
		m.captures[i].length = s - m.captures[i].start
		r := m.match(s, p)
		if r < 0 {
			m.captures[i].length = captureOpen
		}
		return r
	}
	m.fail("pattern closes a capture that it has not begun")
	return -1
}

// balance matches %bxy.
func (m *luaPattern) balance(s, p int) int {
	if p+1 >= len(m.pattern) {
		m.fail("pattern misses what %%b balances")
	}
	if s >= len(m.text) || m.text[s] != m.pattern[p] {
		return -1
	}
	open := 1
	for i := s + 1; i < len(m.text); i++ {
		m.step()
		switch m.text[i] {
		case m.pattern[p+1]:
			if open--; open == 0 {
				return i + 1
			}
		case m.pattern[p]:
			open++
		}
	}
	return -1
}

// frontier matches %f[set], and gives where the pattern goes on.
func (m *luaPattern) frontier(s, p int) int {
	if p >= len(m.pattern) || m.pattern[p] != '[' {
		m.fail("pattern misses a set behind %%f")
	}
	end := m.itemEnd(p)
	var before, here byte
	if s > 0 {
		before = m.text[s-1]
	}
	if s < len(m.text) {
		here = m.text[s]
	}
	if m.set(before, p, end-1) || !m.set(here, p, end-1) {
		return -1
	}
	return end
}

// same matches what a capture has.
func (m *luaPattern) same(s int, number byte) int {
	i := int(number) - '1'
	if i < 0 || i >= len(m.captures) || m.captures[i].length == captureOpen {
		m.fail("pattern has no capture %%%c", number)
	}
	c := m.captures[i]
	if c.length == capturePosition {
		return -1
	}
	*m.steps += c.length
	m.step()
	if !strings.HasPrefix(m.text[s:], m.text[c.start:c.start+c.length]) {
		return -1
	}
	return s + c.length
}

// most takes as many of an item as there are, and gives back one after the other.
func (m *luaPattern) most(s, p, end int, atLeastOne bool) int {
	n := 0
	for s+n < len(m.text) && m.single(m.text[s+n], p, end) {
		n++
	}
	least := 0
	if atLeastOne {
		least = 1
	}
	for ; n >= least; n-- {
		if r := m.match(s+n, end+1); r >= 0 {
			return r
		}
	}
	return -1
}

// fewest takes no more of an item than it must.
func (m *luaPattern) fewest(s, p, end int) int {
	for {
		if r := m.match(s, end+1); r >= 0 {
			return r
		}
		if s >= len(m.text) || !m.single(m.text[s], p, end) {
			return -1
		}
		s++
	}
}

// itemEnd is behind a single item: a character, a class or a set.
func (m *luaPattern) itemEnd(p int) int {
	c := m.pattern[p]
	p++
	switch c {
	case '%':
		if p == len(m.pattern) {
			m.fail("pattern ends with a percent sign")
		}
		return p + 1
	case '[':
		if p < len(m.pattern) && m.pattern[p] == '^' {
			p++
		}
		for first := true; first || p < len(m.pattern) && m.pattern[p] != ']'; first = false {
			if p >= len(m.pattern) {
				break
			}
			if m.pattern[p] == '%' {
				p++
			}
			p++
		}
		if p >= len(m.pattern) {
			m.fail("pattern misses a closing bracket")
		}
		return p + 1
	}
	return p
}

func (m *luaPattern) single(c byte, p, end int) bool {
	m.step()
	switch m.pattern[p] {
	case '.':
		return true
	case '%':
		return inClass(c, m.pattern[p+1])
	case '[':
		return m.set(c, p, end-1)
	}
	return m.pattern[p] == c
}

// set looks for a character in a set, from its opening to its closing bracket.
func (m *luaPattern) set(c byte, p, closing int) bool {
	found := true
	if p++; m.pattern[p] == '^' {
		found = false
		p++
	}
	for ; p < closing; p++ {
		m.step()
		switch {
		case m.pattern[p] == '%':
			p++
			if inClass(c, m.pattern[p]) {
				return found
			}
		case p+2 < closing && m.pattern[p+1] == '-':
			if m.pattern[p] <= c && c <= m.pattern[p+2] {
				return found
			}
			p += 2
		case m.pattern[p] == c:
			return found
		}
	}
	return !found
}

// inClass tells whether a character is in a class as in C's locale; the upper case of a class is what is not in it.
func inClass(c, class byte) bool {
	lower := func(c byte) bool { return c >= 'a' && c <= 'z' }
	upper := func(c byte) bool { return c >= 'A' && c <= 'Z' }
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	graphic := c > ' ' && c < 0x7f
	var in bool
	switch class | 0x20 {
	case 'a':
		in = lower(c) || upper(c)
	case 'c':
		in = c < ' ' || c == 0x7f
	case 'd':
		in = digit(c)
	case 'l':
		in = lower(c)
	case 'p':
		in = graphic && !lower(c) && !upper(c) && !digit(c)
	case 's':
		in = c == ' ' || c >= '\t' && c <= '\r'
	case 'u':
		in = upper(c)
	case 'w':
		in = lower(c) || upper(c) || digit(c)
	case 'x':
		in = digit(c) || c|0x20 >= 'a' && c|0x20 <= 'f'
	case 'z':
		in = c == 0
	default:
		return class == c
	}
	if !lower(class) && !upper(class) {
		return class == c
	}
	return in == lower(class)
}

// capture gives the i-th capture, or the whole match where there are none.
func (m *luaPattern) capture(i, start, end int) lua.LValue {
	if i >= len(m.captures) {
		if i > 0 {
			m.fail("there is no capture %%%d", i+1)
		}
		return lua.LString(m.text[start:end])
	}
	switch c := m.captures[i]; c.length {
	case captureOpen:
		m.fail("pattern does not close a capture")
	case capturePosition:
		return lua.LNumber(c.start + 1)
	default:
		return lua.LString(m.text[c.start : c.start+c.length])
	}
	return lua.LNil
}

// all gives all captures, or the whole match where there are none.
func (m *luaPattern) all(start, end int) []lua.LValue {
	values := make([]lua.LValue, max(1, len(m.captures)))
	for i := range values {
		values[i] = m.capture(i, start, end)
	}
	return values
}
