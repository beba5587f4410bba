package definitions

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/validate"
)

// Checker judges an object before it is taken. An error among the diagnostics refuses it.
type Checker interface {
	Check(manifest.Object) []manifest.Diagnostic
}

// Deployed judges what applications deploy.
type Deployed interface {
	// Lint says what a target would find wrong with an object. It is false for a kind that no target of this program can apply.
	Lint(*unstructured.Unstructured) ([]deploy.Problem, bool)
}

// Rules is the [Checker] of a program: it refuses what the program does not run.
type Rules struct {
	Sources source.Kinds
	// Forges are the types that can be declared.
	Forges []forge.Type
	// Platform is what the default executor does not do.
	Platform executor.Fields
	// Deployed judges what applications bring, when manifests are linted; nil knows nothing of it.
	Deployed Deployed
}

// Check judges an object by its kind's decoder, which the controllers read it with later, and by the room that it is for.
func (r Rules) Check(o manifest.Object) []manifest.Diagnostic {
	if o.Kind == "Workflow" {
		return refuse(o, "a Workflow is not a definition but a run", "submit it with tiphys submit")
	}
	diags := manifest.CheckName(o)
	if ofRuns(o.Kind) {
		return append(diags, r.run(o, nil, validate.Options{Mode: validate.Lint, Incomplete: true})...)
	}
	if o.Kind == "EventBus" { // read by nobody: there is no bus but the ledger
		return diags
	}
	decoded, known := manifest.Check(o)
	if !known {
		return refuse(o, fmt.Sprintf("kind %s is not known here", o.Kind), "docs/compatibility.md lists the kinds")
	}
	diags = append(diags, decoded...)
	switch o.Kind {
	case "EventSource":
		diags = append(diags, r.Sources.Check(o)...)
	case "Sensor":
		diags = append(diags, sensor.CheckDefinition(o)...)
		diags = append(diags, r.made(o)...)
	case "Forge":
		diags = append(diags, forge.Check(r.Forges, o)...)
	case "SecretGrant":
		diags = append(diags, podpolicy.CheckSecretGrant(o)...)
	}
	return diags
}

// made checks the kinds of objects that a Sensor's triggers make where they stand in the Sensor: of what is fetched when a trigger fires nothing is
// known before.
func (r Rules) made(o manifest.Object) []manifest.Diagnostic {
	def, found := manifest.Read[manifest.Sensor](o)
	if manifest.Failed(found) {
		return nil
	}
	var diags []manifest.Diagnostic
	for i := range def.Value.Spec.Triggers {
		for t, path := &def.Value.Spec.Triggers[i], manifest.IndexPath("spec.triggers", i); t != nil; t, path = t.DLQTrigger, path+".dlqTrigger" {
			if t.Template == nil || t.Template.K8S == nil || t.Template.K8S.Source == nil || len(t.Template.K8S.Source.Resource) == 0 {
				continue
			}
			objects, found := manifest.Decode("trigger", t.Template.K8S.Source.Resource)
			if len(objects) != 1 || objects[0].Kind == "Workflow" || objects[0].Kind == "EventBus" || manifest.Failed(found) && objects[0].Kind == "" {
				continue // what cannot be read the trigger says itself
			}
			if _, known := manifest.Check(objects[0]); known {
				continue
			}
			diags = append(diags, manifest.Diagnostic{
				Severity: manifest.SeverityError, Path: path + ".template.k8s.source.resource.kind", Message: fmt.Sprintf("a trigger cannot make a %s", quoted(objects[0].Kind)),
				Hint: "it makes a Workflow, or what can be declared here (docs/compatibility.md); deploy other kinds by an Application, or make them in a step",
			})
		}
	}
	return manifest.Locate(o.Tree, diags)
}

// quoted is a kind as it stands in a message: that of a hostile manifest is long.
func quoted(kind string) string {
	if kind == "" {
		return "object without a kind"
	}
	return fmt.Sprintf("%.60q", kind)
}

// Lint judges objects as a server would, without one: what they declare themselves is known, references to anything else are passed over, unless
// strict, which refuses what Argo's own check would. An unknown field is an error either way: nobody means it. What applications bring is
// judged as the target would.
func (r Rules) Lint(objects []manifest.Object, strict bool) []manifest.Diagnostic {
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
		switch {
		case o.Kind == "Workflow" || ofRuns(o.Kind):
			diags = append(diags, misspelt(r.run(o, find, validate.Options{Mode: validate.Lint, Incomplete: !strict}), strict)...)
		default:
			found, deployed := r.deployed(o)
			if !deployed {
				found = misspelt(r.Check(o), strict)
			}
			diags = append(diags, found...)
		}
	}
	return diags
}

// deployed judges an object that applications bring and that is no definition; it is false for others.
func (r Rules) deployed(o manifest.Object) ([]manifest.Diagnostic, bool) {
	if _, declared := manifest.Check(o); declared || r.Deployed == nil {
		return nil, false
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(o.Tree.JSON()); err != nil {
		return nil, false
	}
	if named := plan.Named([]*unstructured.Unstructured{object}, "0000000", time.Unix(0, 0)); len(named) > 0 {
		object = named[0] // a hook gets its name from its sync
	}
	problems, known := r.Deployed.Lint(object)
	if !known {
		return nil, false
	}
	var diags []manifest.Diagnostic
	for _, p := range problems {
		d := manifest.Diagnostic{Position: o.Position, Severity: manifest.SeverityWarning, Path: p.Path, Message: p.Message}
		if p.Fatal {
			d.Severity = manifest.SeverityError
		}
		if p.Path != "" {
			d.Position = o.Tree.Position(p.Path)
			if !strings.HasPrefix(p.Message, p.Path) {
				d.Message = p.Path + ": " + p.Message
			}
		}
		diags = append(diags, d)
	}
	return diags, true
}

// misspelt makes errors of unknown fields: a manifest that is checked is meant as it stands. One that is only in the wrong case is
// read all the same, so that is an error only where Argo's strict reading is asked for.
func misspelt(diags []manifest.Diagnostic, strict bool) []manifest.Diagnostic {
	for i := range diags {
		if unknown := diags[i].Unknown; unknown == manifest.PassedOver || strict && unknown == manifest.ReadAsAnother {
			diags[i].Severity = manifest.SeverityError
		}
	}
	return diags
}

// ofRuns says whether a kind is one that runs are made of. The validator decodes these, and says what is wrong with them.
func ofRuns(kind string) bool {
	return kind == "WorkflowTemplate" || kind == "ClusterWorkflowTemplate" || kind == "CronWorkflow"
}

func (r Rules) run(o manifest.Object, find func(kind, name string) (manifest.Object, bool), options validate.Options) []manifest.Diagnostic {
	options.Find = find
	return append(workflow.Check(o, r.Platform), validate.Object(o, options)...)
}

func refuse(o manifest.Object, message, hint string) []manifest.Diagnostic {
	return []manifest.Diagnostic{{Position: o.Position, Severity: manifest.SeverityError, Path: "kind", Message: message, Hint: hint}}
}
