package manifest

import (
	"reflect"
	"strings"
)

// Limit says what of one type of a manifest this program does not do.
type Limit struct {
	// NoEffect are fields that are read and kept, and nothing follows.
	NoEffect []string
	// Refused are fields with which nothing runs.
	Refused []string
}

// Support has the limits of types by name, those of Kubernetes' types among them, with the names of fields that manifests use.
type Support struct {
	Types map[string]Limit
	// Refuse says why a field is refused, and what to do instead.
	Refuse func(field string) (message, hint string)
}

// Find goes through an object's tree (as encoding/json decodes it into an any) along its Go type, and lists errors for
// what is refused, and a warning for each field without effect, where it occurs first. The diagnostics have paths;
// [Locate] gives them their places.
func (s Support) Find(root reflect.Type, tree any) []Diagnostic {
	w := &limiter{limits: s, shapes: map[reflect.Type]*shape{}, idle: map[string]bool{}}
	w.walk(root, tree, "")
	return w.found
}

// limiter goes through a tree along its Go types.
type limiter struct {
	limits Support
	shapes map[reflect.Type]*shape
	// idle are the fields without effect that were said: once for each field of a type is enough.
	idle  map[string]bool
	found []Diagnostic
}

// shape is what a type says of its fields.
type shape struct {
	limit   map[string]verdict
	members map[string]reflect.Type
}

type verdict struct {
	refused bool
	owner   string
}

func (l *limiter) walk(t reflect.Type, v any, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok { // a group of steps may be written as one step
			l.walk(t.Elem(), v, path)
			return
		}
		for i, x := range list {
			l.walk(t.Elem(), x, IndexPath(path, i))
		}
	case reflect.Map:
		m, _ := v.(map[string]any)
		for _, k := range sortedKeys(m) {
			l.walk(t.Elem(), m[k], JoinPath(path, k))
		}
	case reflect.Struct:
		m, _ := v.(map[string]any)
		s := l.shape(t)
		for _, k := range sortedKeys(m) {
			at := JoinPath(path, k)
			if verdict, ok := s.limit[k]; ok && said(m[k]) {
				l.say(verdict, k, at)
			} else if member, ok := s.members[k]; ok {
				l.walk(member, m[k], at)
			}
		}
	}
}

// said reports whether a field says anything: false, "" and empty lists are what a field is that is not there.
func said(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	}
	return true
}

func (l *limiter) say(v verdict, field, path string) {
	if v.refused {
		message, hint := l.limits.Refuse(field)
		l.found = append(l.found, Diagnostic{Severity: SeverityError, Path: path, Message: message, Hint: hint})
		return
	}
	key := v.owner + "." + field
	if l.idle[key] {
		return
	}
	l.idle[key] = true
	l.found = append(l.found, Diagnostic{
		Severity: SeverityWarning, Path: path, Message: path + " has no effect on this machine", Hint: "docs/compatibility.md lists what has",
	})
}

// shape reads a type. Types that are not the manifest's are looked into only where there is a limit for them.
func (l *limiter) shape(t reflect.Type) *shape {
	if s := l.shapes[t]; s != nil {
		return s
	}
	s := &shape{limit: map[string]verdict{}, members: map[string]reflect.Type{}}
	l.shapes[t] = s
	own := t.PkgPath() == reflect.TypeFor[Workflow]().PkgPath()
	limit, limited := l.limits.Types[t.Name()]
	if !own && !limited {
		return s
	}
	for _, k := range limit.NoEffect {
		s.limit[k] = verdict{false, t.Name()}
	}
	for _, k := range limit.Refused {
		s.limit[k] = verdict{true, t.Name()}
	}
	if !own {
		return s
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && f.Anonymous:
			inner := l.shape(f.Type)
			for k, v := range inner.limit {
				s.limit[k] = v
			}
			for k, v := range inner.members {
				s.members[k] = v
			}
		case name != "":
			s.members[name] = f.Type
		}
	}
	return s
}
