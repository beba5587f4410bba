package render

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/manifest"
)

// skipMarker in a file keeps it from being rendered; it is Argo CD's.
var skipMarker = []byte("+argocd:skip-file-rendering")

// directory renders plain files as Argo CD does: .yaml, .yml, .json and .jsonnet, sorted by path.
func directory(t *tree, dir string, s Source) ([]*unstructured.Unstructured, []manifest.Diagnostic, error) {
	d := s.Directory
	if d == nil {
		d = &manifest.DirectorySource{}
	}
	w := &walker{t: t, base: dir, directory: d, environment: s.environment(), budget: budget.Of(globSteps, 0)}
	for _, g := range []struct {
		name, text string
		into       **budget.Glob
	}{{"include", d.Include, &w.include}, {"exclude", d.Exclude, &w.exclude}} {
		if g.text == "" {
			continue
		}
		glob, err := budget.ParseGlob(g.text)
		if err != nil {
			return nil, nil, fmt.Errorf("directory.%s: %w", g.name, err)
		}
		*g.into = glob
	}
	if err := w.walk(dir, 0); err != nil {
		return nil, nil, err
	}
	if len(w.objects) == 0 && !manifest.Failed(w.problems) {
		w.problems = append(w.problems, w.nothing())
	}
	return w.objects, w.problems, nil
}

// globSteps is what the globs of a source may look through in all, in steps of a budget.
const globSteps = 20_000_000

type walker struct {
	t                *tree
	base             string
	directory        *manifest.DirectorySource
	environment      map[string]string
	include, exclude *budget.Glob
	budget           *budget.Budget
	// files were looked at, and left were left out by include and exclude.
	files, left int
	objects     []*unstructured.Unstructured
	problems    []manifest.Diagnostic
}

// nothing says why there is no object.
func (w *walker) nothing() manifest.Diagnostic {
	d := manifest.Diagnostic{Severity: manifest.SeverityWarning, Message: show(w.base) + " holds no object"}
	switch {
	case w.files == 0 && w.left == 0:
		d.Hint = "there is no file of manifests in it; directory.recurse looks into its folders too"
	case w.files == 0:
		d.Hint = fmt.Sprintf("directory.include and exclude leave out all of its %d files of manifests", w.left)
	default:
		d.Hint = "its files hold nothing that is a resource"
	}
	return d
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
			if w.directory.Recurse && e.Name() != ".git" {
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
		if info, err := w.t.root.Stat(resolved); err != nil || !info.Mode().IsRegular() {
			return nil //nolint:nilerr // a link to nothing is passed over, as in Argo CD
		}
	} else if !e.Type().IsRegular() {
		return nil
	}
	switch taken, err := w.takes(name); {
	case err != nil:
		return err
	case !taken:
		return nil
	}
	data, err := w.t.read(name)
	if err != nil {
		return err
	}
	if bytes.Contains(data, skipMarker) {
		return nil
	}
	w.files++
	switch path.Ext(name) {
	case ".jsonnet":
		return w.jsonnet(name)
	case ".json":
		w.json(name, data)
	default:
		w.yaml(name, data)
	}
	return nil
}

// takes tells whether a file is one of manifests by its name.
func (w *walker) takes(name string) (bool, error) {
	base := path.Base(name)
	ours := base == sourceFile || strings.HasPrefix(base, appSourcePrefix)
	if ours || !w.directory.DisableExtensionFilter && !slices.Contains([]string{".yaml", ".yml", ".json", ".jsonnet"}, path.Ext(name)) {
		return false, nil
	}
	relative := name
	if w.base != "." {
		relative = strings.TrimPrefix(name, w.base+"/")
	}
	for _, g := range []struct {
		name string
		glob *budget.Glob
		want bool
	}{{"exclude", w.exclude, false}, {"include", w.include, true}} {
		if g.glob == nil {
			continue
		}
		matches, err := g.glob.Match(w.budget, relative)
		if err != nil {
			return false, fmt.Errorf("directory.%s, at %s: %w", g.name, name, err)
		}
		if matches != g.want {
			w.left++
			return false, nil
		}
	}
	return true, nil
}
