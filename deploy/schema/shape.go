package schema

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tiphys/tiphys/manifest"
)

// shapes compare trees with Go types: which fields there are, and what they hold.
type shapes struct {
	fields map[reflect.Type]map[string]reflect.Type
}

// object compares an object's tree with the type that it is to be decoded into.
func (s *shapes) object(r *report, typed any, tree map[string]any) {
	if s.fields == nil {
		s.fields = map[reflect.Type]map[string]reflect.Type{}
	}
	s.walk(r, reflect.TypeOf(typed).Elem(), tree, &place{})
}

// place is where a value stands: its text is only made for a problem.
type place struct {
	above *place
	key   string
	index int // of a list, if there is no key
}

func (p *place) String() string {
	if p.above == nil {
		return ""
	}
	if p.key == "" {
		return manifest.IndexPath(p.above.String(), p.index)
	}
	return manifest.JoinPath(p.above.String(), p.key)
}

func (s *shapes) wrong(r *report, at *place, want string, got any) {
	r.unreadable = true
	r.add(shorten(at.String()), fmt.Sprintf("must be %s, not %s", want, nameOf(got)))
}

// nameOf is what a value is, in words.
func nameOf(value any) string {
	switch value.(type) {
	case string:
		return "a text"
	case bool:
		return "true or false (a text has quotes)"
	case int64, float64, int, int32:
		return "a number (a text has quotes)"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("a %T", value)
}

func (s *shapes) walk(r *report, t reflect.Type, value any, at *place) {
	if value == nil {
		return // as if it were not there
	}
	if t.Kind() == reflect.Pointer {
		s.walk(r, t.Elem(), value, at)
		return
	}
	if want, special := s.special(t, value); special {
		if want != "" {
			s.wrong(r, at, want, value)
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		s.structure(r, t, value, at)
	case reflect.Map:
		tree, ok := value.(map[string]any)
		if !ok {
			s.wrong(r, at, "an object", value)
			return
		}
		for _, key := range slices.Sorted(maps.Keys(tree)) {
			s.walk(r, t.Elem(), tree[key], &place{above: at, key: key})
		}
	case reflect.Slice:
		list, ok := value.([]any)
		if !ok {
			s.wrong(r, at, "a list", value)
			return
		}
		for i, item := range list {
			s.walk(r, t.Elem(), item, &place{above: at, index: i})
		}
	default:
		if want := scalar(t, value); want != "" {
			s.wrong(r, at, want, value)
		}
	}
}

func (s *shapes) structure(r *report, t reflect.Type, value any, at *place) {
	tree, ok := value.(map[string]any)
	if !ok {
		s.wrong(r, at, "an object", value)
		return
	}
	fields := s.of(t)
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		below := &place{above: at, key: key}
		if known, there := fields[key]; there {
			s.walk(r, known, tree[key], below)
			continue
		}
		message := "there is no such field"
		if near := manifest.Nearest(key, slices.Sorted(maps.Keys(fields))); near != "" {
			message += fmt.Sprintf("; did you mean %s?", near)
		}
		r.add(shorten(below.String()), message)
	}
}

// of gives the fields of a struct by their names in JSON, those of embedded structs among them.
func (s *shapes) of(t reflect.Type) map[string]reflect.Type {
	if known, there := s.fields[t]; there {
		return known
	}
	found := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && f.Anonymous && f.Type.Kind() == reflect.Struct:
			maps.Copy(found, s.of(f.Type))
		case name == "":
			found[f.Name] = f.Type
		default:
			found[name] = f.Type
		}
	}
	s.fields[t] = found
	return found
}

// special looks at a value of a type that reads itself; it says what the value must be, or nothing where it is that. False is for every other type.
func (s *shapes) special(t reflect.Type, value any) (string, bool) {
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return quantity(value), true
	case reflect.TypeFor[intstr.IntOrString]():
		if _, text := value.(string); text {
			return "", true
		}
		return scalar(reflect.TypeFor[int32](), value), true
	case reflect.TypeFor[[]byte]():
		text, ok := value.(string)
		if !ok {
			return "a text in base64", true
		}
		if _, err := base64.StdEncoding.DecodeString(text); err != nil {
			return "a text in base64", true
		}
		return "", true
	}
	reader := reflect.TypeFor[json.Unmarshaler]()
	if !reflect.PointerTo(t).Implements(reader) {
		return "", false
	}
	raw, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(raw, reflect.New(t).Interface())
	}
	if err == nil {
		return "", true
	}
	if strings.HasSuffix(t.Name(), "Time") {
		return "a time such as 2006-01-02T15:04:05Z", true
	}
	return "a " + t.Name(), true
}

// quantity says that a value is none.
func quantity(value any) string {
	const want = "a quantity such as 500m or 1Gi"
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case int64, float64:
		text = fmt.Sprint(v)
	default:
		return want
	}
	if manifest.QuantityError(text) != nil {
		return want
	}
	if _, err := resource.ParseQuantity(text); err != nil {
		return want
	}
	return ""
}

// scalar says what a value of a plain type must be, or nothing where it is that. A number with nothing behind its point is a whole one: Kubernetes never sees
// the difference, since YAML's 1.0 comes to it as 1.
func scalar(t reflect.Type, value any) string {
	switch t.Kind() {
	case reflect.String:
		if _, ok := value.(string); !ok {
			return "a text"
		}
	case reflect.Bool:
		if _, ok := value.(bool); !ok {
			return "true or false"
		}
	case reflect.Float32, reflect.Float64:
		switch value.(type) {
		case int64, float64:
		default:
			return "a number"
		}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, ok := whole(value)
		if !ok {
			return "a whole number"
		}
		if t.Kind() == reflect.Int32 && (n > math.MaxInt32 || n < math.MinInt32) {
			return fmt.Sprintf("a whole number from %d to %d", math.MinInt32, math.MaxInt32)
		}
	}
	return ""
}

func whole(value any) (int64, bool) {
	switch v := value.(type) {
	case int64:
		return v, true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), true
		}
	}
	return 0, false
}
