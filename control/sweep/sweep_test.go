package sweep_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/sweep"
)

// kind removes what the test says.
type kind struct {
	name string
	does []func() (sweep.Removed, error)
}

func (k *kind) Name() string { return k.name }

func (k *kind) Sweep(context.Context, time.Time) (sweep.Removed, error) {
	next := k.does[0]
	k.does = k.does[1:]
	return next()
}

// One kind that fails keeps no other from being swept; the failure is shown until the next sweep, and counted.
func TestOneFails(t *testing.T) {
	t.Parallel()
	gives := func(count, bytes int64, err error) func() (sweep.Removed, error) {
		return func() (sweep.Removed, error) { return sweep.Removed{Count: count, Bytes: bytes}, err }
	}
	lost := errors.New("the disk is gone")
	a := &kind{name: "a", does: []func() (sweep.Removed, error){gives(1, 10, lost), gives(2, 20, nil)}}
	b := &kind{name: "b", does: []func() (sweep.Removed, error){gives(3, 0, nil), gives(0, 0, nil)}}
	s := sweep.New(sweep.Options{}, a, b)
	s.Once(t.Context())
	h := s.Health()
	if h.State != control.Waiting || !h.Well() || !strings.Contains(h.Reason, "sweep of a failed") || !strings.Contains(h.Reason, lost.Error()) {
		t.Errorf("after the failure: %+v", h)
	}
	s.Once(t.Context())
	if h := s.Health(); h.Reason != "" {
		t.Errorf("after the success: %+v", h)
	}
	want := map[string]float64{
		"tiphys_swept_total a": 3, "tiphys_swept_total b": 3, "tiphys_swept_bytes_total a": 30, "tiphys_swept_bytes_total b": 0,
		"tiphys_sweep_failures_total a": 1, "tiphys_sweep_failures_total b": 0,
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(s)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 0 {
				continue
			}
			key := f.GetName() + " " + m.GetLabel()[0].GetValue()
			if got := m.GetCounter().GetValue(); got != want[key] {
				t.Errorf("%s is %v, want %v", key, got, want[key])
			}
			delete(want, key)
		}
	}
	if len(want) > 0 {
		t.Errorf("metrics are missing: %v", want)
	}
}
