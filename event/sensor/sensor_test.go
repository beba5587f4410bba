package sensor_test

// The algorithm's expected results follow argo-events 1.9, pkg/eventbus/jetstream/sensor, as read for the project.

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/script"
)

func load(t testing.TB, text string) *sensor.Sensor {
	t.Helper()
	objects, diagnostics := manifest.Decode("sensor.yaml", []byte(text))
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	def, diagnostics := manifest.LoadSensor(objects[0])
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	s, diagnostics := sensor.New(def, "sha256:1", script.Interpreter{})
	if err := manifest.FirstError(diagnostics); err != nil {
		t.Fatal(err)
	}
	return s
}

const twoDependencies = `
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: tide, namespace: ports}
spec:
  dependencies:
  - {name: a-1, eventSourceName: src, eventName: a}
  - {name: a_1, eventSourceName: src, eventName: a2}
  - {name: b, eventSourceName: src, eventName: b}
  triggers:
  - template:
      name: both
      conditions: %q
      %s
      argoWorkflow:
        operation: submit
        source:
          resource: {apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {generateName: x-}, spec: {arguments: {parameters: [{name: m}, {name: n}]}}}
        parameters:
        - {src: {dependencyName: a-1, dataKey: n}, dest: spec.arguments.parameters.0.value}
        - {src: {dependencyName: b, dataKey: n, useRawData: true}, dest: spec.arguments.parameters.1.value}
`

func sensorWith(t testing.TB, condition, extra string) *sensor.Sensor {
	return load(t, fmt.Sprintf(twoDependencies, condition, extra))
}

// world feeds events to a sensor as a server would.
type world struct {
	s      *sensor.Sensor
	states map[string]sensor.State
	seen   map[int64]event.Event
	now    time.Time
}

func newWorld(s *sensor.Sensor) *world {
	return &world{s: s, states: map[string]sensor.State{}, seen: map[int64]event.Event{},
		now: time.Date(2026, 9, 14, 8, 30, 0, 0, time.UTC)}
}

func (w *world) send(subject string) sensor.Result {
	seq := int64(len(w.seen) + 1)
	e := event.Event{ID: fmt.Sprintf("e%d", seq), Seq: seq, Namespace: "ports", Source: "src", Subject: subject, Type: "webhook",
		Time: w.now, Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, seq))}
	w.seen[seq] = e
	earlier := map[int64]event.Event{}
	for _, n := range w.s.Needs(w.states, e) {
		earlier[n] = w.seen[n]
	}
	r, err := w.s.Decide(context.Background(), w.states, sensor.Read(e), earlier, w.now)
	if err != nil {
		panic(err)
	}
	for name, state := range r.States {
		w.states[name] = state
	}
	return r
}

func outcomes(r sensor.Result) string {
	var out []string
	for _, d := range r.Decisions {
		out = append(out, d.Outcome)
	}
	return strings.Join(out, " ")
}

func TestNewestEventOfEachDependencyIsUsedAndAllAreCleared(t *testing.T) {
	w := newWorld(sensorWith(t, "a-1 && b", ""))
	for range 10 {
		if got := outcomes(w.send("a")); got != "waiting" {
			t.Fatalf("a: %s", got)
		}
	}
	waiting := w.send("a").Decisions[0]
	if diff := cmp.Diff([]string{"b"}, waiting.Missing); diff != "" || !strings.Contains(waiting.Reason, "waits for b") {
		t.Errorf("waiting for %v: %s", waiting.Missing, waiting.Reason)
	}
	r := w.send("b")
	if outcomes(r) != "fired" || len(r.Firings) != 1 {
		t.Fatalf("b: %+v", r)
	}
	f := r.Firings[0]
	if diff := cmp.Diff(map[string]int64{"a-1": 11, "b": 12}, f.Events); diff != "" {
		t.Errorf("events: %s", diff)
	}
	if f.Key != "e12/ports/tide/both/1" || f.Problem != "" {
		t.Errorf("firing %+v", f)
	}
	want := `{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","metadata":{"generateName":"x-"},"spec":{"arguments":{"parameters":[{"name":"m","value":"11"},{"name":"n","value":12}]}}}`
	if string(f.Resource) != want {
		t.Errorf("resource %s", f.Resource)
	}
	if got := outcomes(w.send("b")); got != "waiting" {
		t.Errorf("after a firing everything starts again, got %s", got)
	}
	if got := w.states["both"]; got.Fired != 1 || len(got.Saved) != 1 {
		t.Errorf("state %+v", got)
	}
}

func TestFiringClearsWhatItDidNotNeed(t *testing.T) {
	w := newWorld(sensorWith(t, "(a-1 && b) || a_1 && b", ""))
	w.send("a")
	w.send("a2")
	if got := outcomes(w.send("b")); got != "fired" {
		t.Fatalf("got %s", got)
	}
	if got := outcomes(w.send("b")); got != "waiting" {
		t.Errorf("a_1 must be cleared too, got %s", got)
	}
}

