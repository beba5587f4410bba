package sensor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/manifest"
)

// errTagInName says that an event's object has a tag for the name of a field.
var errTagInName = errors.New("the name of a field that the event gives holds {{, which would be taken for a tag")

// givens keeps track of what in a document came from an event while values are put in.
type givens struct{ list []manifest.Given }

// markCost is what looking at a mark costs beside the bytes of a document.
const markCost = 16

// apply is [Apply] for a document in which something was given before.
func (g *givens) apply(b *budget.Budget, target []byte, values []Value) (_ []byte, given []manifest.Given, err error) {
	for _, v := range values {
		var kept *string
		if target, kept, err = apply(b, target, v); err != nil {
			return nil, nil, err
		}
		if err := b.Step(int64(len(g.list)) * markCost); err != nil {
			return nil, nil, fmt.Errorf("apply parameter to %.200s: %w", v.Dest, err)
		}
		if err := g.place(target, v, kept); err != nil {
			return nil, nil, fmt.Errorf("apply parameter to %s: %w", v.Dest, err)
		}
	}
	given, err = g.telling(target)
	return target, given, err
}

// whole notes all of a document.
func (g *givens) whole(document []byte) error {
	var value any
	if err := json.Unmarshal(document, &value); err != nil {
		return err
	}
	return g.walk(value, nil)
}

// place notes that a value was put in; kept is what of the text there was left beside it.
func (g *givens) place(target []byte, v Value, kept *string) error {
	path := concrete(target, v.Dest)
	within := func(m manifest.Given) bool {
		return len(m.Path) >= len(path) && slices.Equal(m.Path[:len(path)], path)
	}
	// A text above has made way for an object.
	g.list = slices.DeleteFunc(g.list, func(m manifest.Given) bool {
		return len(m.Path) < len(path) && slices.Equal(m.Path, path[:len(m.Path)])
	})
	if kept != nil {
		// An object of which something was given has become a text: all of that counts as given.
		below := func(m manifest.Given) bool { return within(m) && len(m.Path) > len(path) }
		if slices.ContainsFunc(g.list, below) {
			g.list = append(slices.DeleteFunc(g.list, below), manifest.Given{Path: path, To: len(*kept)})
		}
	}
	switch {
	case kept != nil && v.Operation == "append":
		g.add(v, path, len(*kept))
		return nil
	case kept != nil && v.Operation == "prepend":
		for i := range g.list {
			if within(g.list[i]) {
				g.list[i].From += len(v.Text)
				g.list[i].To += len(v.Text)
			}
		}
		g.add(v, path, 0)
		return nil
	}
	g.list = slices.DeleteFunc(g.list, within)
	if !v.Raw {
		g.add(v, path, 0)
		return nil
	}
	if v.Own {
		return nil
	}
	var value any
	if err := json.Unmarshal([]byte(v.Text), &value); err != nil {
		return err
	}
	return g.walk(value, path)
}

func (g *givens) add(v Value, path []string, at int) {
	if !v.Own && v.Text != "" {
		g.list = append(g.list, manifest.Given{Path: path, From: at, To: at + len(v.Text)})
	}
}

// walk notes each text of an event's value.
func (g *givens) walk(value any, path []string) error {
	switch v := value.(type) {
	case string:
		if v != "" {
			g.list = append(g.list, manifest.Given{Path: slices.Clone(path), To: len(v)})
		}
	case []any:
		for i, item := range v {
			if err := g.walk(item, append(path, strconv.Itoa(i))); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, item := range v {
			if strings.Contains(key, "{{") {
				return fmt.Errorf("%q: %w", key, errTagInName)
			}
			if err := g.walk(item, append(path, key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// telling leaves the marks that matter: those of texts in which there is something like a tag.
func (g *givens) telling(target []byte) ([]manifest.Given, error) {
	// In JSON two braces beside each other, or one that is escaped, stand within texts only.
	if len(g.list) == 0 || !bytes.Contains(target, []byte("{{")) && !bytes.Contains(target, []byte(`\u007`)) {
		return nil, nil
	}
	var tree any
	if err := json.Unmarshal(target, &tree); err != nil {
		return nil, err
	}
	var out []manifest.Given
	for _, m := range g.list {
		if text, ok := at(tree, m.Path).(string); ok && strings.Contains(text, "{{") {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b manifest.Given) int {
		if n := slices.Compare(a.Path, b.Path); n != 0 {
			return n
		}
		return a.From - b.From
	})
	return out, nil
}

func at(node any, path []string) any {
	for _, name := range path {
		switch v := node.(type) {
		case map[string]any:
			node = v[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			node = v[i]
		default:
			return nil
		}
	}
	return node
}

// concrete gives where a value was put, by the path of sjson that named the place: "-1" is the end of a list.
func concrete(target []byte, dest string) []string {
	var path []string
	node := gjson.ParseBytes(target)
	for _, name := range destination(dest) {
		if node.IsArray() {
			items := node.Array()
			if name.text == "-1" && !name.forced {
				name.text = strconv.Itoa(len(items) - 1)
			}
			i, err := strconv.Atoi(name.text)
			node = gjson.Result{}
			if err == nil && i >= 0 && i < len(items) {
				node = items[i]
			}
			path = append(path, strconv.Itoa(i))
			continue
		}
		path = append(path, name.text)
		var next gjson.Result
		node.ForEach(func(key, value gjson.Result) bool {
			if key.String() == name.text {
				next = value
				return false
			}
			return true
		})
		node = next
	}
	return path
}

// step is one name of a destination; forced says that it is one of a field though it looks like a number.
type step struct {
	text   string
	forced bool
}

// destination takes a path of sjson apart.
func destination(dest string) []step {
	var out []step
	var b strings.Builder
	forced := strings.HasPrefix(dest, ":")
	dest = strings.TrimPrefix(dest, ":")
	for i := 0; i < len(dest); i++ {
		switch {
		case dest[i] == '\\' && i+1 < len(dest):
			i++
			b.WriteByte(dest[i])
		case dest[i] == '.':
			out = append(out, step{b.String(), forced})
			b.Reset()
			if forced = i+1 < len(dest) && dest[i+1] == ':'; forced {
				i++
			}
		default:
			b.WriteByte(dest[i])
		}
	}
	return append(out, step{b.String(), forced})
}
