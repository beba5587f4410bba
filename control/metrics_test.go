package control_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiphys/tiphys/control"
)

// A folder of definitions that cannot be loaded waits for somebody to mend it, which an operator's alarm can see.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(control.NewMetrics(func() []control.Status {
		return []control.Status{{Name: "definitions", Health: control.Health{State: control.Waiting, Reason: "x.yaml:1:2: bad"}}, {Name: "runs", Health: control.Health{State: control.Running}}}
	}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetGauge().GetValue() == 1 {
				got = append(got, fmt.Sprint(f.GetName(), " ", m.GetLabel()[0].GetValue(), " ", m.GetLabel()[1].GetValue()))
			}
		}
	}
	if diff := cmp.Diff([]string{"tiphys_service_state definitions waiting", "tiphys_service_state runs running"}, got); diff != "" {
		t.Error(diff)
	}
}
