package control

import "github.com/prometheus/client_golang/prometheus"

// Metrics tells in which state each service is.
type Metrics struct {
	status func() []Status
	state  *prometheus.Desc
}

// NewMetrics returns the metrics of services whose states a function gives.
func NewMetrics(status func() []Status) *Metrics {
	return &Metrics{status: status, state: prometheus.NewDesc("tiphys_service_state", "1 for the state that a service of the server is in.", []string{"service", "state"}, nil)}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { ch <- m.state }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.status() {
		for _, state := range []State{Starting, Running, Waiting, Failing, Stopped} {
			value := 0.0
			if s.Health.State == state {
				value = 1
			}
			ch <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, value, s.Name, string(state))
		}
	}
}
