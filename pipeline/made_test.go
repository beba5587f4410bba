package pipeline_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/pipeline"
)

// TestArranged has what programs print: JSON in any form, several objects, and what is not JSON.
func TestArranged(t *testing.T) {
	tests := map[string]struct{ printed, want string }{
		"one":          {`{"b": [1, 2.50, {}], "a": {"//": "x.py:3", "c": "<&>"}, "d": []}`, "{\n  \"a\": {\n    \"c\": \"<&>\"\n  },\n  \"b\": [\n    1,\n    2.50,\n    {}\n  ],\n  \"d\": []\n}\n"},
		"two, parted":  {"{}\n---\n{\"a\": 1}\n", "{}\n---\n{\n  \"a\": 1\n}\n"},
		"two":          {`{}{"a": null}`, "{}\n---\n{\n  \"a\": null\n}\n"},
		"not a place":  {`{"//": {"a": 1}}`, "{\n  \"//\": {\n    \"a\": 1\n  }\n}\n"},
		"YAML":         {"a: 1\n---\nb: 2\n", "a: 1\n---\nb: 2\n"},
		"JSON in YAML": {"--- # first\n{a: 1}\n", "--- # first\n{a: 1}\n"},
		"a list":       {"[1]\n", "[1]\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			made, err := pipeline.Printer{Env: []string{"PATH=" + os.Getenv("PATH")}}.Print(t.Context(), executable(t, "cat <<'X'\n"+test.printed+"\nX"))
			if err != nil {
				t.Fatal(err)
			}
			got := string(made.Text)
			if name == "YAML" || name == "JSON in YAML" || name == "a list" {
				test.want += "\n" // as it was printed
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPlaces finds the innermost object that a line belongs to.
func TestPlaces(t *testing.T) {
	code := "cat <<'X'\n" + `{"//": "/a b/x.ts:1:2", "l": [{"//": "x.py:30", "m": {"n": 1}}, {"o": 2}]}` + "\nX"
	made, err := pipeline.Printer{Env: []string{"PATH=" + os.Getenv("PATH")}}.Print(t.Context(), executable(t, code))
	if err != nil {
		t.Fatal(err)
	}
	// 1 {, 2 "l": [, 3 {, 4 "m": {, 5 "n", 6 }, 7 }, 8 {, 9 "o", 10 }, 11 ], 12 }
	for line, want := range map[int]struct {
		file string
		at   [2]int
		ok   bool
	}{
		1: {"/a b/x.ts", [2]int{1, 2}, true}, 3: {"x.py", [2]int{30, 0}, true}, 5: {"x.py", [2]int{30, 0}, true}, 7: {"x.py", [2]int{30, 0}, true},
		9: {"/a b/x.ts", [2]int{1, 2}, true}, 12: {"/a b/x.ts", [2]int{1, 2}, true}, 13: {},
	} {
		if file, at, ok := made.At(line); file != want.file || at != want.at || ok != want.ok {
			t.Errorf("line %d was made at %s %v %t, want %v", line, file, at, ok, want)
		}
	}
}
