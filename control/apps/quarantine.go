package apps

import (
	"context"
	"strings"

	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/failure"
)

// try computes on the Application as it is declared now.
func (w *worker) try(compute func() error) error {
	return w.c.o.Quarantine.Try(quarantine.Item{Kind: quarantine.KindApplication, Key: w.key + "@" + w.row.Digest}, compute)
}

var _ quarantine.Room = (*Controller)(nil)

// Again implements quarantine.Room: it is looked at at once.
func (c *Controller) Again(_ context.Context, item quarantine.Item, _ string) error {
	key, _, _ := strings.Cut(item.Key, "@")
	if item.Kind == quarantine.KindApplicationSet {
		c.sets.wake(key, true)
	} else {
		c.apps.wake(key, true)
	}
	return nil
}

// Drop implements quarantine.Room: only a version that is not declared any more can be dropped.
func (c *Controller) Drop(ctx context.Context, item quarantine.Item, _ string) error {
	key, digest, _ := strings.Cut(item.Key, "@")
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
