package preview

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"sigs.k8s.io/yaml"
)

// maxRendered is the most that one template string may become.
const maxRendered = 1 << 20

// slugLength is Argo CD's for branch_slug.
const slugLength = 50

// engine renders template strings: Argo CD's default one ({{name}}) or Go templates.
type engine struct {
	goTemplate bool
	options    []string
	functions  template.FuncMap
}

func newEngine(goTemplate bool, options []string) *engine {
	e := &engine{goTemplate: goTemplate, options: options}
	if goTemplate {
		e.functions = functions()
	}
	return e
}

// functions are sprig's without those that reach the machine, and Argo CD's own.
func functions() template.FuncMap {
	f := sprig.TxtFuncMap()
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		delete(f, name)
	}
	f["repeat"] = func(n int, text string) (string, error) {
		if n < 0 || n*len(text) > maxRendered {
			return "", errors.New("repeat: too long")
		}
		return strings.Repeat(text, n), nil
	}
	for _, name := range []string{"until", "untilStep", "seq"} {
		delete(f, name) // A list of any length from three characters.
	}
	f["normalize"] = normalize
	f["slugify"] = slugify
	f["toYaml"] = func(value any) (string, error) {
		b, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(b), "\n"), err
	}
	f["fromYaml"] = func(text string) (map[string]any, error) {
		var value map[string]any
		err := yaml.Unmarshal([]byte(text), &value)
		return value, err
	}
	f["fromYamlArray"] = func(text string) ([]any, error) {
		var value []any
		err := yaml.Unmarshal([]byte(text), &value)
		return value, err
	}
	return f
}

// limited stops a template that writes too much.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxRendered {
		return 0, fmt.Errorf("the result is longer than %d bytes", maxRendered)
	}
	return l.Buffer.Write(p)
}

var tag = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

// text renders one string. In the default engine a tag that names no parameter stays as it is.
func (e *engine) text(text string, params map[string]any) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	if !e.goTemplate {
		return tag.ReplaceAllStringFunc(text, func(found string) string {
			if value, ok := params[tag.FindStringSubmatch(found)[1]].(string); ok {
				return value
			}
			return found
		}), nil
	}
	t, err := template.New("template").Funcs(e.functions).Option(e.options...).Parse(text)
	if err != nil {
		return "", fmt.Errorf("%q: %w", text, err)
	}
	var out limited
	if err := t.Execute(&out, params); err != nil {
		return "", fmt.Errorf("%q: %w", text, err)
	}
	return out.String(), nil
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

var (
	notInSlug = regexp.MustCompile(`[^a-z0-9]+`)
	notInName = regexp.MustCompile(`[^-a-z0-9.]`)
)

// slug makes a DNS label of a text, cut between words at the given length.
func slug(text string, length int) string {
	text = strings.Trim(notInSlug.ReplaceAllString(strings.ToLower(text), "-"), "-")
	if len(text) <= length {
		return text
	}
	words := strings.Split(text, "-")
	if len(words[0]) > length {
		return words[0][:length]
	}
	cut := words[0]
	for _, word := range words[1:] {
		if len(cut)+1+len(word) > length {
			break
		}
		cut += "-" + word
	}
	return cut
}

// slugify has Argo CD's arguments: [length] [cut between words] text.
func slugify(args ...any) (string, error) {
	length, smart := slugLength, false
	if len(args) == 0 {
		return "", errors.New("slugify: a text is needed")
	}
	text, ok := args[len(args)-1].(string)
	if !ok {
		return "", errors.New("slugify: the last argument must be a text")
	}
	for _, a := range args[:len(args)-1] {
		switch v := a.(type) {
		case int:
			length = v
		case bool:
			smart = v
		default:
			return "", fmt.Errorf("slugify: %v is neither a length nor true or false", a)
		}
	}
	if smart {
		return slug(text, length), nil
	}
	whole := slug(text, len(text)+1)
	return strings.TrimRight(whole[:min(max(length, 0), len(whole))], "-"), nil
}

// normalize makes a DNS subdomain name, as Argo CD does.
func normalize(text string) string {
	name := notInName.ReplaceAllString(strings.ToLower(text), "-")
	return strings.Trim(name[:min(253, len(name))], "-.")
}
