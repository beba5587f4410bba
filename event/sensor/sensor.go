// Package sensor decides what an event leads to. It is pure: it looks only at its arguments, so a decision can be
// repeated, dry-run and explained. It follows argo-events 1.9; where that is a known fault it does as documented
// (see [Check]).
package sensor

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/robfig/cron/v3"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
)

// AnnotationCompat set to "strict" makes a sensor follow Argo's service where that differs from its documentation.
const AnnotationCompat = "tiphys.dev/compat"

// AnnotationSuspend set to "true" suspends a sensor, like spec.suspend.
const AnnotationSuspend = "tiphys.dev/suspend"

// Sensor is a sensor ready to decide. It is not changed by deciding.
type Sensor struct {
	// Key is namespace/name, Namespace its first part.
	Key       string
	Namespace string
	// Digest is the definition's content digest.
	Digest string
	// ServiceAccount is on whose behalf the triggers act.
	ServiceAccount string
	Suspended      bool
	strict         bool
	dependencies   []manifest.EventDependency
	triggers       []trigger
	patterns       patterns
	scripts        Scripts
}

type trigger struct {
	def       manifest.Trigger
	name      string
	condition *condition
	resets    []cron.Schedule
}

// State is what one trigger remembers. Keep it by trigger name.
type State = event.TriggerState

// Saved is an event that satisfies a dependency until the condition fires.
type Saved = event.SavedEvent

// Firing is one thing to do, at least once; whoever does it must be idempotent by Key.
type Firing struct {
	Sensor  string `json:"sensor"`
	Trigger string `json:"trigger"`
	// Type is the trigger's type: k8s, argoWorkflow, http, log…; empty if it has none.
	Type   string `json:"type"`
	Number int64  `json:"number"`
	// Key is event id, sensor, trigger and number.
	Key string `json:"key"`
	// Events are the events used, by dependency.
	Events map[string]int64 `json:"events"`
	// Template is the trigger's template with the trigger's own parameters applied, and for types other than
	// k8s and argoWorkflow the type's parameters too.
	Template *manifest.TriggerTemplate `json:"template,omitempty"`
	// Resource is the object of a k8s or argoWorkflow trigger with its parameters applied, where the source is
	// resource or inline. Any other source must be fetched; then put Parameters in with [Apply].
	Resource json.RawMessage `json:"resource,omitempty"`
	// Given marks what in Resource came from events.
	Given      []manifest.Given `json:"given,omitempty"`
	Parameters []Value          `json:"parameters,omitempty"`
	// Payload is the body of types that send one.
	Payload json.RawMessage `json:"payload,omitempty"`
	// PlainPayload says that the body is a text that is not JSON; Payload holds it as a JSON string.
	PlainPayload bool `json:"plainPayload,omitempty"`
	// Headers are an http trigger's dynamic headers.
	Headers map[string]string `json:"headers,omitempty"`

	Policy        *manifest.TriggerPolicy `json:"policy,omitempty"`
	RetryStrategy *manifest.EventBackoff  `json:"retryStrategy,omitempty"`
	RateLimit     *manifest.RateLimit     `json:"rateLimit,omitempty"`
	AtLeastOnce   bool                    `json:"atLeastOnce,omitempty"`
	// DLQ is fired when this one has failed for good.
	DLQ *Firing `json:"dlq,omitempty"`
	// ServiceAccount is on whose behalf it acts; empty means the namespace's default.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Problem, if not empty, says why the firing cannot be carried out: a parameter could not be resolved. It is
	// then dead from the start.
	Problem string `json:"problem,omitempty"`
}

