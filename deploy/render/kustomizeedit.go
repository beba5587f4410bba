package render

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/api/pkg/util"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/manifest"
)

// amend puts an Application's kustomize options over the kustomization in a folder, as Argo CD does by "kustomize edit".
func amend(files *checkoutFS, dir string, data []byte, s Source) ([]byte, error) {
	e := &edit{tree: map[string]any{}, options: s.Kustomize, environment: s.environment()}
	if err := yaml.Unmarshal(data, &e.tree); err != nil {
		return nil, err
	}
	for key, value := range map[string]string{"namePrefix": s.Kustomize.NamePrefix, "nameSuffix": s.Kustomize.NameSuffix, "namespace": s.Kustomize.Namespace} {
		if value != "" {
			e.tree[key] = value
		}
	}
	for _, change := range []func() error{e.images, e.replicas, e.labels, e.annotations, e.patches} {
		if err := change(); err != nil {
			return nil, err
		}
	}
	if err := e.components(files, dir); err != nil {
		return nil, err
	}
	return yaml.Marshal(e.tree)
}

// edit is a kustomization that is changed.
type edit struct {
	tree        map[string]any
	options     *manifest.KustomizeSource
	environment map[string]string
}

// list gives a field that is a list; one that is not there is empty.
func (e *edit) list(key string) ([]any, error) {
	if e.tree[key] == nil {
		return nil, nil
	}
	list, ok := e.tree[key].([]any)
	if !ok {
		return nil, fmt.Errorf("%s of the kustomization is no list", key)
	}
	return list, nil
}

// named puts entries into a list by their names: what is there under a name is replaced, and merged is asked for it before.
func (e *edit) named(key string, entries map[string]map[string]any, merged func(entry, have map[string]any)) error {
	list, err := e.list(key)
	if err != nil || len(entries) == 0 {
		return err
	}
	var kept []any
	for _, item := range list {
		have, _ := item.(map[string]any)
		name, _ := have["name"].(string)
		entry, replaced := entries[name]
		if !replaced {
			kept = append(kept, item)
			continue
		}
		merged(entry, have)
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		merged(entries[name], nil) // what was not found above
		kept = append(kept, entries[name])
	}
	e.tree[key] = kept
	return nil
}

// keep stands in an image for what the kustomization has.
const keep = "*"

func (e *edit) images() error {
	entries := map[string]map[string]any{}
	for _, text := range e.options.Images {
		entry, err := imageEntry(substitute(text, e.environment))
		if err != nil {
			return err
		}
		entries[entry["name"].(string)] = entry //nolint:forcetypeassert // imageEntry gives a text
	}
	return e.named("images", entries, func(entry, have map[string]any) {
		for _, field := range []string{"newName", "newTag", "digest"} {
			if entry[field] != keep {
				continue
			}
			if delete(entry, field); have[field] != nil {
				entry[field] = have[field]
			}
		}
	})
}

// imageEntry reads the forms of "kustomize edit set image": NAME:TAG, NAME@DIGEST, NAME=NEW and NAME=NEW with either or both, where each
// part but NAME may be "*". A colon before the first slash is a port's.
func imageEntry(text string) (map[string]any, error) {
	name, value, renamed := strings.Cut(text, "=")
	if !renamed {
		name, value = "", text
	}
	repository, tag, digest := util.SplitImageName(value)
	entry := map[string]any{"name": name}
	if name == "" {
		entry["name"] = repository
	} else if repository != "" {
		entry["newName"] = repository
	}
	if repository == text || entry["name"] == "" {
		return nil, fmt.Errorf("image %q: use NAME:TAG, NAME@DIGEST, NAME=NEWNAME or NAME=NEWNAME:TAG", text)
	}
	if tag != "" {
		entry["newTag"] = tag
	}
	if digest != "" {
		entry["digest"] = digest
	}
	return entry, nil
}

func (e *edit) replicas() error {
	entries := map[string]map[string]any{}
	for _, replica := range e.options.Replicas {
		count, err := strconv.ParseInt(replica.Count.String(), 10, 32)
		if err != nil || count < 0 {
			return fmt.Errorf("replicas of %s: %q is not a number of pods", replica.Name, replica.Count)
		}
		entries[replica.Name] = map[string]any{"name": replica.Name, "count": count}
	}
	return e.named("replicas", entries, func(map[string]any, map[string]any) {})
}

