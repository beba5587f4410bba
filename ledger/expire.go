package ledger

import (
	"context"
	"time"
)

// Expirer is a ledger that can forget unique keys, so that what was counted once may be counted again.
type Expirer interface {
	// ExpireKeys forgets the unique keys that begin with prefix and whose entries are older than before, except those for
	// which keep is true (nil keeps none), and returns how many. Entries and rows stay as they are. What it had forgotten when it
	// was interrupted stays forgotten.
	ExpireKeys(ctx context.Context, prefix string, before time.Time, keep func(key string) bool) (int64, error)
}
