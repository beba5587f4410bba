package script

import (
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// maxLuaFormat is the longest format of a date, in bytes.
const maxLuaFormat = 1 << 10

// openTime gives the functions of Lua's library os that tell and write time, in UTC. What of that library reaches the machine there is not. With no
// clock a time must be given to them.
func openTime(l *lua.LState, now *time.Time, spend func(*lua.LState, int)) {
	l.Push(l.NewFunction(lua.OpenOs))
	l.Call(0, 0)
	whole, ok := l.GetGlobal("os").(*lua.LTable)
	if !ok {
		return
	}
	write := whole.RawGetString("date")
	clock := func(l *lua.LState) lua.LNumber {
		if now == nil {
			l.RaiseError("there is no clock here: give a time")
		}
		return lua.LNumber(now.Unix())
	}
	part := l.NewTable()
	part.RawSetString("difftime", whole.RawGetString("difftime"))
	part.RawSetString("clock", l.NewFunction(func(l *lua.LState) int {
		l.Push(lua.LNumber(0)) // nothing takes time here
		return 1
	}))
	part.RawSetString("date", l.NewFunction(func(l *lua.LState) int {
		format := l.OptString(1, "%c")
		if len(format) > maxLuaFormat {
			l.RaiseError("a format of a date has at most %d bytes", maxLuaFormat)
		}
		spend(l, 32*len(format))
		at := l.Get(2)
		if at == lua.LNil {
			at = clock(l)
		}
		l.Push(write)
		l.Push(lua.LString("!" + strings.TrimLeft(format, "!")))
		l.Push(at)
		l.Call(2, 1)
		return 1
	}))
	part.RawSetString("time", l.NewFunction(func(l *lua.LState) int {
		if l.Get(1) == lua.LNil {
			l.Push(clock(l))
			return 1
		}
		t := l.CheckTable(1)
		field := func(name string, missing int) int {
			switch v := t.RawGetString(name).(type) {
			case lua.LNumber:
				return int(v)
			case *lua.LNilType:
				if missing >= 0 {
					return missing
				}
			}
			l.RaiseError("field '%s' missing in date table", name)
			return 0
		}
		at := time.Date(field("year", -1), time.Month(field("month", -1)), field("day", -1), field("hour", 12), field("min", 0), field("sec", 0), 0, time.UTC)
		l.Push(lua.LNumber(at.Unix()))
		return 1
	}))
	l.SetGlobal("os", part)
}
