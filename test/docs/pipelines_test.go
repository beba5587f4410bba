package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/pipeline"
	"github.com/tiphys/tiphys/wire"
)

// TestPipelines runs every program of docs/pipelines.md: each makes a faultless manifest, and the first in each language the same one.
func TestPipelines(t *testing.T) {
	page := read(t, "../../docs/pipelines.md")
	blocks := regexp.MustCompile("(?s)```(ts|python|go|yaml)\n(.*?)```").FindAllStringSubmatch(page, -1)
	rules, err := wire.Rules(nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	first := map[string]string{}
	for _, b := range blocks {
		language, code := b[1], b[2]
		seen[language]++
		made := []byte(code)
		if language != "yaml" {
			var ok bool
			if made, ok = printed(t, language, code); !ok {
				continue
			}
		}
		objects, diags := manifest.Decode("of "+language, made)
		if diags = append(diags, rules.Lint(objects, false)...); len(diags) > 0 {
			t.Errorf("%s: %v in\n%s", language, diags, code)
		}
		if first[language] == "" {
			first[language] = string(made)
		}
	}
	if diff := cmp.Diff(map[string]int{"ts": 2, "python": 1, "go": 1, "yaml": 1}, seen); diff != "" {
		t.Error(diff)
	}
	for _, language := range []string{"python", "go"} {
		if diff := cmp.Diff(first["ts"], first[language]); diff != "" && first[language] != "" {
			t.Errorf("TypeScript (-) and %s (+) are not the same: %s", language, diff)
		}
	}
}

// printed gives what a program makes; not if this machine has not what it needs.
func printed(t *testing.T, language, code string) ([]byte, bool) {
	t.Helper()
	if language == "ts" {
		made, err := pipeline.Arrange(t.Context(), pipeline.Source{File: "docs.ts", Code: []byte(code), Input: map[string]any{"git": map[string]any{"branch": "main"}}})
		if err != nil {
			t.Errorf("%v in\n%s", err, code)
		}
		return made.Text, err == nil
	}
	tool, ending := "python3", ".py"
	if language == "go" {
		tool, ending = "go", ".go"
	}
	if _, err := exec.LookPath(tool); err != nil {
		t.Logf("SKIPPED: the programs in %s are not run, there is no %s", language, tool)
		return nil, false
	}
	file := filepath.Join(t.TempDir(), "docs"+ending)
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := pipeline.Printer{Env: os.Environ()}.Print(t.Context(), file)
	if err != nil {
		t.Errorf("%v in\n%s", err, code)
	}
	return made.Text, err == nil
}
