package manifest

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// LoadEventSource decodes and validates an EventSource; errors and warnings have positions.
func LoadEventSource(o Object) (*EventSource, []Diagnostic) {
	t, diagnostics := Read[EventSource](o)
	return &t.Value, append(diagnostics, placed(o.Tree, ValidateEventSource(&t.Value))...)
}

// LoadSensor decodes and validates a Sensor; errors and warnings have positions.
func LoadSensor(o Object) (*Sensor, []Diagnostic) {
	t, diagnostics := Read[Sensor](o)
	return &t.Value, append(diagnostics, placed(o.Tree, ValidateSensor(&t.Value))...)
}

func placed(tree *Tree, diagnostics []Diagnostic) []Diagnostic {
	for i := range diagnostics {
		if diagnostics[i].Position.Line == 0 {
			diagnostics[i].Position = tree.Position(diagnostics[i].Path)
		}
	}
	return diagnostics
}

// Names gives the event names of each type that the spec has, both in order.
func (s *EventSourceSpec) Names() map[string][]string {
	names := map[string][]string{}
	v := reflect.ValueOf(*s)
	for i := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if v.Field(i).Kind() != reflect.Map || tag == "service" || tag == "template" {
			continue
		}
		for _, key := range v.Field(i).MapKeys() {
			names[tag] = append(names[tag], key.String())
		}
		slices.Sort(names[tag])
	}
	return names
}

// ValidateEventSource checks what Argo checks before it starts a source (eventsource validation, and each type's
// own where the type is run here). Access tokens are not required: hooks may be made by hand.
func ValidateEventSource(es *EventSource) []Diagnostic {
	c := &eventCheck{}
	names := es.Spec.Names()
	types := make([]string, 0, len(names))
	for t := range names {
		types = append(types, t)
	}
	sort.Strings(types)
	if len(types) == 0 {
		c.fail("spec", "event source has no events")
	}
	seen := map[string]string{}
	for _, t := range types {
		for _, name := range names[t] {
			path := JoinPath("spec."+t, name)
			if first, dup := seen[name]; dup {
				c.fail(path, "more than one %q found in the spec: in %s and %s", name, first, t)
			}
			seen[name] = t
			if name == "" {
				c.fail(path, "an event must have a name")
			}
		}
	}
	c.sources(&es.Spec)
	return c.diagnostics
}

type eventCheck struct {
	diagnostics []Diagnostic
}

func (c *eventCheck) fail(path, format string, args ...any) {
	c.diagnostics = append(c.diagnostics, Diagnostic{Severity: SeverityError, Path: path, Message: fmt.Sprintf(format, args...)})
}

func (c *eventCheck) warn(path, format string, args ...any) {
	c.diagnostics = append(c.diagnostics, Diagnostic{Severity: SeverityWarning, Path: path, Message: fmt.Sprintf(format, args...)})
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func (c *eventCheck) sources(spec *EventSourceSpec) {
	for _, name := range sortedKeys(spec.Webhook) {
		w := spec.Webhook[name]
		c.webhook(JoinPath("spec.webhook", name), &w.WebhookContext)
	}
	for _, name := range sortedKeys(spec.Calendar) {
		c.calendar(JoinPath("spec.calendar", name), spec.Calendar[name])
	}
	for _, name := range sortedKeys(spec.GitHub) {
		g, path := spec.GitHub[name], JoinPath("spec.github", name)
		c.webhook(path+".webhook", g.Webhook)
		if g.ContentType != "" && g.ContentType != "json" && g.ContentType != "form" {
			c.fail(path+".contentType", "content type must be \"json\" or \"form\", got %q", g.ContentType)
		}
		if (g.GitHubBaseURL == "") != (g.GitHubUploadURL == "") {
			c.fail(path, "githubBaseURL and githubUploadURL must be given both or neither")
		}
		if len(g.Repositories) > 0 && len(g.Organizations) > 0 {
			c.fail(path, "only one of organizations and repositories can be given")
		}
	}
	for _, name := range sortedKeys(spec.GitLab) {
		c.webhook(JoinPath("spec.gitlab", name)+".webhook", spec.GitLab[name].Webhook)
	}
	for _, name := range sortedKeys(spec.Gitea) {
		c.webhook(JoinPath("spec.gitea", name)+".webhook", spec.Gitea[name].Webhook)
	}
	for _, name := range sortedKeys(spec.Bitbucket) {
		c.webhook(JoinPath("spec.bitbucket", name)+".webhook", spec.Bitbucket[name].Webhook)
	}
	for _, name := range sortedKeys(spec.BitbucketServer) {
		c.webhook(JoinPath("spec.bitbucketserver", name)+".webhook", spec.BitbucketServer[name].Webhook)
	}
	for _, name := range sortedKeys(spec.File) {
		w, path := spec.File[name].WatchPathConfig, JoinPath("spec.file", name)
		if w.Directory == "" {
			c.fail(path, "directory is required")
		} else if !strings.HasPrefix(w.Directory, "/") {
			c.fail(path, "directory must be an absolute file path")
		}
		if (w.Path == "") == (w.PathRegexp == "") {
			c.fail(path, "either path or pathRegexp must be given")
		}
	}
}

func (c *eventCheck) webhook(path string, w *WebhookContext) {
	if w == nil {
		return // the common route serves it
	}
	if w.Endpoint != "" && !strings.HasPrefix(w.Endpoint, "/") {
		c.warn(path+".endpoint", "endpoint %q does not begin with a slash; one is put before it", w.Endpoint)
	}
	switch w.Method {
	case "", http.MethodGet, http.MethodPost:
	case http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		c.warn(path+".method", "requests with method %s are refused: only GET and POST carry events", w.Method)
	default:
		c.fail(path+".method", "%q is not an HTTP method", w.Method)
	}
	if w.MaxPayloadSize != nil && *w.MaxPayloadSize < 0 {
		c.fail(path+".maxPayloadSize", "maxPayloadSize must not be negative")
	}
}

func (c *eventCheck) calendar(path string, s CalendarSource) {
	if s.Schedule == "" && s.Interval == "" {
		c.fail(path, "must have either schedule or interval")
	}
	if s.Schedule != "" {
		if _, err := cron.ParseStandard(s.Schedule); err != nil {
			c.fail(path+".schedule", "failed to parse schedule %s from calendar event: %v", s.Schedule, err)
		}
	} else if s.Interval != "" {
		if d, err := time.ParseDuration(s.Interval); err != nil || d <= 0 {
			c.fail(path+".interval", "failed to parse interval %q from calendar event", s.Interval)
		}
	}
	if _, err := time.LoadLocation(s.Timezone); err != nil {
		c.fail(path+".timezone", "invalid timezone %q", s.Timezone)
	}
	if s.Persistence != nil && s.Persistence.Catchup != nil && s.Persistence.Catchup.MaxDuration != "" {
		if _, err := time.ParseDuration(s.Persistence.Catchup.MaxDuration); err != nil {
			c.fail(path+".persistence.catchup.maxDuration", "%q is not a duration", s.Persistence.Catchup.MaxDuration)
		}
	}
}
