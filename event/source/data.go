package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/Masterminds/sprig/v3"
	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/manifest"
)

// maskedHeader takes the place of a secret in the recorded headers; the words are Argo's.
const maskedHeader = "*** Masked Auth Secret ***"

// data lays the event out as Argo does for the type: "header" for a webhook, "headers" for a forge. body is valid JSON; an empty one
// is null.
func (h *hook) data(header http.Header, body []byte, g *event.Git) (json.RawMessage, error) {
	type layout struct {
		Header   http.Header       `json:"header,omitempty"`
		Headers  http.Header       `json:"headers,omitempty"`
		Metadata map[string]string `json:"metadata,omitempty"`
		Git      *event.Git        `json:"git,omitempty"`
	}
	if len(body) == 0 {
		body = []byte("null")
	}
	d := layout{Metadata: h.metadata, Git: g}
	if d.Metadata == nil {
		d.Metadata = h.context.Metadata
	}
	switch h.kind {
	case "generic":
	case "webhook":
		d.Header = masked(header)
	default:
		d.Headers = masked(header)
	}
	if h.kind == forge.GitHub && gjson.ParseBytes(body).IsObject() {
		for _, name := range []string{"X-GitHub-Event", "X-GitHub-Delivery"} {
			var err error
			if body, err = sjson.SetBytes(body, name, header.Get(name)); err != nil {
				return nil, fmt.Errorf("add %s to the body: %w", name, err)
			}
		}
	}
	around, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	body = compact(body)
	data := append(make([]byte, 0, len(around)+len(body)+len(`"body":,`)), `{"body":`...)
	data = append(data, body...)
	if len(around) > len("{}") {
		data = append(data, ',')
	}
	return append(data, around[1:]...), nil
}

// compact gives valid JSON as json.Marshal writes it, which is what Argo hands to parameters. Most forges send it so already, and
// then it costs a glance.
func compact(body []byte) []byte {
	text, escaped := false, false
	for i, c := range body {
		switch {
		case c == '<', c == '>', c == '&', c == 0xe2 && bytes.HasPrefix(body[i:], []byte("\u2028"[:2])):
			return marshalled(body)
		case escaped:
			escaped = false
		case text && c == '\\':
			escaped = true
		case c == '"':
			text = !text
		case !text && (c == ' ' || c == '\n' || c == '\t' || c == '\r'):
			return marshalled(body)
		}
	}
	return body
}

func marshalled(body []byte) []byte {
	out, err := json.Marshal(json.RawMessage(body))
	if err != nil {
		return body // it is valid
	}
	return out
}

// masked copies headers without what proves identity.
func masked(header http.Header) http.Header {
	out := header.Clone()
	for _, name := range []string{"Authorization", "Proxy-Authorization", "X-Gitlab-Token", "Cookie"} {
		if len(out.Values(name)) > 0 {
			out.Set(name, maskedHeader)
		}
	}
	return out
}

// filter is an EventSource's filter expression (expr-lang, with Argo's functions and sprig).
type filter struct {
	program   *vm.Program
	functions map[string]any
}

func compileFilter(f *manifest.EventSourceFilter) (*filter, error) {
	if f == nil || strings.TrimSpace(f.Expression) == "" {
		return nil, nil
	}
	functions := filterFunctions()
	program, err := expr.Compile(f.Expression, expr.AllowUndefinedVariables())
	if err != nil {
		return nil, fmt.Errorf("compile filter: %w", err)
	}
	return &filter{program: program, functions: functions}, nil
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

// pass evaluates the filter over the data's top-level keys, with "-" as "_". No filter passes.
func (f *filter) pass(data json.RawMessage) (ok bool, err error) {
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
