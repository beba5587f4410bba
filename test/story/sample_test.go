package story

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestCopyRenamesWholeWordsInFilesAndPaths(t *testing.T) {
	dir := t.TempDir()
	names := Names{Repo: "orchard", API: "stock", Web: "shop", Worker: "picker"}
	if err := Copy("../../examples/harbour", dir, names); err != nil {
		t.Fatal(err)
	}
	old := regexp.MustCompile(`(?:^|[^A-Za-z0-9])(harbour|api|web|worker)(?:[^A-Za-z0-9]|$)`)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if m := old.FindString(rel + " " + string(data)); m != "" {
			t.Errorf("%s still has %q", rel, strings.TrimSpace(m))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "stock", "berths.go"))
	if err != nil || !strings.Contains(string(data), "orchard.example/orchard/internal/service") {
		t.Errorf("stock/berths.go is the api's: %v\n%s", err, data)
	}
	if data, err = os.ReadFile(filepath.Join(dir, "deploy", "base", "stock.yaml")); err != nil || !strings.Contains(string(data), "apiVersion: apps/v1") {
		t.Errorf("words that only begin like a name stay: %v\n%s", err, data)
	}
}

func TestCopyOfTheHarbourIsTheSample(t *testing.T) {
	dir := t.TempDir()
	if err := Copy("../../examples/harbour", dir, Names{}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"README.md", ".gitignore", "ci/labelled.sh", "web/page.html"} {
		want, err := os.ReadFile(filepath.Join("../../examples/harbour", file))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != string(want) {
			t.Errorf("%s is another: %v", file, err)
		}
	}
}

func TestLeftoversSince(t *testing.T) {
	was := Leftovers{Processes: map[int]string{1: "init"}, Mounts: map[string]bool{"/a": true}}
	is := Leftovers{Processes: map[int]string{1: "init", 2: "pod"}, Mounts: map[string]bool{"/a": true}, Interfaces: map[string]bool{"tv1": true}}
	left := is.since(was)
	if left.empty() || left.String() != "processes 2 (pod); interfaces tv1" {
		t.Errorf("left is %s", left)
	}
	if !was.since(was).empty() {
		t.Error("what was there before is no leftover")
	}
}
