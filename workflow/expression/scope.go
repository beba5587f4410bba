package expression

import (
	"sort"
	"strings"
)

// Scope resolves names such as "inputs.parameters.x". A value is a string as a rule; item and what expressions
// read may be structured: map[string]any, []any, numbers, booleans, time.
type Scope interface {
	// Lookup gives the value of a whole dotted name.
	Lookup(name string) (any, bool)
}

// Lister is a Scope that can also say which names it has, for expressions that take a whole group
// (`toJson(inputs.parameters)`) or compute a name (`inputs.parameters[x]`).
type Lister interface {
	// Names gives the names that begin with prefix + "."; in any order, repeats allowed.
	Names(prefix string) []string
}

// Values is a Scope of a map.
type Values map[string]any

// Lookup implements [Scope].
func (v Values) Lookup(name string) (any, bool) {
	value, ok := v[name]
	return value, ok
}

// Names implements [Lister].
func (v Values) Names(prefix string) []string {
	var names []string
	for name := range v {
		if strings.HasPrefix(name, prefix+".") {
			names = append(names, name)
		}
	}
	return names
}

// Func is a Scope that computes each value when it is asked for.
type Func func(name string) (any, bool)

// Lookup implements [Scope].
func (f Func) Lookup(name string) (any, bool) { return f(name) }

// layer is a scope before another.
type layer struct{ first, parent Scope }

// Layer puts scopes before each other: the first that knows a name decides. It copies nothing. A nil scope is
// passed over.
func Layer(scopes ...Scope) Scope {
	var result Scope = Values(nil)
	for i := len(scopes) - 1; i >= 0; i-- {
		if scopes[i] != nil {
			result = layer{scopes[i], result}
		}
	}
	return result
}

// Lookup implements [Scope].
func (l layer) Lookup(name string) (any, bool) {
	if value, ok := l.first.Lookup(name); ok {
		return value, true
	}
	return l.parent.Lookup(name)
}

// Names implements [Lister].
func (l layer) Names(prefix string) []string {
	return append(names(l.first, prefix), names(l.parent, prefix)...)
}

func names(s Scope, prefix string) []string {
	if lister, ok := s.(Lister); ok {
		return lister.Names(prefix)
	}
	return nil
}

// resolve finds a name, or a field of a structured value: "item.user.name" where "item" is a map.
func resolve(s Scope, name string) (any, bool) {
	if value, ok := s.Lookup(name); ok {
		return value, true
	}
	for i := len(name) - 1; i > 0; i-- {
		if name[i] != '.' {
			continue
		}
		if value, ok := s.Lookup(name[:i]); ok {
			return field(value, name[i+1:])
		}
	}
	return nil, false
}

func field(value any, path string) (any, bool) {
	m, ok := value.(map[string]any)
	if !ok {
		return nil, false
	}
	if v, ok := m[path]; ok {
		return v, true
	}
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		if v, ok := m[path[:i]]; ok {
			return field(v, path[i+1:])
		}
	}
	return nil, false
}

// group builds the map of everything below a prefix; nil if there is nothing.
func group(s Scope, prefix string) map[string]any {
	below := names(s, prefix)
	if len(below) == 0 {
		return nil
	}
	sort.Strings(below)
	m := map[string]any{}
	for _, name := range below {
		if value, ok := s.Lookup(name); ok {
			setPath(m, strings.Split(name[len(prefix)+1:], "."), value)
		}
	}
	return m
}

// setPath puts a value into nested maps. Where a plain value is in the way, it stays.
func setPath(m map[string]any, path []string, value any) {
	for len(path) > 1 {
		next, ok := m[path[0]].(map[string]any)
		if !ok {
			if _, taken := m[path[0]]; taken {
				return
			}
			next = map[string]any{}
			m[path[0]] = next
		}
		m, path = next, path[1:]
	}
	if _, taken := m[path[0]]; !taken {
		m[path[0]] = value
	}
}