func TestConditionWithoutAndFiresAtOnce(t *testing.T) {
	w := newWorld(sensorWith(t, "a-1 || b", ""))
	for i, subject := range []string{"a", "b", "a"} {
		r := w.send(subject)
		if outcomes(r) != "fired" || r.Firings[0].Number != int64(i+1) || len(r.Firings[0].Events) != 1 {
			t.Errorf("%s: %+v", subject, r)
		}
		// The parameter of the absent dependency is left out.
		if r.Firings[0].Problem != "" {
			t.Errorf("%s: %s", subject, r.Firings[0].Problem)
		}
	}
	if got := outcomes(w.send("a2")); got != "no-dependency" {
		t.Errorf("a2 got %s", got)
	}
	if got := outcomes(w.send("unknown")); got != "no-dependency" {
		t.Errorf("unknown got %s", got)
	}
}

func TestNamesThatArgoConfusesAreTwo(t *testing.T) {
	w := newWorld(sensorWith(t, "a-1 && b", ""))
	w.send("a2")
	if got := outcomes(w.send("b")); got != "waiting" {
		t.Errorf("a_1 stood for a-1: %s", got)
	}
}

func TestReset(t *testing.T) {
	w := newWorld(sensorWith(t, "a-1 && b", `conditionsReset: [{byTime: {cron: "0 12 * * *", timezone: Europe/Amsterdam}}]`))
	w.send("a")
	w.now = w.now.Add(89 * time.Minute) // 11:59 in Amsterdam
	if got := outcomes(w.send("b")); got != "fired" {
		t.Errorf("before the reset: %s", got)
	}
	w.send("a")
	w.now = w.now.Add(time.Minute)
	r := w.send("b")
	if outcomes(r) != "waiting" || strings.Join(r.Decisions[0].Missing, " ") != "a-1" {
		t.Errorf("after the reset: %+v", r.Decisions)
	}
}

func TestOneEventForTwoDependencies(t *testing.T) {
	s := load(t, `
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s, namespace: ports}
spec:
  dependencies:
  - {name: x, eventSourceName: src, eventName: a, transform: {jq: ".n = 100"}}
  - {name: y, eventSourceName: src, eventName: a}
  triggers:
  - template:
      name: t
      http:
        url: http://h
        payload:
        - {src: {dependencyName: x, dataKey: n, useRawData: true}, dest: x}
        - {src: {dependencyName: y, dataKey: n, useRawData: true}, dest: "y"}
`)
	r := newWorld(s).send("a")
	if outcomes(r) != "waiting fired" || string(r.Firings[0].Payload) != `{"x":100,"y":1}` {
		t.Errorf("%s, payload %s", outcomes(r), r.Firings[0].Payload)
	}
}

func TestReasonsShowTheValues(t *testing.T) {
	for name, c := range map[string]struct{ dependency, outcome, reason string }{
		"data":      {`filters: {data: [{path: n, type: number, comparator: ">", value: ["5"]}]}`, "filtered", "data filter n wants a value that > `5`; it is 1"},
		"missing":   {`filters: {data: [{path: zz, type: string, value: ["5"]}]}`, "filtered", "path 'zz' does not exist"},
		"expr":      {`filters: {exprs: [{expr: n == 2, fields: [{name: n, path: n}]}]}`, "filtered", "expr filter `n == 2` is false with n = 1"},
		"context":   {`filters: {context: {type: gitlab}}`, "filtered", `wants type "gitlab"; it is "webhook"`},
		"time":      {`filters: {time: {start: "22:00:00", stop: "06:00:00"}}`, "filtered", "it was 08:30:00"},
		"script":    {`filters: {script: "return event.n == 2"}`, "filtered", "script filter returns false"},
		"bad jq":    {`transform: {jq: "error(\"no\")"}`, "transform-error", "no"},
		"endless":   {`transform: {jq: "def f: f; f"}`, "transform-error", "more steps"},
		"lua loop":  {`filters: {script: "while true do end"}`, "filtered", "more steps"},
		"lua pcall": {`filters: {script: "while true do pcall(function() while true do end end) end"}`, "filtered", "more steps"},
		"lua bomb":  {`filters: {script: "local s = 'x' while true do s = s .. s end"}`, "filtered", "bytes of text"},
		"lua rep":   {`filters: {script: "return ('x'):rep(1e9) == ''"}`, "filtered", "bytes of text"},
		"lua table": {`filters: {script: "local t = {} t[6e7] = 1 return true"}`, "filtered", "index"},
		"lua match": {`filters: {script: "return (('a'):rep(5000)):match('.-.-.-.-b') ~= nil"}`, "filtered", "more steps than allowed"},
		"lua world": {`filters: {script: "return os.execute == nil and os.getenv == nil and io == nil and load == nil and require == nil and math.random == nil"}`, "fired", "all filters pass"},
		"template":  {`filters: {data: [{path: n, type: string, value: [x], template: "{{ repeat 999999999 .Input }}"}]}`, "filtered", "a text of more than"},
		"no env":    {`filters: {data: [{path: n, type: string, value: [x], template: "{{ env \"HOME\" }}"}]}`, "filtered", "not defined"},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, `
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s, namespace: ports}
spec:
  dependencies:
  - name: d
    eventSourceName: src
    eventName: a
    `+c.dependency+`
  triggers: [{template: {name: t, log: {}}}]
`)
			d := newWorld(s).send("a").Decisions[0]
			if d.Outcome != c.outcome || !strings.Contains(d.Reason, c.reason) {
				t.Errorf("%s: %s", d.Outcome, d.Reason)
			}
		})
	}
}

