package validate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/manifest"
)

// leaf checks a template that runs something itself.
func (c *checker) leaf() {
	for _, p := range c.t.Outputs.Parameters {
		c.scope.add("outputs.parameters." + p.Name + ".path")
	}
	for _, a := range c.t.Outputs.Artifacts {
		c.scope.add("outputs.artifacts." + a.Name + ".path")
	}
	for _, key := range c.t.Tree.Keys() {
		if key != "metrics" { // their tags are checked with them
			c.tags(c.t.Tree.Get(key), c.scope, key, c.way()+c.where+": ")
		}
	}
	switch c.t.Type() {
	case "container":
		if c.t.Container.Image == "" && !c.hasTag("container.image") {
			c.failAt(c.t.Tree.Get("container"), "%s.container.image may not be empty", c.where)
		}
		c.mounts("container", c.t.Container.VolumeMounts)
	case "script":
		if c.t.Script.Image == "" && !c.hasTag("script.image") {
			c.failAt(c.t.Tree.Get("script"), "%s.script.image may not be empty", c.where)
		}
		c.mounts("script", c.t.Script.VolumeMounts)
	case "containerSet":
		c.containerSet()
	case "resource":
		c.resource()
	case "http":
		c.http()
	}
	for kind, list := range map[string][]manifest.UserContainer{"sidecars": c.t.Sidecars, "initContainers": c.t.InitContainers} {
		for i, s := range list {
			if s.Name == "" {
				c.failAt(c.t.Tree.Get(kind).Items()[i], "%s.%s[%d]: %s must all have container name", c.where, kind, i, kind)
			}
			if reserved(s.Name) {
				c.failAt(c.t.Tree.Get(kind).Items()[i], "%s.%s[%d].name '%s' is a reserved Argo container name", c.where, kind, i, s.Name)
			}
		}
	}
	c.leafOutputs()
}

// http checks a request before it is made. A condition sees only the exchange (Argo Workflows docs, variables.md).
func (c *checker) http() {
	at, h := c.t.Tree.Get("http"), c.t.HTTP
	if h.URL == "" {
		c.failAt(at, "%s.http.url may not be empty", c.where)
	}
	if h.SuccessCondition == "" || strings.Contains(h.SuccessCondition, "{{") {
		return
	}
	at = at.Get("successCondition")
	names, err := c.evaluator.Names(h.SuccessCondition)
	if err != nil {
		c.failAt(at, "%s.http.successCondition: %v", c.where, err)
	}
	for _, name := range names {
		if root, _, _ := strings.Cut(name, "."); root != "request" && root != "response" {
			c.failAt(at, "%s.http.successCondition: %s is not known here: it can name request.… and response.…", c.where, name)
		}
	}
}

func (c *checker) hasTag(path string) bool { return isTagged(c.t.Tree.Lookup(path).Text()) }

// reserved are the containers that Argo puts into a pod itself.
func reserved(name string) bool { return name == "wait" || name == "init" || name == "supervisor" }

func (c *checker) mounts(kind string, mounts []corev1.VolumeMount) {
	taken := map[string]string{}
	for i, m := range mounts {
		at := fmt.Sprintf("container.volumeMounts[%d]", i)
		if by, dup := taken[m.MountPath]; dup {
			c.failAt(c.t.Tree.Get(kind), "%s '%s' already mounted in %s", at, m.MountPath, by)
		}
		taken[m.MountPath] = at
	}
	for _, a := range c.t.Inputs.Artifacts {
		if by, dup := taken[a.Path]; dup && a.Path != "" {
			c.failAt(c.t.Tree.Get("inputs"), "%s: inputs.artifacts.%s.path '%s' already mounted in %s", c.where, a.Name, a.Path, by)
		}
		taken[a.Path] = "inputs.artifacts." + a.Name
	}
}

func (c *checker) containerSet() {
	at := c.t.Tree.Lookup("containerSet.containers")
	known := map[string]bool{}
	for i, n := range c.t.ContainerSet.Containers {
		where := fmt.Sprintf("%s.containerSet.containers[%d]", c.where, i)
		switch {
		case n.Name == "":
			c.failAt(at.Items()[i], "%s.name is required", where)
		case reserved(n.Name):
			c.failAt(at.Items()[i], "%s.name '%s' is a reserved Argo container name", where, n.Name)
		case known[n.Name]:
			c.failAt(at.Items()[i], "%s.name '%s' is not unique", where, n.Name)
		}
		known[n.Name] = true
	}
	if len(known) == 0 {
		c.failAt(c.t.Tree.Get("containerSet"), "%s.containerSet.containers must have at least one container", c.where)
		return
	}
	var order []*member
	depends := map[string][]string{}
	for i, n := range c.t.ContainerSet.Containers {
		order = append(order, &member{name: n.Name})
		for _, d := range n.Dependencies {
			if !known[d] {
				c.failAt(at.Items()[i], "%s.containerSet.containers.%s dependency '%s' not defined", c.where, n.Name, d)
				continue
			}
			depends[n.Name] = append(depends[n.Name], d)
		}
	}
	if _, cycle := topological(order, depends); cycle != "" {
		c.failAt(c.t.Tree.Get("containerSet"), "%s containerSet cycle detected: %s", c.where, cycle)
	}
	uses := len(c.t.Inputs.Artifacts) > 0 || len(c.t.Outputs.Artifacts) > 0
	for _, p := range c.t.Outputs.Parameters {
		uses = uses || p.ValueFrom != nil && p.ValueFrom.Path != ""
	}
	if uses && !known["main"] {
		c.failAt(c.t.Tree.Get("containerSet"), `%s.containerSet.containers must have a container named "main" for input or output`, c.where)
	}
}

