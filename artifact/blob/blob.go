// Package blob keeps bytes in a folder, each under its own digest: sha256/ab/abcd….
//
// A blob is written to a temporary file, synced and renamed, so that what has a name is whole, whatever
// happens to the machine. Names are never taken from outside: they are 64 hex digits or refused.
package blob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/failure"
)

// ErrMismatch says that bytes do not have the digest that was expected of them.
var ErrMismatch = failure.New(failure.Invalid, "digest does not match")

const prefix = "sha256:"

// Blob is the name and size of some bytes.
type Blob struct {
	Digest string    // "sha256:" and 64 hex digits
	Size   int64     // bytes
	Time   time.Time // when it was last written
}

// Options of a folder.
type Options struct {
	// MaxSize limits one blob, in bytes; 0 for no limit.
	MaxSize int64
	// Unsynced leaves it to the kernel when bytes reach the disk; for data that nobody needs after a crash.
	Unsynced bool
}

// Folder is a folder of blobs. It is safe for concurrent use, by several processes too.
type Folder struct {
	root *os.Root
	dir  string
	opt  Options
}

// Open opens the folder, and makes it if it is not there.
func Open(dir string, o Options) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make blob folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open blob folder: %w", err)
	}
	for _, sub := range []string{"sha256", "tmp"} {
		if err := root.MkdirAll(sub, 0o700); err != nil {
			_ = root.Close()
			return nil, fmt.Errorf("make blob folder: %w", err)
		}
	}
	return &Folder{root: root, dir: dir, opt: o}, nil
}

// Close releases the folder; readers that are open go on.
func (f *Folder) Close() error { return f.root.Close() }

// Hex returns the 64 hex digits of a digest, or an error if it is not a sha256 digest.
func Hex(digest string) (string, error) {
	h, ok := strings.CutPrefix(digest, prefix)
	if !ok || len(h) != sha256.Size*2 {
		return "", fmt.Errorf("%q is not a digest of the form sha256:<64 hex digits>", digest)
	}
	for i := range len(h) {
		if (h[i] < '0' || h[i] > '9') && (h[i] < 'a' || h[i] > 'f') {
			return "", fmt.Errorf("%q is not a digest of the form sha256:<64 hex digits>", digest)
		}
	}
	return h, nil
}

func isDigest(s string) bool {
	_, err := Hex(s)
	return err == nil
}

// Sum returns the digest of b.
func Sum(b []byte) string {
	s := sha256.Sum256(b)
	return prefix + hex.EncodeToString(s[:])
}

func name(digest string) (string, error) {
	h, err := Hex(digest)
	if err != nil {
		return "", err
	}
	return path.Join("sha256", h[:2], h), nil
}

// Put stores what r yields.
func (f *Folder) Put(ctx context.Context, r io.Reader) (Blob, error) {
	w, err := f.Create()
	if err != nil {
		return Blob{}, err
	}
	defer w.Abort()
	if _, err := io.Copy(w, Reader(ctx, r)); err != nil {
		return Blob{}, fmt.Errorf("store blob: %w", err)
	}
	return w.Commit("")
}

// PutAs stores what r yields if its digest is want, else it stores nothing and returns [ErrMismatch].
func (f *Folder) PutAs(ctx context.Context, r io.Reader, want string) (Blob, error) {
	w, err := f.Create()
	if err != nil {
		return Blob{}, err
	}
	defer w.Abort()
	if _, err := io.Copy(w, Reader(ctx, r)); err != nil {
		return Blob{}, fmt.Errorf("store blob: %w", err)
	}
	return w.Commit(want)
}

// Open opens a blob; the error wraps [artifact.ErrNotFound] if there is none.
func (f *Folder) Open(digest string) (*os.File, error) {
	n, err := name(digest)
	if err != nil {
		return nil, err
	}
	file, err := f.root.Open(n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", digest, artifact.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	return file, nil
}

// ReadAll returns a blob of at most limit bytes.
func (f *Folder) ReadAll(digest string, limit int64) ([]byte, error) {
	file, err := f.Open(digest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", digest, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read blob %s: %w: more than %d bytes", digest, artifact.ErrTooLarge, limit)
	}
	if Sum(b) != digest {
		return nil, fmt.Errorf("read blob %s: %w: the file on disk is damaged", digest, ErrMismatch)
	}
	return b, nil
}

// Stat describes a blob; the error wraps [artifact.ErrNotFound] if there is none.
func (f *Folder) Stat(digest string) (Blob, error) {
	n, err := name(digest)
	if err != nil {
		return Blob{}, err
	}
	info, err := f.root.Stat(n)
	if errors.Is(err, fs.ErrNotExist) {
		return Blob{}, fmt.Errorf("blob %s: %w", digest, artifact.ErrNotFound)
	}
	if err != nil {
		return Blob{}, fmt.Errorf("look up blob: %w", err)
	}
	return Blob{Digest: digest, Size: info.Size(), Time: info.ModTime()}, nil
}

