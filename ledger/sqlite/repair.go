package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// repaired are the tables that a repair copies. The rows of projections are left out: they are derived again.
func repaired() []string {
	return []string{"entries", "contents", "unique_keys", "gaps", "owners", "partitions", "outbox", "counters", "snapshots"}
}

// Repair writes a whole copy of a ledger whose file is damaged to dest, which must not exist: everything but the rows and the indexes, which are
// made anew from the entries when the copy is opened. The damaged file must not be in use and stays as it is. Where an entry
// itself cannot be read the repair fails: then only a backup helps.
func Repair(ctx context.Context, path, dest string) error {
	if err := repair(ctx, path, dest); err != nil {
		return fmt.Errorf("repair ledger %s: %w", path, err)
	}
	return nil
}

func repair(ctx context.Context, path, dest string) (err error) {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	if _, err := os.Lstat(dest); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, errors.New("there is something at the new place already: choose a new name"))
	}
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dropLock(lock)) }()
	fresh, err := Open(ctx, Options{Path: dest, Synchronous: Off})
	if err != nil {
		return err
	}
	if err := fresh.Close(); err != nil {
		return err
	}
	if err := copyTables(ctx, path, dest); err != nil {
		return errors.Join(err, os.Remove(dest))
	}
	return flushFile(dest)
}

// copyTables reads each table by its rows, not by an index, and writes it in one transaction.
func copyTables(ctx context.Context, path, dest string) error {
	db, err := connect(dest, 1, Full, writerCacheKiB, autoCheckpointPages, false)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // what was not written was said before
	if _, err := db.ExecContext(ctx, "ATTACH DATABASE ? AS damaged", path); err != nil {
		return err
	}
	var version, want int
	if err := db.QueryRowContext(ctx, "PRAGMA damaged.user_version").Scan(&version); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, "PRAGMA main.user_version").Scan(&want); err != nil {
		return err
	}
	if version != want {
		return fmt.Errorf("it has schema version %d and this program makes %d: open it once with this program, or use the program that wrote it", version, want)
	}
	script := []string{"BEGIN IMMEDIATE", "DELETE FROM main.counters"}
	for _, table := range repaired() {
		script = append(script, fmt.Sprintf("INSERT INTO main.%s SELECT * FROM damaged.%s NOT INDEXED", table, table))
	}
	script = append(script, "COMMIT")
	for _, text := range script {
		// A table without row ids has nothing but its index.
		if strings.Contains(text, ".unique_keys ") {
			text = strings.TrimSuffix(text, " NOT INDEXED")
		}
		if _, err := db.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}
