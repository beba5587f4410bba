package docs_test

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// requirement matches a line of go.mod's require blocks.
var requirement = regexp.MustCompile(`(?m)^\t(\S+) v\S+( // indirect)?$`)

// TestDependenciesAreJustified compares docs/dependencies.md with what the code imports and the screens require.
func TestDependenciesAreJustified(t *testing.T) {
	page, mod := read(t, "../../docs/dependencies.md"), read(t, "../../go.mod")
	imports := imported(t)
	var names, required []string
	for _, m := range requirement.FindAllStringSubmatch(mod, -1) {
		required = append(required, m[1])
		if slices.ContainsFunc(imports, func(path string) bool { return path == m[1] || strings.HasPrefix(path, m[1]+"/") }) {
			names = append(names, m[1])
		}
	}
	if len(names) < 20 {
		t.Fatalf("found %d modules in use only", len(names))
	}
	screens := packages(t, read(t, "../../web/package.json"))
	for _, name := range append(names, screens...) {
		if !strings.Contains(page, "| `"+name+"` | ") {
			t.Errorf("docs/dependencies.md does not say why %s is there", name)
		}
	}
	required = append(required, screens...)
	required = append(required, "github.com/golangci/golangci-lint/v2")
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(page, -1) {
		if !slices.Contains(required, m[1]) {
			t.Errorf("docs/dependencies.md lists %s, which is not required", m[1])
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// imported gives the import paths of all Go files that are ever built.
func imported(t *testing.T) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"node_modules", ".git", ".cache", "testdata", "tools"}, d.Name()) {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil || strings.HasPrefix(string(data), "//go:build neverbuild") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, data, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			if name, err := strconv.Unquote(spec.Path.Value); err == nil {
				paths = append(paths, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// packages gives the names of what a package.json requires.
func packages(t *testing.T, data string) []string {
	t.Helper()
	var p struct {
		Dependencies    map[string]string `json:"dependencies"`
		DevDependencies map[string]string `json:"devDependencies"`
	}
	if err := json.Unmarshal([]byte(data), &p); err != nil {
		t.Fatalf("read package.json: %v", err)
	}
	var names []string
	for name := range p.Dependencies {
		names = append(names, name)
	}
	for name := range p.DevDependencies {
		names = append(names, name)
	}
	return names
}
