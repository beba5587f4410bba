package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Given is a part of a text in a manifest that the manifest's author did not write: a value of an event, of a caller or of
// a step was put there. What looks like a tag in it is none.
type Given struct {
	// Path leads from the manifest's root to the text: names of fields, and positions in lists as decimal numbers.
	Path []string `json:"path"`
	// From and To are byte offsets in the text.
	From int `json:"from"`
	To   int `json:"to"`
}

// Masked gives an object for those who look for tags in it: nothing in what was given looks like one. Without marks it is the
// object itself; with them its texts have no positions.
func Masked(o Object, given []Given) (Object, error) {
	if len(given) == 0 {
		return o, nil
	}
	var value any
	if err := json.Unmarshal(o.Tree.JSON(), &value); err != nil {
		return o, fmt.Errorf("read %s %s: %w", o.Kind, o.Name, err)
	}
	for _, g := range given {
		if err := g.Change(value, g.mask); err != nil {
			return o, fmt.Errorf("%s %s: %w", o.Kind, o.Name, err)
		}
	}
	tree, err := NewTree(value)
	if err != nil {
		return o, fmt.Errorf("read %s %s: %w", o.Kind, o.Name, err)
	}
	o.Tree = tree
	return o, nil
}

// mask is the text without braces in what was given.
func (g Given) mask(old any) (any, error) {
	text, ok := old.(string)
	if !ok {
		return nil, errors.New("it is no text")
	}
	if g.From < 0 || g.To < g.From || g.To > len(text) {
		return nil, fmt.Errorf("it has %d bytes, and %d to %d were given", len(text), g.From, g.To)
	}
	return text[:g.From] + strings.ReplaceAll(text[g.From:g.To], "{", "(") + text[g.To:], nil
}

// Change puts another value in the place that a mark names, in a tree of map[string]any and []any, which is changed. A mark
// that does not fit the tree is an error, and so is what change says of the value that is there.
func (g Given) Change(tree any, change func(old any) (any, error)) error {
	if err := changeAt(tree, g.Path, change); err != nil {
		return fmt.Errorf("mark what was given at %s: %w", strings.Join(g.Path, "."), err)
	}
	return nil
}

func changeAt(node any, path []string, change func(old any) (any, error)) error {
	if len(path) == 0 {
		return errors.New("it has no path")
	}
	var old any
	var set func(any)
	switch v := node.(type) {
	case map[string]any:
		old, set = v[path[0]], func(x any) { v[path[0]] = x }
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i < 0 || i >= len(v) {
			return fmt.Errorf("there is no item %s", path[0])
		}
		old, set = v[i], func(x any) { v[i] = x }
	default:
		return fmt.Errorf("nothing is at %s", path[0])
	}
	if len(path) > 1 {
		return changeAt(old, path[1:], change)
	}
	fresh, err := change(old)
	if err == nil {
		set(fresh)
	}
	return err
}
