package wire

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/tiphys/tiphys/backup"
	"github.com/tiphys/tiphys/backup/folder"
	"github.com/tiphys/tiphys/event/forge/builtin"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// Backup is [folder.Backup] of a data folder of this program. Fault is called with ROOM/POINT.
func Backup(ctx context.Context, o folder.BackupOptions) (backup.Summary, error) {
	o.Parts, o.Fault = parts{}, at("backup", o.Fault)
	return folder.Backup(ctx, o)
}

// VerifyBackup is [folder.Verify] of a backup of this program.
func VerifyBackup(ctx context.Context, file string) (backup.Summary, error) {
	return folder.Verify(ctx, parts{}, file)
}

// Restore is [folder.Restore] to a data folder of this program. Fault is called with ROOM/POINT.
func Restore(ctx context.Context, o folder.RestoreOptions) (folder.Restored, error) {
	o.Parts, o.Fault = parts{}, at("restore", o.Fault)
	return folder.Restore(ctx, o)
}

// parts are those of a data folder.
type parts struct{}

// CopyLedger implements folder.Parts.
func (parts) CopyLedger(ctx context.Context, from, to string) error {
	return sqlite.Snapshot(ctx, from, to)
}

// Ledger implements folder.Parts.
func (parts) Ledger(ctx context.Context, path string, key ed25519.PrivateKey, now func() time.Time) (ledger.Ledger, error) {
	return sqlite.Open(ctx, sqlite.Options{Path: path, Projections: projections(), Readers: 1, Key: key, Now: now})
}

// Repositories implements folder.Parts.
func (parts) Repositories(dir string, l ledger.Ledger) folder.Repositories {
	return builtin.NewCarrier(dir, l)
}

// CheckRepository implements folder.Parts.
func (parts) CheckRepository(name string) error { return builtin.CheckName(name) }
