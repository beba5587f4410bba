package sensor_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/manifest"
)

// Whatever is put where, in whatever order: the marks hold all that events gave, and nothing else. What events give is made of
// D and {{ here, what the author wrote of a and {{.
func TestMarksOfWhatEventsGave(t *testing.T) {
	dests := []string{"spec.a", "spec.list.0", "spec.list.-1", "spec.list.1.b", `spec.odd\.key`, "spec.:0", "spec", "spec.deep.er", "metadata.labels.x"}
	rapid.Check(t, func(t *rapid.T) {
		words := func(letter string) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{letter, "{{", "{"}), 1, 4).Draw(t, "words"), "")
		}
		doc, err := json.Marshal(map[string]any{"spec": map[string]any{
			"a": words("a"), "list": []any{words("a"), map[string]any{"b": words("a")}}, "odd.key": words("a"), "0": words("a"),
		}, "metadata": map[string]any{"labels": map[string]any{"x": words("a")}}})
		if err != nil {
			t.Fatal(err)
		}
		var values []sensor.Value
		for range rapid.IntRange(1, 5).Draw(t, "values") {
			v := sensor.Value{
				Dest:      rapid.SampledFrom(dests).Draw(t, "dest"),
				Operation: rapid.SampledFrom([]string{"", "overwrite", "append", "prepend"}).Draw(t, "operation"),
				Own:       rapid.Bool().Draw(t, "own"),
			}
			letter := "D"
			if v.Own {
				letter = "a"
			}
			v.Text = words(letter)
			if v.Raw = rapid.Bool().Draw(t, "raw"); v.Raw {
				raw, err := json.Marshal(map[string]any{"k": []any{v.Text, map[string]any{"l": v.Text}}})
				if err != nil {
					t.Fatal(err)
				}
				v.Text = strings.ReplaceAll(strings.ReplaceAll(string(raw), `"k"`, `""`), `"l"`, `""`)
			}
			values = append(values, v)
		}
		raw, given, err := sensor.Apply(budget.New(), doc, values)
		if err != nil {
			return // a place that there is not
		}
		var tree any
		if err := json.Unmarshal(raw, &tree); err != nil {
			t.Fatal(err)
		}
		mixed := slices.ContainsFunc(values, func(v sensor.Value) bool { return v.Raw || v.Dest == "spec" }) // then a text may be made of an object
		check(t, tree, nil, given, mixed)
	})
}

// check goes through a tree and compares each text that could be taken for one with a tag with its marks.
func check(t *rapid.T, node any, path []string, given []manifest.Given, mixed bool) {
	switch v := node.(type) {
	case map[string]any:
		for k, item := range v {
			check(t, item, append(path[:len(path):len(path)], k), given, mixed)
		}
	case []any:
		for i, item := range v {
			check(t, item, append(path[:len(path):len(path)], strconv.Itoa(i)), given, mixed)
		}
	case string:
		if !strings.Contains(v, "{{") {
			return
		}
		rest := []byte(v)
		for _, g := range given {
			if strings.Join(g.Path, "/") != strings.Join(path, "/") {
				continue
			}
			if !mixed && strings.Contains(v[g.From:g.To], "a") {
				t.Errorf("%q at %v: %q is marked", v, path, v[g.From:g.To])
			}
			for i := g.From; i < g.To; i++ {
				rest[i] = '.'
			}
		}
		if strings.Contains(string(rest), "D") {
			t.Errorf("%q at %v: %q is not marked", v, path, rest)
		}
	}
}

// A field whose name is a tag cannot be told from one of the author.
func TestEventsGiveNoNamesWithTags(t *testing.T) {
	_, _, err := sensor.Apply(budget.New(), []byte(`{}`), []sensor.Value{{Dest: "spec", Text: `{"{{workflow.uid}}": "x"}`, Raw: true}})
	if err == nil || !strings.Contains(err.Error(), "name of a field") {
		t.Errorf("got %v", err)
	}
}
