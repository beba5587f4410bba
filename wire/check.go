package wire

import (
	"fmt"

	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/validate"
)

// check judges a definition before it is taken.
func check(o manifest.Object) []manifest.Diagnostic {
	switch o.Kind {
	case "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow":
		return append(workflow.Check(o), validate.Object(o, validate.Options{Mode: validate.Lint, Incomplete: true})...)
	case "EventSource":
		_, diags := manifest.LoadEventSource(o)
		kinds, err := SourceKinds()
		if err != nil {
			return refuse(o, err.Error(), "")
		}
		return append(diags, kinds.Check(o)...)
	case "Sensor":
		_, diags := manifest.LoadSensor(o)
		return append(diags, sensor.CheckDefinition(o)...)
	case "Application":
		var a manifest.Application
		diags := o.Into(&a)
		return append(diags, manifest.Locate(o.Tree, a.Validate())...)
	case "ApplicationSet":
		var a manifest.ApplicationSet
		diags := o.Into(&a)
		return append(diags, manifest.Locate(o.Tree, a.Validate())...)
	case "AppProject":
		var p manifest.AppProject
		diags := o.Into(&p)
		return append(diags, manifest.Locate(o.Tree, p.Validate())...)
	case "ConfigMap", "Secret", "PersistentVolumeClaim", "EventBus":
		return nil
	case "Workflow":
		return refuse(o, "a Workflow is not a definition but a run", "submit it with tiphys submit")
	}
	return refuse(o, fmt.Sprintf("kind %s is not known here", o.Kind), "docs/compatibility.md lists the kinds")
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
			diags = append(diags, workflow.Check(o)...)
			diags = append(diags, validate.Object(o, validate.Options{Mode: validate.Lint, Find: find, Incomplete: true})...)
		default:
			diags = append(diags, check(o)...)
		}
	}
	return diags
}
