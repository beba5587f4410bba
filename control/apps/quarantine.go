package apps

import (
	"context"

	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/failure"
)

// try computes on the Application as it is declared now.
func try[T any](w *worker, compute func() T) (T, error) {
	item := quarantine.Version(quarantine.KindApplication, w.key, w.row.Digest)
	return quarantine.Value(w.c.o.Quarantine, item, func() (T, error) { return compute(), nil })
}

var _ quarantine.Room = (*Controller)(nil)

// Again implements quarantine.Room: it is looked at at once.
func (c *Controller) Again(_ context.Context, item quarantine.Item, _ string) error {
	key, _ := item.Parts()
	if item.Kind == quarantine.KindApplicationSet {
		c.sets.wake(key, true)
	} else {
		c.apps.wake(key, true)
	}
	return nil
}

// Drop implements quarantine.Room: only a version that is not declared any more can be dropped.
func (c *Controller) Drop(ctx context.Context, item quarantine.Item, _ string) error {
	key, digest := item.Parts()
	w, err := c.load(ctx, key)
	if err != nil {
		return err
	}
	set := c.wanted.set(key)
	if item.Kind == quarantine.KindApplication && w.row.Digest != digest || item.Kind == quarantine.KindApplicationSet && (set == nil || set.digest != digest) {
		return nil
	}
	return failure.Errorf(failure.Conflict, "drop %s: declare another version of %s, or delete it", item, key)
}
