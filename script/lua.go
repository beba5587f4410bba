// Package script runs small programs of users where they can reach nothing: no files, no processes, no clock, no chance,
// and bounds on the steps they take and the text they make. It is pure: the same program and value give the same result.
package script

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// Names that a script cannot write, for the functions that take the place of unbounded operators.
const (
	luaConcat = "\x00concat"
	luaKey    = "\x00key"
	luaTable  = "\x00table"
	luaField  = "\x00field"
)

const (
	maxLuaText  = 16 << 20 // bytes of strings that a script may make in all
	maxLuaIndex = 100_000  // largest number that may be an index: the table fills the gap
	// itemSize is what an item of a table or a result takes beside its text, in bytes.
	itemSize    = 16
	maxLuaDepth = 100
	// maxLuaResult bounds a result, in bytes: each value counts itemSize and its text, as often as it stands in the result.
	maxLuaResult = 16 << 20
	// maxLuaSource bounds a program, in bytes, and so how deep it is nested: it is read by functions that call themselves.
	maxLuaSource = 64 << 10
	// maxLuaSteps bounds the instructions of one program.
	maxLuaSteps = 1_000_000
)

// Lua runs a Lua program with one global variable and gives what it returns, as JSON would have it. value is what JSON decodes to,
// integers allowed. The libraries are base, table, string, math and os, as far as they are pure: now is what the clock shows, and without it there is
// none; print prints nowhere.
func Lua(source, name string, value any, now *time.Time) (result any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("script failed: %v", r)
		}
	}()
	proto, err := compileLua(source)
	if err != nil {
		return nil, err
	}
	l := lua.NewState(lua.Options{SkipOpenLibs: true, CallStackSize: 200, RegistrySize: 1024, RegistryMaxSize: 64 * 1024, RegistryGrowStep: 4096})
	defer l.Close()
	openLua(l, now)
	l.SetContext(count(maxLuaSteps))
	l.SetGlobal(name, toLua(l, value))
	l.Push(l.NewFunctionFromProto(proto))
	if err := l.PCall(0, 1, nil); err != nil {
		message, _, _ := strings.Cut(err.Error(), "\nstack traceback")
		return nil, errors.New(strings.Join(strings.Fields(message), " "))
	}
	r := luaResult{left: maxLuaResult}
	return r.value(l.Get(-1), 0)
}

// ReadLua says what is wrong with a Lua program that could never run.
func ReadLua(source string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("script cannot be read: %v", r)
		}
	}()
	_, err = compileLua(source)
	return err
}

func compileLua(source string) (*lua.FunctionProto, error) {
	if len(source) > maxLuaSource {
		return nil, fmt.Errorf("script has %d bytes and may have at most %d", len(source), maxLuaSource)
	}
	chunk, err := parse.Parse(strings.NewReader(source), "script")
	if err != nil {
		return nil, errors.New(OneLine(err))
	}
	bound(reflect.ValueOf(chunk))
	proto, err := lua.Compile(chunk, "script")
	if err != nil {
		return nil, errors.New(OneLine(err))
	}
	return proto, nil
}

// bound replaces concatenation, and the keys of tables, in a parsed script by calls that count.
func bound(v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			bound(v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			bound(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				bound(v.Field(i))
			}
		}
		if v.CanAddr() {
			boundKeys(v.Addr().Interface())
		}
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		bound(v.Elem())
		if c, ok := v.Interface().(*ast.StringConcatOpExpr); ok && v.CanSet() {
			v.Set(reflect.ValueOf(boundCall(luaConcat, c.Line(), c.Lhs, c.Rhs)))
		}
	}
}

// boundKeys has the keys of tables counted. The table is noted before its key is evaluated, and that one's own tables are used up by then.
func boundKeys(node any) {
	counted := func(key ast.Expr) bool {
		_, constant := key.(*ast.StringExpr)
		return !constant && key != nil
	}
	switch n := node.(type) {
	case *ast.AttrGetExpr:
		if counted(n.Key) {
			n.Object = boundCall(luaTable, n.Key.Line(), n.Object)
			n.Key = boundCall(luaKey, n.Key.Line(), n.Key)
		}
	case *ast.Field:
		if counted(n.Key) {
			n.Key = boundCall(luaField, n.Key.Line(), n.Key)
		}
	}
}

func boundCall(name string, line int, args ...ast.Expr) ast.Expr {
	function := &ast.IdentExpr{Value: name}
	function.SetLine(line)
	call := &ast.FuncCallExpr{Func: function, Args: args, AdjustRet: true}
	call.SetLine(line)
	call.SetLastLine(line)
	return call
}

