package sensor

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/script"
)

// MaxRequest is the longest that an http trigger may take.
const MaxRequest = 90 * time.Second

// Limits says by Go type what of a Sensor has no effect and what is refused. docs/compatibility.md is compared with it.
func Limits() map[string]manifest.Limit {
	return map[string]manifest.Limit{
		"Sensor": {NoEffect: []string{"status"}},
		"SensorSpec": {NoEffect: []string{
			"eventBusName", "replicas", "revisionHistoryLimit", "loggingFields", "errorOnFailedRound",
		}},
		"SensorTemplate": {NoEffect: []string{
			"metadata", "container", "volumes", "securityContext", "nodeSelector", "tolerations", "affinity", "imagePullSecrets", "priority",
			"priorityClassName",
		}},
		"ContextFilter": {NoEffect: []string{"id", "specversion", "time"}},
		"TriggerTemplate": {Refused: []string{
			"awsLambda", "custom", "kafka", "nats", "slack", "openWhisk", "azureEventHubs", "pulsar", "azureServiceBus", "email",
		}},
		"K8STrigger":          {NoEffect: []string{"patchStrategy", "liveObject", "group", "version", "resource"}},
		"ArgoWorkflowTrigger": {NoEffect: []string{"group", "version", "resource"}, Refused: []string{"args"}},
		"TriggerSource":       {Refused: []string{"file", "s3"}},
		"TriggerURL":          {NoEffect: []string{"verifycert"}},
		"TriggerGit": {
			NoEffect: []string{"cloneDirectory", "insecureIgnoreHostKey"},
			Refused:  []string{"creds", "sshKeySecret", "remote"},
		},
		"LogTrigger":    {NoEffect: []string{"intervalSeconds"}},
		"TriggerPolicy": {Refused: []string{"k8s"}},
	}
}

func refusal(field string) (message, hint string) {
	switch field {
	case "args":
		return "args of the argo command are not read here", "say it in the source's object: spec.arguments, spec.entrypoint, metadata"
	case "file", "s3":
		return "a trigger's object cannot be taken from " + field, "use resource, inline, git, configmap or url"
	case "creds", "sshKeySecret":
		return "a trigger's object is fetched without a password or key: " + field + " cannot be used", "mirror the repository to the built-in remote"
	case "remote":
		return "a trigger's object is fetched from its url alone: remote cannot be used", "name that repository in url"
	case "k8s":
		return "policy.k8s is not followed here: a trigger has succeeded when its object was taken", "leave it out, and act on the run's end by an exit handler"
	}
	return fmt.Sprintf("trigger type %q is understood but not run by this version", field), "use http, or a step of a workflow"
}

// CheckDefinition lists what of a Sensor this program does not do, at its place: errors for what is refused, warnings for what
// has no effect.
func CheckDefinition(o manifest.Object) []manifest.Diagnostic {
	var tree any
	read, diagnostics := manifest.Read[manifest.Sensor](o)
	if err := json.Unmarshal(o.Tree.JSON(), &tree); err != nil || manifest.Failed(diagnostics) {
		return nil // the fault is reported where the object is read
	}
	def := read.Value
	found := manifest.Support{Types: Limits(), Refuse: refusal}.Find(reflect.TypeFor[manifest.Sensor](), tree)
	c := &checker{found: found}
	for i := range def.Spec.Dependencies {
		path := manifest.IndexPath("spec.dependencies", i)
		c.patterns(path+".filters", def.Spec.Dependencies[i].Filters)
		c.transform(path+".transform", def.Spec.Dependencies[i].Transform)
	}
	for i := range def.Spec.Triggers {
		c.trigger(manifest.IndexPath("spec.triggers", i), &def.Spec.Triggers[i])
	}
	c.templates("", tree)
	known := map[string]bool{}
	for _, d := range manifest.ValidateSensor(&def) {
		known[d.Message] = true
	}
	_, made := New(&def, "", script.Interpreter{})
	for _, d := range made {
		if !known[d.Message] {
			c.found = append(c.found, d)
		}
	}
	return manifest.Locate(o.Tree, c.found)
}

// checker looks at values, of which some are done and others are not.
type checker struct{ found []manifest.Diagnostic }