// New makes a sensor of its definition, whose programs scripts runs. With errors among the diagnostics the sensor is nil.
func New(def *manifest.Sensor, digest string, scripts Scripts) (*Sensor, []manifest.Diagnostic) {
	diagnostics := manifest.ValidateSensor(def)
	namespace := def.Namespace
	if namespace == "" {
		namespace = "default"
	}
	s := &Sensor{Key: namespace + "/" + def.Name, Namespace: namespace, Digest: digest,
		Suspended:    def.Spec.Suspend || def.Annotations[AnnotationSuspend] == "true",
		strict:       def.Annotations[AnnotationCompat] == "strict",
		dependencies: def.Spec.Dependencies, scripts: scripts}
	if def.Spec.Template != nil {
		s.ServiceAccount = def.Spec.Template.ServiceAccountName
	}
	names := make([]string, len(s.dependencies))
	for i := range s.dependencies {
		names[i] = s.dependencies[i].Name
	}
	for i, t := range def.Spec.Triggers {
		if t.Template == nil {
			continue // among the diagnostics
		}
		path := manifest.IndexPath("spec.triggers", i) + ".template."
		c, err := parseCondition(t.Template.Conditions, names)
		if err != nil {
			diagnostics = append(diagnostics, manifest.Diagnostic{Severity: manifest.SeverityError, Path: path + "conditions",
				Message: err.Error(), Hint: "combine names of the sensor's dependencies with &&, || and parentheses"})
			continue
		}
		compiled := trigger{def: t, name: t.Template.Name, condition: c}
		for _, reset := range t.Template.ConditionsReset {
			if schedule := resetSchedule(reset); schedule != nil {
				compiled.resets = append(compiled.resets, schedule)
			}
		}
		s.triggers = append(s.triggers, compiled)
	}
	if manifest.Failed(diagnostics) {
		return nil, diagnostics
	}
	filters := make([]*manifest.EventFilters, len(s.dependencies))
	for i := range s.dependencies {
		filters[i] = s.dependencies[i].Filters
	}
	s.patterns = patternsOf(filters...)
	return s, diagnostics
}

func resetSchedule(reset manifest.ConditionsReset) cron.Schedule {
	if reset.ByTime == nil {
		return nil
	}
	text := reset.ByTime.Cron
	if reset.ByTime.Timezone != "" {
		text = fmt.Sprintf("CRON_TZ=%s %s", reset.ByTime.Timezone, text)
	}
	schedule, err := cron.ParseStandard(text)
	if err != nil {
		return nil // among the diagnostics
	}
	return schedule
}

// Listens reports whether some dependency names this event of this source.
func (s *Sensor) Listens(namespace, source, subject string) bool {
	return namespace == s.Namespace && slices.ContainsFunc(s.dependencies, func(d manifest.EventDependency) bool {
		return d.EventSourceName == source && d.EventName == subject
	})
}

// Needs are the sequences of earlier events that [Sensor.Decide] may use for this event.
func (s *Sensor) Needs(states map[string]State, e event.Event) []int64 {
	if !s.Listens(e.Namespace, e.Source, e.Subject) {
		return nil
	}
	var needs []int64
	for _, t := range s.triggers {
		for _, saved := range states[t.name].Saved {
			if !slices.Contains(needs, saved.Event) && saved.Event != e.Seq {
				needs = append(needs, saved.Event)
			}
		}
	}
	slices.Sort(needs)
	return needs
}

// Triggers are the names of the triggers with what they are waiting for, for display: the dependencies of the
// condition, and those that are satisfied.
func (s *Sensor) Triggers(states map[string]State) []Waiting {
	var out []Waiting
	for _, t := range s.triggers {
		w := Waiting{Trigger: t.name, Condition: t.condition.text}
		for _, name := range t.condition.names {
			if _, ok := states[t.name].Saved[name]; ok {
				w.Satisfied = append(w.Satisfied, name)
			} else {
				w.Missing = append(w.Missing, name)
			}
		}
		out = append(out, w)
	}
	return out
}

// Waiting is where one trigger's condition stands.
type Waiting struct {
	Trigger   string   `json:"trigger"`
	Condition string   `json:"condition"`
	Satisfied []string `json:"satisfied,omitempty"`
	Missing   []string `json:"missing,omitempty"`
}
