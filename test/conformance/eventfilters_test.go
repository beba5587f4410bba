package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/script"
)

type corpusEvent struct {
	Context struct {
		ID, Type, Source, Subject string
		Time                      time.Time
	} `json:"context"`
	DataText string `json:"dataText"`
}

func (c *corpusEvent) event() *event.Event {
	if c == nil {
		return nil
	}
	return &event.Event{ID: c.Context.ID, Type: c.Context.Type, Source: c.Context.Source, Subject: c.Context.Subject,
		Time: c.Context.Time, Data: json.RawMessage(c.DataText)}
}

type filterCase struct {
	ID     string                  `json:"id"`
	Kind   string                  `json:"kind"`
	Event  *corpusEvent            `json:"event"`
	Events map[string]*corpusEvent `json:"events"`
	Spec   struct {
		manifest.EventFilters
		Filters    *manifest.EventFilters      `json:"filters"`
		Operator   string                      `json:"filtersLogicalOperator"`
		Transform  *manifest.EventTransform    `json:"transform"`
		Src        *manifest.ParameterSource   `json:"src"`
		Parameters []manifest.TriggerParameter `json:"parameters"`
		Payload    []manifest.TriggerParameter `json:"payload"`
		Target     json.RawMessage             `json:"target"`
	} `json:"spec"`
	Expect struct {
		Pass           bool                       `json:"pass"`
		Error          bool                       `json:"error"`
		ErrorContains  string                     `json:"errorContains"`
		PassInService  *bool                      `json:"passInService"`
		ResultText     *string                    `json:"resultText"`
		Result         json.RawMessage            `json:"result"`
		ResultFields   map[string]json.RawMessage `json:"resultFields"`
		ResultContains json.RawMessage            `json:"resultContains"`
		ResultIs       string                     `json:"resultIs"`
	} `json:"expect"`
}

// TestEventFilters: filters, transforms and parameters of argo-events' own unit tests.
func TestEventFilters(t *testing.T) {
	cases := readCases[filterCase](t, eventCorpus(t, "filters"))
	passed := 0
	for _, c := range cases {
		if err := c.check(t.Context()); err != nil {
			t.Errorf("%s: %v", c.ID, err)
			continue
		}
		passed++
	}
	t.Logf("events/filters: %d/%d", passed, len(cases))
}

func (c filterCase) check(ctx context.Context) error {
	switch c.Kind {
	case "transform":
		out, err := sensor.Transform(ctx, script.Interpreter{}, c.Spec.Transform, *c.Event.event())
		return c.result(string(out.Data), err)
	case "params":
		return c.parameters()
	}
	filters, operator := &c.Spec.EventFilters, c.Spec.Operator
	if c.Spec.Filters != nil {
		filters = c.Spec.Filters
	}
	v := sensor.Check(filters, operator, c.Event.event(), false)
	if v.Pass != c.Expect.Pass || (v.Err != nil) != c.Expect.Error {
		return fmt.Errorf("pass %t, error %v; want %t, %t", v.Pass, v.Err, c.Expect.Pass, c.Expect.Error)
	}
	if v.Err != nil && !strings.Contains(v.Err.Error(), c.Expect.ErrorContains) {
		return fmt.Errorf("error does not contain %q: %w", c.Expect.ErrorContains, v.Err)
	}
	if v.Reason == "" {
		return fmt.Errorf("no reason given")
	}
	if strict := c.Expect.PassInService; strict != nil {
		if got := sensor.Check(filters, operator, c.Event.event(), true).Pass; got != *strict {
			return fmt.Errorf("strict pass %t, want %t", got, *strict)
		}
	}
	return nil
}

func (c filterCase) parameters() error {
	events := map[string]event.Event{}
	for name, e := range c.Events {
		events[name] = *e.event()
	}
	switch {
	case c.Spec.Src != nil:
		v, _, err := sensor.Resolve(budget.New(), *c.Spec.Src, events)
		return c.result(v.Text, err)
	case c.Spec.Payload != nil:
		body, err := sensor.Payload(budget.New(), c.Spec.Payload, events)
		return c.result(string(body), err)
	}
	out, _, err := sensor.ApplyParameters(budget.New(), c.Spec.Target, c.Spec.Parameters, events)
	if err == nil && c.Expect.Result != nil {
		return sameJSON(string(out), string(c.Expect.Result))
	}
	return c.result(string(out), err)
}

func sameJSON(got, want string) error {
	if diff := cmp.Diff(gjson.Parse(want).Value(), gjson.Parse(got).Value()); diff != "" {
		return fmt.Errorf("result differs (-want +got):\n%s", diff)
	}
	return nil
}

func (c filterCase) result(got string, err error) error {
	if (err != nil) != c.Expect.Error {
		return fmt.Errorf("error %s, want %t", fmt.Sprint(err), c.Expect.Error)
	}
	if c.Expect.Error {
		return nil
	}
	if c.Expect.ResultText != nil && got != *c.Expect.ResultText {
		if c.Kind != "transform" {
			return fmt.Errorf("result %q, want %q", got, *c.Expect.ResultText)
		}
		return sameJSON(got, *c.Expect.ResultText)
	}
	for path, want := range c.Expect.ResultFields {
		if err := sameJSON(gjson.Get(got, path).Raw, string(want)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, part := range gjson.ParseBytes(c.Expect.ResultContains).Array() {
		if !strings.Contains(got, part.String()) {
			return fmt.Errorf("result %q does not contain %q", got, part)
		}
	}
	if c.Expect.ResultIs == "event" && (!gjson.Get(got, "context.id").Exists() || !gjson.Get(got, "data").Exists()) {
		return fmt.Errorf("result %q is not the whole event", got)
	}
	return nil
}
