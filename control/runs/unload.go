package runs

import (
	"context"
	"errors"
	"strings"
)

// Unload drops what is in memory of the run that a ledger's subject names, after an entry of it was changed: what was erased must not be
// kept again with the next snapshot. Other subjects are nobody's here.
func (c *Controller) Unload(ctx context.Context, subject string) error {
	key, ok := strings.CutPrefix(subject, "run/")
	if !ok {
		return nil
	}
	if err := c.runs.Ask(ctx, key, &message{unload: true}); !errors.Is(err, errUnloaded) {
		return err
	}
	return nil
}
