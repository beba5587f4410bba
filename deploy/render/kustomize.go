package render

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/manifest"
)

// kustomize builds the kustomization in dir. Files outside of a kustomization's own folder cannot be loaded (its
// bases are folders of their own), plugins cannot run, remote bases are refused.
func kustomize(t *tree, dir, file string, s Source) ([]*unstructured.Unstructured, error) {
	files := &checkoutFS{t: t}
	if !s.Kustomize.IsZero() {
		data, err := t.read(file)
		if err == nil {
			data, err = amend(data, s.Kustomize)
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

// amend puts an Application's kustomize options over its kustomization, as Argo CD does by "kustomize edit".
func amend(data []byte, k *manifest.KustomizeSource) ([]byte, error) {
	tree := map[string]any{}
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return nil, err
	}
	set := func(key, value string) {
		if value != "" {
			tree[key] = value
		}
	}
	set("namePrefix", k.NamePrefix)
	set("nameSuffix", k.NameSuffix)
	set("namespace", k.Namespace)
	if err := amendLabels(tree, k); err != nil {
		return nil, err
	}
	if err := addPairs(tree, "commonAnnotations", k.CommonAnnotations, k.ForceCommonAnnotations); err != nil {
		return nil, err
	}
	for _, image := range k.Images {
		entry, err := imageEntry(image)
		if err != nil {
			return nil, err
		}
		replaceNamed(tree, "images", entry)
	}
	for _, replica := range k.Replicas {
		var count int64
		if _, err := fmt.Sscanf(replica.Count.String(), "%d", &count); err != nil {
			return nil, fmt.Errorf("replicas of %s: %q is not a number", replica.Name, replica.Count)
		}
		replaceNamed(tree, "replicas", map[string]any{"name": replica.Name, "count": count})
	}
	for _, patch := range k.Patches {
		tree["patches"] = append(listOf(tree["patches"]), patch)
	}
	for _, component := range k.Components {
		tree["components"] = append(listOf(tree["components"]), component)
	}
	return yaml.Marshal(tree)
}

func amendLabels(tree map[string]any, k *manifest.KustomizeSource) error {
	if len(k.CommonLabels) == 0 {
		return nil
	}
	if !k.LabelWithoutSelector {
		return addPairs(tree, "commonLabels", k.CommonLabels, k.ForceCommonLabels)
	}
	tree["labels"] = append(listOf(tree["labels"]), map[string]any{
		"pairs": k.CommonLabels, "includeSelectors": false, "includeTemplates": k.LabelIncludeTemplates})
	return nil
}

func addPairs(tree map[string]any, key string, pairs map[string]string, force bool) error {
	if len(pairs) == 0 {
		return nil
	}
	have, _ := tree[key].(map[string]any)
	if have == nil {
		have = map[string]any{}
	}
	for name, value := range pairs {
		if _, there := have[name]; there && !force {
			return fmt.Errorf("%s: %s is already set in the kustomization; force it to replace it", key, name)
		}
		have[name] = value
	}
	tree[key] = have
	return nil
}

func listOf(node any) []any {
	list, _ := node.([]any)
	return list
}

func replaceNamed(tree map[string]any, key string, entry map[string]any) {
	list := slices.DeleteFunc(listOf(tree[key]), func(item any) bool {
		have, _ := item.(map[string]any)
		return have["name"] == entry["name"]
	})
	tree[key] = append(list, entry)
}

// imageEntry reads kustomize's short forms: name:tag, name@digest, name=new, name=new:tag, name=new@digest.
func imageEntry(text string) (map[string]any, error) {
	name, to, renamed := strings.Cut(text, "=")
	if !renamed {
		to = name
	}
	repository, version := splitImage(to)
	if !renamed {
		name = repository
	}
	name, _ = splitImage(name)
	if name == "" || repository == "" {
		return nil, fmt.Errorf("image %q: use name:tag, name@digest or name=new:tag", text)
	}
	entry := map[string]any{"name": name}
	if renamed {
		entry["newName"] = repository
	}
	switch {
	case strings.HasPrefix(version, "@"):
		entry["digest"] = version[1:]
	case version != "":
		entry["newTag"] = version[1:]
	}
	return entry, nil
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
