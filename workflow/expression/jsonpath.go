package expression

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/expr-lang/expr"

	"github.com/tiphys/tiphys/budget"
)

// jsonPath is Argo's jsonpath(json, path): $, .name, ['name'], [n], [a:b:c], [x,y], .*, [*], ..name and
// [?(@.x > 1 && @.y == "z")]. A path that may find several values gives a list. What it finds on its way is taken from the budget.
func jsonPath(b *budget.Budget, document any, path string) (any, error) {
	value := document
	if text, ok := document.(string); ok {
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			return nil, fmt.Errorf("jsonpath: the first argument is not JSON: %w", err)
		}
	}
	q := &query{budget: b, rest: strings.TrimPrefix(strings.TrimSpace(path), "$"), found: []any{value}}
	for q.rest != "" {
		if err := q.step(); err != nil {
			return nil, fmt.Errorf("jsonpath %q: %w", cut(path, maxShown), err)
		}
	}
	if q.many {
		return q.found, nil
	}
	if len(q.found) == 0 {
		return nil, fmt.Errorf("jsonpath %q: not found", cut(path, maxShown))
	}
	return q.found[0], nil
}

// maxFound is how many values a path may have at hand at once.
const maxFound = 100_000

type query struct {
	budget *budget.Budget
	rest   string
	found  []any
	many   bool
	// next are the values that the step under way has found, and full is why there can be no more.
	next []any
	full error
}

// add notes a value that a step has found, and tells whether there may be more.
func (q *query) add(value any) bool {
	if q.full == nil && len(q.next) == maxFound {
		q.full = fmt.Errorf("more than %d values", maxFound)
	}
	if q.full == nil {
		q.full = q.budget.Step(0)
	}
	if q.full != nil {
		return false
	}
	q.next = append(q.next, value)
	return true
}

// take makes what a step has found the values that the next one looks at.
func (q *query) take() error {
	q.found, q.next = q.next, nil
	return q.full
}

func (q *query) step() error {
	switch {
	case strings.HasPrefix(q.rest, ".."):
		q.rest, q.many = q.rest[2:], true
		for _, v := range q.found {
			if !q.descend(v) {
				break
			}
		}
		if !strings.HasPrefix(q.rest, "[") {
			q.rest = "." + q.rest
		}
		return q.take()
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
			return q.all()
		}
		return q.names([]string{name})
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
		return q.all()
	case strings.HasPrefix(inner, "?"):
		return q.filter(strings.TrimSpace(inner[1:]))
	case strings.HasPrefix(inner, "'") || strings.HasPrefix(inner, `"`):
		var list []string
		for part := range strings.SplitSeq(inner, ",") {
			list = append(list, strings.Trim(strings.TrimSpace(part), `'"`))
		}
		return q.names(list)
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
	return q.indexes(indexes)
}

func (q *query) names(list []string) error {
	for _, v := range q.found {
		m, ok := v.(map[string]any)
		if !ok {
			continue
		}
		for _, name := range list {
			if value, ok := m[name]; ok && !q.add(value) {
				return q.full
			}
		}
	}
	q.many = q.many || len(list) > 1
	return q.take()
}

func (q *query) indexes(list []int) error {
	for _, v := range q.found {
		l, ok := v.([]any)
		if !ok {
			continue
		}
		for _, n := range list {
			if n < 0 {
				n += len(l)
			}
			if n >= 0 && n < len(l) && !q.add(l[n]) {
				return q.full
			}
		}
	}
	q.many = q.many || len(list) > 1
	return q.take()
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
	for _, v := range q.found {
		l, _ := v.([]any)
		from, to := clamp(bounds[0], 0, len(l)), clamp(bounds[1], len(l), len(l))
		for i := from; i < to && i >= 0; i += step { // a large step ends below zero
			if !q.add(l[i]) {
				return q.full
			}
		}
	}
	q.many = true
	return q.take()
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

func (q *query) all() error {
	for _, v := range q.found {
		for _, child := range children(v) {
			if !q.add(child) {
				return q.full
			}
		}
	}
	q.many = true
	return q.take()
}

// maxFilter is the most bytes of a filter's condition.
const maxFilter = 4096

// filter keeps the children for which the condition holds; one that cannot be evaluated for a child does not hold. The condition
// knows expr-lang's own functions, and shares the budget of the expression that it stands in.
func (q *query) filter(condition string) error {
	condition = strings.TrimSuffix(strings.TrimPrefix(condition, "("), ")")
	if len(condition) > maxFilter {
		return fmt.Errorf("a condition of more than %d bytes", maxFilter)
	}
	p := compile(strings.ReplaceAll(condition, "@", "tiphys_it"))
	if p.err != nil {
		return p.err
	}
	env := functions{}.environment(Options{}, p, q.budget)
	for _, name := range []string{"jsonpath", "now", "sprig"} {
		delete(env, name)
	}
	for _, v := range q.found {
		for _, child := range children(v) {
			if err := q.budget.Step(0); err != nil {
				return err
			}
			env["tiphys_it"] = child
			holds, err := expr.Run(p.run, env)
			if spent := q.budget.Spent(); spent != nil {
				return spent
			}
			if err != nil || holds == nil || holds == false {
				continue
			}
			if !q.add(child) {
				return q.full
			}
		}
	}
	q.many = true
	return q.take()
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

// descend adds a value and all below it.
func (q *query) descend(v any) bool {
	if !q.add(v) {
		return false
	}
	for _, child := range children(v) {
		if !q.descend(child) {
			return false
		}
	}
	return true
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
