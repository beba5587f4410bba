package story

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Copy copies the sample into an existing folder. Other names than the harbour's own replace those, as whole words, in
// the files and in their paths.
func Copy(sample, dest string, names Names) error {
	rename := renamer(names)
	return filepath.WalkDir(sample, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("copy the sample: %w", err)
		}
		rel, err := filepath.Rel(sample, path)
		if err != nil || rel == "." {
			return err
		}
		if d.Name() == ".git" || d.Name() == "bin" && d.IsDir() {
			return filepath.SkipDir
		}
		to := filepath.Join(dest, rename(rel))
		if d.IsDir() {
			return os.MkdirAll(to, 0o755) //nolint:gosec // others read it, as they would
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("copy the sample: %w", err)
		}
		return os.WriteFile(to, []byte(rename(string(data))), 0o644) //nolint:gosec // as above
	})
}

var word = regexp.MustCompile(`[A-Za-z0-9]+`)

func renamer(n Names) func(string) string {
	if n == Harbour || n == (Names{}) {
		return func(s string) string { return s }
	}
	to := map[string]string{Harbour.Repo: n.Repo, Harbour.API: n.API, Harbour.Web: n.Web, Harbour.Worker: n.Worker}
	return func(s string) string {
		return word.ReplaceAllStringFunc(s, func(w string) string {
			if other, ok := to[w]; ok {
				return other
			}
			return w
		})
	}
}

// edit replaces the one occurrence of a text in a file of the clone.
func (w *World) edit(path, old, replacement string) error {
	return Edit(filepath.Join(w.Clone, path), old, replacement)
}

// Edit replaces the one occurrence of a text in a file.
func Edit(file, old, replacement string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("edit: %w", err)
	}
	if n := strings.Count(string(data), old); n != 1 {
		return fmt.Errorf("edit %s: %q is there %d times", file, old, n)
	}
	return os.WriteFile(file, []byte(strings.Replace(string(data), old, replacement, 1)), 0o644) //nolint:gosec // as copied
}