func (c *checker) fail(path, hint, format string, args ...any) {
	c.found = append(c.found, manifest.Diagnostic{Severity: manifest.SeverityError, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// patterns checks the script and the expressions of a filter, and the regular expressions that it compares strings with: one that does not compile passes nothing.
func (c *checker) patterns(path string, f *manifest.EventFilters) {
	if f == nil {
		return
	}
	c.lua(path+".script", f.Script)
	for i, e := range f.Exprs {
		if _, err := budget.ParseCondition(e.Expr, false); err != nil {
			at := manifest.IndexPath(path+".exprs", i) + ".expr"
			c.fail(at, "name the values of fields, and compare them", "this is no expression: %v", err)
		}
	}
	for i, d := range f.Data {
		for j, v := range d.Value {
			if d.Type != "string" {
				continue
			}
			if _, err := budget.ParsePattern(v); err != nil {
				at := manifest.IndexPath(manifest.IndexPath(path+".data", i)+".value", j)
				c.fail(at, "put a backslash before what is meant literally", "a string is compared as a regular expression, and this is none: %v", err)
			}
		}
	}
}

// transform checks a program that could never run.
func (c *checker) transform(path string, t *manifest.EventTransform) {
	if t == nil {
		return
	}
	if t.JQ == "" {
		c.lua(path+".script", t.Script)
		return
	}
	if _, err := script.ReadJQ(t.JQ); err != nil {
		c.fail(path+".jq", "try it with jq on one of the source's events", "this is no jq program: %v", err)
	}
}

// lua checks a Lua program, which is only read.
func (c *checker) lua(at, program string) {
	if program == "" {
		return
	}
	if err := script.ReadLua(program); err != nil {
		c.fail(at, "docs/compatibility.md says which of Lua's libraries there are", "this is no Lua program: %v", err)
	}
}

// templates checks the Go templates of filters and parameters, wherever they stand but in objects that triggers make: one that cannot be read would
// be found out by the first event.
func (c *checker) templates(path string, at any) {
	switch v := at.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if key == "resource" {
				continue
			}
			c.templates(manifest.JoinPath(path, key), v[key])
		}
		for _, key := range []string{"dataTemplate", "contextTemplate", "template"} {
			text, ok := v[key].(string)
			if !ok || text == "" {
				continue
			}
			if _, err := budget.ParseTemplate(text, budget.NewSprigs(), functions(budget.New(), time.Time{})); err != nil {
				c.fail(manifest.JoinPath(path, key), "docs/compatibility.md says which functions there are", "this is no template: %v", err)
			}
		}
	case []any:
		for i, item := range v {
			c.templates(manifest.IndexPath(path, i), item)
		}
	}
}

func (c *checker) trigger(path string, t *manifest.Trigger) {
	if t.Template != nil {
		c.template(path+".template", t.Template)
	}
	c.policy(path+".policy", t)
	c.backoff(path+".retryStrategy", t.RetryStrategy)
	if r := t.RateLimit; r != nil && r.RequestsPerUnit <= 0 {
		c.fail(path+".rateLimit", "say how many", "rateLimit.requestsPerUnit must be positive")
	}
	if t.DLQTrigger != nil {
		c.trigger(path+".dlqTrigger", t.DLQTrigger)
	}
}

func (c *checker) template(path string, t *manifest.TriggerTemplate) {
	if k := t.K8S; k != nil && k.Operation != "" && k.Operation != "create" {
		c.fail(path+".k8s.operation", "use create, which changes a definition that exists", "operation %q of a k8s trigger is not run here", k.Operation)
	}
	if a := t.ArgoWorkflow; a != nil && a.Operation != "" && a.Operation != "submit" {
		c.fail(path+".argoWorkflow.operation", "use submit; a workflowTemplateRef in the source stands for submit-from",
			"operation %q of an argoWorkflow trigger is not run here", a.Operation)
	}
	h := t.HTTP
	if h == nil {
		return
	}
	path += ".http"
	if most := int64(MaxRequest / time.Second); h.Timeout > most || h.Timeout < 0 {
		c.fail(path+".timeout", "start a workflow for what takes longer", "timeout must be between 0 and %d seconds, got %d", most, h.Timeout)
	}
	for i, s := range h.SecureHeaders {
		if v := s.ValueFrom; s.Name == "" || v == nil || (v.SecretKeyRef == nil) == (v.ConfigMapKeyRef == nil) {
			c.fail(manifest.IndexPath(path+".secureHeaders", i), "", "a secure header needs a name and one of secretKeyRef and configMapKeyRef")
		}
	}
	if s := h.TLS; s != nil {
		// As argo-events words it (common.GetTLSConfig).
		if !s.InsecureSkipVerify && s.CACertSecret == nil && s.ClientCertSecret == nil && s.ClientKeySecret == nil {
			c.fail(path+".tls", "", "invalid tls config, please configure either caCertSecret, or clientCertSecret and clientKeySecret, or both")
		}
		if (s.ClientCertSecret == nil) != (s.ClientKeySecret == nil) {
			c.fail(path+".tls", "", "invalid tls config, both clientCertSecret and clientKeySecret need to be configured")
		}
	}
}

func (c *checker) policy(path string, t *manifest.Trigger) {
	if t.Policy != nil && t.Policy.Status != nil && t.Template.Type() != "http" {
		c.fail(path+".status", "leave it out", "policy.status belongs to http triggers")
	}
}

// backoff checks a retry strategy. A duration is Go's notation, or nanoseconds.
func (c *checker) backoff(path string, b *manifest.EventBackoff) {
	if b == nil {
		return
	}
	if text := b.Duration.Text(); text != "" {
		d, err := time.ParseDuration(text)
		if n, whole := strconv.ParseInt(text, 10, 64); whole == nil {
			d, err = time.Duration(n), nil
		}
		if err != nil || d < 0 {
			c.fail(path+".duration", "write 10s, or nanoseconds", "%q is not a duration", text)
		}
	}
	for name, amount := range map[string]*manifest.AnyString{"factor": b.Factor, "jitter": b.Jitter} {
		if text := strings.TrimSpace(amount.Text()); text != "" {
			if f, err := strconv.ParseFloat(text, 64); err != nil || f < 0 || f > 1e6 {
				c.fail(path+"."+name, "", "%q is not a number from 0 to 1000000", text)
			}
		}
	}
}
