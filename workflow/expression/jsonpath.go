package expression

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/expr-lang/expr"
)

// jsonPath is Argo's jsonpath(json, path): $, .name, ['name'], [n], [a:b:c], [x,y], .*, [*], ..name and
// [?(@.x > 1 && @.y == "z")]. A path that may find several values gives a list.
func jsonPath(document any, path string) (any, error) {
	value := document
	if text, ok := document.(string); ok {
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			return nil, fmt.Errorf("jsonpath: the first argument is not JSON: %w", err)
		}
	}
	q := &query{rest: strings.TrimPrefix(strings.TrimSpace(path), "$"), found: []any{value}}
	for q.rest != "" {
		if err := q.step(); err != nil {
			return nil, fmt.Errorf("jsonpath %q: %w", path, err)
		}
		if len(q.found) > 100_000 {
			return nil, fmt.Errorf("jsonpath %q: more than 100000 values", path)
		}
	}
	if q.many {
		return q.found, nil
	}
	if len(q.found) == 0 {
		return nil, fmt.Errorf("jsonpath %q: not found", path)
	}
	return q.found[0], nil
}

type query struct {
	rest  string
	found []any
	many  bool
}

func (q *query) step() error {
	switch {
	case strings.HasPrefix(q.rest, ".."):
		q.rest, q.many = q.rest[2:], true
		var all []any
		for _, v := range q.found {
			all = descend(v, all)
		}
		q.found = all
		if !strings.HasPrefix(q.rest, "[") {
			q.rest = "." + q.rest
		}
		return nil
	case strings.HasPrefix(q.rest, "."):
		q.rest = q.rest[1:]
		end := strings.IndexAny(q.rest, ".[")
		if end < 0 {
			end = len(q.rest)
		}
		name := q.rest[:end]
		q.rest = q.rest[end:]
		if name == "" {
			return fmt.Errorf("a name is missing")
		}
		if name == "*" {
			q.all()
		} else {
			q.names([]string{name})
		}
		return nil
	case strings.HasPrefix(q.rest, "["):
		inner, rest, ok := bracket(q.rest)
		if !ok {
			return fmt.Errorf("a ] is missing")
		}
		q.rest = rest
		return q.brackets(strings.TrimSpace(inner))
	}
	return fmt.Errorf("unexpected %q", q.rest)
}

// bracket cuts "[…]" off, minding quotes and inner brackets.
func bracket(s string) (inner, rest string, ok bool) {
	depth, quote := 0, byte(0)
	for i := range len(s) {
		switch c := s[i]; {
		case quote != 0:
			if c == quote && s[i-1] != '\\' {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '[':
			depth++
		case c == ']':
			if depth--; depth == 0 {
				return s[1:i], s[i+1:], true
			}
		}
	}
	return "", "", false
}

func (q *query) brackets(inner string) error {
	switch {
	case inner == "*":
		q.all()
		return nil
	case strings.HasPrefix(inner, "?"):
		return q.filter(strings.TrimSpace(inner[1:]))
	case strings.HasPrefix(inner, "'") || strings.HasPrefix(inner, `"`):
		var list []string
		for part := range strings.SplitSeq(inner, ",") {
			list = append(list, strings.Trim(strings.TrimSpace(part), `'"`))
		}
		q.names(list)
		return nil
	case strings.Contains(inner, ":"):
		return q.slice(strings.Split(inner, ":"))
	}
	var indexes []int
	for part := range strings.SplitSeq(inner, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return fmt.Errorf("%q is no index", part)
		}
		indexes = append(indexes, n)
	}
	q.indexes(indexes)
	return nil
}

func (q *query) names(list []string) {
	var next []any
	for _, v := range q.found {
		m, ok := v.(map[string]any)
		if !ok {
			continue
		}
		for _, name := range list {
			if value, ok := m[name]; ok {
				next = append(next, value)
			}
		}
	}
	q.many = q.many || len(list) > 1
	q.found = next
}

func (q *query) indexes(list []int) {
	var next []any
	for _, v := range q.found {
		l, ok := v.([]any)
		if !ok {
			continue
		}
		for _, n := range list {
			if n < 0 {
				n += len(l)
			}
			if n >= 0 && n < len(l) {
				next = append(next, l[n])
			}
		}
	}
	q.many = q.many || len(list) > 1
	q.found = next
}

func (q *query) slice(parts []string) error {
	var bounds [3]*int
	for i, part := range parts {
		if i > 2 {
			return fmt.Errorf("a slice has at most three parts")
		}
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		n, err := strconv.Atoi(part)
		if err != nil {
			return fmt.Errorf("%q is no index", part)
		}
		bounds[i] = &n
	}
	step := 1
	if bounds[2] != nil {
		step = *bounds[2]
	}
	if step < 1 {
		return fmt.Errorf("the step of a slice must be at least 1")
	}
	var next []any
	for _, v := range q.found {
		l, _ := v.([]any)
		from, to := clamp(bounds[0], 0, len(l)), clamp(bounds[1], len(l), len(l))
		for i := from; i < to; i += step {
			next = append(next, l[i])
		}
	}
	q.found, q.many = next, true
	return nil
}

func clamp(bound *int, unset, length int) int {
	if bound == nil {
		return unset
	}
	n := *bound
	if n < 0 {
		n += length
	}
	return max(0, min(n, length))
}

func (q *query) all() {
	var next []any
	for _, v := range q.found {
		next = append(next, children(v)...)
	}
	q.found, q.many = next, true
}

// filter keeps the children for which the condition holds; one that cannot be evaluated for a child does not hold.
func (q *query) filter(condition string) error {
	condition = strings.TrimSuffix(strings.TrimPrefix(condition, "("), ")")
	program, err := expr.Compile(strings.ReplaceAll(condition, "@", "tiphys_it"), expr.MaxNodes(200), expr.Optimize(false))
	if err != nil {
		return firstLine(err)
	}
	var next []any
	for _, v := range q.found {
		for _, child := range children(v) {
			holds, err := expr.Run(program, map[string]any{"tiphys_it": child})
			if err != nil || holds == nil || holds == false {
				continue
			}
			next = append(next, child)
		}
	}
	q.found, q.many = next, true
	return nil
}

func children(v any) []any {
	switch x := v.(type) {
	case []any:
		return x
	case map[string]any:
		var list []any
		for _, k := range sortedKeys(x) {
			list = append(list, x[k])
		}
		return list
	}
	return nil
}

func descend(v any, into []any) []any {
	into = append(into, v)
	for _, child := range children(v) {
		into = descend(child, into)
	}
	return into
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
