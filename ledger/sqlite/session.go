package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	driver "modernc.org/sqlite"
	code "modernc.org/sqlite/lib"

	"github.com/tiphys/tiphys/ledger"
)

// queryer runs a query by its text, preparing it once.
type queryer interface {
	query(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// session is the writer's connection with its prepared statements. It belongs to one goroutine.
type session struct {
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
}

func newSession(ctx context.Context, db *sql.DB) (*session, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, prepared: map[string]*sql.Stmt{}}, nil
}

func (s *session) stmt(text string) (*sql.Stmt, error) {
	if st, ok := s.prepared[text]; ok {
		return st, nil
	}
	if len(s.prepared) >= maxPrepared {
		for key, st := range s.prepared {
			delete(s.prepared, key)
			if err := st.Close(); err != nil {
				return nil, err
			}
			break
		}
	}
	st, err := s.conn.PrepareContext(context.Background(), text)
	if err != nil {
		return nil, err
	}
	s.prepared[text] = st
	return st, nil
}

// exec runs a statement to its end. The writer never gives up half-way, so there is no context.
func (s *session) exec(text string, args ...any) error {
	st, err := s.stmt(text) //nolint:sqlclosecheck // kept for the next time; close closes it
	if err != nil {
		return err
	}
	_, err = st.ExecContext(context.Background(), args...)
	return err
}

// affect is exec, and tells how many rows were changed.
func (s *session) affect(text string, args ...any) (int64, error) {
	st, err := s.stmt(text) //nolint:sqlclosecheck // kept for the next time; close closes it
	if err != nil {
		return 0, err
	}
	result, err := st.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (s *session) query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	st, err := s.stmt(text) //nolint:sqlclosecheck // kept for the next time; close closes it
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

// rollback ends the transaction if there is one; SQLite may have ended it already, when the disk was full.
func (s *session) rollback() { _, _ = s.conn.ExecContext(context.Background(), "ROLLBACK") }

func (s *session) close() error {
	var errs []error
	for _, st := range s.prepared {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

// maxPrepared bounds the statements kept: the shapes of queries with labels and states have no natural bound.
const maxPrepared = 256

// statements are the prepared statements of the readers, safe for concurrent use.
type statements struct {
	db *sql.DB
	// outside refuses what a decision reads past its transaction.
	outside  func() error
	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

func newStatements(db *sql.DB) *statements {
	return &statements{db: db, outside: func() error { return nil }, prepared: map[string]*sql.Stmt{}}
}

func (s *statements) query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	if err := s.outside(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	st, ok := s.prepared[text]
	full := len(s.prepared) >= maxPrepared
	s.mu.Unlock()
	if ok {
		return st.QueryContext(ctx, args...)
	}
	if full {
		return s.db.QueryContext(ctx, text, args...)
	}
	st, err := s.db.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if other, ok := s.prepared[text]; ok {
		s.mu.Unlock()
		_ = st.Close() //nolint:sqlclosecheck // somebody was quicker; theirs is as good
		return other.QueryContext(ctx, args...)
	}
	s.prepared[text] = st
	s.mu.Unlock()
	return st.QueryContext(ctx, args...)
}

func (s *statements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.prepared {
		_ = st.Close() // the pool is closed next, and says what went wrong
	}
	clear(s.prepared)
}

// resultCode is SQLite's primary result code; 0 if the error is not SQLite's.
func resultCode(err error) int {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// explain adds to a storage error what a person can do about it, and what the caller can test for.
func (l *Ledger) explain(err error) error {
	switch resultCode(err) {
	case code.SQLITE_FULL:
		return fmt.Errorf("%w: free some space where %s is: %w", ledger.ErrNoSpace, filepath.Dir(l.path), err)
	case code.SQLITE_CORRUPT, code.SQLITE_NOTADB:
		return fmt.Errorf("%s is damaged or not a ledger; restore a backup: %w", l.path, err)
	case code.SQLITE_IOERR, code.SQLITE_CANTOPEN, code.SQLITE_READONLY:
		return fmt.Errorf("%s cannot be read or written; look at the disk and the permissions of its folder: %w", l.path, err)
	}
	if l.writer != nil && l.writer.isClosing() && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w (%w)", ledger.ErrClosed, err)
	}
	return err
}

// integer reads one number; found is false where there is no row.
func (s *session) integer(text string, args ...any) (n int64, found bool, err error) {
	st, err := s.stmt(text) //nolint:sqlclosecheck // kept for the next time; close closes it
	if err != nil {
		return 0, false, err
	}
	err = st.QueryRowContext(context.Background(), args...).Scan(&n)
	if errors.Is(err, errNoRows) {
		return 0, false, nil
	}
	return n, err == nil, err
}
