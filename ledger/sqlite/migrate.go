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

//go:embed migrations/*.sql schema.sql
var schemaFiles embed.FS

// migrate brings the schema to the newest version: a new file at once, one that was written before by migrations. Each of these is one
// file, NNNN_name.sql, run in a transaction with the change of the version number, which SQLite keeps in the file's header.
func migrate(ctx context.Context, s *session) error {
	names, err := fs.Glob(schemaFiles, "migrations/*.sql")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	sort.Strings(names)
	var version, made int
	if err := s.conn.QueryRowContext(ctx, "SELECT v.user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_user_version v").Scan(&version, &made); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > len(names) {
		return fmt.Errorf("the schema has version %d and this program knows %d: use the newer program that wrote it", version, len(names))
	}
	if version == 0 && made == 0 {
		return s.script(ctx, "schema.sql", len(names))
	}
	for i, name := range names[version:] {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if n, err := strconv.Atoi(number); err != nil || n != version+i+1 {
			return fmt.Errorf("migration %s is out of order", name)
		}
		if err := s.script(ctx, name, version+i+1); err != nil {
			return err
		}
	}
	return nil
}

// script runs one of the files, which makes the schema that version.
func (s *session) script(ctx context.Context, name string, version int) error {
	text, err := schemaFiles.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read migration %s: %w", name, err)
	}
	if _, err := s.conn.ExecContext(ctx, fmt.Sprintf("BEGIN IMMEDIATE;\n%s\nPRAGMA user_version = %d;\nCOMMIT;", text, version)); err != nil {
		s.rollback()
		return fmt.Errorf("migrate to version %d: %w", version, err)
	}
	return nil
}
