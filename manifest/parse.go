package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits bound what a manifest may cost before it is understood. The zero value of a field means its default.
type Limits struct {
	// Bytes of a file; default 4 MiB.
	Bytes int
	// Depth of nesting; default 100.
	Depth int
	// Nodes after aliases are expanded; default 400,000. It is what stops a "billion laughs" manifest.
	Nodes int
}

func (l Limits) withDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 4 << 20
	}
	if l.Depth == 0 {
		l.Depth = 100
	}
	if l.Nodes == 0 {
		l.Nodes = 400_000
	}
	return l
}

// parser makes trees of one file.
type parser struct {
	src    *source
	limits Limits
	nodes  int
	// metadata counts how many keys "metadata" the parser is below.
	metadata int
	warnings []Diagnostic
}

// problem is a fault that ends the parsing of a document.
type problem struct {
	line, column int32
	message      string
	hint         string
}

func (p *problem) Error() string { return p.message }

func (p *parser) fail(line, column int32, format string, args ...any) error {
	return &problem{line: line, column: column, message: fmt.Sprintf(format, args...)}
}

func (p *parser) count(line, column int32, depth int) error {
	p.nodes++
	if p.nodes > p.limits.Nodes {
		return &problem{line: line, column: column,
			message: fmt.Sprintf("manifest has more than %d values after its aliases are expanded", p.limits.Nodes),
			hint:    "split it, or use fewer aliases"}
	}
	if depth > p.limits.Depth {
		return p.fail(line, column, "manifest is nested more than %d levels deep", p.limits.Depth)
	}
	return nil
}

// documents parses all documents of the file; what was parsed before a fault is given with it.
func (p *parser) documents() (trees []*Tree, err error) {
	defer func() {
		// The YAML library reports its own faults as errors; what it does not foresee must not end the server.
		if r := recover(); r != nil {
			err = p.fail(0, 0, "read yaml: %v", r)
		}
	}()
	if looksLikeJSON(p.src.data) {
		trees, err = p.jsonDocuments()
		var syntax *json.SyntaxError
		if !errors.As(err, &syntax) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return trees, err
		}
		p.nodes, p.metadata, p.warnings = 0, 0, nil // a YAML flow mapping begins like JSON
	}
	return p.yamlDocuments()
}

func looksLikeJSON(data []byte) bool {
	trimmed := bytes.TrimLeft(data, " \t\r\n\ufeff")
	return len(trimmed) > 0 && trimmed[0] == '{'
}

func (p *parser) yamlDocuments() ([]*Tree, error) {
	var trees []*Tree
	decoder := yaml.NewDecoder(bytes.NewReader(p.src.data))
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return trees, nil
		}
		if err != nil {
			return trees, yamlProblem(err)
		}
		if len(node.Content) == 0 {
			continue
		}
		tree, err := p.yaml(node.Content[0], 1)
		if err != nil {
			return trees, err
		}
		trees = append(trees, tree)
	}
}

func yamlProblem(err error) error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int64
	if m := regexp.MustCompile(`^(?:unmarshal errors:\s*)?line (\d+): `).FindStringSubmatch(message); m != nil {
		line, _ = strconv.ParseInt(m[1], 10, 32)
		message = message[len(m[0]):]
	}
	column := min(line, 1)
	return &problem{line: int32(line), column: int32(column), message: "read yaml: " + message} //nolint:gosec // parsed with 32 bits
}

func (p *parser) yaml(n *yaml.Node, depth int) (*Tree, error) {
	line, column := int32(n.Line), int32(n.Column) //nolint:gosec // files are limited to a few MiB
	if err := p.count(line, column, depth); err != nil {
		return nil, err
	}
	t := &Tree{line: line, column: column, src: p.src}
	switch n.Kind {
	case yaml.AliasNode:
		// A cycle of aliases ends at the depth limit.
		return p.yaml(n.Alias, depth+1)
	case yaml.SequenceNode:
		t.kind = KindList
		for _, c := range n.Content {
			item, err := p.yaml(c, depth+1)
			if err != nil {
				return nil, err
			}
			t.items = append(t.items, item)
		}
	case yaml.MappingNode:
		t.kind = KindMap
		if err := p.mapping(t, n, depth); err != nil {
			return nil, err
		}
	case yaml.ScalarNode:
		scalar(t, n)
	default:
		return nil, p.fail(line, column, "read yaml: unexpected node")
	}
	return t, nil
}

