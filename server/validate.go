package server

import (
	"context"
	"encoding/json"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/server/runs"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/validate"
)

// validator judges manifests as Argo's controller does before a run, with the templates that there are.
func validator(objects runs.Objects) func(context.Context, manifest.Object, string, bool) []manifest.Diagnostic {
	return func(ctx context.Context, o manifest.Object, namespace string, lenient bool) []manifest.Diagnostic {
		mode := validate.Default
		if lenient {
			mode = validate.Lint
		}
		return validate.Object(o, validate.Options{Mode: mode, Find: func(kind, name string) (manifest.Object, bool) {
			raw, err := objects.Object(ctx, workflow.Ref{Kind: kind, Namespace: namespace, Name: name})
			if err != nil {
				return manifest.Object{}, false
			}
			return object(kind+"/"+name, raw)
		}})
	}
}

// object reads a stored object back.
func object(file string, raw json.RawMessage) (manifest.Object, bool) {
	objects, diags := manifest.Decode(file, raw)
	if manifest.Failed(diags) || len(objects) != 1 {
		return manifest.Object{}, false
	}
	return objects[0], true
}
