package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// How long what nobody names is kept, and how often it is looked for.
const (
	sweepEvery   = 6 * time.Hour
	sweepFirst   = 10 * time.Minute // after the start, which has other things to do
	sweepTimeout = 30 * time.Minute // of one kind of things
	// keepContents is for contents of artifacts and images: what names them comes after they are written, and a push may take long.
	keepContents = 24 * time.Hour
	// keepLayers is for unpacked layers after their last use.
	keepLayers = 7 * 24 * time.Hour
	// keepDeliveries is as long as docs/ledger.md says: after that a delivery with the same id is a new one.
	keepDeliveries = 30 * 24 * time.Hour
	keepCheckouts  = 24 * time.Hour
)

// swept is what one sweep removed of one kind of things.
type swept struct {
	count int64
	bytes int64
}

// sweeper removes what nobody names any more. Each kind is a sweep of its own: one that fails keeps no other from its work,
// and one that is interrupted has removed less.
type sweeper struct {
	server *Server
	sweeps []sweep

	mu      sync.Mutex
	removed map[string]swept
	failed  map[string]int64
	last    time.Time
	descs   [4]*prometheus.Desc
}

type sweep struct {
	what string
	run  func(ctx context.Context, now time.Time) (swept, error)
}

func newSweeper(s *Server) *sweeper {
	w := &sweeper{server: s, removed: map[string]swept{}, failed: map[string]int64{}}
	w.sweeps = []sweep{
		{"artifacts", w.artifacts}, {"images", w.images}, {"layers", w.layers}, {"deliveries", w.deliveries}, {"checkouts", w.checkouts},
	}
	what := []string{"what"}
	w.descs = [4]*prometheus.Desc{
		prometheus.NewDesc("tiphys_swept_total", "What sweeps removed because nobody names it, by kind.", what, nil),
		prometheus.NewDesc("tiphys_swept_bytes_total", "Bytes that sweeps freed, by kind.", what, nil),
		prometheus.NewDesc("tiphys_sweep_failures_total", "Sweeps that failed, by kind.", what, nil),
		prometheus.NewDesc("tiphys_sweep_last_timestamp_seconds", "When everything was last swept; 0 before the first time.", nil, nil),
	}
	return w
}

// Run sweeps now and then until ctx ends.
func (w *sweeper) Run(ctx context.Context) error {
	timer := time.NewTimer(sweepFirst)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			w.once(ctx)
			timer.Reset(sweepEvery)
		}
	}
}

// once sweeps everything.
func (w *sweeper) once(ctx context.Context) {
	now := w.server.o.Now()
	for _, s := range w.sweeps {
		limited, cancel := context.WithTimeoutCause(ctx, sweepTimeout, fmt.Errorf("it took longer than %s", sweepTimeout))
		got, err := s.run(limited, now)
		cancel()
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		sum := w.removed[s.what]
		w.removed[s.what] = swept{count: sum.count + got.count, bytes: sum.bytes + got.bytes}
		if err != nil {
			w.failed[s.what]++
		}
		w.mu.Unlock()
		if err != nil {
			w.server.o.Log.Error("sweep; it is tried again later", "what", s.what, "again", sweepEvery.String(), "error", err)
		}
		if got.count > 0 {
			w.server.o.Log.Info("swept what nobody names", "what", s.what, "removed", got.count, "bytes", got.bytes)
		}
	}
	w.mu.Lock()
	w.last = now
	w.mu.Unlock()
}

func (w *sweeper) artifacts(ctx context.Context, _ time.Time) (swept, error) {
	got, err := w.server.machine.Artifacts.Sweep(ctx, keepContents)
	return swept{int64(got.Blobs), got.Bytes}, err
}

func (w *sweeper) images(ctx context.Context, now time.Time) (swept, error) {
	got, err := w.server.machine.Images.Sweep(ctx, now.Add(-keepContents))
	return swept{int64(got.Count), got.Bytes}, err
}