func (p *parser) mapping(t *Tree, n *yaml.Node, depth int) error {
	seen := make(map[string]int32, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		line, column := int32(k.Line), int32(k.Column) //nolint:gosec // files are limited to a few MiB
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			return p.fail(line, column, "a key must be a string")
		}
		if k.ShortTag() == "!!merge" {
			merges = append(merges, v)
			continue
		}
		f := field{key: k.Value, line: line, column: column}
		if err := p.once(f, seen); err != nil {
			return err
		}
		value, err := p.below(f.key, func() (*Tree, error) { return p.yaml(v, depth+1) })
		if err != nil {
			return err
		}
		f.value = value
		t.fields = append(t.fields, f)
	}
	if len(seen) < len(t.fields) {
		t.fields = lastOfEach(t.fields)
	}
	for _, m := range merges {
		if err := p.merge(t, m, seen, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// once refuses a key that the map has already. In metadata, which does not change what runs, the last one wins
// with a warning: Argo takes the last one everywhere, and manifests with two lists of annotations exist.
func (p *parser) once(f field, seen map[string]int32) error {
	first, dup := seen[f.key]
	seen[f.key] = f.line
	if !dup {
		return nil
	}
	message := fmt.Sprintf("key %q is already set in line %d", f.key, first)
	if p.metadata == 0 {
		return p.fail(f.line, f.column, "%s", message)
	}
	if len(p.warnings) < maxDoubles {
		p.warnings = append(p.warnings, Diagnostic{Severity: SeverityWarning, Message: message, Hint: "the last one is used",
			Position: Position{File: p.src.file, Line: int(f.line), Column: int(f.column)}})
	}
	return nil
}

// maxDoubles is how many keys that are set twice are told of.
const maxDoubles = 100

// lastOfEach leaves of the fields with the same key the last one.
func lastOfEach(fields []field) []field {
	seen := make(map[string]bool, len(fields))
	kept := make([]field, 0, len(fields))
	for _, f := range slices.Backward(fields) {
		if !seen[f.key] {
			seen[f.key] = true
			kept = append(kept, f)
		}
	}
	slices.Reverse(kept)
	return kept
}

// below parses the value of a key.
func (p *parser) below(key string, parse func() (*Tree, error)) (*Tree, error) {
	if key == "metadata" {
		p.metadata++
		defer func() { p.metadata-- }()
	}
	return parse()
}

// merge adds the keys of `<<: *anchor` (or of a list of such) that the mapping does not set itself.
func (p *parser) merge(t *Tree, n *yaml.Node, seen map[string]int32, depth int) error {
	from, err := p.yaml(n, depth)
	if err != nil {
		return err
	}
	parts := []*Tree{from}
	if from.kind == KindList {
		parts = from.items
	}
	for _, part := range parts {
		if part.kind != KindMap {
			return p.fail(int32(n.Line), int32(n.Column), "<< wants a map, got a %s", part.kind) //nolint:gosec // as above
		}
		for _, f := range part.fields {
			if _, own := seen[f.key]; own {
				continue
			}
			seen[f.key] = f.line
			t.fields = append(t.fields, f)
		}
	}
	return nil
}

func scalar(t *Tree, n *yaml.Node) {
	t.kind, t.text = KindString, n.Value
	switch n.ShortTag() {
	case "!!null":
		t.kind = KindNull
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			t.kind, t.number = KindBool, strconv.FormatBool(b)
		}
	case "!!int", "!!float":
		if literal, ok := numberLiteral(n); ok {
			t.kind, t.number = KindNumber, literal
		}
	}
}

// numberLiteral gives a YAML number as a JSON literal. Infinity and NaN have none and stay text.
func numberLiteral(n *yaml.Node) (string, bool) {
	if isJSONNumber(n.Value) {
		return n.Value, true
	}
	var v any
	if n.Decode(&v) != nil {
		return "", false
	}
	switch x := v.(type) {
	case int:
		return strconv.Itoa(x), true
	case int64:
		return strconv.FormatInt(x, 10), true
	case uint64:
		return strconv.FormatUint(x, 10), true
	case float64:
		if math.IsInf(x, 0) || math.IsNaN(x) {
			return "", false
		}
		b, err := json.Marshal(x)
		return string(b), err == nil
	}
	return "", false
}
