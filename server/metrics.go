package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiphys/tiphys/executor/admission"
	"github.com/tiphys/tiphys/ledger"
)

// LedgerMetrics reads the ledger when it is asked. Create it with NewLedgerMetrics.
type LedgerMetrics struct {
	ledger  ledger.Reader
	entries *prometheus.Desc
	live    *prometheus.Desc
	waiting *prometheus.Desc
	dead    *prometheus.Desc
}

// NewLedgerMetrics returns the metrics of what a ledger holds.
func NewLedgerMetrics(l ledger.Reader) *LedgerMetrics {
	return &LedgerMetrics{
		ledger:  l,
		entries: prometheus.NewDesc("tiphys_ledger_entries", "Entries in the ledger.", nil, nil),
		live:    prometheus.NewDesc("tiphys_runs_live", "Runs that have not ended, by phase (at most 1000 each).", []string{"phase"}, nil),
		waiting: prometheus.NewDesc("tiphys_firings_pending", "Trigger firings that have not been carried out (at most 1000).", nil, nil),
		dead:    prometheus.NewDesc("tiphys_firings_dead", "Dead letters (at most 1000).", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *LedgerMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.entries
	ch <- c.live
	ch <- c.waiting
	ch <- c.dead
}

// Collect implements prometheus.Collector. What cannot be read is left out.
func (c *LedgerMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if head, err := c.ledger.Head(ctx); err == nil {
		ch <- prometheus.MustNewConstMetric(c.entries, prometheus.CounterValue, float64(head.Seq))
	}
	for _, phase := range []string{"Pending", "Running"} {
		c.count(ctx, ch, c.live, "run", phase, phase)
	}
	c.count(ctx, ch, c.waiting, "firing", "pending")
	c.count(ctx, ch, c.dead, "firing", "dead")
}

func (c *LedgerMetrics) count(ctx context.Context, ch chan<- prometheus.Metric, d *prometheus.Desc, table, state string, labels ...string) {
	rows, err := c.ledger.List(ctx, ledger.Query{Table: table, States: []string{state}, Limit: 1000})
	if err == nil {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(len(rows)), labels...)
	}
}

// PodMetrics tells how many pods are live and how many wait for a place. Create it with NewPodMetrics.
type PodMetrics struct {
	places               *admission.Gate
	live, waiting, limit *prometheus.Desc
}

// NewPodMetrics returns the metrics of a gate.
func NewPodMetrics(places *admission.Gate) *PodMetrics {
	return &PodMetrics{
		places:  places,
		live:    prometheus.NewDesc("tiphys_pods_live", "Pods that have a place.", nil, nil),
		waiting: prometheus.NewDesc("tiphys_pods_waiting", "Pods that wait for a place.", nil, nil),
		limit:   prometheus.NewDesc("tiphys_pods_limit", "How many pods may be live at the same time.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *PodMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.live
	ch <- c.waiting
	ch <- c.limit
}

// Collect implements prometheus.Collector.
func (c *PodMetrics) Collect(ch chan<- prometheus.Metric) {
	n := c.places.Count()
	ch <- prometheus.MustNewConstMetric(c.live, prometheus.GaugeValue, float64(n.Live))
	ch <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(n.Waiting))
	ch <- prometheus.MustNewConstMetric(c.limit, prometheus.GaugeValue, float64(n.Limit))
}
