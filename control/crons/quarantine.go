package crons

import (
	"context"

	"github.com/tiphys/tiphys/control/quarantine"
)

var _ quarantine.Room = (*Controller)(nil)

// Again implements quarantine.Room: the slot is on record as failed, and the next one is not affected.
func (*Controller) Again(context.Context, quarantine.Item, string) error { return nil }

// Drop implements quarantine.Room: the slot stays on record as failed.
func (*Controller) Drop(context.Context, quarantine.Item, string) error { return nil }
