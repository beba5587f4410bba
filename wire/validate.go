package wire

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/tiphys/tiphys/executor/local"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/manifest"
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
		diags := refusals(o)
		return append(diags, validate.Object(o, validate.Options{Mode: mode, Find: func(kind, name string) (manifest.Object, bool) {
			raw, err := objects.Object(ctx, workflow.Ref{Kind: kind, Namespace: namespace, Name: name})
			if err != nil {
				return manifest.Object{}, false
			}
			return object(kind+"/"+name, raw)
		}})...)
	}
}

// refusals are what keeps a manifest from running on this machine. What has no effect is recorded with the run.
func refusals(o manifest.Object) []manifest.Diagnostic {
	return slices.DeleteFunc(workflow.Check(o, local.Fields()), func(d manifest.Diagnostic) bool { return d.Severity != manifest.SeverityError })
}

// object reads a stored object back.
func object(file string, raw json.RawMessage) (manifest.Object, bool) {
	objects, diags := manifest.Decode(file, raw)
	if manifest.Failed(diags) || len(objects) != 1 {
		return manifest.Object{}, false
	}
	return objects[0], true
}