// Remove removes a blob; one that is not there is no error.
func (f *Folder) Remove(digest string) error {
	n, err := name(digest)
	if err != nil {
		return err
	}
	if err := f.root.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// Each calls fn for every blob, in no particular order, and stops at its first error.
func (f *Folder) Each(ctx context.Context, fn func(Blob) error) error {
	return fs.WalkDir(f.root.FS(), "sha256", func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		digest := prefix + d.Name()
		if d.IsDir() || !isDigest(digest) {
			return nil // not one of ours
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		return fn(Blob{Digest: digest, Size: info.Size(), Time: info.ModTime()})
	})
}

// RemoveLeftovers removes temporary files last written before t, which a crash left behind.
func (f *Folder) RemoveLeftovers(t time.Time) error {
	entries, err := fs.ReadDir(f.root.FS(), "tmp")
	if err != nil {
		return fmt.Errorf("list temporary files: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(t) {
			continue
		}
		if err := f.root.Remove(path.Join("tmp", e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove temporary file: %w", err)
		}
	}
	return nil
}

// Writer takes the bytes of one blob.
type Writer struct {
	f    *Folder
	file *os.File
	tmp  string
	hash hash.Hash
	size int64
}

// Create begins a blob. The caller ends it with [Writer.Commit] or [Writer.Abort].
func (f *Folder) Create() (*Writer, error) {
	tmp := path.Join("tmp", rand.Text())
	file, err := f.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", f.explain(err))
	}
	return &Writer{f: f, file: file, tmp: tmp, hash: sha256.New()}, nil
}

// Write adds bytes.
func (w *Writer) Write(p []byte) (int, error) {
	if limit := w.f.opt.MaxSize; limit > 0 && w.size+int64(len(p)) > limit {
		return 0, fmt.Errorf("%w: more than %d bytes", artifact.ErrTooLarge, limit)
	}
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	if err != nil {
		return n, w.f.explain(err)
	}
	return n, nil
}

// Size is how many bytes were written so far.
func (w *Writer) Size() int64 { return w.size }

// Digest is that of the bytes written so far.
func (w *Writer) Digest() string { return prefix + hex.EncodeToString(w.hash.Sum(nil)) }

// Commit gives the bytes their name. With a digest in want it returns [ErrMismatch] and keeps nothing if the
// bytes have another.
func (w *Writer) Commit(want string) (Blob, error) {
	defer w.Abort()
	b := Blob{Digest: w.Digest(), Size: w.size}
	if want != "" && want != b.Digest {
		return Blob{}, fmt.Errorf("%w: expected %s, got %s (%d bytes)", ErrMismatch, want, b.Digest, b.Size)
	}
	n, err := name(b.Digest)
	if err != nil {
		return Blob{}, err
	}
	if !w.f.opt.Unsynced {
		if err := w.file.Sync(); err != nil {
			return Blob{}, fmt.Errorf("sync blob: %w", w.f.explain(err))
		}
	}
	if info, err := w.file.Stat(); err == nil {
		b.Time = info.ModTime()
	}
	if err := w.file.Close(); err != nil {
		return Blob{}, fmt.Errorf("close blob: %w", w.f.explain(err))
	}
	if err := w.f.root.MkdirAll(path.Dir(n), 0o700); err != nil {
		return Blob{}, fmt.Errorf("make blob folder: %w", w.f.explain(err))
	}
	// A blob that is there already is replaced all the same: it heals a damaged one, and its fresh time keeps
	// it from a sweep that has not seen the new reference yet.
	if err := w.f.root.Rename(w.tmp, n); err != nil {
		return Blob{}, fmt.Errorf("name blob: %w", w.f.explain(err))
	}
	w.tmp = ""
	if err := w.f.syncDir(path.Dir(n)); err != nil {
		return Blob{}, err
	}
	return b, nil
}

// Abort drops what was written; after Commit it does nothing.
func (w *Writer) Abort() {
	if w.tmp == "" {
		return
	}
	_ = w.file.Close()
	_ = w.f.root.Remove(w.tmp)
	w.tmp = ""
}

func (f *Folder) syncDir(n string) error {
	if f.opt.Unsynced {
		return nil
	}
	d, err := f.root.Open(n)
	if err != nil {
		return fmt.Errorf("open folder to sync it: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

func (f *Folder) explain(err error) error { return Explain(err, f.dir) }

// Explain says what to do about an error that the disk of dir caused, and returns any other as it is.
func Explain(err error, dir string) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("the disk that holds %s is full; free some space, or put the data folder on another disk: %w", dir, err)
	case errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("the disk quota of %s is used up; free some space, or put the data folder elsewhere: %w", dir, err)
	}
	return err
}

// Reader returns a reader that fails once ctx is done.
func Reader(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context //nolint:containedctx // it lives as long as one copy
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
