package preview

import (
	"fmt"
	"maps"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/budget"
)

// maxRendered is the most that one template string may become.
const maxRendered = 1 << 20

// maxRead is the most YAML that a template may read at once, in bytes.
const maxRead = 256 << 10

// engine renders template strings: Argo CD's default one ({{name}}) or Go templates.
type engine struct {
	goTemplate bool
	options    []string
	sprigs     budget.Sprigs
	functions  map[string]any
	// budget is for all that one engine renders: the strings of one template.
	budget *budget.Budget
}

func newEngine(goTemplate bool, options []string) *engine {
	e := &engine{goTemplate: goTemplate, options: options, budget: budget.New()}
	if goTemplate {
		e.sprigs, e.functions = budget.NewSprigs(), functions()
	}
	return e
}

// functions are Argo CD's own.
func functions() map[string]any {
	return map[string]any{
		"normalize": normalize,
		"slugify":   slugify,
		"toYaml": func(value any) (string, error) {
			if budget.Size(value, maxRendered) > maxRendered {
				return "", fmt.Errorf("toYaml: %w: more than %d bytes", budget.ErrExceeded, maxRendered)
			}
			b, err := yaml.Marshal(value)
			return strings.TrimSuffix(string(b), "\n"), err
		},
		"fromYaml": func(text string) (map[string]any, error) {
			var value map[string]any
			err := fromYAML(text, &value)
			return value, err
		},
		"fromYamlArray": func(text string) ([]any, error) {
			var value []any
			err := fromYAML(text, &value)
			return value, err
		},
	}
}

// fromYAML reads YAML of a bounded size; the library refuses anchors that make too much of it.
func fromYAML(text string, into any) error {
	if len(text) > maxRead {
		return fmt.Errorf("fromYaml: %w: more than %d bytes", budget.ErrExceeded, maxRead)
	}
	return yaml.Unmarshal([]byte(text), into)
}

var tag = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

// text renders one string. In the default engine a tag that names no parameter stays as it is.
func (e *engine) text(text string, params map[string]any) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	if !e.goTemplate {
		var failed error
		out := tag.ReplaceAllStringFunc(text, func(found string) string {
			value, ok := params[tag.FindStringSubmatch(found)[1]].(string)
			if !ok || failed != nil {
				return found
			}
			failed = e.budget.TakeText(int64(len(value)))
			return value
		})
		return out, failed
	}
	t, err := budget.ParseTemplate(text, e.sprigs, e.functions, e.options...)
	if err != nil {
		return "", fmt.Errorf("%q: %w", text, err)
	}
	out, err := t.Execute(e.budget, maxRendered, params, nil)
	if err != nil {
		return "", fmt.Errorf("%q: %w", text, err)
	}
	return out, nil
}

// tree renders every string of a tree, keys too.
func (e *engine) tree(node any, params map[string]any) (any, error) {
	switch n := node.(type) {
	case string:
		return e.text(n, params)
	case []any:
		for i := range n {
			value, err := e.tree(n[i], params)
			if err != nil {
				return nil, err
			}
			n[i] = value
		}
	case map[string]any:
		rendered := make(map[string]any, len(n))
		for key, value := range n {
			name, err := e.text(key, params)
			if err != nil {
				return nil, err
			}
			if rendered[name], err = e.tree(value, params); err != nil {
				return nil, err
			}
		}
		return rendered, nil
	}
	return node, nil
}

// values renders a generator's values over its parameters, once: a value does not see the others, so nothing grows
// by naming itself.
func (e *engine) values(values map[string]string, params map[string]any) error {
	e.budget = budget.New()
	if len(values) == 0 {
		return nil
	}
	rendered := map[string]any{}
	for key, text := range values {
		value, err := e.text(text, params)
		if err != nil {
			return fmt.Errorf("values.%s: %w", key, err)
		}
		rendered[key] = value
	}
	if e.goTemplate {
		params["values"] = rendered
		return nil
	}
	for key, value := range rendered {
		params["values."+key] = value
	}
	return nil
}

// Values renders a generator's spec.values over parameters.
func Values(values map[string]string, params map[string]any, goTemplate bool, options []string) (map[string]any, error) {
	all := maps.Clone(params)
	if all == nil {
		all = map[string]any{}
	}
	return all, newEngine(goTemplate, options).values(values, all)
}
