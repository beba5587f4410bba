package manifest

import (
	"encoding/json"
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
		maskIn(value, g.Path, g)
	}
	tree, err := NewTree(value)
	if err != nil {
		return o, fmt.Errorf("read %s %s: %w", o.Kind, o.Name, err)
	}
	o.Tree = tree
	return o, nil
}

func maskIn(node any, path []string, g Given) {
	if len(path) == 0 {
		return
	}
	var old any
	var set func(string)
	switch v := node.(type) {
	case map[string]any:
		old, set = v[path[0]], func(s string) { v[path[0]] = s }
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i < 0 || i >= len(v) {
			return
		}
		old, set = v[i], func(s string) { v[i] = s }
	default:
		return
	}
	text, ok := old.(string)
	switch {
	case len(path) > 1:
		maskIn(old, path[1:], g)
	case ok && g.From >= 0 && g.From <= g.To && g.To <= len(text):
		set(text[:g.From] + strings.ReplaceAll(text[g.From:g.To], "{", "(") + text[g.To:])
	}
}
