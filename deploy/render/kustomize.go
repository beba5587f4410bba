package render

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// kustomize builds the kustomization in dir. Files outside of a kustomization's own folder cannot be loaded (its
// bases are folders of their own), plugins cannot run, remote bases are refused.
func kustomize(t *tree, dir, file string, s Source) ([]*unstructured.Unstructured, error) {
	files := &checkoutFS{t: t}
	if !s.Kustomize.IsZero() {
		data, err := t.read(file)
		if err == nil {
			data, err = amend(files, dir, data, s)
		}
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", file, err)
		}
		files.changed = map[string][]byte{file: data}
	}
	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsRootOnly
	options.PluginConfig = types.DisabledPluginConfig()
	built, err := krusty.MakeKustomizer(options).Run(files, "/"+strings.TrimPrefix(dir, "."))
	if refusal := t.refusal(); refusal != nil {
		return nil, fmt.Errorf("render %s: %w", show(dir), refusal)
	}
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", show(dir), err)
	}
	objects := make([]*unstructured.Unstructured, 0, built.Size())
	for _, r := range built.Resources() {
		raw, err := r.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", r.CurId(), err)
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(raw); err != nil {
			return nil, fmt.Errorf("render %s: %w", r.CurId(), err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// inspect refuses what a kustomization must not ask for, by name and before the library acts on it.
func inspect(t *tree, file string, data []byte) error {
	var k map[string]any
	if err := yaml.Unmarshal(data, &k); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	for _, key := range []string{"helmCharts", "helmChartInflationGenerator", "helmGlobals"} {
		if k[key] != nil {
			return t.refuse("%s: %s is not supported: charts are not fetched and not rendered here", file, key)
		}
	}
	var errs []error
	for _, key := range []string{"resources", "components", "bases", "crds", "configurations", "generators", "transformers",
		"validators", "patches", "patchesStrategicMerge", "patchesJson6902", "replacements", "openapi", "configMapGenerator", "secretGenerator"} {
		each(k[key], func(name string) {
			if err := inspectPath(t, file, key, name); err != nil {
				errs = append(errs, err)
			}
		})
	}
	return errors.Join(errs...)
}

// each calls back with every string of a kustomization's field that may be a path.
func each(node any, visit func(string)) {
	switch n := node.(type) {
	case string:
		// A patch or a generator may stand here itself, over several lines.
		if !strings.Contains(n, "\n") && !strings.HasPrefix(n, "{") {
			visit(n)
		}
	case []any:
		for _, item := range n {
			each(item, visit)
		}
	case map[string]any:
		for _, key := range []string{"path", "files", "envs", "env", "file"} {
			each(n[key], visit)
		}
	}
}

func inspectPath(t *tree, file, key, name string) error {
	if key == "configMapGenerator" || key == "secretGenerator" {
		if _, after, named := strings.Cut(name, "="); named {
			name = after
		}
	}
	dir := path.Dir(file)
	if path.IsAbs(name) || escapes(path.Join(dir, name)) {
		return t.refuse("%s: %s: %q is outside of the repository", file, key, name)
	}
	if t.exists(path.Join(dir, name)) {
		return nil
	}
	if strings.Contains(name, "://") || strings.HasPrefix(name, "git@") || strings.Contains(name, "?ref=") ||
		strings.Contains(name, "?version=") || strings.HasPrefix(name, "github.com/") {
		return t.refuse("%s: %s: %q is remote; keep what is rendered in the repository", file, key, name)
	}
	return nil
}
