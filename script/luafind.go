package script

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// patterns are the functions of Lua's library string that match patterns, within steps that all of them share.
type patterns struct {
	steps int
	spend func(*lua.LState, int)
}

// openPatterns puts them in the place of the library's, whose matching cannot be counted.
func openPatterns(l *lua.LState, spend func(*lua.LState, int)) {
	lib, ok := l.GetGlobal("string").(*lua.LTable)
	if !ok {
		return
	}
	p := &patterns{spend: spend}
	for name, f := range map[string]lua.LGFunction{
		"find": func(l *lua.LState) int { return p.find(l, true) }, "match": func(l *lua.LState) int { return p.find(l, false) }, "gmatch": p.gmatch, "gsub": p.gsub,
	} {
		lib.RawSetString(name, l.NewFunction(f))
	}
	lib.RawSetString("gfind", lib.RawGetString("gmatch")) // the name in Lua 5.0
}

func (p *patterns) matcher(l *lua.LState, text, pattern string) *luaPattern {
	return &luaPattern{l: l, text: text, pattern: pattern, steps: &p.steps}
}

// from is where a search begins: counted from one, or from the end where it is negative.
func from(init, length int) int {
	switch {
	case init > 0:
		return init - 1
	case init < 0:
		return max(0, length+init)
	}
	return 0
}

// find is string.find, and string.match without the places.
func (p *patterns) find(l *lua.LState, places bool) int {
	text, pattern := l.CheckString(1), l.CheckString(2)
	start := min(from(l.OptInt(3, 1), len(text)), len(text))
	p.spend(l, len(text))
	if places && (lua.LVAsBool(l.Get(4)) || !strings.ContainsAny(pattern, "^$*+?.([%-")) {
		i := strings.Index(text[start:], pattern)
		if i < 0 {
			l.Push(lua.LNil)
			return 1
		}
		l.Push(lua.LNumber(start + i + 1))
		l.Push(lua.LNumber(start + i + len(pattern)))
		return 2
	}
	m := p.matcher(l, text, pattern)
	anchor := strings.HasPrefix(pattern, "^")
	at := 0
	if anchor {
		at = 1
	}
	for s := start; s <= len(text); s++ {
		if end := m.at(s, at); end >= 0 {
			n := 0
			if places {
				l.Push(lua.LNumber(s + 1))
				l.Push(lua.LNumber(end))
				if n = 2; len(m.captures) == 0 {
					return n
				}
			}
			values := m.all(s, end)
			for _, v := range values {
				l.Push(v)
			}
			return n + len(values)
		}
		if anchor {
			break
		}
	}
	l.Push(lua.LNil)
	return 1
}

// gmatch is string.gmatch.
func (p *patterns) gmatch(l *lua.LState) int {
	m := p.matcher(l, l.CheckString(1), l.CheckString(2))
	next := 0
	l.Push(l.NewFunction(func(l *lua.LState) int {
		m.l = l
		for s := next; s <= len(m.text); s++ {
			end := m.at(s, 0)
			if end < 0 {
				continue
			}
			if next = end; end == s {
				next++
			}
			values := m.all(s, end)
			p.spend(l, itemSize*len(values)+end-s)
			for _, v := range values {
				l.Push(v)
			}
			return len(values)
		}
		next = len(m.text) + 1
		return 0
	}))
	return 1
}

// gsub is string.gsub.
func (p *patterns) gsub(l *lua.LState) int {
	text, pattern := l.CheckString(1), l.CheckString(2)
	replacement := l.CheckAny(3)
	switch replacement.(type) {
	case lua.LString, lua.LNumber, *lua.LTable, *lua.LFunction:
	default:
		l.ArgError(3, "a text, a table or a function expected")
	}
	most := l.OptInt(4, len(text)+1)
	m := p.matcher(l, text, pattern)
	at := 0
	if strings.HasPrefix(pattern, "^") {
		at = 1
	}
	var out strings.Builder
	write := func(part string) {
		p.spend(l, len(part))
		out.WriteString(part)
	}
	s, count := 0, 0
	for count < most {
		end := m.at(s, at)
		if end >= 0 {
			count++
			write(p.replaced(l, m, replacement, s, end))
		}
		switch {
		case end > s:
			s = end
		case s < len(text):
			write(text[s : s+1])
			s++
		default:
			s++
		}
		if s > len(text) || at == 1 {
			break
		}
	}
	if s < len(text) {
		write(text[s:])
	}
	l.Push(lua.LString(out.String()))
	l.Push(lua.LNumber(count))
	return 2
}

// replaced is what stands in the place of a match.
func (p *patterns) replaced(l *lua.LState, m *luaPattern, replacement lua.LValue, start, end int) string {
	var v lua.LValue
	switch r := replacement.(type) {
	case *lua.LTable:
		v = l.GetTable(r, m.capture(0, start, end))
	case *lua.LFunction:
		values, inner := m.all(start, end), *m
		l.Push(r)
		for _, a := range values {
			l.Push(a)
		}
		l.Call(len(values), 1)
		v = l.Get(-1)
		l.Pop(1)
		*m = inner // the function may have matched as well, but not with this
	default:
		return p.filled(l, m, lua.LVAsString(replacement), start, end)
	}
	switch {
	case !lua.LVAsBool(v):
		return m.text[start:end]
	case !lua.LVCanConvToString(v):
		l.RaiseError("the replacement of a match must be a text or a number")
	}
	return lua.LVAsString(v)
}

// filled puts captures into a replacement.
func (p *patterns) filled(l *lua.LState, m *luaPattern, text string, start, end int) string {
	if !strings.Contains(text, "%") {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		i++
		part := text[i : i+1]
		switch c := text[i]; {
		case c == '0':
			part = m.text[start:end]
		case c >= '1' && c <= '9':
			part = lua.LVAsString(m.capture(int(c-'1'), start, end))
		}
		p.spend(l, len(part))
		out.WriteString(part)
	}
	return out.String()
}
