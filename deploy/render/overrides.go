package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/manifest"
)

// The files in a source's folder that change how it is rendered: for every Application, and for one of a name.
const (
	sourceFile      = ".argocd-source.yaml"
	appSourcePrefix = ".argocd-source-"
)

// tools are the parts of an Application's source that such a file changes.
type tools struct {
	Directory *manifest.DirectorySource `json:"directory,omitempty"`
	Kustomize *manifest.KustomizeSource `json:"kustomize,omitempty"`
	Helm      json.RawMessage           `json:"helm,omitempty"`
	Plugin    json.RawMessage           `json:"plugin,omitempty"`
}

// overridden puts the repository's own parameters over those of the Application, as a JSON merge patch (Argo CD's
// documents, "Parameter Overrides"). What they say of the repository, path and revision has no effect.
func overridden(t *tree, dir string, s Source) (Source, error) {
	names := []string{sourceFile}
	if s.AppName != "" {
		names = append(names, appSourcePrefix+s.AppName+".yaml")
	}
	for _, name := range names {
		file := path.Join(dir, name)
		if !t.exists(file) {
			if _, err := t.resolve(file); err != nil {
				return s, err
			}
			continue
		}
		data, err := t.read(file)
		if err != nil {
			return s, err
		}
		if err := s.override(data); err != nil {
			return s, fmt.Errorf("read %s: %w", file, err)
		}
	}
	return s, nil
}

func (s *Source) override(data []byte) error {
	patch, err := yaml.YAMLToJSON(data)
	if err != nil {
		return err
	}
	if string(patch) == "null" {
		return nil
	}
	before, err := json.Marshal(tools{Directory: s.Directory, Kustomize: s.Kustomize})
	if err != nil {
		return err
	}
	merged, err := jsonpatch.MergePatch(before, patch)
	if err != nil {
		return err
	}
	var next tools
	if err := json.Unmarshal(merged, &next); err != nil {
		return err
	}
	switch {
	case given(next.Helm):
		return errors.New("helm: Helm is not supported yet; render the chart to a folder and use path")
	case given(next.Plugin):
		return errors.New("plugin: config management plugins are not supported; render in a workflow step and push the result")
	}
	a := manifest.ApplicationSource{RepoURL: "x", Path: ".", Directory: next.Directory, Kustomize: next.Kustomize}
	if err := manifest.FirstError(a.Validate()); err != nil {
		return err
	}
	s.Directory, s.Kustomize = next.Directory, next.Kustomize
	return nil
}

func given(raw json.RawMessage) bool {
	return len(raw) > 0 && string(raw) != "null" && string(raw) != "{}"
}

// environment is what "$NAME" stands for in parameters: Argo CD's build environment.
func (s Source) environment() map[string]string {
	short := func(n int) string { return s.Revision[:min(n, len(s.Revision))] }
	return map[string]string{
		"ARGOCD_APP_NAME": s.AppName, "ARGOCD_APP_NAMESPACE": s.Namespace, "ARGOCD_APP_PROJECT_NAME": s.Project,
		"ARGOCD_APP_REVISION": s.Revision, "ARGOCD_APP_REVISION_SHORT": short(7), "ARGOCD_APP_REVISION_SHORT_8": short(8),
		"ARGOCD_APP_SOURCE_REPO_URL": s.RepoURL, "ARGOCD_APP_SOURCE_PATH": s.Path, "ARGOCD_APP_SOURCE_TARGET_REVISION": s.TargetRevision,
	}
}

// substitute replaces $NAME and ${NAME}; "$$" is one "$", and a name that is not known is nothing.
func substitute(text string, environment map[string]string) string {
	return os.Expand(text, func(name string) string {
		if name == "$" {
			return "$"
		}
		return environment[name]
	})
}