// layers removes unpacked layers, but not those of pods that run, nor those that could only be had again from another
// registry and are of an image that an application, its history or a run that goes on names.
func (w *sweeper) layers(ctx context.Context, now time.Time) (swept, error) {
	m := w.server.machine
	refs, err := w.namedImages(ctx)
	if err != nil {
		return swept{}, err
	}
	named, err := m.Library.LayersOf(refs)
	if err != nil {
		return swept{}, err
	}
	mounted, err := m.Executor.Layers()
	if err != nil {
		return swept{}, err
	}
	got, err := m.Library.SweepLayers(ctx, now.Add(-keepLayers), func(dir string) bool { return named[dir] || mounted[dir] })
	return swept{int64(got.Count), got.Bytes}, err
}

// deliveries lets ids of deliveries be used again. Keys of firings, of runs and of slots of schedules stay for ever: nobody outside
// could send those a second time on purpose, and a second one would do something twice.
func (w *sweeper) deliveries(ctx context.Context, now time.Time) (swept, error) {
	n, err := w.server.machine.Ledger.ExpireKeys(ctx, "delivery/", now.Add(-keepDeliveries), keepDelivery)
	return swept{count: n}, err
}

// keepDelivery tells the keys of our own events, which have slots and pushes as ids, from those of forges' deliveries.
func keepDelivery(key string) bool {
	if i := strings.LastIndex(key, "/calendar/"); i >= 0 {
		if _, err := time.Parse(time.RFC3339, key[i+len("/calendar/"):]); err == nil {
			return true
		}
	}
	return strings.Contains(key, "/tiphys/")
}

// checkouts removes what a crash left of trees that were being rendered, and repositories that were fetched and are not
// read any more.
func (w *sweeper) checkouts(ctx context.Context, now time.Time) (swept, error) {
	n, err := w.server.repos.Sweep(ctx, now.Add(-keepCheckouts))
	return swept{count: n}, err
}

// namedImages gives the references of images that applications and what they ever deployed name, objects on the target,
// and runs that go on.
func (w *sweeper) namedImages(ctx context.Context) ([]string, error) {
	refs := map[string]bool{}
	for _, table := range []string{deploy.TableApplication, deploy.TableDeployment, deploy.TableRelease} {
		err := w.eachRow(ctx, ledger.Query{Table: table}, func(row ledger.Row) error {
			var body struct {
				Images map[string]string `json:"images"`
			}
			if err := json.Unmarshal(row.Body, &body); err != nil {
				return fmt.Errorf("read %s %s: %w", table, row.Key, err)
			}
			for _, ref := range body.Images {
				refs[ref] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	objects, err := w.server.target.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		imagesIn(o.Object, refs)
	}
	live := ledger.Query{Table: "run", States: []string{string(workflow.Pending), string(workflow.Running)}}
	err = w.eachRow(ctx, live, func(row ledger.Row) error {
		raw, err := w.server.machine.Runs.Status(ctx, namespaceOf(row.Key), nameOf(row.Key))
		var run any
		if err == nil {
			err = json.Unmarshal(raw, &run)
		}
		imagesIn(run, refs)
		return err
	})
	list := make([]string, 0, len(refs))
	for ref := range refs {
		list = append(list, ref)
	}
	return list, err
}

func (w *sweeper) eachRow(ctx context.Context, q ledger.Query, fn func(ledger.Row) error) error {
	q.Limit = 1000
	for {
		rows, err := w.server.machine.Ledger.List(ctx, q)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := fn(row); err != nil {
				return err
			}
		}
		if len(rows) < q.Limit {
			return nil
		}
		last := rows[len(rows)-1]
		q.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
	}
}

// imagesIn collects what stands under "image" anywhere in an object.
func imagesIn(v any, refs map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			if ref, ok := item.(string); ok && k == "image" && ref != "" {
				refs[ref] = true
				continue
			}
			imagesIn(item, refs)
		}
	case []any:
		for _, item := range v {
			imagesIn(item, refs)
		}
	}
}

// Describe implements prometheus.Collector.
func (w *sweeper) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range w.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (w *sweeper) Collect(ch chan<- prometheus.Metric) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sweeps {
		got := w.removed[s.what]
		for i, v := range []int64{got.count, got.bytes, w.failed[s.what]} {
			ch <- prometheus.MustNewConstMetric(w.descs[i], prometheus.CounterValue, float64(v), s.what)
		}
	}
	last := 0.0
	if !w.last.IsZero() {
		last = float64(w.last.Unix())
	}
	ch <- prometheus.MustNewConstMetric(w.descs[3], prometheus.GaugeValue, last)
}