func TestAProblemIsAFiringThatIsDeadFromTheStart(t *testing.T) {
	s := load(t, `
apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s, namespace: ports}
spec:
  dependencies: [{name: d, eventSourceName: src, eventName: a}]
  triggers: [{template: {name: t, k8s: {source: {resource: {kind: X}}, parameters: [{src: {dependencyName: d, dataKey: absent}, dest: a}]}}}]
`)
	r := newWorld(s).send("a")
	if len(r.Firings) != 1 || !strings.Contains(r.Firings[0].Problem, `"absent" does not exist`) ||
		!strings.Contains(r.Decisions[0].Reason, "absent") {
		t.Errorf("%+v", r)
	}
}

func TestSuspended(t *testing.T) {
	s := sensorWith(t, "a-1", "")
	s.Suspended = true
	if r := newWorld(s).send("a"); outcomes(r) != "suspended" || len(r.Firings) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestBadConditions(t *testing.T) {
	for _, text := range []string{"a-1 &&", "a-1 b", "(a-1", "nobody", "a-1 & b", "!b", "|| b", ")"} {
		objects, _ := manifest.Decode("s", []byte(fmt.Sprintf(twoDependencies, text, "")))
		def, _ := manifest.LoadSensor(objects[0])
		if s, diagnostics := sensor.New(def, "", script.Interpreter{}); s != nil || !manifest.Failed(diagnostics) {
			t.Errorf("%q was accepted", text)
		}
	}
}

// Whatever comes in whatever order: a trigger on "a-1 && b" fires exactly when both were seen since the last firing.
func TestConditionProperty(t *testing.T) {
	s := sensorWith(t, "a-1 && b", "")
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(s)
		last := map[string]int64{}
		for i, subject := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a2", "b", "other"}), 1, 30).Draw(t, "subjects") {
			last[subject] = int64(i + 1)
			r := w.send(subject)
			fires := (subject == "a" || subject == "b") && last["a"] > 0 && last["b"] > 0
			if fires != (len(r.Firings) == 1) {
				t.Fatalf("event %d (%s): firings %v, want %t", i+1, subject, r.Firings, fires)
			}
			if fires {
				want := map[string]int64{"a-1": last["a"], "b": last["b"]}
				if diff := cmp.Diff(want, r.Firings[0].Events); diff != "" {
					t.Fatal(diff)
				}
				last = map[string]int64{}
			}
		}
	})
}

func FuzzCondition(f *testing.F) {
	for _, seed := range []string{"a-1 && b", "(a-1||b)&&b", "((((", "a-1 &&& b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		def := &manifest.Sensor{Spec: manifest.SensorSpec{
			Dependencies: []manifest.EventDependency{{Name: "a-1", EventSourceName: "src", EventName: "a"}, {Name: "b", EventSourceName: "src", EventName: "b"}},
			Triggers:     []manifest.Trigger{{Template: &manifest.TriggerTemplate{Name: "t", Conditions: text, Log: &manifest.LogTrigger{}}}},
		}}
		def.Namespace = "ports"
		s, diagnostics := sensor.New(def, "", script.Interpreter{})
		if (s == nil) != manifest.Failed(diagnostics) {
			t.Fatal("neither a sensor nor an error")
		}
		if s != nil {
			w := newWorld(s)
			w.send("a")
			w.send("b")
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add("a.b", "string", "^x", "=", "", "b == 2", `{"a":{"b":2}}`)
	f.Add("#.x|@reverse", "number", "1", ">", "{{ .Input | upper }}", "b =~ '('", `[]`)
	f.Fuzz(func(t *testing.T, path, kind, value, comparator, template, expression, data string) {
		e := &event.Event{Data: json.RawMessage(data)}
		filters := &manifest.EventFilters{
			Data:  []manifest.DataFilter{{Path: path, Type: kind, Value: []string{value}, Comparator: comparator, Template: template}},
			Exprs: []manifest.ExprFilter{{Expr: expression, Fields: []manifest.PayloadField{{Path: path, Name: "b"}}}},
		}
		for _, operator := range []string{"and", "or"} {
			v := sensor.Check(filters, operator, e, false)
			if v.Reason == "" {
				t.Fatal("no reason")
			}
			if operator == "and" && v.Pass && v.Err != nil {
				t.Fatal("passes with an error")
			}
		}
	})
}
