package expression

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"bytes"

	"github.com/expr-lang/expr/builtin"

	"github.com/tiphys/tiphys/budget"
)

// functions are what expressions may call: Argo's (asInt, asFloat, string, jsonpath, toJson, sprig), and
// expr-lang's own.
type functions struct {
	sprigs budget.Sprigs
}

func isFunction(name string) bool {
	switch name {
	case "asInt", "asFloat", "jsonpath", "toJson", "sprig", "now", "replace", "join", "repeat", tickName, addName, weighName, matchName:
		return true
	}
	return weighed(name)
}

// weighed tells which of expr-lang's functions are called within the budget. The others look at one number or item.
func weighed(name string) bool {
	switch name {
	case "string", "trim", "trimPrefix", "trimSuffix", "upper", "lower", "split", "splitAfter", "indexOf", "lastIndexOf", "hasPrefix",
		"hasSuffix", "max", "min", "mean", "median", "toJSON", "fromJSON", "toBase64", "fromBase64", "keys", "values", "toPairs",
		"fromPairs", "reverse", "uniq", "concat", "flatten", "sort", "duration", "date", "int", "float":
		return true
	}
	return false
}

func newFunctions() functions {
	return functions{sprigs: budget.NewSprigs()}
}

// environment is what an evaluation sees beside its names. Whatever makes a text or a list takes it from the budget first.
func (f functions) environment(o Options, p *program, b *budget.Budget) map[string]any {
	env := map[string]any{
		"asInt":   asInt,
		"asFloat": asFloat,
		"toJson": func(value any) (string, error) {
			if err := b.Take(budget.Repeated(budget.Size(value, budget.Bytes), budget.Growth("toJson"))); err != nil {
				return "", fmt.Errorf("toJson: %w", err)
			}
			return toJSON(value), nil
		},
		"jsonpath": func(document any, path string) (any, error) {
			if err := b.Call(document, path); err != nil {
				return nil, fmt.Errorf("jsonpath: %w", err)
			}
			return jsonPath(b, document, path)
		},
		"now":     func() time.Time { return o.Now },
		"replace": func(args ...any) (any, error) { return replaceBuiltin(b, args) },
		"join":    func(args ...any) (any, error) { return joinBuiltin(b, args) },
		"repeat":  func(args ...any) (any, error) { return repeatBuiltin(b, args) },
		tickName: func(args ...any) (any, error) {
			if err := b.Step(0); err != nil {
				return nil, err
			}
			return args[0], nil
		},
		weighName: func(args ...any) (any, error) {
			if err := b.Step(budget.Size(args[0], budget.Bytes)); err != nil {
				return nil, err
			}
			return args[0], nil
		},
		matchName: func(args ...any) (any, error) { return match(b, p.patterns, args[0], args[1]) },
		addName:   func(args ...any) (any, error) { return add(b, args[0], args[1]) },
	}
	for name, call := range p.builtins {
		env[name] = func(args ...any) (any, error) { return callBuiltin(b, name, call, args) }
	}
	if len(p.sprigs) > 0 || p.anySprig {
		env["sprig"] = f.within(o, p, b)
	}
	return env
}

// match tells whether a text has a regular expression, as expr-lang's "matches" does: nil matches nothing.
func match(b *budget.Budget, known map[string]*budget.Pattern, left, right any) (any, error) {
	if left == nil || right == nil {
		return false, nil
	}
	text, ok := left.(string)
	pattern, both := right.(string)
	if !ok || !both {
		return nil, fmt.Errorf("matches: want two texts, got %T and %T", left, right)
	}
	compiled := known[pattern]
	if compiled == nil {
		var err error
		if compiled, err = b.ParsePattern(pattern); err != nil {
			return nil, fmt.Errorf("matches: %w", err)
		}
	}
	found, err := compiled.Match(b, text)
	if err != nil {
		return nil, fmt.Errorf("matches: %w", err)
	}
	return found, nil
}

// callBuiltin calls one of expr-lang's own functions.
func callBuiltin(b *budget.Budget, name string, call *builtin.Function, args []any) (result any, err error) {
	defer func() {
		// They panic on arguments of the wrong kind; the library's machine turns that into an error.
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %v", name, r)
		}
	}()
	size := budget.Sizes(args)
	looked := size
	if name == "uniq" { // which compares each with each
		looked = budget.Repeated(size/16, size)
	}
	if looked < 0 {
		return nil, fmt.Errorf("%s: %w", name, budget.ErrExceeded)
	}
	if err := b.Step(looked); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := b.Take(budget.Repeated(size, budget.Growth(name))); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	switch {
	case call.Fast != nil && len(args) == 1:
		result = call.Fast(args[0])
	case call.Func != nil:
		result, err = call.Func(args...)
	case call.Safe != nil:
		result, _, err = call.Safe(args...)
	default:
		err = errors.New("wrong number of arguments")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return result, nil
}