func (c *checker) resource() {
	r := c.t.Resource
	actions := []string{"get", "create", "apply", "delete", "replace", "patch"}
	if !isTagged(r.Action) && !slices.Contains(actions, r.Action) {
		c.failAt(c.t.Tree.Lookup("resource.action"), "%s.resource.action must be one of: %s", c.where, strings.Join(actions, ", "))
	}
	if r.Manifest != "" && r.ManifestFrom != nil {
		c.failAt(c.t.Tree.Get("resource"), "%s.resource must not have both manifest and manifestFrom", c.where)
	}
	if r.Manifest == "" || isTagged(r.Manifest) {
		return
	}
	var value any
	if err := yaml.Unmarshal([]byte(r.Manifest), &value); err != nil || !structured(value) {
		c.failAt(c.t.Tree.Lookup("resource.manifest"), "%s.resource.manifest must be a valid yaml", c.where)
	}
}

// structured tells whether a manifest is an object or a patch.
func structured(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// leafOutputs: a container's parameters come from a file, a resource's from its object, suspend's from a person.
func (c *checker) leafOutputs() {
	at := c.t.Tree.Lookup("outputs.parameters")
	for i, p := range c.t.Outputs.Parameters {
		where := fmt.Sprintf("%s.outputs.parameters.%s", c.where, p.Name)
		if !c.outputSource(p, at.Items()[i], where) {
			continue
		}
		switch kind := c.t.Type(); kind {
		case "container", "script", "containerSet":
			if f := p.ValueFrom; f.Path == "" && f.Supplied == nil && f.Expression == "" {
				c.failAt(at.Items()[i], "%s.path must be specified for %s templates", where, strings.ToUpper(kind[:1])+kind[1:])
			}
		case "resource":
			if p.ValueFrom.JSONPath == "" && p.ValueFrom.JQFilter == "" && p.ValueFrom.Expression == "" {
				c.failAt(at.Items()[i], "%s.jsonPath or jqFilter must be specified for Resource templates", where)
			}
		}
	}
	for i, a := range c.t.Outputs.Artifacts {
		kind := c.t.Type()
		if a.Path == "" && (kind == "container" || kind == "script" || kind == "containerSet") {
			c.failAt(c.t.Tree.Lookup("outputs.artifacts").Items()[i], "%s.outputs.artifacts.%s.path must be specified", c.where, a.Name)
		}
		if a.Raw != nil {
			c.failAt(c.t.Tree.Lookup("outputs.artifacts").Items()[i], "%s.outputs.artifacts.%s: raw can only be an input", c.where, a.Name)
		}
	}
}

// outputSource tells whether the parameter has a valueFrom to look at.
func (c *checker) outputSource(p manifest.Parameter, at *manifest.Tree, where string) bool {
	switch {
	case p.ValueFrom != nil && p.Value != nil:
		c.failAt(at, "%s has both valueFrom and value specified. Choose one.", where)
		return false
	case p.Value != nil:
		return false
	case p.ValueFrom == nil:
		c.failAt(at, "%s does not have valueFrom or value specified", where)
		return false
	}
	f := p.ValueFrom
	count := 0
	for _, set := range []bool{f.Path != "", f.JQFilter != "", f.JSONPath != "", f.Parameter != "", f.Expression != "", f.Supplied != nil, f.ConfigMapKeyRef != nil} {
		if set {
			count++
		}
	}
	if count > 1 {
		c.failAt(at, "%s.valueFrom multiple valueFrom types specified. choose one of: path, jqFilter, jsonPath, parameter, expression, supplied", where)
	}
	if count == 0 && f.Default == nil && at.Lookup("valueFrom.supplied") == nil {
		c.failAt(at, "%s.valueFrom type unspecified. choose one of: path, jqFilter, jsonPath, parameter, expression, supplied", where)
	}
	return count == 1
}

// aggregateOutputs: the outputs of steps and dag templates come from their members.
func (c *checker) aggregateOutputs() {
	at := c.t.Tree.Lookup("outputs.parameters")
	for i, p := range c.t.Outputs.Parameters {
		where := fmt.Sprintf("%s.outputs.parameters.%s", c.where, p.Name)
		if c.outputSource(p, at.Items()[i], where) && p.ValueFrom.Parameter == "" && p.ValueFrom.Expression == "" {
			c.failAt(at.Items()[i], "%s.valueFrom.parameter or expression must be specified for %s templates", where, strings.ToUpper(c.t.Type()))
		}
	}
	for i, a := range c.t.Outputs.Artifacts {
		if a.From == "" && a.FromExpression == "" {
			c.failAt(c.t.Tree.Lookup("outputs.artifacts").Items()[i], "%s.outputs.artifacts.%s.from or fromExpression must be specified", c.where, a.Name)
		}
	}
}

// outputNames checks the names of outputs and notes which of them the whole run sees.
func (c *checker) outputNames() {
	at := c.t.Tree.Get("outputs")
	c.uniqueNames(at.Get("parameters"), c.where+".outputs.parameters", parameterName)
	c.uniqueNames(at.Get("artifacts"), c.where+".outputs.artifacts", parameterName)
	note := func(kind, name string) {
		switch {
		case isTagged(name):
			c.anyOutputs = true
		case name != "":
			c.outputs["workflow.outputs."+kind+"."+name] = true
		}
	}
	for _, p := range c.t.Outputs.Parameters {
		note("parameters", p.GlobalName)
	}
	for _, a := range c.t.Outputs.Artifacts {
		note("artifacts", a.GlobalName)
	}
}

func (v *validator) podResources(at *manifest.Tree, r *corev1.ResourceRequirements, where string) {
	if r == nil {
		return
	}
	at = at.Get("podResources")
	if len(r.Claims) > 0 {
		v.fail(at, where, "%s.podResources.claims is not supported", where)
	}
	for _, list := range []corev1.ResourceList{r.Limits, r.Requests} {
		for name := range list {
			if name != corev1.ResourceCPU && name != corev1.ResourceMemory && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
				v.fail(at, where, "%s.podResources: %q is not a valid pod-level resource", where, name)
			}
		}
	}
}

