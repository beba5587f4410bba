package wire

import (
	"fmt"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/validate"
)

// check is [checkWith] of what this program has.
func check(o manifest.Object) []manifest.Diagnostic { return checkWith(ForgeTypes(), o) }

// checkWith judges a definition before it is taken: by its kind's decoder, which the controllers read it with later, and by the
// room that it is for.
func checkWith(types []forge.Type, o manifest.Object) []manifest.Diagnostic {
	if o.Kind == "Workflow" {
		return refuse(o, "a Workflow is not a definition but a run", "submit it with tiphys submit")
	}
	diags := manifest.CheckName(o)
	switch o.Kind {
	case "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow":
		// The validator decodes it too, and says what is wrong with it.
		return append(append(diags, workflow.Check(o, local.Fields())...), validate.Object(o, validate.Options{Mode: validate.Lint, Incomplete: true})...)
	case "EventBus": // read by nobody: there is no bus but the ledger
		return diags
	}
	decoded, known := manifest.Check(o)
	if !known {
		return refuse(o, fmt.Sprintf("kind %s is not known here", o.Kind), "docs/compatibility.md lists the kinds")
	}
	diags = append(diags, decoded...)
	switch o.Kind {
	case "EventSource":
		kinds, err := SourceKinds()
		if err != nil {
			return refuse(o, err.Error(), "")
		}
		diags = append(diags, kinds.Check(o)...)
	case "Sensor":
		diags = append(diags, sensor.CheckDefinition(o)...)
	case "Forge":
		diags = append(diags, forge.Check(types, o)...)
	}
	return diags
}

func refuse(o manifest.Object, message, hint string) []manifest.Diagnostic {
	return []manifest.Diagnostic{{Position: o.Position, Severity: manifest.SeverityError, Path: "kind", Message: message, Hint: hint}}
}

// Lint judges objects as the server would, without one: what the objects themselves declare is known, references to
// anything else are passed over.
func Lint(objects []manifest.Object) []manifest.Diagnostic {
	find := func(kind, name string) (manifest.Object, bool) {
		for _, o := range objects {
			if o.Kind == kind && o.Name == name {
				return o, true
			}
		}
		return manifest.Object{}, false
	}
	var diags []manifest.Diagnostic
	for _, o := range objects {
		switch o.Kind {
		case "Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow":
			diags = append(diags, workflow.Check(o, local.Fields())...)
			diags = append(diags, validate.Object(o, validate.Options{Mode: validate.Lint, Find: find, Incomplete: true})...)
		default:
			diags = append(diags, check(o)...)
		}
	}
	return diags
}
