package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tiphys/tiphys/artifact/blob"
)

// ContextReader returns a reader that fails once ctx is done.
func ContextReader(ctx context.Context, r io.Reader) io.Reader { return blob.Reader(ctx, r) }

// WriteFile writes a stream to a new file.
func WriteFile(ctx context.Context, r io.Reader, dest string, mode fs.FileMode) error {
	f, err := os.OpenFile(dest, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the caller chose dest
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	_, err = io.Copy(f, blob.Reader(ctx, r))
	if err == nil {
		err = f.Chmod(mode)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(dest)
		return fmt.Errorf("write file: %w", blob.Explain(err, filepath.Dir(dest)))
	}
	return nil
}

// Copy copies a source to dest, which must not exist. Links that could lead out of it are refused.
func Copy(ctx context.Context, s *Source, dest string) error {
	if !s.IsDir() {
		return WriteFile(ctx, s.Reader(), dest, s.info.Mode().Perm())
	}
	return unpackTo(ctx, filepath.Clean(dest), Limits{Bytes: 1 << 62}, func(u *unpacker) error {
		u.whole = true
		return s.Walk(ctx, u.copyEntry)
	})
}

func (u *unpacker) copyEntry(e Entry) error {
	name, err := u.enter(e.Path)
	if err != nil {
		return err
	}
	mode := e.Info.Mode()
	switch mode.Type() {
	case fs.ModeDir:
		return u.folder(name, mode.Perm(), e.Info.ModTime())
	case fs.ModeSymlink:
		return u.symlink(name, e.Link)
	}
	f, err := e.Open()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return u.file(name, mode.Perm(), e.Info.ModTime(), f)
}
