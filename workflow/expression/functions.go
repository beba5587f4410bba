package expression

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"time"

	"bytes"

	"github.com/Masterminds/sprig/v3"
)

// functions are what expressions may call: Argo's (asInt, asFloat, string, jsonpath, toJson, sprig), and
// expr-lang's own.
type functions struct{ sprig map[string]any }

func isFunction(name string) bool {
	switch name {
	case "asInt", "asFloat", "jsonpath", "toJson", "sprig", "now", "replace", "join", tickName, addName:
		return true
	}
	return false
}

// newFunctions takes from sprig what reads the environment and the network (env and expandenv are missing in Argo
// too), and what makes keys; what can make much out of little gets a limit.
func newFunctions() functions {
	f := sprig.GenericFuncMap()
	for _, name := range []string{
		"env", "expandenv", "getHostByName", "genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert",
		"genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey", "bcrypt", "htpasswd", "derivePassword",
	} {
		delete(f, name)
	}
	f["repeat"] = func(count int, s string) (string, error) {
		if count < 0 || count > 0 && len(s) > maxText/count {
			return "", fmt.Errorf("repeat: more than %d bytes", maxText)
		}
		return strings.Repeat(s, count), nil
	}
	f["indent"] = indent
	f["nindent"] = func(spaces int, s string) (string, error) {
		text, err := indent(spaces, s)
		return "\n" + text, err
	}
	f["replace"] = func(old, by, s string) (string, error) { return replaceAll(s, old, by) }
	f["join"] = func(separator string, list any) (string, error) { return joinAll(list, separator) }
	f["until"] = func(n int) ([]int, error) { return steps(0, n, 1) }
	f["untilStep"] = steps
	delete(f, "seq")
	return functions{sprig: f}
}

func indent(spaces int, s string) (string, error) {
	if spaces < 0 || spaces > 1000 || spaces*(1+strings.Count(s, "\n")) > maxText {
		return "", errors.New("indent: more than 1000 spaces")
	}
	pad := strings.Repeat(" ", spaces)
	return pad + strings.ReplaceAll(s, "\n", "\n"+pad), nil
}

func steps(start, stop, step int) ([]int, error) {
	if step == 0 || step > 0 && stop < start || step < 0 && stop > start {
		return []int{}, nil
	}
	if (stop-start)/step > 100_000 {
		return nil, errors.New("until: more than 100000 numbers")
	}
	list := []int{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		list = append(list, i)
	}
	return list, nil
}

// environment is what an evaluation sees beside its names.
func (f functions) environment(o Options, withSprig bool) map[string]any {
	ticks := 0
	env := map[string]any{
		"asInt":    asInt,
		"asFloat":  asFloat,
		"toJson":   toJSON,
		"jsonpath": jsonPath,
		"now":      func() time.Time { return o.Now },
		"replace":  replaceBuiltin,
		"join":     joinBuiltin,
		tickName: func(args ...any) (any, error) {
			if ticks++; ticks > maxTicks {
				return nil, fmt.Errorf("expression takes more than %d steps", maxTicks)
			}
			return args[0], nil
		},
		addName: func(args ...any) (any, error) { return add(args[0], args[1]) },
	}
	if withSprig {
		env["sprig"] = f.timed(o)
	}
	return env
}

// timed gives sprig with a clock and a chance that the caller decides.
func (f functions) timed(o Options) map[string]any {
	m := maps.Clone(f.sprig)
	random := rand.New(rand.NewPCG(uint64(o.Seed), 0x7469706879735f31)) //nolint:gosec // reproducible on purpose, and not for secrets
	draw := func(alphabet string) func(int) (string, error) {
		return func(n int) (string, error) {
			if n < 0 || n > 4096 {
				return "", errors.New("random text: more than 4096 characters")
			}
			b := make([]byte, n)
			for i := range b {
				b[i] = alphabet[random.IntN(len(alphabet))]
			}
			return string(b), nil
		}
	}
	const letters, digits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
	m["now"] = func() time.Time { return o.Now }
	m["ago"] = func(t time.Time) string { return o.Now.Sub(t).Round(time.Second).String() }
	m["randAlpha"], m["randNumeric"], m["randAlphaNum"] = draw(letters), draw(digits), draw(letters+digits)
	m["randAscii"] = draw(letters + digits + "!#$%&*+-./:;<=>?@^_|~")
	m["randInt"] = func(low, high int) (int, error) {
		if high <= low {
			return 0, errors.New("randInt: the end is not above the start")
		}
		return low + random.IntN(high-low), nil
	}
	m["uuidv4"] = func() string {
		high, low := random.Uint64(), random.Uint64()
		return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", high>>32, high>>16&0xffff, high&0xfff, low>>48&0x3fff|0x8000, low&0xffffffffffff)
	}
	for _, name := range []string{"randBytes", "shuffle"} {
		delete(m, name)
	}
	return m
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

func replaceAll(s, old, by string) (string, error) {
	if n := strings.Count(s, old); n > 0 && len(by) > maxText/n {
		return "", fmt.Errorf("replace: more than %d bytes", maxText)
	}
	return strings.ReplaceAll(s, old, by), nil
}

// replaceBuiltin is expr-lang's replace(text, old, new[, count]) with a limit.
func replaceBuiltin(args ...any) (any, error) {
	if len(args) != 3 && len(args) != 4 {
		return nil, errors.New("replace: want text, old and new")
	}
	s, old, by := Text(args[0]), Text(args[1]), Text(args[2])
	if len(args) == 3 {
		return replaceAll(s, old, by)
	}
	n, err := asInt(args[3])
	if err != nil {
		return nil, err
	}
	if count := min(strings.Count(s, old), n); count > 0 && len(by) > maxText/count {
		return nil, fmt.Errorf("replace: more than %d bytes", maxText)
	}
	return strings.Replace(s, old, by, n), nil
}

func joinAll(list any, separator string) (string, error) {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return Text(list), nil
	}
	var b strings.Builder
	for i := range v.Len() {
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(Text(v.Index(i).Interface()))
		if b.Len() > maxText {
			return "", fmt.Errorf("join: more than %d bytes", maxText)
		}
	}
	return b.String(), nil
}

// joinBuiltin is expr-lang's join(list[, separator]) with a limit.
func joinBuiltin(args ...any) (any, error) {
	if len(args) != 1 && len(args) != 2 {
		return nil, errors.New("join: want a list and a separator")
	}
	separator := ""
	if len(args) == 2 {
		separator = Text(args[1])
	}
	return joinAll(args[0], separator)
}
