package workflow

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/manifest"
)

// Limit says what of one type of a manifest one machine does not do.
type Limit struct {
	// NoEffect are fields that are read and kept, and nothing follows.
	NoEffect []string
	// Refused are fields with which nothing runs.
	Refused []string
}

// Limits says by Go type, Kubernetes' Container and PodSpec among them, what has no effect and what is refused, by the
// names that manifests use. It is the one list: runs record it as conditions, lint and submission report it with its place,
// and docs/compatibility.md is compared with it.
func Limits() map[string]Limit {
	return map[string]Limit{
		"Workflow":         {NoEffect: []string{"status"}},
		"CronWorkflowSpec": {NoEffect: []string{"successfulJobsHistoryLimit", "failedJobsHistoryLimit"}},
		"WorkflowSpec": {
			NoEffect: []string{
				"shutdown", "ttlStrategy", "podGC", "volumeClaimGC", "artifactGC", "artifactRepositoryRef", "archiveLogs", "metrics",
				"serviceAccountName", "automountServiceAccountToken", "executor", "nodeSelector", "affinity", "tolerations", "schedulerName",
				"podPriorityClassName", "podPriority", "podDisruptionBudget", "podResources", "executorPlugins",
			},
			Refused: []string{"resourceClaims"},
		},
		"Template": {
			NoEffect: []string{
				"metrics", "annotations", "serviceAccountName", "automountServiceAccountToken", "executor", "nodeSelector", "affinity",
				"tolerations", "schedulerName", "priorityClassName", "priority", "podResources",
			},
			Refused: []string{"resource", "data", "plugin", "resourceClaims"},
		},
		"RetryStrategy":    {NoEffect: []string{"affinity"}},
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
		"Container": {
			NoEffect: []string{
				"livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "stdin", "stdinOnce", "tty", "terminationMessagePath",
				"terminationMessagePolicy", "resizePolicy", "restartPolicyRules",
			},
			Refused: []string{"volumeDevices"},
		},
	}
}

// Unsupported lists what one machine does not do of a Workflow, WorkflowTemplate, ClusterWorkflowTemplate or
// CronWorkflow, given as its tree: errors for what is refused, a warning for each field without effect. The diagnostics
// have paths; [manifest.Locate] gives them their places.
func Unsupported(kind string, tree any) []manifest.Diagnostic {
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
	l := &limiter{limits: Limits(), shapes: map[reflect.Type]*shape{}, idle: map[string]int{}}
	l.walk(t, tree, "")
	return l.found
}

// limiter goes through a tree along its Go types.
type limiter struct {
	limits map[string]Limit
	shapes map[reflect.Type]*shape
	// idle is where a field without effect was first said: once for each field of a type is enough.
	idle  map[string]int
	found []manifest.Diagnostic
}

// shape is what a type says of its fields.
type shape struct {
	limit   map[string]verdict
	members map[string]reflect.Type
}

type verdict struct {
	refused bool
	owner   string
}

func (l *limiter) walk(t reflect.Type, v any, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok { // a group of steps may be written as one step
			l.walk(t.Elem(), v, path)
			return
		}
		for i, x := range list {
			l.walk(t.Elem(), x, manifest.IndexPath(path, i))
		}
	case reflect.Map:
		m, _ := v.(map[string]any)
		for _, k := range sortedKeys(m) {
			l.walk(t.Elem(), m[k], manifest.JoinPath(path, k))
		}
	case reflect.Struct:
		m, _ := v.(map[string]any)
		s := l.shape(t)
		for _, k := range sortedKeys(m) {
			at := manifest.JoinPath(path, k)
			if verdict, ok := s.limit[k]; ok && said(m[k]) {
				l.say(verdict, k, at)
			} else if member, ok := s.members[k]; ok {
				l.walk(member, m[k], at)
			}
		}
	}
}

// said reports whether a field says anything: false, "" and empty lists are what a field is that is not there.
func said(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	}
	return true
}

func (l *limiter) say(v verdict, field, path string) {
	if v.refused {
		l.found = append(l.found, manifest.Diagnostic{Severity: manifest.SeverityError, Path: path, Message: refusal(field), Hint: refusalHint(field)})
		return
	}
	key := v.owner + "." + field
	if _, again := l.idle[key]; again {
		return
	}
	l.idle[key] = len(l.found)
	l.found = append(l.found, manifest.Diagnostic{
		Severity: manifest.SeverityWarning, Path: path, Message: path + " has no effect on this machine", Hint: "docs/compatibility.md lists what has",
	})
}

// refusal says why a field is refused.
func refusal(field string) string {
	switch field {
	case "resource", "plugin", "data":
		return unsupported(field)
	case "jsonPath", "jqFilter":
		return field + " belongs to resource templates, which need Kubernetes"
	case "resourceClaims":
		return "devices cannot be claimed on this machine"
	case "volumeDevices":
		return "block devices are not supported on this machine"
	case "endpoint", "bucket":
		return "there is no driver for an s3 store of one's own: " + field + " cannot be used"
	}
	return "there is no driver for " + field + " artifacts"
}

func refusalHint(field string) string {
	switch field {
	case "resource", "plugin", "data":
		return "use a container or script template"
	case "jsonPath", "jqFilter":
		return "write the value to a file and take it with valueFrom.path"
	case "resourceClaims":
		return "leave it out"
	case "volumeDevices":
		return "mount a volume instead"
	}
	return "use s3 with only a key, which is the built-in store"
}

// shape reads a type. Types that are not the manifest's are looked into only where there is a limit for them.
func (l *limiter) shape(t reflect.Type) *shape {
	if s := l.shapes[t]; s != nil {
		return s
	}
	s := &shape{limit: map[string]verdict{}, members: map[string]reflect.Type{}}
	l.shapes[t] = s
	own := t.PkgPath() == reflect.TypeFor[manifest.Workflow]().PkgPath()
	limit, limited := l.limits[t.Name()]
	if !own && !limited {
		return s
	}
	for _, k := range limit.NoEffect {
		s.limit[k] = verdict{false, t.Name()}
	}
	for _, k := range limit.Refused {
		s.limit[k] = verdict{true, t.Name()}
	}
	if !own {
		return s
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && f.Anonymous:
			inner := l.shape(f.Type)
			for k, v := range inner.limit {
				s.limit[k] = v
			}
			for k, v := range inner.members {
				s.members[k] = v
			}
		case name != "":
			s.members[name] = f.Type
		}
	}
	return s
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

// refused are the errors among diagnostics, each at its own place or at the nearest around it that is known.
func (c Submit) refused(diagnostics []manifest.Diagnostic) []manifest.Diagnostic {
	var out []manifest.Diagnostic
	for _, d := range diagnostics {
		if d.Severity != manifest.SeverityError {
			continue
		}
		for at := d.Path; at != "" && d.Position == (manifest.Position{}); at = outer(at) {
			d.Position = c.Positions[at]
		}
		out = append(out, d)
	}
	return out
}

func outer(path string) string {
	if i := strings.LastIndexAny(path, ".["); i > 0 {
		return path[:i]
	}
	return ""
}

// Check lists what one machine does not do of an object, at its place; kinds that are not of workflows have nothing.
func Check(o manifest.Object) []manifest.Diagnostic {
	var tree any
	if err := json.Unmarshal(o.Tree.JSON(), &tree); err != nil {
		return []manifest.Diagnostic{{Position: o.Position, Severity: manifest.SeverityError, Message: fmt.Sprintf("read manifest: %v", err)}}
	}
	return slices.Clip(manifest.Locate(o.Tree, Unsupported(o.Kind, tree)))
}
