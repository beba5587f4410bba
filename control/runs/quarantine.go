package runs

import (
	"context"
	"errors"
	"strings"

	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/failure"
)

// compute has the engine compute on a run, or on what leads to one. A run that is quarantined is stalled until somebody releases it.
func (c *Controller) compute(run string, item quarantine.Item, do func() error) error {
	own := quarantine.Item{Kind: quarantine.KindRun, Key: run}
	if item == (quarantine.Item{}) {
		item = own
	}
	err := c.o.Quarantine.Try(item, do)
	if item == own && quarantine.IsQuarantined(err) {
		err = &stalledError{err}
		c.stalled(run, err)
	}
	return err
}

var _ quarantine.Room = (*Controller)(nil)

// Again implements quarantine.Room: a run is taken up where its entries end. What it could not be told is told again within minutes.
func (c *Controller) Again(ctx context.Context, item quarantine.Item, _ string) error {
	_, err := view(ctx, c, item.Key, (*live).place)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Drop implements quarantine.Room: the run is deleted.
func (c *Controller) Drop(ctx context.Context, item quarantine.Item, actor string) error {
	namespace, name, ok := strings.Cut(item.Key, "/")
	if !ok {
		return failure.Invalidf("run %q: NAMESPACE/NAME is wanted", item.Key)
	}
	if err := c.Delete(ctx, namespace, name, actor); !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}
