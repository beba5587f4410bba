package runs

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/validate"
)

// Validator judges a manifest before it is submitted. An error among what it finds refuses the submission.
type Validator interface {
	// Validate judges a manifest that will run in a namespace; lenient lets arguments be missing.
	Validate(ctx context.Context, o manifest.Object, namespace string, lenient bool) []manifest.Diagnostic
}

// Manifests judges manifests as Argo's controller does before a run, with the templates that there are.
type Manifests struct {
	// Objects has the templates.
	Objects Objects
	// Platform says which fields are refused where the run's pods are executed. What has no effect is recorded with the run.
	Platform executor.Fields
}

// Validate implements [Validator].
func (m Manifests) Validate(ctx context.Context, o manifest.Object, namespace string, lenient bool) []manifest.Diagnostic {
	mode := validate.Default
	if lenient {
		mode = validate.Lint
	}
	refused := slices.DeleteFunc(workflow.Check(o, m.Platform), func(d manifest.Diagnostic) bool { return d.Severity != manifest.SeverityError })
	return append(refused, validate.Object(o, validate.Options{Mode: mode, Find: func(kind, name string) (manifest.Object, bool) {
		raw, err := m.Objects.Object(ctx, workflow.Ref{Kind: kind, Namespace: namespace, Name: name})
		if err != nil {
			return manifest.Object{}, false
		}
		return stored(kind+"/"+name, raw)
	}})...)
}

// stored reads a stored object back.
func stored(file string, raw json.RawMessage) (manifest.Object, bool) {
	objects, diags := manifest.Decode(file, raw)
	if manifest.Failed(diags) || len(objects) != 1 {
		return manifest.Object{}, false
	}
	return objects[0], true
}
