package sqlite

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrate brings the schema to the newest version. Each migration is one file, NNNN_name.sql, run in a
// transaction with the change of the version number, which SQLite keeps in the file's header.
func migrate(ctx context.Context, s *session) error {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	sort.Strings(names)
	var version int
	if err := s.conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > len(names) {
		return fmt.Errorf("the schema has version %d and this program knows %d: use the newer program that wrote it", version, len(names))
	}
	for i, name := range names[version:] {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if n, err := strconv.Atoi(number); err != nil || n != version+i+1 {
			return fmt.Errorf("migration %s is out of order", name)
		}
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read migration %s: %w", name, err)
		}
		script := fmt.Sprintf("BEGIN IMMEDIATE;\n%s\nPRAGMA user_version = %d;\nCOMMIT;", text, version+i+1)
		if _, err := s.conn.ExecContext(ctx, script); err != nil {
			s.rollback()
			return fmt.Errorf("migrate to version %d: %w", version+i+1, err)
		}
	}
	return nil
}
