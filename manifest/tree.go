package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Kind of a tree node: the six kinds of JSON.
type Kind uint8

// The kinds.
const (
	KindNull Kind = iota
	KindBool
	KindNumber
	KindString
	KindList
	KindMap
)

// String names the kind as error messages do.
func (k Kind) String() string {
	return [...]string{"null", "boolean", "number", "string", "list", "map"}[k]
}

// Tree is a manifest, or a part of one, as the user wrote it: JSON's kinds with a position for every node. It
// is what the engine keeps and substitutes in, because a tag may stand where a number or a list is wanted, so
// typed decoding has to wait. A Tree is not changed after it was made.
type Tree struct {
	kind   Kind
	line   int32
	column int32
	text   string // scalars: the text as written; strings: their value
	number string // numbers: a JSON literal
	fields []field
	items  []*Tree
	src    *source
}

type field struct {
	key          string
	line, column int32
	value        *Tree
}

// source is shared by all nodes of one file, for finding a place inside a string.
type source struct {
	file  string
	data  []byte
	lines []int // offset of each line's start
}

func newSource(file string, data []byte) *source {
	s := &source{file: file, data: data, lines: []int{0}}
	for i, b := range data {
		if b == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

// at gives line and column (counted from 1, in bytes) of an offset.
func (s *source) at(offset int) (line, column int32) {
	i := sort.SearchInts(s.lines, offset+1) - 1
	return int32(i + 1), int32(offset - s.lines[i] + 1) //nolint:gosec // files are limited to a few MiB
}

// Kind tells what the node is; KindNull for nil.
func (t *Tree) Kind() Kind {
	if t == nil {
		return KindNull
	}
	return t.kind
}

// Text gives a scalar's text as written (a string's value, a boolean as true or false), and the compact JSON of a list or map.
func (t *Tree) Text() string {
	switch t.Kind() {
	case KindNull:
		return ""
	case KindList, KindMap:
		return string(t.JSON())
	case KindBool:
		return t.number
	}
	return t.text
}

// Len is the number of items or fields.
func (t *Tree) Len() int {
	if t == nil {
		return 0
	}
	return len(t.items) + len(t.fields)
}

// Items are the nodes of a list; nil for anything else.
func (t *Tree) Items() []*Tree {
	if t == nil {
		return nil
	}
	return t.items
}

// Keys are the keys of a map in the order written.
func (t *Tree) Keys() []string {
	if t == nil || t.kind != KindMap {
		return nil
	}
	keys := make([]string, len(t.fields))
	for i, f := range t.fields {
		keys[i] = f.key
	}
	return keys
}

// Get is the value of a key, nil where there is none.
func (t *Tree) Get(key string) *Tree {
	if t == nil {
		return nil
	}
	for i := range t.fields {
		if t.fields[i].key == key {
			return t.fields[i].value
		}
	}
	return nil
}

// Here is where the node begins.
func (t *Tree) Here() Position {
	if t == nil {
		return Position{}
	}
	p := Position{Line: int(t.line), Column: int(t.column)}
	if t.src != nil {
		p.File = t.src.file
	}
	return p
}

// Lookup follows a path such as `spec.templates[0].container` or `metadata.labels["a.b/c"]`. It gives nil where
// the path leads nowhere; the empty path is the node itself.
func (t *Tree) Lookup(path string) *Tree {
	found, rest := t.walk(path)
	if rest != "" {
		return nil
	}
	return found
}

// Position of a path; where the path leads nowhere, of the deepest part that exists.
func (t *Tree) Position(path string) Position {
	found, _ := t.walk(path)
	return found.Here()
}

func (t *Tree) walk(path string) (at *Tree, rest string) {
	at = t
	for path != "" {
		key, index, tail, ok := nextSegment(path)
		if !ok {
			return at, path
		}
		var next *Tree
		if index >= 0 {
			if index < len(at.Items()) {
				next = at.items[index]
			}
		} else {
			next = at.Get(key)
		}
		if next == nil {
			return at, path
		}
		at, path = next, tail
	}
	return at, ""
}

// nextSegment takes the first key or index from a path. index is -1 for a key.
func nextSegment(path string) (key string, index int, rest string, ok bool) {
	path = strings.TrimPrefix(path, ".")
	if !strings.HasPrefix(path, "[") {
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			return path, -1, "", path != ""
		}
		return path[:end], -1, path[end:], end > 0
	}
	if strings.HasPrefix(path, `["`) {
		quoted, err := strconv.QuotedPrefix(path[1:])
		if err != nil || !strings.HasPrefix(path[1+len(quoted):], "]") {
			return "", -1, path, false
		}
		key, err = strconv.Unquote(quoted)
		return key, -1, path[len(quoted)+2:], err == nil
	}
	end := strings.IndexByte(path, ']')
	if end < 0 {
		return "", -1, path, false
	}
	n, err := strconv.Atoi(path[1:end])
	return "", n, path[end+1:], err == nil && n >= 0
}

// JoinPath appends a key to a path in the form that [Tree.Lookup] reads.
func JoinPath(path, key string) string {
	if key == "" || strings.ContainsAny(key, `.[]"`) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// IndexPath appends an index to a path.
func IndexPath(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// Find is where text stands inside the node: a tag within a script, say. Where it cannot be found the node's own
// position is given.
func (t *Tree) Find(text string) Position {
	here := t.Here()
	if t == nil || t.src == nil || text == "" || here.Line < 1 || here.Line > len(t.src.lines) {
		return here
	}
	from := t.src.lines[here.Line-1] + here.Column - 1
	if from < 0 || from > len(t.src.data) {
		return here
	}
	// A string's source is at most some escapes and indentation longer than its value.
	to := min(len(t.src.data), from+8*len(t.text)+1024)
	i := bytes.Index(t.src.data[from:to], []byte(text))
	if i < 0 {
		return here
	}
	line, column := t.src.at(from + i)
	return Position{File: here.File, Line: int(line), Column: int(column)}
}

// Value gives the node as map[string]any, []any, string, [json.Number], bool or nil: the form in which tags are
// substituted. The result is the caller's own copy.
func (t *Tree) Value() any {
	switch t.Kind() {
	case KindNull:
		return nil
	case KindBool:
		return t.number == "true"
	case KindNumber:
		return json.Number(t.number)
	case KindString:
		return t.text
	case KindList:
		list := make([]any, len(t.items))
		for i, item := range t.items {
			list[i] = item.Value()
		}
		return list
	}
	m := make(map[string]any, len(t.fields))
	for i := range t.fields {
		m[t.fields[i].key] = t.fields[i].value.Value()
	}
	return m
}

// JSON gives the node as compact JSON, keys in the order written, "null" for nil.
func (t *Tree) JSON() []byte { return t.appendJSON(nil) }

// MarshalJSON implements [json.Marshaler].
func (t *Tree) MarshalJSON() ([]byte, error) { return t.JSON(), nil }

func (t *Tree) appendJSON(b []byte) []byte {
	switch t.Kind() {
	case KindNull:
		return append(b, "null"...)
	case KindBool, KindNumber:
		return append(b, t.number...)
	case KindString:
		return appendJSONString(b, t.text)
	case KindList:
		b = append(b, '[')
		for i, item := range t.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b)
		}
		return append(b, ']')
	}
	b = append(b, '{')
	for i := range t.fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendJSONString(b, t.fields[i].key), ':')
		b = t.fields[i].value.appendJSON(b)
	}
	return append(b, '}')
}

