package sweep

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/datafolder"
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

// Artifacts are the contents of artifacts that no key names.
type Artifacts struct {
	// Data is the data folder.
	Data  string
	Store interface {
		// Sweep removes contents that no key names and that were written at least grace ago.
		Sweep(ctx context.Context, grace time.Duration) (artifact.Swept, error)
	}
}

// Name implements [Kind].
func (Artifacts) Name() string { return "artifacts" }

// Sweep implements [Kind].
func (k Artifacts) Sweep(ctx context.Context, _ time.Time) (Removed, error) {
	return unlessCopied(k.Data, func() (artifact.Swept, error) { return k.Store.Sweep(ctx, keepContents) })
}

// Images are the contents of images that no manifest names.
type Images struct {
	// Data is the data folder.
	Data  string
	Store interface {
		// Sweep removes contents that nothing names and that were written before t.
		Sweep(ctx context.Context, t time.Time) (artifact.Swept, error)
	}
}

// Name implements [Kind].
func (Images) Name() string { return "images" }

// Sweep implements [Kind].
func (k Images) Sweep(ctx context.Context, now time.Time) (Removed, error) {
	return unlessCopied(k.Data, func() (artifact.Swept, error) { return k.Store.Sweep(ctx, now.Add(-keepContents)) })
}

// unlessCopied removes nothing while a backup is being made, so that it has what its names name. That is no failure of a sweep: the next
// one does it.
func unlessCopied(data string, sweep func() (artifact.Swept, error)) (Removed, error) {
	removing, err := datafolder.Remove(data)
	if errors.Is(err, datafolder.ErrCopied) {
		return Removed{}, nil
	}
	if err != nil {
		return Removed{}, err
	}
	got, err := sweep()
	return removed(got), errors.Join(err, removing.Unlock())
}

func removed(s artifact.Swept) Removed { return Removed{Count: int64(s.Count), Bytes: s.Bytes} }

// Layers are the unpacked layers of images.
type Layers struct {
	Library interface {
		// LayersOf gives the folders of images that could only be had again from another registry.
		LayersOf(refs []string) (map[string]bool, error)
		// SweepLayers removes those that were last used before t and for which keep is false.
		SweepLayers(ctx context.Context, t time.Time, keep func(dir string) bool) (artifact.Swept, error)
	}
	Pods interface {
		// Layers gives the folders of pods that run.
		Layers() (map[string]bool, error)
	}
	Named Named
}

// Name implements [Kind].
func (Layers) Name() string { return "layers" }

// Sweep removes unpacked layers, but not those of pods that run, nor those that could only be had again from another
// registry and are of an image that an application, its history or a run that goes on names.
func (k Layers) Sweep(ctx context.Context, now time.Time) (Removed, error) {
	refs, err := k.Named.Images(ctx)
	if err != nil {
		return Removed{}, err
	}
	named, err := k.Library.LayersOf(refs)
	if err != nil {
		return Removed{}, err
	}
	mounted, err := k.Pods.Layers()
	if err != nil {
		return Removed{}, err
	}
	got, err := k.Library.SweepLayers(ctx, now.Add(-keepLayers), func(dir string) bool { return named[dir] || mounted[dir] })
	return removed(got), err
}

// Deliveries are the ids of forges' deliveries.
type Deliveries struct {
	Ledger interface {
		// ExpireKeys lets the unique keys with a prefix be used again that are of entries before t and for which keep is false.
		ExpireKeys(ctx context.Context, prefix string, before time.Time, keep func(key string) bool) (int64, error)
	}
}

// Name implements [Kind].
func (Deliveries) Name() string { return "deliveries" }

// Sweep lets ids of deliveries be used again. Keys of firings, of runs and of slots of schedules stay for ever: nobody outside
// could send those a second time on purpose, and a second one would do something twice.
func (k Deliveries) Sweep(ctx context.Context, now time.Time) (Removed, error) {
	n, err := k.Ledger.ExpireKeys(ctx, "delivery/", now.Add(-keepDeliveries), ownDelivery)
	return Removed{Count: n}, err
}

// ownDelivery tells the keys of our own events, which have slots and pushes as ids, from those of forges' deliveries.
func ownDelivery(key string) bool {
	if i := strings.LastIndex(key, "/calendar/"); i >= 0 {
		if _, err := time.Parse(time.RFC3339, key[i+len("/calendar/"):]); err == nil {
			return true
		}
	}
	return strings.Contains(key, "/tiphys/")
}

// Checkouts are what a crash left of trees that were being rendered, and repositories that were fetched and are not read any more.
type Checkouts struct {
	Repositories interface {
		// Sweep removes what was last used before a time.
		Sweep(ctx context.Context, before time.Time) (int64, error)
	}
}

// Name implements [Kind].
func (Checkouts) Name() string { return "checkouts" }

// Sweep implements [Kind].
func (k Checkouts) Sweep(ctx context.Context, now time.Time) (Removed, error) {
	n, err := k.Repositories.Sweep(ctx, now.Add(-keepCheckouts))
	return Removed{Count: n}, err
}
