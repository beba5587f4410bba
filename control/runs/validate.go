package runs

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/validate"
)

// Validator judges a manifest before it is submitted. An error among what it finds refuses the submission; its warnings are kept with the run.
type Validator interface {
	// Validate judges a manifest that is submitted on such terms.
	Validate(ctx context.Context, o manifest.Object, terms Terms) []manifest.Diagnostic
}

// Terms are what a submission adds to its manifest, as far as the manifest can name it.
type Terms struct {
	// Namespace is where the run will be.
	Namespace string
	// Parameters, Labels and Annotations are the names of those that are given.
	Parameters, Labels, Annotations []string
}

func (s Submission) terms(namespace string) Terms {
	return Terms{
		Namespace: namespace, Parameters: slices.Sorted(maps.Keys(s.Parameters)), Labels: slices.Sorted(maps.Keys(s.Labels)),
		Annotations: slices.Sorted(maps.Keys(s.Annotations)),
	}
}

// Manifests judges manifests as Argo's controller does before a run, with the templates that there are.
type Manifests struct {
	// Objects has the templates.
	Objects Objects
	// Platform says which fields are refused where the run's pods are executed. What has no effect is recorded with the run.
	Platform executor.Fields
}

// Validate implements [Validator].
func (m Manifests) Validate(ctx context.Context, o manifest.Object, terms Terms) []manifest.Diagnostic {
	mode := validate.Default
	if len(terms.Parameters) > 0 {
		mode = validate.Lint // some of the arguments are given, and the engine counts them
	}
	refused := slices.DeleteFunc(workflow.Check(o, m.Platform), func(d manifest.Diagnostic) bool { return d.Severity != manifest.SeverityError })
	options := validate.Options{Mode: mode, Parameters: terms.Parameters, Labels: terms.Labels, Annotations: terms.Annotations}
	options.Find = func(kind, name string) (manifest.Object, bool) {
		raw, err := m.Objects.Object(ctx, workflow.Ref{Kind: kind, Namespace: terms.Namespace, Name: name})
		if err != nil {
			return manifest.Object{}, false
		}
		return stored(kind+"/"+name, raw)
	}
	return append(refused, validate.Object(o, options)...)
}

// stored reads a stored object back.
func stored(file string, raw json.RawMessage) (manifest.Object, bool) {
	objects, diags := manifest.Decode(file, raw)
	if manifest.Failed(diags) || len(objects) != 1 {
		return manifest.Object{}, false
	}
	return objects[0], true
}
