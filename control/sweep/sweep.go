// Package sweep removes what nobody names any more. What that is, each [Kind] knows; this room decides when.
package sweep

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiphys/tiphys/control"
)

// How often is swept.
const (
	every   = 6 * time.Hour
	first   = 10 * time.Minute // after the start, which has other things to do
	timeout = 30 * time.Minute // of one kind of things
)

// Removed is what one sweep removed.
type Removed struct {
	Count int64
	// Bytes are those that were freed; 0 where nobody counts them.
	Bytes int64
}

// Kind is one kind of things that are swept.
type Kind interface {
	// Name is one word, plural, for people and metrics: "artifacts".
	Name() string
	// Sweep removes what nobody names. What it returns was removed, with an error too; one that is interrupted has removed
	// less, and the next one goes on.
	Sweep(ctx context.Context, now time.Time) (Removed, error)
}

// Options of a Sweeper.
type Options struct {
	Now func() time.Time
	Log *slog.Logger
}

// Sweeper sweeps now and then. It is a [control.Service] and a collector of metrics. Create it with New; methods are
// safe for concurrent use.
type Sweeper struct {
	o     Options
	kinds []Kind
	descs [4]*prometheus.Desc

	mu      sync.Mutex
	removed map[string]Removed
	failed  map[string]int64
	failing map[string]error // by the latest sweep of each kind
	last    time.Time
}

// New returns a sweeper of kinds, in their order.
func New(o Options, kinds ...Kind) *Sweeper {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	what := []string{"what"}
	return &Sweeper{
		o: o, kinds: kinds, removed: map[string]Removed{}, failed: map[string]int64{}, failing: map[string]error{},
		descs: [4]*prometheus.Desc{
			prometheus.NewDesc("tiphys_swept_total", "What sweeps removed because nobody names it, by kind.", what, nil),
			prometheus.NewDesc("tiphys_swept_bytes_total", "Bytes that sweeps freed, by kind.", what, nil),
			prometheus.NewDesc("tiphys_sweep_failures_total", "Sweeps that failed, by kind.", what, nil),
			prometheus.NewDesc("tiphys_sweep_last_timestamp_seconds", "When everything was last swept; 0 before the first time.", nil, nil),
		},
	}
}

// Name implements control.Service.
func (*Sweeper) Name() string { return "sweeps" }

// Start implements control.Service.
func (*Sweeper) Start(context.Context) error { return nil }

// Run sweeps now and then until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			s.Once(ctx)
			timer.Reset(every)
		}
	}
}

// Health implements control.Service. A sweep that fails is tried again, and does not keep the server from its work.
func (s *Sweeper) Health() control.Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kinds {
		if err := s.failing[k.Name()]; err != nil {
			return control.Health{State: control.Waiting, Reason: fmt.Sprintf("the sweep of %s failed and is tried again: %v", k.Name(), err), Since: s.last}
		}
	}
	return control.Health{}
}

// Once sweeps everything. One kind that fails keeps no other from being swept.
func (s *Sweeper) Once(ctx context.Context) {
	now := s.o.Now()
	for _, k := range s.kinds {
		limited, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it took longer than %s", timeout))
		got, err := k.Sweep(limited, now)
		cancel()
		if ctx.Err() != nil {
			return
		}
		s.note(k.Name(), got, err)
	}
	s.mu.Lock()
	s.last = now
	s.mu.Unlock()
}

func (s *Sweeper) note(what string, got Removed, err error) {
	s.mu.Lock()
	sum := s.removed[what]
	s.removed[what] = Removed{Count: sum.Count + got.Count, Bytes: sum.Bytes + got.Bytes}
	s.failing[what] = err
	if err != nil {
		s.failed[what]++
	}
	s.mu.Unlock()
	if err != nil {
		s.o.Log.Error("sweep; it is tried again later", "what", what, "again", every.String(), "error", err)
	}
	if got.Count > 0 {
		s.o.Log.Info("swept what nobody names", "what", what, "removed", got.Count, "bytes", got.Bytes)
	}
}

// Describe implements prometheus.Collector.
func (s *Sweeper) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Sweeper) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kinds {
		got := s.removed[k.Name()]
		for i, v := range []int64{got.Count, got.Bytes, s.failed[k.Name()]} {
			ch <- prometheus.MustNewConstMetric(s.descs[i], prometheus.CounterValue, float64(v), k.Name())
		}
	}
	last := 0.0
	if !s.last.IsZero() {
		last = float64(s.last.Unix())
	}
	ch <- prometheus.MustNewConstMetric(s.descs[3], prometheus.GaugeValue, last)
}
