package source

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/Masterminds/sprig/v3"
	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/manifest"
)

// Filter is an EventSource's filter expression (expr-lang, with Argo's functions and sprig).
type Filter struct {
	program   *vm.Program
	functions map[string]any
}

// CompileFilter reads a filter; nil where there is none.
func CompileFilter(f *manifest.EventSourceFilter) (*Filter, error) {
	if f == nil || strings.TrimSpace(f.Expression) == "" {
		return nil, nil
	}
	functions := filterFunctions()
	program, err := expr.Compile(f.Expression, expr.AllowUndefinedVariables())
	if err != nil {
		return nil, fmt.Errorf("compile filter: %w", err)
	}
	return &Filter{program: program, functions: functions}, nil
}

// filterFunctions leave out what reads the machine, the clock or chance, or makes memory without bound.
func filterFunctions() map[string]any {
	functions := map[string]any{}
	for name, function := range sprig.HermeticTxtFuncMap() {
		functions[name] = function
	}
	for _, name := range []string{"repeat", "until", "untilStep", "seq", "indent", "nindent", "getHostByName"} {
		delete(functions, name)
	}
	functions["asInt"] = func(v any) (int, error) {
		f, err := number(v)
		return int(f), err
	}
	functions["asFloat"] = number
	functions["toJson"] = func(v any) (string, error) {
		b, err := json.Marshal(v)
		return string(b), err
	}
	functions["jsonpath"] = func(v any, path string) (any, error) {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		path = strings.TrimPrefix(strings.TrimPrefix(path, "$"), ".")
		path = strings.NewReplacer("[", ".", "]", "").Replace(path)
		return gjson.GetBytes(b, path).Value(), nil
	}
	return functions
}

func number(v any) (float64, error) {
	switch x := v.(type) {
	case float64:
		return x, nil
	case int:
		return float64(x), nil
	case bool:
		if x {
			return 1, nil
		}
		return 0, nil
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(x), 64)
		if err != nil || math.IsInf(f, 0) {
			return 0, fmt.Errorf("%q is not a number", x)
		}
		return f, nil
	}
	return 0, fmt.Errorf("%T is not a number", v)
}

// Pass evaluates the filter over the data's top-level keys, with "-" as "_". Without a filter everything passes.
func (f *Filter) Pass(data json.RawMessage) (ok bool, err error) {
	if f == nil {
		return true, nil
	}
	defer func() {
		// A function of the library may panic on a value that it does not expect.
		if r := recover(); r != nil {
			ok, err = false, fmt.Errorf("evaluate filter: %v", r)
		}
	}()
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		return false, fmt.Errorf("evaluate filter: %w", err)
	}
	env := make(map[string]any, len(tree)+len(f.functions))
	for name, function := range f.functions {
		env[name] = function
	}
	for key, value := range tree {
		env[strings.ReplaceAll(key, "-", "_")] = value
	}
	result, err := expr.Run(f.program, env)
	if err != nil {
		return false, fmt.Errorf("evaluate filter: %w", err)
	}
	pass, isBool := result.(bool)
	if !isBool {
		return false, fmt.Errorf("evaluate filter: it gives %T, not true or false", result)
	}
	return pass, nil
}