// openLua gives the script the libraries that are pure: no files, processes, clock, random numbers or loading.
func openLua(l *lua.LState, now *time.Time) {
	for _, open := range []lua.LGFunction{lua.OpenBase, lua.OpenTable, lua.OpenString, lua.OpenMath} {
		l.Push(l.NewFunction(open))
		l.Call(0, 0)
	}
	for _, name := range []string{"dofile", "loadfile", "load", "loadstring", "require", "module", "collectgarbage",
		"newproxy", "getfenv", "setfenv", "rawset", "_printregs"} {
		l.SetGlobal(name, lua.LNil)
	}
	text := 0
	spend := func(l *lua.LState, n int) {
		if n < 0 || n > maxLuaText-text {
			text = maxLuaText
			l.RaiseError("script makes more than %d bytes of text", maxLuaText)
		}
		text += n
	}
	l.SetGlobal(luaConcat, l.NewFunction(func(l *lua.LState) int {
		a, b := l.Get(1), l.Get(2)
		if !lua.LVCanConvToString(a) || !lua.LVCanConvToString(b) {
			l.RaiseError("attempt to concatenate a %s and a %s value", a.Type(), b.Type())
		}
		left, right := lua.LVAsString(a), lua.LVAsString(b)
		spend(l, len(left)+len(right))
		l.Push(lua.LString(left + right))
		return 1
	}))
	boundTables(l, spend)
	l.SetGlobal("tostring", l.NewFunction(plainText))
	l.SetGlobal("print", l.NewFunction(func(*lua.LState) int { return 0 }))
	openTime(l, now, spend)
	boundLibraries(l, spend)
}

// boundTables counts what a table fills up when a key lies behind its end.
func boundTables(l *lua.LState, spend func(*lua.LState, int)) {
	var tables []*lua.LTable // those whose keys are yet to come
	index := func(l *lua.LState, length int) {
		n, ok := l.Get(1).(lua.LNumber)
		if ok && float64(n) > maxLuaIndex {
			l.RaiseError("index %v is larger than %d", n, maxLuaIndex)
		}
		if gap := int(n) - length - 1; ok && gap > 0 {
			spend(l, itemSize*gap)
		}
		l.Push(l.Get(1))
	}
	l.SetGlobal(luaTable, l.NewFunction(func(l *lua.LState) int {
		t, _ := l.Get(1).(*lua.LTable)
		tables = append(tables, t)
		l.Push(l.Get(1))
		return 1
	}))
	l.SetGlobal(luaKey, l.NewFunction(func(l *lua.LState) int {
		length := maxLuaIndex // what is no table fills nothing up
		if last := len(tables) - 1; last >= 0 {
			if t := tables[last]; t != nil {
				length = t.Len()
			}
			tables = tables[:last]
		}
		index(l, length)
		return 1
	}))
	l.SetGlobal(luaField, l.NewFunction(func(l *lua.LState) int {
		index(l, 0)
		return 1
	}))
}

func boundLibraries(l *lua.LState, spend func(*lua.LState, int)) {
	wrap(l, "string", "rep", func(l *lua.LState) {
		n := l.CheckInt(2)
		if n > 0 && len(l.CheckString(1)) > maxLuaText/n {
			spend(l, maxLuaText+1)
		}
		spend(l, max(n, 0)*len(l.CheckString(1)))
	})
	wrap(l, "string", "format", func(l *lua.LState) {
		size := len(l.CheckString(1))
		// A width such as %999999d makes text of its own.
		for digits := 0; size >= 0; digits++ {
			if digits >= len(l.CheckString(1)) {
				break
			}
			if run := digitRun(l.CheckString(1)[digits:]); run > 3 {
				l.RaiseError("format width is too large")
			}
		}
		for i := 2; i <= l.GetTop(); i++ {
			if addressed(l.Get(i)) {
				l.RaiseError("a %s cannot be formatted", l.Get(i).Type())
			}
			size += 2*len(lua.LVAsString(l.Get(i))) + 1024
		}
		spend(l, size)
	})
	wrap(l, "table", "concat", func(l *lua.LState) {
		t, size := l.CheckTable(1), 0
		separator := len(l.OptString(2, ""))
		for i := l.OptInt(3, 1); i <= l.OptInt(4, t.Len()) && i <= maxLuaIndex; i++ {
			size += len(lua.LVAsString(t.RawGetInt(i))) + separator
		}
		spend(l, size)
	})
	wrap(l, "table", "insert", func(l *lua.LState) {
		if l.GetTop() != 3 {
			return
		}
		if l.CheckInt(2) > maxLuaIndex {
			l.RaiseError("index is larger than %d", maxLuaIndex)
		}
		spend(l, itemSize*max(0, l.CheckInt(2)-l.CheckTable(1).Len()-1))
	})
	openPatterns(l, spend)
	for _, name := range []string{"lower", "upper", "reverse"} {
		wrap(l, "string", name, func(l *lua.LState) { spend(l, len(l.CheckString(1))) })
	}
	if lib, ok := l.GetGlobal("math").(*lua.LTable); ok {
		lib.RawSetString("random", lua.LNil)
		lib.RawSetString("randomseed", lua.LNil)
	}
	if lib, ok := l.GetGlobal("string").(*lua.LTable); ok {
		lib.RawSetString("dump", lua.LNil)
	}
}

