package expression

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/manifest"
)

// Data is a text that is not, or not wholly, the manifest author's: an event, a caller or a step gave it. In a tree it
// stands where a string would. No pass of substitution looks for tags in what was given, because the functions that do take
// a string and there is no way from Data to one but by [Data.String], which is what results are made of.
type Data struct{ parts []part }

// part is a piece of a text.
type part struct {
	text  string
	given bool
}

// Opaque is a text of which nothing is the manifest author's.
func Opaque(text string) Data { return Data{[]part{{text, true}}} }

// String gives the text as it stands in the manifest.
func (d Data) String() string {
	var b strings.Builder
	for _, p := range d.parts {
		b.WriteString(p.text)
	}
	return b.String()
}

// MarshalJSON gives the text as a JSON string.
func (d Data) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// data replaces the tags in what the author wrote of a text.
func (s *substitution) data(d Data, path string) (string, error) {
	var b strings.Builder
	for _, p := range d.parts {
		text := p.text
		if !p.given {
			var err error
			if text, err = s.text(text, path); err != nil {
				return "", err
			}
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// Mark puts [Data] into a tree, which is changed, for what was given. A mark that does not fit the tree is an error.
func Mark(tree any, given []manifest.Given) error {
	for _, g := range given {
		err := g.Change(tree, func(old any) (any, error) {
			switch v := old.(type) {
			case string:
				return Data{[]part{{v, false}}}.mark(g.From, g.To)
			case Data:
				return v.mark(g.From, g.To)
			}
			return nil, errors.New("it is no text")
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// mark takes the bytes from one offset to another for given.
func (d Data) mark(from, to int) (Data, error) {
	text := d.String()
	if from < 0 || to < from || to > len(text) {
		return d, fmt.Errorf("it has %d bytes, and %d to %d were given", len(text), from, to)
	}
	given := make([]bool, 0, len(text))
	for _, p := range d.parts {
		given = append(given, slices.Repeat([]bool{p.given}, len(p.text))...)
	}
	for i := from; i < to; i++ {
		given[i] = true
	}
	out := Data{}
	for i := 0; i < len(text); {
		end := i + 1
		for end < len(text) && given[end] == given[i] {
			end++
		}
		out.parts = append(out.parts, part{text[i:end], given[i]})
		i = end
	}
	return out, nil
}

// Marks gives the marks of a tree's [Data], in the order of its paths, so that [Mark] makes the same of its JSON.
func Marks(tree any) []manifest.Given { return marks(tree, nil, nil) }

func marks(node any, path []string, out []manifest.Given) []manifest.Given {
	switch v := node.(type) {
	case Data:
		at := 0
		for _, p := range v.parts {
			if p.given {
				out = append(out, manifest.Given{Path: slices.Clone(path), From: at, To: at + len(p.text)})
			}
			at += len(p.text)
		}
	case map[string]any:
		for _, key := range sortedKeys(v) {
			out = marks(v[key], append(path, key), out)
		}
	case []any:
		for i, item := range v {
			out = marks(item, append(path, strconv.Itoa(i)), out)
		}
	}
	return out
}
