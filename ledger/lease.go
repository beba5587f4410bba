package ledger

import (
	"context"
	"time"
)

// Lease is the right of one owner to decide on the subjects of one partition.
type Lease struct {
	Partition int `json:"partition"`
	// Fence is the fencing number: each change of owner makes it larger. A decision names it and is refused if it is not the
	// partition's number any more.
	Fence int64 `json:"fence"`
	// Owner is who holds it.
	Owner string `json:"owner"`
	// Until is when it ends unless it is renewed; zero for a lease without end.
	Until time.Time `json:"until,omitzero"`
}

// Leases are the partitions that this handle of the ledger owns. All leases of an owner end together: there is one heartbeat for each.
// A ledger that one process alone can open gives all partitions to it, for as long as it is open.
type Leases interface {
	// Owner is the name under which this handle owns and claims.
	Owner() string
	// Acquire takes those of the partitions that nobody holds, or whose owner's lease has ended, and makes all leases of this owner last for d
	// from now; 0 is without end. It returns all that the owner holds of the given ones.
	Acquire(ctx context.Context, partitions []int, d time.Duration) ([]Lease, error)
	// Renew makes all leases of this owner last for d from now. It fails with ErrFenced if one of them was taken by another owner meanwhile;
	// that one is given up, the others are renewed.
	Renew(ctx context.Context, d time.Duration) error
	// Release gives partitions up, so that another may take them at once. Those that are not held are no error.
	Release(ctx context.Context, partitions []int) error
	// Held are the leases that have not ended by this handle's own clock, in order of partition. It asks nobody: an owner looks here
	// before it acts in the world.
	Held() []Lease
}
