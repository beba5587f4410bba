package manifest

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// FieldPath names fields of an object, as ignoreDifferences do. Its size bounds what following it costs: each step looks at each node once.
type FieldPath []fieldStep

// fieldStep is one step of a path: a name, an index, every element, or those elements that have a value in a field.
type fieldStep struct {
	name  string
	index int
	every bool
	// where, if not nil, is the field of an element that has the value equals.
	where  []string
	equals any
	// isName tells a name from an index.
	isName bool
}

// PointerPath is the path of a JSON pointer (RFC 6901). A number is an index in a list, and a name elsewhere.
func PointerPath(pointer string) FieldPath {
	var path FieldPath
	for _, segment := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		name := strings.NewReplacer("~1", "/", "~0", "~").Replace(segment)
		step := fieldStep{name: name, isName: true, index: -1}
		if i, err := strconv.Atoi(name); err == nil && i >= 0 {
			step.index = i
		}
		path = append(path, step)
	}
	return path
}

// maxFieldPath is the most bytes of an expression.
const maxFieldPath = 1024

// JQPath reads what of jq is a plain path: names (.spec.replicas, ."a/b", ["a/b"]), elements ([0], []) and elements that are selected by a
// value ([] | select(.name == "x")). Anything else would be a program, and is an error.
func JQPath(expression string) (FieldPath, error) {
	p := &jqPath{rest: strings.TrimSpace(expression), whole: expression}
	if len(expression) > maxFieldPath {
		return nil, fmt.Errorf("it has more than %d bytes", maxFieldPath)
	}
	for first := true; p.rest != ""; first = false {
		if !first && p.take("|") {
			p.space()
		}
		if err := p.step(); err != nil {
			return nil, err
		}
		p.take("?")
		p.space()
	}
	if len(p.path) == 0 {
		return nil, p.unknown()
	}
	return p.path, nil
}

type jqPath struct {
	rest, whole string
	path        FieldPath
}

func (p *jqPath) unknown() error {
	return fmt.Errorf("%.200q is no path that is understood here: names, [0], [] and [] | select(.name == \"x\") are", p.whole)
}

func (p *jqPath) space() { p.rest = strings.TrimLeft(p.rest, " \t\n") }

func (p *jqPath) take(text string) bool {
	rest, found := strings.CutPrefix(p.rest, text)
	p.rest = rest
	return found
}

// step reads one step.
func (p *jqPath) step() error {
	switch {
	case p.take("select("):
		return p.selection()
	case p.take(".["), p.take("["):
		return p.bracket()
	case p.take("."):
		name, ok := p.name()
		if !ok {
			return p.unknown()
		}
		p.path = append(p.path, fieldStep{name: name, isName: true, index: -1})
		return nil
	}
	return p.unknown()
}

// name reads an identifier or a quoted text.
func (p *jqPath) name() (string, bool) {
	if strings.HasPrefix(p.rest, `"`) {
		return p.quoted()
	}
	end := 0
	for end < len(p.rest) && (p.rest[end] == '_' || 'a' <= p.rest[end]|0x20 && p.rest[end]|0x20 <= 'z' || end > 0 && '0' <= p.rest[end] && p.rest[end] <= '9') {
		end++
	}
	name := p.rest[:end]
	p.rest = p.rest[end:]
	return name, name != ""
}

func (p *jqPath) quoted() (string, bool) {
	quoted, err := strconv.QuotedPrefix(p.rest)
	if err != nil {
		return "", false
	}
	text, err := strconv.Unquote(quoted)
	p.rest = p.rest[len(quoted):]
	return text, err == nil && !strings.Contains(quoted, `\(`)
}

func (p *jqPath) bracket() error {
	end := strings.IndexByte(p.rest, ']')
	switch {
	case p.take("]"):
		p.path = append(p.path, fieldStep{every: true})
		return nil
	case strings.HasPrefix(p.rest, `"`):
		name, ok := p.quoted()
		if !ok || !p.take("]") {
			return p.unknown()
		}
		p.path = append(p.path, fieldStep{name: name, isName: true, index: -1})
		return nil
	case end < 0:
		return p.unknown()
	}
	index, err := strconv.Atoi(p.rest[:end])
	if err != nil || index < 0 {
		return p.unknown()
	}
	p.rest = p.rest[end+1:]
	p.path = append(p.path, fieldStep{index: index})
	return nil
}

