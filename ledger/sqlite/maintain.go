package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/tiphys/tiphys/ledger"
)

// Erase implements [ledger.Eraser]. The bytes are overwritten in the file, and the log that may still hold them is emptied.
// A body that several entries share stays as long as one of them is not erased.
func (l *Ledger) Erase(ctx context.Context, seq int64, actor, reason string) (ledger.Entry, error) {
	var erasure ledger.Entry
	err := l.writer.submit(ctx, &intent{alone: func(s *session) (err error) {
		erasure, err = l.writer.erase(s, seq, actor, reason)
		return err
	}})
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("erase the body of entry %d: %w", seq, err)
	}
	return erasure, nil
}

func (w *writer) erase(s *session, seq int64, actor, reason string) (erasure ledger.Entry, err error) {
	where, found, err := s.integer("SELECT place FROM entries WHERE seq = ?", seq)
	if err != nil {
		return erasure, err
	}
	if _, commits, err := s.integer("SELECT seq FROM entries WHERE seq = ? AND kind = ?", seq, ledger.KindForgotten); err != nil || commits {
		return erasure, errors.Join(err, errors.New("what was forgotten rests on it"))
	}
	if !found || where == placeNone || where == placeErased {
		return erasure, ledger.ErrNotFound
	}
	err = w.overwriting(func(b *batch) error {
		err := b.decide(w.ledger.own, ledger.Anyone(erasedSubject(seq)), func(t ledger.Tx) (err error) {
			body := map[string]any{"seq": seq, "reason": reason}
			_, err = t.Append(ledger.Draft{Actor: actor, Kind: ledger.KindErased, Subject: erasedSubject(seq), Cause: ledger.At(seq), Body: body})
			return err
		})
		if err != nil {
			return err
		}
		erasure = b.entries[len(b.entries)-1].entry
		content, err := b.contentOf(seq)
		if err != nil {
			return err
		}
		if err := b.s.exec("DELETE FROM snapshots WHERE subject = (SELECT subject FROM entries WHERE seq = ?)", seq); err != nil {
			return err
		}
		if err := b.s.exec("UPDATE entries SET place = 3, body = NULL, salt = NULL, content = NULL WHERE seq = ?", seq); err != nil {
			return err
		}
		return b.dropContent(content)
	})
	return erasure, err
}

// contentOf names the body in contents that an entry has; nil for none.
func (b *batch) contentOf(seq int64) (content []byte, err error) {
	err = each(context.Background(), b.s, "SELECT content FROM entries WHERE seq = ?", []any{seq}, func(r *sql.Rows) error { return r.Scan(&content) })
	return content, err
}

// overwriting runs a transaction of its own in which what is deleted is overwritten with zeros.
func (w *writer) overwriting(fn func(*batch) error) error {
	if err := w.mend(); err != nil {
		return err
	}
	if err := w.session.exec("PRAGMA secure_delete = ON"); err != nil {
		return err
	}
	b, err := w.begin()
	if err != nil {
		return err
	}
	if err := fn(b); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	w.fault("after-commit")
	w.truncateLog()
	// A session that fails to go back only writes more than it must.
	_ = w.session.exec("PRAGMA secure_delete = FAST")
	return nil
}

// Backup implements [ledger.Ledger]: dest is a file that does not exist yet. It appears when it is complete and on disk;
// writes go on meanwhile and are not part of it.
func (l *Ledger) Backup(ctx context.Context, dest string) error {
	if err := l.backup(ctx, dest); err != nil {
		return fmt.Errorf("back up ledger to %s: %w", dest, l.explain(err))
	}
	return nil
}

func (l *Ledger) backup(ctx context.Context, dest string) error {
	if l.writer.isClosing() {
		return ledger.ErrClosed
	}
	return snapshot(ctx, l.path, dest)
}

// Snapshot writes a consistent copy of a ledger's file to a new one, whether or not another process has the ledger open: readers and writers
// go on, and the copy is the ledger as of one commit. Nothing of the ledger is changed, and its log is left to whoever opens it.
func Snapshot(ctx context.Context, path, dest string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("copy ledger: %w", err)
	}
	if err := snapshot(ctx, path, dest); err != nil {
		return fmt.Errorf("copy ledger %s to %s: %w", path, dest, err)
	}
	return nil
}

func snapshot(ctx context.Context, path, dest string) (err error) {
	if _, err := os.Lstat(dest); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, errors.New("there is something already: choose a new name"))
	}
	dir, err := os.MkdirTemp(filepath.Dir(dest), ".ledger-backup-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	part := filepath.Join(dir, "ledger.db")
	// A connection of its own that may not write the ledger: the pool's are query_only, which VACUUM INTO does not do with.
	v := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)", fmt.Sprintf("cache_size(-%d)", readerCacheKiB)}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+v.Encode())
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", part)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Chmod(part, 0o600); err != nil {
		return err
	}
	if err := flushFile(part); err != nil {
		return err
	}
	// Link, not rename: what came to be under that name meanwhile is not overwritten.
	if err := os.Link(part, dest); err != nil {
		return err
	}
	return flushFile(filepath.Dir(dest))
}

func flushFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