// addressed are the values whose text is where they lie in memory, which is different each time.
func addressed(v lua.LValue) bool {
	switch v.Type() {
	case lua.LTTable, lua.LTFunction, lua.LTUserData, lua.LTThread, lua.LTChannel:
		return true
	}
	return false
}

// plainText gives values without their address, unless they say themselves what their text is.
func plainText(l *lua.LState) int {
	v := l.CheckAny(1)
	if addressed(v) && l.GetMetaField(v, "__tostring") == lua.LNil {
		l.Push(lua.LString(v.Type().String()))
		return 1
	}
	l.Push(l.ToStringMeta(v))
	return 1
}

func digitRun(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// wrap calls check before a library's function.
func wrap(l *lua.LState, table, name string, check func(*lua.LState)) {
	lib, ok := l.GetGlobal(table).(*lua.LTable)
	if !ok {
		return
	}
	original := lib.RawGetString(name)
	lib.RawSetString(name, l.NewFunction(func(l *lua.LState) int {
		check(l)
		n := l.GetTop()
		l.Push(original)
		for i := 1; i <= n; i++ {
			l.Push(l.Get(i))
		}
		l.Call(n, lua.MultRet)
		return l.GetTop() - n
	}))
}

func toLua(l *lua.LState, value any) lua.LValue {
	switch v := value.(type) {
	case bool:
		return lua.LBool(v)
	case float64:
		return lua.LNumber(v)
	case int64:
		return lua.LNumber(v)
	case string:
		return lua.LString(v)
	case []any:
		t := l.CreateTable(len(v), 0)
		for _, item := range v {
			t.Append(toLua(l, item))
		}
		l.SetMetatable(t, listMark(l))
		return t
	case map[string]any:
		t := l.CreateTable(0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			t.RawSetString(key, toLua(l, v[key]))
		}
		return t
	}
	return lua.LNil
}

// listMark is how a script, too, says that an empty table is a list.
func listMark(l *lua.LState) *lua.LTable {
	mark := l.CreateTable(0, 1)
	mark.RawSetString("__is_array", lua.LTrue)
	return mark
}

// luaResult makes a result, of which so many bytes are left: a table that holds another twice is small, and its result is not.
type luaResult struct{ left int }

func (r *luaResult) value(value lua.LValue, depth int) (any, error) {
	if depth > maxLuaDepth {
		return nil, fmt.Errorf("result is nested more than %d deep", maxLuaDepth)
	}
	if r.left -= itemSize; value.Type() == lua.LTString {
		r.left -= len(lua.LVAsString(value))
	}
	if r.left < 0 {
		return nil, fmt.Errorf("result is larger than %d bytes", maxLuaResult)
	}
	switch v := value.(type) {
	case *lua.LNilType:
		return nil, nil
	case lua.LBool:
		return bool(v), nil
	case lua.LNumber:
		return float64(v), nil
	case lua.LString:
		return string(v), nil
	case *lua.LTable:
		return r.table(v, depth)
	}
	return nil, fmt.Errorf("a %s cannot be part of the result", value.Type())
}

func (r *luaResult) table(t *lua.LTable, depth int) (any, error) {
	mark, _ := t.Metatable.(*lua.LTable)
	marked := mark != nil && lua.LVAsBool(mark.RawGetString("__is_array"))
	if n := t.MaxN(); n > 0 || marked {
		list := make([]any, 0, n)
		for i := 1; i <= n; i++ {
			item, err := r.value(t.RawGetInt(i), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, nil
	}
	m := map[string]any{}
	var failed error
	t.ForEach(func(key, value lua.LValue) {
		if failed != nil {
			return
		}
		item, err := r.value(value, depth+1)
		if err != nil {
			failed = err
			return
		}
		m[lua.LVAsString(key)] = item
	})
	return m, failed
}

// counted is a context that ends after a number of looks at it: the interpreter looks once per instruction.
type counted struct {
	context.Context
	left int
	over chan struct{}
}

func count(steps int) *counted {
	return &counted{Context: context.Background(), left: steps, over: make(chan struct{})}
}

// Done implements [context.Context].
func (c *counted) Done() <-chan struct{} {
	if c.left--; c.left == 0 {
		close(c.over)
	}
	return c.over
}

// Err implements [context.Context].
func (c *counted) Err() error {
	if c.left <= 0 {
		return errors.New("took more steps than allowed")
	}
	return nil
}

// OneLine is an interpreter's message in one line, for a reason that people read.
func OneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
