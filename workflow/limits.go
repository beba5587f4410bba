package workflow

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/manifest"
)

// Limits says by Go type, Kubernetes' Container and PodSpec among them, what has no effect and what is refused, by the
// names that manifests use: what the engine does not do, and what the platform, the run's executor, does not. It is the one
// list: runs record it as conditions, lint and submission report it with its place, and docs/compatibility.md is compared
// with it.
func Limits(platform executor.Fields) map[string]manifest.Limit {
	limits := ownLimits()
	for name, more := range platform.Types {
		limit := limits[name]
		limit.NoEffect = append(limit.NoEffect, more.NoEffect...)
		limit.Refused = append(limit.Refused, more.Refused...)
		limits[name] = limit
	}
	return limits
}

// ownLimits are what the engine does not do, wherever pods run.
func ownLimits() map[string]manifest.Limit {
	return map[string]manifest.Limit{
		"Workflow":         {NoEffect: []string{"status"}},
		"CronWorkflowSpec": {NoEffect: []string{"successfulJobsHistoryLimit", "failedJobsHistoryLimit"}},
		"WorkflowSpec": {
			NoEffect: []string{
				"shutdown", "ttlStrategy", "podGC", "artifactGC", "artifactRepositoryRef", "archiveLogs", "metrics",
			},
		},
		"Template": {
			NoEffect: []string{"metrics", "annotations"},
			Refused:  []string{"resource", "plugin"},
		},
		"MutexRef":         {NoEffect: []string{"database"}},
		"ValueFrom":        {NoEffect: []string{"event"}, Refused: []string{"jsonPath", "jqFilter"}},
		"Artifact":         {NoEffect: []string{"artifactGC", "deleted"}},
		"ArtifactLocation": {NoEffect: []string{"archiveLogs"}, Refused: []string{"gcs", "azure", "oss", "hdfs", "artifactory", "plugin"}},
		"HTTPArtifact":     {NoEffect: []string{"saveStreamViaFile", "followTemporaryRedirects"}},
		"S3Artifact": {
			NoEffect: []string{
				"region", "insecure", "accessKeySecret", "secretKeySecret", "sessionTokenSecret", "roleARN", "useSDKCreds",
				"createBucketIfNotPresent", "encryptionOptions", "caSecret", "addressingStyle",
			},
			Refused: []string{"endpoint", "bucket"},
		},
	}
}

// Unsupported lists what the engine and the platform do not do of a Workflow, WorkflowTemplate, ClusterWorkflowTemplate or
// CronWorkflow, given as its tree: errors for what is refused, a warning for each field without effect. The diagnostics
// have paths; [manifest.Locate] gives them their places.
func Unsupported(kind string, tree any, platform executor.Fields) []manifest.Diagnostic {
	var t reflect.Type
	switch kind {
	case "Workflow":
		t = reflect.TypeFor[manifest.Workflow]()
	case "WorkflowTemplate", "ClusterWorkflowTemplate":
		t = reflect.TypeFor[manifest.WorkflowTemplate]()
	case "CronWorkflow":
		t = reflect.TypeFor[manifest.CronWorkflow]()
	default:
		return nil
	}
	refuse := func(field string) (message, hint string) {
		if r, ok := platform.Refusals[field]; ok {
			return r.Message, r.Hint
		}
		return refusal(field)
	}
	return append(manifest.Support{Types: Limits(platform), Refuse: refuse}.Find(t, tree), unlistable("", tree)...)
}

// refusal says why a field is refused, and what to do instead.
func refusal(field string) (message, hint string) {
	switch field {
	case "resource", "plugin":
		return unsupported(field), "use a container or script template"
	case "jsonPath", "jqFilter":
		return field + " belongs to resource templates, which need Kubernetes", "write the value to a file and take it with valueFrom.path"
	case "endpoint", "bucket":
		return "there is no driver for an s3 store of one's own: " + field + " cannot be used", "use s3 with only a key, which is the built-in store"
	}
	return "there is no driver for " + field + " artifacts", "use s3 with only a key, which is the built-in store"
}

// conditions are the warnings among diagnostics, as a run records them.
func conditions(diagnostics []manifest.Diagnostic) []Condition {
	var out []Condition
	for _, d := range diagnostics {
		if d.Severity != manifest.SeverityError {
			out = append(out, Condition{Type: "NoEffect", Status: "True", Message: d.Message})
		}
	}
	return out
}

// maxWarnings bounds how many warnings of its manifest a run shows, and longestWarning each of them, in bytes: a name in a manifest may be of
// any length.
const (
	maxWarnings    = 20
	longestWarning = 1000
)

// specWarnings are a run's conditions of what its manifest was warned of, in Argo's word for them.
func specWarnings(warnings []manifest.Diagnostic) []Condition {
	const kind = "SpecWarning"
	var out []Condition
	for i, d := range warnings {
		if i == maxWarnings {
			more := fmt.Sprintf("there are %d more warnings: tiphys lint shows all", len(warnings)-i)
			return append(out, Condition{Type: kind, Status: "True", Message: more})
		}
		out = append(out, Condition{Type: kind, Status: "True", Message: failure.Clip(d.Error(), longestWarning)})
	}
	return out
}

// refused are the errors among diagnostics, each at its own place or at the nearest around it that is known.
func (c Submit) refused(diagnostics []manifest.Diagnostic) []manifest.Diagnostic {
	var out []manifest.Diagnostic
	for _, d := range diagnostics {
		if d.Severity != manifest.SeverityError {
			continue
		}
		if d.Position == (manifest.Position{}) {
			d.Position = PositionAt(c.Positions, d.Path)
		}
		out = append(out, d)
	}
	return out
}

// PositionAt gives the place of a path, or of the nearest around it that is known.
func PositionAt(positions map[string]manifest.Position, path string) (found manifest.Position) {
	for at := path; at != "" && found == (manifest.Position{}); at = outer(at) {
		found = positions[at]
	}
	return found
}

func outer(path string) string {
	if i := strings.LastIndexAny(path, ".["); i > 0 {
		return path[:i]
	}
	return ""
}

// Check lists what the engine and the platform do not do of an object, at its place; kinds that are not of workflows have
// nothing.
func Check(o manifest.Object, platform executor.Fields) []manifest.Diagnostic {
	var tree any
	if err := json.Unmarshal(o.Tree.JSON(), &tree); err != nil {
		return []manifest.Diagnostic{{Position: o.Position, Severity: manifest.SeverityError, Message: fmt.Sprintf("read manifest: %v", err)}}
	}
	return slices.Clip(manifest.Locate(o.Tree, Unsupported(o.Kind, tree, platform)))
}