// appendJSONString leaves <, > and & as they are: scripts are full of them.
func appendJSONString(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return append(b, `""`...)
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})...)
}

// Equal tells whether two trees hold the same values, wherever they stand and in whatever order their keys are.
func (t *Tree) Equal(other *Tree) bool {
	if t.Kind() != other.Kind() || t.Len() != other.Len() {
		return false
	}
	switch t.Kind() {
	case KindNull:
		return true
	case KindBool, KindNumber:
		return t.number == other.number
	case KindString:
		return t.text == other.text
	case KindList:
		for i := range t.items {
			if !t.items[i].Equal(other.items[i]) {
				return false
			}
		}
		return true
	}
	for i := range t.fields {
		value := other.Get(t.fields[i].key)
		if value == nil || !t.fields[i].value.Equal(value) {
			return false
		}
	}
	return true
}

// NewTree makes a tree without positions from map[string]any, []any, string, bool, nil and any number type.
// Maps are ordered by key.
func NewTree(value any) (*Tree, error) {
	switch v := value.(type) {
	case nil:
		return &Tree{}, nil
	case *Tree:
		return v, nil
	case bool:
		return &Tree{kind: KindBool, text: strconv.FormatBool(v), number: strconv.FormatBool(v)}, nil
	case string:
		return &Tree{kind: KindString, text: v}, nil
	case json.Number:
		return newNumber(v.String())
	case []any:
		t := &Tree{kind: KindList, items: make([]*Tree, len(v))}
		for i := range v {
			item, err := NewTree(v[i])
			if err != nil {
				return nil, err
			}
			t.items[i] = item
		}
		return t, nil
	case map[string]any:
		return newMap(v)
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("make a tree of %T: %w", value, err)
	}
	return ParseTree(raw)
}

func newNumber(literal string) (*Tree, error) {
	if !isJSONNumber(literal) {
		return nil, fmt.Errorf("make a tree: %q is not a number", literal)
	}
	return &Tree{kind: KindNumber, text: literal, number: literal}, nil
}

func newMap(m map[string]any) (*Tree, error) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	t := &Tree{kind: KindMap, fields: make([]field, len(keys))}
	for i, k := range keys {
		value, err := NewTree(m[k])
		if err != nil {
			return nil, err
		}
		t.fields[i] = field{key: k, value: value}
	}
	return t, nil
}

func isJSONNumber(s string) bool {
	if s == "" || s[0] != '-' && (s[0] < '0' || s[0] > '9') {
		return false
	}
	return json.Valid([]byte(s))
}
