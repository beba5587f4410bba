package sensor_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/manifest"
)

// A path that makes a list of what it finds doubles it each time.
func doubled(times int) string {
	return "[a,a]" + strings.Repeat("|[[0,1],[0,1]]", times)
}

// pathBombs are paths by which a small document gives a large value, or takes for ever.
func pathBombs() map[string]string {
	return map[string]string{
		"lists of lists":          doubled(40),
		"a list of everything":    "[" + strings.Repeat("long,", 700) + "long]",
		"objects of everything":   "{" + strings.Repeat("long,", 700) + "long}",
		"an indent of its own":    `@pretty:{"indent":"` + strings.Repeat(" ", 3900) + `"}`,
		"indents of what is deep": `deep|@pretty`,
		"what is deep, once more": `@dig:x`,
		"texts of texts":          strings.Repeat("@tostr|", 30) + "@tostr",
		"a path without end":      strings.Repeat("a.", 1<<20) + "a",
	}
}

func bombed() event.Event {
	deep := strings.Repeat(`{"x":[`, 4000) + strings.Repeat(`"",`, 100_000) + `""` + strings.Repeat("]}", 4000)
	return event.Event{ID: "1", Seq: 1, Source: "s", Subject: "e", Namespace: "default", Time: time.Unix(1, 0),
		Data: []byte(`{"a":"` + strings.Repeat("a", 100) + `","long":"` + strings.Repeat("a", 900_000) + `","deep":` + deep + `}`)}
}

// bounded runs what must fail and must not make much on its way there.
func bounded(t *testing.T, run func() error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := run()
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Error("it has a value")
	} else if len(err.Error()) > 10_000 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
	if made := after.TotalAlloc - before.TotalAlloc; made > 600<<20 {
		t.Errorf("it allocated %d MiB on its way", made>>20)
	}
}

func TestGrowingPaths(t *testing.T) {
	e := bombed()
	for name, path := range pathBombs() {
		t.Run(name, func(t *testing.T) {
			bounded(t, func() error {
				_, _, err := sensor.Resolve(budget.New(), manifest.ParameterSource{DependencyName: "d", DataKey: path}, map[string]event.Event{"d": e})
				return err
			})
			bounded(t, func() error {
				return sensor.Check(&manifest.EventFilters{Data: []manifest.DataFilter{{Path: path, Type: "string", Value: []string{"never"}}}}, "", &e, false).Err
			})
		})
	}
}

func TestConditionBombs(t *testing.T) {
	e := bombed()
	fields := []manifest.PayloadField{{Name: "long", Path: "long"}, {Name: "all", Path: "deep"}}
	for name, code := range map[string]string{
		"a text and a text and a text": strings.Repeat("long + ", 580) + `long == "x"`,
		"everything and everything":    strings.Repeat("all + ", 500) + `"" == "x"`,
		"a pattern of repeats":         `long =~ "` + strings.Repeat("(a?){1000}", 400) + `b"`,
		"a pattern that is made":       `long =~ "(a?){1000}" + "(a?){1000}"`,
		"a pattern from outside":       `"x" =~ long`,
		"patterns, many times":         strings.Repeat(`long =~ "(a?){100}b" || `, 150) + "false",
		"brackets":                     strings.Repeat("(", 4000) + "true",
	} {
		t.Run(name, func(t *testing.T) {
			bounded(t, func() error {
				v := sensor.Check(&manifest.EventFilters{Exprs: []manifest.ExprFilter{{Expr: code, Fields: fields}}}, "", &e, false)
				return v.Err
			})
		})
	}
}

func TestPatternBombs(t *testing.T) {
	e := bombed()
	for name, patterns := range map[string][]string{
		"repeats":                {strings.Repeat("(a?){1000}", 400) + "b"},
		"repeats that are small": {strings.Repeat("(a?){30}", 5) + strings.Repeat("a*", 300) + "b"},
		"classes":                {strings.Repeat(`(\pL\pN){500}`, 300)},
		"many of them": func() []string {
			var all []string
			for range 2000 {
				all = append(all, "(a?a?a?a?){20}b")
			}
			return all
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			bounded(t, func() error {
				v := sensor.Check(&manifest.EventFilters{Data: []manifest.DataFilter{{Path: "long", Type: "string", Value: patterns}}}, "", &e, false)
				return v.Err
			})
		})
	}
}

// What one sensor makes of one event has one budget, however many triggers and parameters it is spread over.
func TestOneBudgetForADecision(t *testing.T) {
	var parameters strings.Builder
	for range 400 {
		parameters.WriteString(`
        - {dest: spec.x, src: {dependencyName: d, dataTemplate: '{{range until 900}}{{range until 900}}{{end}}{{end}}x'}}`)
	}
	s := load(t, `apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s, namespace: default}
spec:
  dependencies: [{name: d, eventSourceName: s, eventName: e}]
  triggers:
  - template:
      name: t
      k8s:
        operation: create
        source: {resource: {apiVersion: v1, kind: ConfigMap, metadata: {name: x}, spec: {x: ""}}}
        parameters:`+parameters.String()+"\n")
	e := bombed()
	r, err := s.Decide(context.Background(), nil, sensor.Read(e), nil, time.Unix(2, 0))
	if err != nil || len(r.Firings) != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	if !strings.Contains(r.Firings[0].Problem, "steps") {
		t.Errorf("%q", r.Firings[0].Problem)
	}
}