// within gives the functions of sprig that an expression calls.
func (f functions) within(o Options, p *program, b *budget.Budget) map[string]any {
	names := p.sprigs
	if p.anySprig {
		names = append(slices.Clone(f.sprigs.Names()), budget.ChanceNames()...)
	}
	m := map[string]any{}
	seeded := f.seeded(o)
	for _, name := range names {
		if g, ok := seeded[name]; ok {
			m[name] = g
		} else if g := f.sprigs.Within(b, name); g != nil {
			m[name] = g
		}
	}
	return m
}

// seeded gives what in sprig needs a clock or chance, which the caller decides.
func (f functions) seeded(o Options) map[string]any {
	return budget.Chance{
		Now: o.Now, Random: rand.New(rand.NewPCG(uint64(o.Seed), 0x7469706879735f31)), //nolint:gosec // reproducible on purpose, and not for secrets
		ASCII: budget.Letters + budget.Digits + "!#$%&*+-./:;<=>?@^_|~",
		Text: func(n int) error {
			if n < 0 || n > 4096 {
				return errors.New("random text: more than 4096 characters")
			}
			return nil
		},
	}.Functions()
}

// asInt follows Argo: numbers are cut, texts are read as whole numbers or cut decimals.
func asInt(value any) (int, error) {
	switch v := value.(type) {
	case int:
		return v, nil
	case float64:
		return int(v), nil
	case json.Number:
		return asInt(v.String())
	case string:
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return int(n), nil
		}
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return 0, fmt.Errorf("asInt: %q is not a number", v)
		}
		return int(f), nil
	}
	r := reflect.ValueOf(value)
	switch {
	case r.CanInt():
		return int(r.Int()), nil
	case r.CanFloat():
		return int(r.Float()), nil
	}
	return 0, fmt.Errorf("asInt: %T is not a number", value)
}

func asFloat(value any) (float64, error) {
	switch v := value.(type) {
	case float64:
		return v, nil
	case json.Number:
		return v.Float64()
	case string:
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return 0, fmt.Errorf("asFloat: %q is not a number", v)
		}
		return f, nil
	}
	n, err := asInt(value)
	if err != nil {
		return 0, fmt.Errorf("asFloat: %T is not a number", value)
	}
	return float64(n), nil
}

// toJSON writes compact JSON with the keys in order; unlike Argo it leaves <, > and & as they are.
func toJSON(value any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return fmt.Sprint(value)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func isCollection(value any) bool {
	if _, err := value.(error); err {
		return false
	}
	switch reflect.ValueOf(value).Kind() {
	case reflect.Map, reflect.Slice, reflect.Array:
		return true
	}
	return false
}

// replaceBuiltin is expr-lang's replace(text, old, new[, count]).
func replaceBuiltin(b *budget.Budget, args []any) (any, error) {
	if len(args) != 3 && len(args) != 4 {
		return nil, errors.New("replace: want text, old and new")
	}
	if err := b.Call(args...); err != nil {
		return nil, fmt.Errorf("replace: %w", err)
	}
	s, old, by := Text(args[0]), Text(args[1]), Text(args[2])
	times := -1
	if len(args) == 4 {
		n, err := asInt(args[3])
		if err != nil {
			return nil, err
		}
		times = n
	}
	if err := b.Replace(s, old, by, times); err != nil {
		return nil, fmt.Errorf("replace: %w", err)
	}
	return strings.Replace(s, old, by, times), nil
}

// repeatBuiltin is expr-lang's repeat(text, times).
func repeatBuiltin(b *budget.Budget, args []any) (any, error) {
	if len(args) != 2 {
		return nil, errors.New("repeat: want a text and how many times")
	}
	s, ok := args[0].(string)
	n, err := asInt(args[1])
	if !ok || err != nil || n < 0 {
		return nil, errors.New("repeat: want a text and how many times")
	}
	if err := b.TakeText(budget.Repeated(int64(len(s)), int64(n))); err != nil {
		return nil, fmt.Errorf("repeat: %w", err)
	}
	return strings.Repeat(s, n), nil
}

// joinBuiltin is expr-lang's join(list[, separator]).
func joinBuiltin(b *budget.Budget, args []any) (any, error) {
	if len(args) != 1 && len(args) != 2 {
		return nil, errors.New("join: want a list and a separator")
	}
	separator := ""
	if len(args) == 2 {
		separator = Text(args[1])
	}
	v := reflect.ValueOf(args[0])
	if v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return Text(args[0]), nil
	}
	size := budget.Size(args[0], budget.Bytes) + max(0, budget.Repeated(int64(v.Len()), int64(len(separator))))
	if err := b.TakeText(size); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	var text strings.Builder
	for i := range v.Len() {
		if i > 0 {
			text.WriteString(separator)
		}
		text.WriteString(Text(v.Index(i).Interface()))
	}
	return text.String(), nil
}
