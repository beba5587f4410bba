package manifest

import (
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// ValidateSensor checks what Argo checks before it starts a sensor (sensor validation of argo-events 1.9).
func ValidateSensor(s *Sensor) []Diagnostic {
	c := &eventCheck{}
	c.dependencies(s.Spec.Dependencies)
	if len(s.Spec.Triggers) == 0 {
		c.fail("spec.triggers", "no triggers found")
	}
	names := map[string]bool{}
	for i := range s.Spec.Triggers {
		t, path := &s.Spec.Triggers[i], IndexPath("spec.triggers", i)
		c.trigger(path, t)
		if t.Template == nil {
			continue
		}
		if names[t.Template.Name] {
			c.fail(path+".template.name", "duplicate trigger name: %s", t.Template.Name)
		}
		names[t.Template.Name] = true
	}
	return c.diagnostics
}

func (c *eventCheck) dependencies(list []EventDependency) {
	if len(list) == 0 {
		c.fail("spec.dependencies", "no event dependencies found")
	}
	names := map[string]bool{}
	for i := range list {
		d, path := &list[i], IndexPath("spec.dependencies", i)
		if d.Name == "" {
			c.fail(path, "event dependency must define a name")
		}
		if names[d.Name] && d.Name != "" {
			c.warn(path+".name", "dependency name %q is used twice; conditions cannot tell the two apart", d.Name)
		}
		names[d.Name] = true
		if d.EventSourceName == "" {
			c.fail(path, "event dependency must define the EventSourceName")
		}
		if d.EventName == "" {
			c.fail(path, "event dependency must define the EventName")
		}
		c.logical(path+".filtersLogicalOperator", d.LogicalOperator)
		c.filters(path+".filters", d.Filters)
	}
}

func (c *eventCheck) logical(path, operator string) {
	if operator != "" && operator != "and" && operator != "or" {
		c.fail(path, "logical operator %q not supported: use \"and\" or \"or\"", operator)
	}
}

func (c *eventCheck) filters(path string, f *EventFilters) {
	if f == nil {
		return
	}
	c.logical(path+".exprLogicalOperator", f.ExprLogicalOperator)
	for i, e := range f.Exprs {
		at := IndexPath(path+".exprs", i)
		if e.Expr == "" || len(e.Fields) == 0 {
			c.fail(at, "one of expr filters is not valid (expr and fields must be not empty)")
		}
		for j, field := range e.Fields {
			if field.Path == "" || field.Name == "" {
				c.fail(IndexPath(at+".fields", j), "one of expr filters is not valid (path and name in a field must be not empty)")
			}
		}
	}
	c.logical(path+".dataLogicalOperator", f.DataLogicalOperator)
	for i, d := range f.Data {
		c.dataFilter(IndexPath(path+".data", i), d)
	}
	if x := f.Context; x != nil && x.Type == "" && x.Subject == "" && x.Source == "" && x.DataContentType == "" {
		c.fail(path+".context", "one of ctx filters is not valid (at least one of type, subject, source and datacontenttype must be not empty)")
	}
	if f.Time != nil {
		c.timeFilter(path+".time", f.Time)
	}
}

func (c *eventCheck) dataFilter(path string, d DataFilter) {
	if !slices.Contains([]string{"", ">=", ">", "=", "!=", "<", "<="}, d.Comparator) {
		c.fail(path+".comparator", "comparator %q not supported", d.Comparator)
	}
	if d.Path == "" || d.Type == "" || len(d.Value) == 0 {
		c.fail(path, "one of data filters is not valid (type, path and value must be not empty)")
		return
	}
	for i, v := range d.Value {
		if strings.TrimSpace(v) == "" {
			c.fail(IndexPath(path+".value", i), "one of data filters is not valid (value must be not empty)")
		}
	}
	if d.Comparator == "!=" && len(d.Value) > 1 {
		c.warn(path, "values are alternatives, so != with several of them is nearly always true; use one filter each")
	}
}

func (c *eventCheck) timeFilter(path string, f *TimeFilter) {
	if _, err := time.LoadLocation(f.Timezone); err != nil {
		c.fail(path+".timezone", "invalid timezone %q", f.Timezone)
	}
	start, err := time.Parse(time.TimeOnly, f.Start)
	if err != nil {
		c.fail(path+".start", "invalid event time filter: start %q is not HH:MM:SS", f.Start)
	}
	stop, stopErr := time.Parse(time.TimeOnly, f.Stop)
	if stopErr != nil {
		c.fail(path+".stop", "invalid event time filter: stop %q is not HH:MM:SS", f.Stop)
	}
	if err == nil && stopErr == nil && start.Equal(stop) {
		c.fail(path, "invalid event time filter: stop %q is equal to start %q", f.Stop, f.Start)
	}
}

func (c *eventCheck) trigger(path string, t *Trigger) {
	if t.Template == nil {
		c.fail(path, "trigger template can't be nil")
		return
	}
	c.template(path+".template", t.Template)
	c.policy(path+".policy", t.Policy)
	c.parameters(path+".parameters", t.Parameters, true)
	if t.RateLimit != nil && !slices.Contains([]string{"", "Second", "Minute", "Hour"}, t.RateLimit.Unit) {
		c.fail(path+".rateLimit.unit", "unknown unit %q: use Second, Minute or Hour", t.RateLimit.Unit)
	}
	if t.DLQTrigger == nil {
		return
	}
	if !t.AtLeastOnce {
		c.fail(path, "to use dlqTrigger, trigger.atLeastOnce must be set to true")
	}
	if !t.DLQTrigger.AtLeastOnce {
		c.fail(path+".dlqTrigger", "atLeastOnce must be set to true within the dlqTrigger")
	}
	c.trigger(path+".dlqTrigger", t.DLQTrigger)
}

func (c *eventCheck) template(path string, t *TriggerTemplate) {
	if t.Name == "" {
		c.fail(path, "trigger must define a name")
	}
	for i, reset := range t.ConditionsReset {
		at := IndexPath(path+".conditionsReset", i)
		if reset.ByTime == nil {
			c.fail(at, "invalid conditionsReset: byTime must be given")
			continue
		}
		if _, err := cron.ParseStandard(reset.ByTime.Cron); err != nil {
			c.fail(at+".byTime.cron", "invalid cron expression %q", reset.ByTime.Cron)
		}
		if _, err := time.LoadLocation(reset.ByTime.Timezone); err != nil {
			c.fail(at+".byTime.timezone", "invalid timezone %q", reset.ByTime.Timezone)
		}
	}
	switch {
	case t.K8S != nil:
		c.source(path+".k8s", t.K8S.Source, "k8s")
		c.oneOf(path+".k8s.operation", t.K8S.Operation, "", "create", "update", "patch", "delete")
		c.parameters(path+".k8s.parameters", t.K8S.Parameters, true)
	case t.ArgoWorkflow != nil:
		c.source(path+".argoWorkflow", t.ArgoWorkflow.Source, "argoWorkflow")
		c.oneOf(path+".argoWorkflow.operation", t.ArgoWorkflow.Operation, "", "submit", "submit-from", "suspend", "retry",
			"resume", "resubmit", "terminate", "stop")
		c.parameters(path+".argoWorkflow.parameters", t.ArgoWorkflow.Parameters, true)
	case t.HTTP != nil:
		c.http(path+".http", t.HTTP)
	case t.Type() == "":
		c.warn(path, "trigger %q does nothing: it has no type such as k8s, argoWorkflow, http or log", t.Name)
	}
}

func (c *eventCheck) oneOf(path, operation string, known ...string) {
	if !slices.Contains(known, operation) {
		c.fail(path, "unknown operation type %q", operation)
	}
}

func (c *eventCheck) source(path string, s *TriggerSource, kind string) {
	if s == nil {
		c.fail(path, "%s trigger does not contain an absolute action: it has no source", kind)
	}
}

func (c *eventCheck) http(path string, h *HTTPTrigger) {
	if h.URL == "" {
		// Argo accepts the manifest (its tutorials have such) and fails when the trigger fires.
		c.warn(path, "server URL is not specified; the trigger will fail")
	}
	if !slices.Contains([]string{"", "GET", "POST", "PUT", "PATCH", "DELETE"}, h.Method) {
		c.fail(path+".method", "only GET, DELETE, PATCH, POST and PUT methods are supported, got %q", h.Method)
	}
	c.parameters(path+".payload", h.Payload, false)
	c.parameters(path+".parameters", h.Parameters, true)
	c.parameters(path+".dynamicHeaders", h.DynamicHeaders, true)
	if h.BasicAuth != nil && (h.BasicAuth.Username == nil || h.BasicAuth.Password == nil) {
		c.fail(path+".basicAuth", "basic auth needs both a user name and a password")
	}
}

func (c *eventCheck) parameters(path string, list []TriggerParameter, dest bool) {
	for i, p := range list {
		at := IndexPath(path, i)
		if p.Src == nil {
			c.fail(at, "parameter source can't be empty")
			continue
		}
		if p.Src.DependencyName == "" {
			c.fail(at+".src", "parameter dependency name can't be empty")
		}
		if p.Dest == "" && dest {
			c.fail(at, "parameter destination can't be empty")
		}
		c.oneOf(at+".operation", p.Operation, "", "append", "prepend", "overwrite")
	}
}

func (c *eventCheck) policy(path string, p *TriggerPolicy) {
	if p == nil {
		return
	}
	if p.K8S != nil && len(p.K8S.Labels) == 0 {
		c.fail(path+".k8s", "resource labels are not specified")
	}
	if p.Status != nil && len(p.Status.Allow) == 0 {
		c.fail(path+".status", "list of allowed response status is not specified")
	}
}