// selection reads what stands in select(...), which narrows the elements of the step before.
func (p *jqPath) selection() error {
	var where []string
	for p.space(); p.take("."); {
		name, ok := p.name()
		if !ok {
			return p.unknown()
		}
		where = append(where, name)
	}
	p.space()
	if n := len(p.path); len(where) == 0 || n == 0 || !p.path[n-1].every || p.path[n-1].where != nil || !p.take("==") {
		return p.unknown()
	}
	p.space()
	value, ok := p.literal()
	p.space()
	if !ok || !p.take(")") {
		return p.unknown()
	}
	last := &p.path[len(p.path)-1]
	last.where, last.equals = where, value
	return nil
}

// literal reads a text, a whole number, true or false.
func (p *jqPath) literal() (any, bool) {
	switch {
	case strings.HasPrefix(p.rest, `"`):
		return p.quoted()
	case p.take("true"):
		return true, true
	case p.take("false"):
		return false, true
	}
	end := 0
	for end < len(p.rest) && (p.rest[end] >= '0' && p.rest[end] <= '9' || end == 0 && p.rest[end] == '-') {
		end++
	}
	number, err := strconv.ParseInt(p.rest[:end], 10, 64)
	p.rest = p.rest[end:]
	return number, err == nil
}

// Remove takes the fields out of a tree.
func (f FieldPath) Remove(tree map[string]any) { f.remove(tree) }

// remove gives what is left of a node.
func (f FieldPath) remove(node any) any {
	if len(f) == 0 {
		return node
	}
	step, rest := f[0], f[1:]
	switch n := node.(type) {
	case map[string]any:
		for _, key := range step.keys(n) {
			if value, there := n[key]; len(rest) == 0 {
				delete(n, key)
			} else if there {
				n[key] = rest.remove(value)
			}
		}
	case []any:
		var kept []any
		for i, element := range n {
			switch {
			case !step.matches(i, element):
				kept = append(kept, element)
			case len(rest) > 0:
				kept = append(kept, rest.remove(element))
			}
		}
		if len(kept) == 0 {
			return []any{}
		}
		return kept
	}
	return node
}

// Copy gives the fields in a tree the values that they have in another; those that the other does not have are taken out. Elements of a list are
// one another's counterparts by their names, or by their places where they have none; one without a counterpart stays as it is.
func (f FieldPath) Copy(tree, from map[string]any) { f.copy(tree, from) }

func (f FieldPath) copy(node, from any) {
	if len(f) == 0 {
		return
	}
	step, rest := f[0], f[1:]
	switch n := node.(type) {
	case map[string]any:
		other, _ := from.(map[string]any)
		for _, key := range step.keys(n, other) {
			value, there := other[key]
			switch {
			case len(rest) > 0:
				if n[key] == nil && there && rest.plain() {
					n[key] = map[string]any{}
				}
				rest.copy(n[key], value)
			case there:
				n[key] = runtime.DeepCopyJSONValue(value)
			default:
				delete(n, key)
			}
		}
	case []any:
		for i, element := range n {
			if !step.matches(i, element) {
				continue
			}
			other, there := counterpart(i, element, from)
			switch {
			case !there:
			case len(rest) > 0:
				rest.copy(element, other)
			default:
				n[i] = runtime.DeepCopyJSONValue(other)
			}
		}
	}
}

// plain says that the next step is into an object by a name.
func (f FieldPath) plain() bool { return f[0].isName && f[0].index < 0 }

func counterpart(i int, element, from any) (any, bool) {
	list, _ := from.([]any)
	if e, ok := element.(map[string]any); ok && e["name"] != nil {
		for _, other := range list {
			if o, ok := other.(map[string]any); ok && reflect.DeepEqual(o["name"], e["name"]) {
				return other, true
			}
		}
		return nil, false
	}
	if i < len(list) {
		return list[i], true
	}
	return nil, false
}

// keys are those of objects that a step goes to.
func (s fieldStep) keys(objects ...map[string]any) []string {
	if s.isName {
		return []string{s.name}
	}
	var found []string
	if !s.every {
		return nil
	}
	seen := map[string]bool{}
	for _, object := range objects {
		for key, value := range object {
			if !seen[key] && s.selects(value) {
				seen[key] = true
				found = append(found, key)
			}
		}
	}
	return found
}

func (s fieldStep) matches(i int, element any) bool {
	if s.every {
		return s.selects(element)
	}
	return s.index == i
}

func (s fieldStep) selects(element any) bool {
	if s.where == nil {
		return true
	}
	for _, name := range s.where {
		object, ok := element.(map[string]any)
		if !ok {
			return false
		}
		element = object[name]
	}
	return reflect.DeepEqual(element, s.equals)
}
