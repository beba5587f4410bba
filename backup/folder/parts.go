// Package folder makes a backup of a data folder, beside a server that may be running, and a data folder of a backup.
package folder

import (
	"context"
	"crypto/ed25519"
	"io"
	"time"

	"github.com/tiphys/tiphys/ledger"
)

// Parts are what a data folder is made of beside files: its ledger and its repositories.
type Parts interface {
	// CopyLedger copies a ledger that may be in use at one path to another.
	CopyLedger(ctx context.Context, from, to string) error
	// Ledger opens the ledger at a path, which no server has. The key signs what it forgets; nil for one that forgets nothing. A clock that
	// is nil is the machine's.
	Ledger(ctx context.Context, path string, key ed25519.PrivateKey, now func() time.Time) (ledger.Ledger, error)
	// Repositories carries Git repositories out of a folder, or into it. The ledger says which there are; nil while that is not known.
	Repositories(dir string, l ledger.Ledger) Repositories
	// CheckRepository reports whether a repository may have a name.
	CheckRepository(name string) error
}

// Repositories takes repositories out of a folder, beside a server that may be running, and puts them into another one.
type Repositories interface {
	// Names lists the repositories that exist by the ledger.
	Names(ctx context.Context) ([]string, error)
	// Pack writes the objects of a repository.
	Pack(ctx context.Context, name string, w io.Writer) error
	// Heads gives the heads of its merge requests, as text.
	Heads(ctx context.Context, name string) ([]byte, error)
	// Unpack makes a repository of what Pack wrote.
	Unpack(ctx context.Context, name string, pack io.Reader) error
	// Point sets its refs as the ledger and what Heads gave say.
	Point(ctx context.Context, name string, heads []byte) error
}
