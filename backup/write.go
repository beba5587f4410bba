package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// Writer writes an archive as a stream. Close it, or else there is no archive.
type Writer struct {
	zip  *zstd.Encoder
	tar  *tar.Writer
	list *contents
	last string
	err  error
}

// NewWriter begins an archive. temp is a folder for the list of contents, which grows with the number of members, until Close.
func NewWriter(w io.Writer, m Manifest, temp string) (*Writer, error) {
	m.Format = Format
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest of backup: %w", err)
	}
	// One core and the least effort: the server beside needs the rest, and most of what is large is compressed already.
	zip, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, fmt.Errorf("begin backup: %w", err)
	}
	list, err := newContents(temp)
	if err != nil {
		return nil, errors.Join(err, zip.Close())
	}
	out := &Writer{zip: zip, tar: tar.NewWriter(zip), list: list}
	raw = append(raw, '\n')
	if err := out.Add(Member{FileManifest, int64(len(raw))}, bytes.NewReader(raw)); err != nil {
		return nil, errors.Join(err, out.Abort())
	}
	return out, nil
}

// Add appends a file. Names come in the order of the format; r must have as many bytes as the member says. After an error the archive
// cannot be finished.
func (w *Writer) Add(m Member, r io.Reader) error {
	if w.err == nil {
		w.err = w.add(m, r)
	}
	return w.err
}

func (w *Writer) add(m Member, r io.Reader) error {
	switch {
	case section(m.Name) < 0 || m.Name == FileContents:
		return fmt.Errorf("back up %q: a backup has no file of that name", m.Name)
	case w.last != "" && Compare(w.last, m.Name) >= 0:
		return fmt.Errorf("back up %q: it comes before %q in a backup", m.Name, w.last)
	case limit(m.Name) > 0 && m.Size > limit(m.Name):
		return fmt.Errorf("back up %q: it has %d bytes, and %d at most fit", m.Name, m.Size, limit(m.Name))
	}
	w.last = m.Name
	if err := w.tar.WriteHeader(header(m)); err != nil {
		return fmt.Errorf("back up %s: %w", m.Name, err)
	}
	hash := sha256.New()
	n, err := io.Copy(w.tar, io.TeeReader(io.LimitReader(r, m.Size), hash))
	if err == nil && n < m.Size {
		err = fmt.Errorf("it has %d bytes and not %d: %w", n, m.Size, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return fmt.Errorf("back up %s: %w", m.Name, err)
	}
	return w.list.add(m, hash.Sum(nil))
}

// header has nothing but name and size, so that the same contents give the same archive.
func header(m Member) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: m.Name, Size: m.Size, Mode: 0o600, Format: tar.FormatPAX}
}

// Members is how many files were added.
func (w *Writer) Members() int64 { return w.list.count }

// Close writes the contents and ends the archive. It does not close what it writes to.
func (w *Writer) Close() error {
	if w.err != nil {
		return errors.Join(w.err, w.Abort())
	}
	size, r, err := w.list.finish()
	if err == nil {
		err = w.tar.WriteHeader(header(Member{FileContents, size}))
	}
	if err == nil {
		_, err = io.Copy(w.tar, r)
	}
	if err == nil {
		err = w.tar.Close()
	}
	if err = errors.Join(err, w.Abort()); err != nil {
		return fmt.Errorf("end backup: %w", err)
	}
	return nil
}

// Abort gives up what Close would have ended; after Close it does nothing.
func (w *Writer) Abort() error { return errors.Join(w.zip.Close(), w.list.close()) }

// contents is the list of an archive's members with their digests, in a file that has no name.
type contents struct {
	file  *os.File
	count int64
	size  int64
	line  []byte
	buf   bytes.Buffer
}

func newContents(temp string) (*contents, error) {
	f, err := os.CreateTemp(temp, "contents-")
	if err != nil {
		return nil, fmt.Errorf("make list of contents: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make list of contents: %w", err), f.Close())
	}
	return &contents{file: f}, nil
}

// flushAt bounds what is in memory of a list, in bytes.
const flushAt = 64 << 10

func (c *contents) add(m Member, sum []byte) error {
	c.count++
	c.line = fmt.Appendf(c.line[:0], "%s %d %s\n", hex.EncodeToString(sum), m.Size, m.Name)
	c.buf.Write(c.line)
	if c.buf.Len() < flushAt {
		return nil
	}
	return c.flush()
}

func (c *contents) flush() error {
	n, err := c.file.WriteAt(c.buf.Bytes(), c.size)
	c.size += int64(n)
	c.buf.Reset()
	if err != nil {
		return fmt.Errorf("write list of contents: %w", err)
	}
	return nil
}

// finish ends the list and gives its size and text.
func (c *contents) finish() (int64, io.Reader, error) {
	fmt.Fprintf(&c.buf, "end %d\n", c.count)
	if err := c.flush(); err != nil {
		return 0, nil, err
	}
	return c.size, io.NewSectionReader(c.file, 0, c.size), nil
}

func (c *contents) close() error {
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file = nil
	return err
}