func (e *edit) labels() error {
	o := e.options
	if o.LabelIncludeTemplates && !o.LabelWithoutSelector {
		return fmt.Errorf("labelIncludeTemplates needs labelWithoutSelector: true")
	}
	pairs := map[string]string{}
	for name, value := range o.CommonLabels {
		pairs[name] = substitute(value, e.environment)
	}
	if !o.LabelWithoutSelector || len(pairs) == 0 {
		return e.addPairs(e.tree, "commonLabels", "label", pairs, o.ForceCommonLabels)
	}
	list, err := e.list("labels")
	if err != nil {
		return err
	}
	is := func(entry map[string]any, key string) bool { on, _ := entry[key].(bool); return on }
	for _, item := range list {
		entry, _ := item.(map[string]any)
		if entry != nil && !is(entry, "includeSelectors") && is(entry, "includeTemplates") == o.LabelIncludeTemplates {
			return e.addPairs(entry, "pairs", "label", pairs, o.ForceCommonLabels)
		}
	}
	e.tree["labels"] = append(list, map[string]any{"pairs": pairs, "includeSelectors": false, "includeTemplates": o.LabelIncludeTemplates})
	return nil
}

func (e *edit) annotations() error {
	pairs := maps.Clone(e.options.CommonAnnotations)
	for name, value := range pairs {
		if e.options.CommonAnnotationsEnvsubst {
			pairs[name] = substitute(value, e.environment)
		}
	}
	return e.addPairs(e.tree, "commonAnnotations", "annotation", pairs, e.options.ForceCommonAnnotations)
}

func (e *edit) addPairs(to map[string]any, key, what string, pairs map[string]string, force bool) error {
	if len(pairs) == 0 {
		return nil
	}
	have, _ := to[key].(map[string]any)
	if have == nil {
		have = map[string]any{}
	}
	for name, value := range pairs {
		if _, there := have[name]; there && !force {
			return fmt.Errorf("the %s %s is in the kustomization already; forceCommonLabels or forceCommonAnnotations replaces it", what, name)
		}
		have[name] = value
	}
	to[key] = have
	return nil
}

func (e *edit) patches() error {
	if len(e.options.Patches) == 0 {
		return nil
	}
	list, err := e.list("patches")
	if err != nil {
		return err
	}
	for _, patch := range e.options.Patches {
		list = append(list, patch)
	}
	e.tree["patches"] = list
	return nil
}

// components adds folders of components, which may be patterns, once each.
func (e *edit) components(files *checkoutFS, dir string) error {
	list, err := e.list("components")
	if err != nil || len(e.options.Components) == 0 {
		return err
	}
	for _, wanted := range e.options.Components {
		found := []string{wanted}
		if strings.ContainsAny(wanted, "*?[") {
			if found, err = e.matching(files, dir, wanted); err != nil {
				return err
			}
		}
		for _, component := range found {
			if e.options.IgnoreMissingComponents {
				folder := path.Join(dir, component)
				if path.IsAbs(component) || escapes(folder) {
					return files.t.refuse("component %q is outside of the repository", component)
				}
				if files.t.kustomization(folder) == "" {
					continue
				}
			}
			if !slices.Contains(list, any(component)) {
				list = append(list, component)
			}
		}
	}
	if len(list) > 0 {
		e.tree["components"] = list
	}
	return nil
}

// matching gives the folders that a pattern of components is for, relative to the kustomization's.
func (e *edit) matching(files *checkoutFS, dir, pattern string) ([]string, error) {
	if path.IsAbs(pattern) || escapes(path.Join(dir, pattern)) {
		return nil, files.t.refuse("component %q is outside of the repository", pattern)
	}
	matches, err := files.Glob(path.Join("/", dir, pattern))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, match := range matches {
		folder := strings.TrimPrefix(match, "/")
		if files.t.kustomization(folder) == "" {
			continue
		}
		from := strings.Repeat("../", strings.Count(strings.TrimPrefix(dir+"/", "./"), "/"))
		if below, ok := strings.CutPrefix(folder, dir+"/"); ok || dir == "." {
			from, folder = "", below
		}
		found = append(found, from+folder)
	}
	if len(found) == 0 && !e.options.IgnoreMissingComponents {
		return nil, fmt.Errorf("components: %s has no match", pattern)
	}
	return found, nil
}
