package ledger

import "context"

// Snapshot is the state of a subject as of one of its entries, so that only what came later has to be replayed. It is a cache: its room must
// be able to do without.
type Snapshot struct {
	Subject string
	// Version is that of Body's form. A room that reads another one than its own takes the snapshot for none.
	Version int
	// Seq is the last entry of the subject that the state knows of.
	Seq int64
	// Body is the state, in whatever form its room gave it; at most 64 MiB.
	Body []byte
}

// Snapshots are the states that rooms keep, one for each subject. They are dropped with a body that is erased and with what is forgotten.
type Snapshots interface {
	// Save keeps a snapshot in place of the subject's older one; one that is older than what is there is dropped without an error.
	Save(ctx context.Context, s Snapshot) error
	// Load gives the subject's snapshot, or ErrNotFound.
	Load(ctx context.Context, subject string) (Snapshot, error)
	// Drop removes the subject's snapshot; none is no error.
	Drop(ctx context.Context, subject string) error
}
