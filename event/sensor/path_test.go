package sensor_test

import (
	"strings"
	"testing"

	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/manifest"
)

// TestPathBombs: no path makes much of a small document.
func TestPathBombs(t *testing.T) {
	for _, dest := range []string{"a.500000000", "a.99999999999999999999", "a.:500000000", "a|500000000", "a.20000.b"} {
		if _, _, err := sensor.Apply(budget.New(), []byte(`{}`), []sensor.Value{{Dest: dest, Text: "x"}}); err == nil || !strings.Contains(err.Error(), "is larger than 10000") {
			t.Errorf("%s: %v", dest, err)
		}
	}
	out, _, err := sensor.Apply(budget.New(), []byte(`{"a":[1,2]}`), []sensor.Value{{Dest: "a.1", Text: "x"}, {Dest: "v1.20", Text: "y"}})
	if err != nil || !strings.HasPrefix(string(out), `{"a":[1,"x"]`) {
		t.Errorf("%.100s %v", out, err)
	}
	long := "a" + strings.Repeat("|@tostr", 30)
	e := event.Event{Data: []byte(`{"a":"\"\""}`)}
	f := &manifest.EventFilters{Data: []manifest.DataFilter{{Path: long, Type: "string", Value: []string{"x"}}}}
	if v := sensor.Check(f, "", &e, false); v.Pass || v.Err == nil {
		t.Errorf("%+v", v)
	}
	if _, _, err := sensor.Resolve(budget.New(), manifest.ParameterSource{DependencyName: "d", DataKey: long}, map[string]event.Event{"d": e}); err == nil || !strings.Contains(err.Error(), "more than 4 modifiers") {
		t.Error(err)
	}
}
