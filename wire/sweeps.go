package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tiphys/tiphys/control/sweep"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// How long what nobody names is kept.
const (
	// keepContents is for contents of artifacts and images: what names them comes after they are written, and a push may take long.
	keepContents = 24 * time.Hour
	// keepLayers is for unpacked layers after their last use.
	keepLayers = 7 * 24 * time.Hour
	// keepDeliveries is as long as docs/ledger.md says: after that a delivery with the same id is a new one.
	keepDeliveries = 30 * 24 * time.Hour
	keepCheckouts  = 24 * time.Hour
)

// sweeps are what is swept, in this order.
func (s *Server) sweeps() *sweep.Sweeper {
	return sweep.New(sweep.Options{Now: s.o.Now, Log: s.o.Log},
		sweepArtifacts{s}, sweepImages{s}, sweepLayers{s}, sweepDeliveries{s}, sweepCheckouts{s})
}

// What is swept, each with what is asked to do it.
type (
	sweepArtifacts  struct{ s *Server }
	sweepImages     struct{ s *Server }
	sweepLayers     struct{ s *Server }
	sweepDeliveries struct{ s *Server }
	sweepCheckouts  struct{ s *Server }
)

func (sweepArtifacts) Name() string  { return "artifacts" }
func (sweepImages) Name() string     { return "images" }
func (sweepLayers) Name() string     { return "layers" }
func (sweepDeliveries) Name() string { return "deliveries" }
func (sweepCheckouts) Name() string  { return "checkouts" }

// copied makes it no failure of a sweep that a backup copies what would be swept: the next one does it.
func copied(err error) error {
	if errors.Is(err, datafolder.ErrCopied) {
		return nil
	}
	return err
}

// Sweep implements sweep.Kind. While a backup is being made nothing is removed, so that it has what its names name.
func (w sweepArtifacts) Sweep(ctx context.Context, _ time.Time) (sweep.Removed, error) {
	removing, err := datafolder.Remove(w.s.o.Data)
	if err != nil {
		return sweep.Removed{}, copied(err)
	}
	got, err := w.s.machine.Artifacts.Sweep(ctx, keepContents)
	err = errors.Join(err, removing.Unlock())
	return sweep.Removed{Count: int64(got.Blobs), Bytes: got.Bytes}, err
}

// Sweep implements sweep.Kind.
func (w sweepImages) Sweep(ctx context.Context, now time.Time) (sweep.Removed, error) {
	removing, err := datafolder.Remove(w.s.o.Data)
	if err != nil {
		return sweep.Removed{}, copied(err)
	}
	got, err := w.s.machine.Images.Sweep(ctx, now.Add(-keepContents))
	err = errors.Join(err, removing.Unlock())
	return sweep.Removed{Count: int64(got.Count), Bytes: got.Bytes}, err
}

// Sweep removes unpacked layers, but not those of pods that run, nor those that could only be had again from another
// registry and are of an image that an application, its history or a run that goes on names.
func (w sweepLayers) Sweep(ctx context.Context, now time.Time) (sweep.Removed, error) {
	m := w.s.machine
	refs, err := w.s.namedImages(ctx)
	if err != nil {
		return sweep.Removed{}, err
	}
	named, err := m.Library.LayersOf(refs)
	if err != nil {
		return sweep.Removed{}, err
	}
	mounted, err := m.Executor.Layers()
	if err != nil {
		return sweep.Removed{}, err
	}
	got, err := m.Library.SweepLayers(ctx, now.Add(-keepLayers), func(dir string) bool { return named[dir] || mounted[dir] })
	return sweep.Removed{Count: int64(got.Count), Bytes: got.Bytes}, err
}

// Sweep lets ids of deliveries be used again. Keys of firings, of runs and of slots of schedules stay for ever: nobody outside
// could send those a second time on purpose, and a second one would do something twice.
func (w sweepDeliveries) Sweep(ctx context.Context, now time.Time) (sweep.Removed, error) {
	n, err := w.s.ledger.ExpireKeys(ctx, "delivery/", now.Add(-keepDeliveries), keepDelivery)
	return sweep.Removed{Count: n}, err
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

// Sweep removes what a crash left of trees that were being rendered, and repositories that were fetched and are not
// read any more.
func (w sweepCheckouts) Sweep(ctx context.Context, now time.Time) (sweep.Removed, error) {
	n, err := w.s.repos.Sweep(ctx, now.Add(-keepCheckouts))
	return sweep.Removed{Count: n}, err
}

// namedImages gives the references of images that applications and what they ever deployed name, objects on the target,
// and runs that go on.
func (s *Server) namedImages(ctx context.Context) ([]string, error) {
	refs := map[string]bool{}
	for _, table := range []string{deploy.TableApplication, deploy.TableDeployment, deploy.TableRelease} {
		err := s.eachRow(ctx, ledger.Query{Table: table}, func(row ledger.Row) error {
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
	objects, err := s.target.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		imagesIn(o.Object, refs)
	}
	live := ledger.Query{Table: "run", States: []string{string(workflow.Pending), string(workflow.Running)}}
	err = s.eachRow(ctx, live, func(row ledger.Row) error {
		namespace, name, _ := strings.Cut(row.Key, "/")
		raw, err := s.machine.Runs.Status(ctx, namespace, name)
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

func (s *Server) eachRow(ctx context.Context, q ledger.Query, fn func(ledger.Row) error) error {
	for row, err := range ledger.Each(ctx, s.ledger, q) {
		if err != nil {
			return err
		}
		if err := fn(row); err != nil {
			return err
		}
	}
	return nil
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
