package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the most memory that a compressed stream may ask for, in bytes; what we write needs 4 MiB.
const maxWindow = 32 << 20

// Summary is what was read of a whole archive.
type Summary struct {
	Manifest Manifest
	// Members is the number of files, Bytes their size together.
	Members, Bytes int64
}

// Visitor is given each file of an archive once, as it comes. Until Read has returned nothing is known to be whole: what a visitor does must be
// easy to undo.
type Visitor struct {
	// Manifest is given first; an error ends the reading. May be nil.
	Manifest func(Manifest) error
	// Member is given every other file but the contents. What it does not read is read over. May be nil.
	Member func(m Member, r io.Reader) error
	// Room says how many bytes may still be written; a larger member is refused before it is read. nil is no bound.
	Room func() (uint64, error)
}

// Read reads an archive from its beginning to its end and checks it: names and their order, kinds, sizes, digests, and that nothing is missing
// and nothing follows. What is wrong with the archive is an [ErrDamaged]. temp is a folder for the list of contents.
func Read(ctx context.Context, r io.Reader, temp string, v Visitor) (Summary, error) {
	in := bufio.NewReaderSize(reader{ctx, r}, 1<<20)
	zip, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return Summary{}, fmt.Errorf("read backup: %w", err)
	}
	defer zip.Close()
	list, err := newContents(temp)
	if err != nil {
		return Summary{}, err
	}
	s := scan{ctx: ctx, visit: v, zip: zip, tar: tar.NewReader(zip), list: list}
	err = s.run()
	if err = errors.Join(err, list.close()); err != nil {
		return s.sum, fmt.Errorf("read backup: %w", err)
	}
	return s.sum, nil
}

// reader ends with the context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// scan is one reading.
type scan struct {
	ctx   context.Context
	visit Visitor
	zip   io.Reader
	tar   *tar.Reader
	list  *contents
	last  string
	sum   Summary
}

func (s *scan) run() error {
	for {
		h, err := s.tar.Next()
		if errors.Is(err, io.EOF) {
			return damaged("it ends before its contents are told: it was cut, or its writing did not end")
		}
		if err != nil {
			return s.broken(err)
		}
		m := Member{Name: h.Name, Size: h.Size}
		if err := s.admit(h); err != nil {
			return err
		}
		if m.Name == FileContents {
			return s.end(m)
		}
		if err := s.member(m); err != nil {
			return err
		}
	}
}

// broken tells what is wrong with the stream from what is wrong with its source.
func (s *scan) broken(err error) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return damaged("%v", err)
}

// admit refuses what no backup has.
func (s *scan) admit(h *tar.Header) error {
	switch {
	case h.Typeflag != tar.TypeReg:
		return damaged("%q is not a regular file", h.Name)
	case section(h.Name) < 0:
		return damaged("it has a file %q, which no backup has", h.Name)
	case s.last == "" && h.Name != FileManifest:
		return damaged("it begins with %q and not with %s", h.Name, FileManifest)
	case s.last != "" && Compare(s.last, h.Name) >= 0:
		return damaged("%q follows %q", h.Name, s.last)
	case h.Size < 0 || limit(h.Name) > 0 && h.Size > limit(h.Name):
		return damaged("%q says that it has %d bytes", h.Name, h.Size)
	}
	s.last = h.Name
	return nil
}

// member reads one file and notes its digest.
func (s *scan) member(m Member) error {
	hash := sha256.New()
	body := &measured{r: io.TeeReader(s.tar, hash)}
	var err error
	switch {
	case m.Name == FileManifest:
		err = s.manifest(body)
	case s.visit.Member != nil:
		if err = s.room(m); err == nil {
			err = s.visit.Member(m, body)
		}
	}
	if body.err != nil {
		return s.broken(body.err)
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return s.broken(err)
	}
	s.sum.Members++
	s.sum.Bytes += m.Size
	return s.list.add(m, hash.Sum(nil))
}

// room refuses a member for which there is no room.
func (s *scan) room(m Member) error {
	if s.visit.Room == nil {
		return nil
	}
	room, err := s.visit.Room()
	if err == nil && uint64(m.Size) > room {
		err = fmt.Errorf("%s has %d bytes, and there is room for %d", m.Name, m.Size, room)
	}
	return err
}

func (s *scan) manifest(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &s.sum.Manifest); err != nil {
		return damaged("%s cannot be read: %v", FileManifest, err)
	}
	if s.sum.Manifest.Format != Format {
		return damaged("it has the format %q, and this program reads %q: use the version that wrote it (%.40q)", s.sum.Manifest.Format, Format, s.sum.Manifest.Version)
	}
	if s.visit.Manifest == nil {
		return nil
	}
	return s.visit.Manifest(s.sum.Manifest)
}

// end compares what was read with what the archive says of itself, and sees that nothing follows.
func (s *scan) end(m Member) error {
	size, own, err := s.list.finish()
	if err != nil {
		return err
	}
	if m.Size != size {
		return damaged("its contents do not match: a file is missing, or was changed")
	}
	if err := s.compare(own); err != nil {
		return err
	}
	if _, err := s.tar.Next(); !errors.Is(err, io.EOF) {
		return damaged("something follows its contents")
	}
	// What is behind the end of the tar archive is zeros, if anything; the end of the frame is what its checksum is checked at.
	rest := make([]byte, 32<<10)
	for n := 0; ; n++ {
		read, err := s.zip.Read(rest)
		if n > 32 || bytes.ContainsFunc(rest[:read], func(r rune) bool { return r != 0 }) {
			return damaged("something follows its end")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.broken(err)
		}
	}
}

func (s *scan) compare(own io.Reader) error {
	a, b := bufio.NewReader(own), bufio.NewReader(s.tar)
	for {
		mine, err := a.ReadBytes('\n')
		theirs, err2 := b.ReadBytes('\n')
		if err2 != nil && !errors.Is(err2, io.EOF) {
			return s.broken(err2)
		}
		if !bytes.Equal(mine, theirs) {
			name := string(bytes.TrimSpace(mine))
			if f := bytes.SplitN(bytes.TrimSpace(mine), []byte(" "), 3); len(f) == 3 {
				name = string(f[2])
			}
			return damaged("%s is not what was written", name)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read list of contents: %w", err)
		}
	}
}

// measured remembers the error of the stream, to tell it from that of who reads.
type measured struct {
	r   io.Reader
	err error
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = err
	}
	return n, err
}
