package archive

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/gzip"
)

// Kind is how some bytes are packed.
type Kind int

// The kinds that are recognised.
const (
	Plain Kind = iota
	TarKind
	TarGzip
	ZipKind
)

// detectSize is how much of a stream [Detect] looks at, in bytes.
const detectSize = 64 << 10

// NewReader returns a reader that [Detect] can look ahead in.
func NewReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, detectSize) }

// Detect recognises the kind of a stream without consuming it. A gzip stream whose content does not begin with
// a tar header is Plain: it is a file that happens to be compressed, and stays so, as in Argo.
func Detect(r *bufio.Reader) Kind {
	head, _ := r.Peek(detectSize)
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return ZipKind
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bytes.NewReader(head))
		if err != nil {
			return Plain
		}
		if _, err := tar.NewReader(z).Next(); err != nil {
			return Plain
		}
		return TarGzip
	}
	// The magic is asked for, because the reader takes any block with a matching checksum.
	if len(head) >= 512 && bytes.Equal(head[257:262], []byte("ustar")) {
		if _, err := tar.NewReader(bytes.NewReader(head)).Next(); err == nil {
			return TarKind
		}
	}
	return Plain
}

// Gunzip reads a gzip stream.
func Gunzip(r io.Reader) (io.Reader, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("read gzip: %w", err)
	}
	return z, nil
}

// Zip unpacks a zip file to dest, in the manner of [Tar].
func Zip(ctx context.Context, r io.ReaderAt, size int64, dest string, l Limits) error {
	z, err := zip.NewReader(r, size)
	if z == nil {
		return fmt.Errorf("read zip: %w", err)
	}
	return unpackTo(ctx, dest, l, func(u *unpacker) error {
		for _, f := range z.File {
			if err := u.zipEntry(f); err != nil {
				return err
			}
		}
		return nil
	})
}

func (u *unpacker) zipEntry(f *zip.File) error {
	name, err := u.enter(f.Name)
	if err != nil {
		return err
	}
	mode := f.Mode()
	if mode.IsDir() {
		return u.folder(name, mode.Perm(), f.Modified)
	}
	body, err := f.Open()
	if err != nil {
		return fmt.Errorf("read %q in zip: %w", f.Name, err)
	}
	defer func() { _ = body.Close() }()
	switch mode.Type() {
	case 0:
		return u.file(name, mode.Perm(), f.Modified, body)
	case fs.ModeSymlink:
		target, err := io.ReadAll(io.LimitReader(body, 4096))
		if err != nil {
			return fmt.Errorf("read link %q in zip: %w", f.Name, err)
		}
		return u.symlink(name, string(target))
	}
	return fmt.Errorf("%w: %q is neither file, folder nor link", ErrUnsafe, f.Name)
}