// metricName tells whether Prometheus takes a name for a metric or a label.
func metricName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && c != '_' || i == 0 && c >= '0' && c <= '9' {
			return false
		}
	}
	return name != ""
}

func (v *validator) metrics(at *manifest.Tree, m *manifest.Metrics, prefix string) {
	if m == nil {
		return
	}
	for i, metric := range m.Prometheus {
		node := at.Lookup(fmt.Sprintf("metrics.prometheus[%d]", i))
		if !metricName(metric.Name) {
			v.fail(node, "metrics", "%smetric name '%s' is invalid. Metric names must contain alphanumeric characters or '_'", prefix, metric.Name)
		}
		if metric.Help == "" {
			v.fail(node, "metrics", "%smetric '%s' must contain a help string under 'help: ' field", prefix, metric.Name)
		}
		if fault := metricValue(metric); fault != "" {
			v.fail(node, "metrics", "%smetric '%s' error: %s", prefix, metric.Name, fault)
		}
		for _, l := range metric.Labels {
			if !metricName(l.Key) {
				v.fail(node, "metrics", "metric label '%s' is invalid: keys may only contain alphanumeric characters or '_'", l.Key)
			}
		}
	}
}

// metricValue says what a metric's value lacks (ValidateMetricValues in workflow/metrics of Argo).
func metricValue(m manifest.Prometheus) string {
	for _, kind := range []struct {
		name  string
		value map[string]any
	}{{"gauge", m.Gauge}, {"histogram", m.Histogram}, {"counter", m.Counter}} {
		value := text(kind.value["value"])
		if kind.value == nil {
			continue
		}
		if value == "" {
			return "missing " + kind.name + ".value"
		}
		if realtime, _ := kind.value["realtime"].(bool); realtime && strings.Contains(value, "resourcesDuration.") {
			return "'resourcesDuration.*' metrics cannot be used in real-time gauges"
		}
	}
	return ""
}

func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// metricTags checks the tags of metrics, which know how their template ended (docs/variables.md of Argo, Metrics). A metric of the workflow
// can name its outputs.
func (v *validator) metricTags(at *manifest.Tree, around *names, prefix string) {
	own := newNames(around)
	own.add("status", "duration", "exitCode", "retries", "resourcesDuration.cpu", "resourcesDuration.memory", "workflow.status", "workflow.duration", "workflow.failures")
	for _, prefix := range []string{"outputs.", "resourcesDuration.", "workflow.outputs.", "item"} {
		own.addAll(prefix)
	}
	v.tags(at.Get("metrics"), own, "metrics", prefix)
}

func parseSeconds(text string) (int64, error) {
	return strconv.ParseInt(strings.TrimSpace(text), 10, 64)
}
