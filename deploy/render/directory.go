package render

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/manifest"
)

// skipMarker in a file keeps it from being rendered; it is Argo CD's.
var skipMarker = []byte("+argocd:skip-file-rendering")

// directory renders plain files as Argo CD does: .yaml, .yml and .json, sorted by path.
func directory(t *tree, dir string, d *manifest.DirectorySource) ([]*unstructured.Unstructured, []manifest.Diagnostic, error) {
	if d == nil {
		d = &manifest.DirectorySource{}
	}
	include, err := globs(d.Include)
	if err != nil {
		return nil, nil, fmt.Errorf("directory.include: %w", err)
	}
	exclude, err := globs(d.Exclude)
	if err != nil {
		return nil, nil, fmt.Errorf("directory.exclude: %w", err)
	}
	w := &walker{t: t, base: dir, recurse: d.Recurse, include: include, exclude: exclude}
	if err := w.walk(dir, 0); err != nil {
		return nil, nil, err
	}
	return w.objects, w.problems, nil
}

type walker struct {
	t                *tree
	base             string
	recurse          bool
	include, exclude *regexp.Regexp
	objects          []*unstructured.Unstructured
	problems         []manifest.Diagnostic
}

func (w *walker) walk(dir string, depth int) error {
	if depth > 64 {
		return w.t.refuse("%s is nested more than 64 folders deep", dir)
	}
	entries, err := w.t.list(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			if w.recurse && e.Name() != ".git" {
				if err := w.walk(name, depth+1); err != nil {
					return err
				}
			}
			continue
		}
		if err := w.file(name, e); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) file(name string, e fs.DirEntry) error {
	if e.Type()&fs.ModeSymlink != 0 {
		// A link is judged whatever its name: one that leaves the checkout is never just skipped.
		resolved, err := w.t.resolve(name)
		if err != nil {
			return err
		}
		if info, err := w.t.root.Stat(resolved); err == nil && info.IsDir() {
			return nil
		}
	} else if !e.Type().IsRegular() {
		return nil
	}
	if !slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)) {
		return nil
	}
	relative := strings.TrimPrefix(strings.TrimPrefix(name, w.base), "/")
	if w.base == "." {
		relative = name
	}
	if (w.include != nil && !w.include.MatchString(relative)) || (w.exclude != nil && w.exclude.MatchString(relative)) {
		return nil
	}
	data, err := w.t.read(name)
	if err != nil {
		return err
	}
	if bytes.Contains(data, skipMarker) {
		return nil
	}
	found, problems := manifest.Decode(name, data)
	w.problems = append(w.problems, problems...)
	for _, m := range found {
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(m.Tree.JSON()); err != nil {
			w.problems = append(w.problems, manifest.Diagnostic{Position: m.Position, Severity: manifest.SeverityError, Message: err.Error()})
			continue
		}
		if o.GetName() == "" && o.GetGenerateName() == "" {
			w.problems = append(w.problems, manifest.Diagnostic{Position: m.Position, Severity: manifest.SeverityError,
				Path: "metadata.name", Message: o.GetKind() + " has no metadata.name"})
			continue
		}
		w.objects = append(w.objects, o)
	}
	return nil
}

// globs compiles a glob: "*" matches anything, slashes too, as in Argo CD; "{a,b}" lists alternatives.
func globs(pattern string) (*regexp.Regexp, error) {
	if pattern == "" {
		return nil, nil
	}
	var b strings.Builder
	b.WriteString("^")
	braces := 0
	for _, r := range pattern {
		switch {
		case r == '*':
			b.WriteString(".*")
		case r == '?':
			b.WriteString(".")
		case r == '{':
			braces++
			b.WriteString("(?:")
		case r == '}' && braces > 0:
			braces--
			b.WriteString(")")
		case r == ',' && braces > 0:
			b.WriteString("|")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	b.WriteString("$")
	if braces != 0 {
		return nil, fmt.Errorf("%q has a { without }", pattern)
	}
	expression, err := regexp.Compile(b.String())
	if err != nil {
		return nil, fmt.Errorf("glob %q: %w", pattern, err)
	}
	return expression, nil
}
