package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/failure"
)

// Source is a file or folder that is read without following links out of it.
type Source struct {
	// Name is the last element of its path.
	Name string
	file *os.File
	root *os.Root // of a folder
	info fs.FileInfo
	left *int64 // how many bytes may still be read; nil for any number
	as   artifact.Opener
}

// ErrTooMuch says that a source has more than may be read of it.
var ErrTooMuch = failure.New(failure.TooLarge, "it has more bytes than one artifact may have")

// Limit bounds how many bytes are read of all that is in the source, holes in files among them. Reading more is [ErrTooMuch].
func (s *Source) Limit(bytes int64) { s.left = &bytes }

// bounded takes size bytes from what may be read, before they are: a file may have a size that no disk has.
func (s *Source) bounded(size int64) error {
	if s.left == nil {
		return nil
	}
	if *s.left -= size; *s.left < 0 {
		return ErrTooMuch
	}
	return nil
}

// Open opens src beneath root. Links on the way to src are followed as a process would that has root as its
// root folder, so they cannot lead out; links inside of src are never followed. The error wraps
// [artifact.ErrNotFound] if there is nothing at src.
func Open(root, src string) (*Source, error) { return OpenAs(nil, root, src) }

// OpenAs is [Open] for what is read with the rights that an opener has, the source and all that is in it; with nil it is Open.
func OpenAs(as artifact.Opener, root, src string) (*Source, error) {
	inner := src
	if clean := path.Clean(root); clean != "/" {
		if rest, ok := strings.CutPrefix(path.Clean(src), clean+"/"); ok {
			inner = rest
		}
	}
	inner = strings.TrimLeft(inner, "/")
	f, err := openBeneath(as, root, inner)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", src, artifact.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", src, err)
	}
	s := &Source{Name: path.Base(path.Clean("/" + inner)), file: f, as: as}
	if s.Name == "/" {
		s.Name = "root"
	}
	s.info, err = f.Stat()
	if err == nil && s.info.IsDir() {
		s.root, err = rootOf(f)
	} else if err == nil && !s.info.Mode().IsRegular() {
		err = errors.New("it is neither a file nor a folder")
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open %s: %w", src, err)
	}
	return s, nil
}

// Close releases the source.
func (s *Source) Close() error {
	if s.root != nil {
		return errors.Join(s.root.Close(), s.file.Close())
	}
	return s.file.Close()
}

// IsDir reports whether the source is a folder.
func (s *Source) IsDir() bool { return s.root != nil }

// Size is that of a file, in bytes.
func (s *Source) Size() int64 { return s.info.Size() }

// Reader returns the content of a file, at most as long as it was when it was opened.
func (s *Source) Reader() io.Reader {
	c, err := s.content(s.file, s.info)
	if err != nil {
		return failing{err}
	}
	return c
}

// failing is a reader that gives an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Entry is something in a source.
type Entry struct {
	// Path is relative to the source; "." is the source itself.
	Path string
	Info fs.FileInfo
	// Link is where a symbolic link points.
	Link string
	open func() (*Content, error)
}

// Content is what a file has, at most as long as it was when it was opened: what grows meanwhile is not followed.
type Content struct {
	*io.SectionReader
	file *os.File // closed with the content; nil where the source keeps it
}

// Close closes the file.
func (c *Content) Close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

// Open opens the content of a file.
func (e Entry) Open() (*Content, error) { return e.open() }

// Walk calls fn for the source and everything in it, folders before what is in them, in order of name.
// Sockets, pipes and devices are left out: they are not contents.
func (s *Source) Walk(ctx context.Context, fn func(Entry) error) error {
	if s.root == nil {
		return fn(Entry{Path: ".", Info: s.info, open: func() (*Content, error) { return s.content(s.file, s.info) }})
	}
	if s.as != nil {
		return s.walkAs(ctx, ".", s.info, fn)
	}
	return fs.WalkDir(s.root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read folder: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", p, err)
		}
		return s.visit(p, info, fn)
	})
}

// visit calls fn for one entry.
func (s *Source) visit(p string, info fs.FileInfo, fn func(Entry) error) error {
	e := Entry{Path: p, Info: info, open: func() (*Content, error) { return s.openFile(p) }}
	switch info.Mode().Type() {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		var err error
		if e.Link, err = s.root.Readlink(p); err != nil {
			return fmt.Errorf("read link: %w", err)
		}
	default:
		return nil
	}
	return fn(e)
}

// walkAs is [Source.Walk] where folders are read with an opener's rights.
func (s *Source) walkAs(ctx context.Context, p string, info fs.FileInfo, fn func(Entry) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.visit(p, info, fn); err != nil || !info.IsDir() {
		return err
	}
	dir, err := openWithin(s.as, s.file, p, true)
	if err != nil {
		return fmt.Errorf("read folder: %w", err)
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	if err != nil {
		return fmt.Errorf("read folder: %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		child := path.Join(p, name)
		info, err := s.root.Lstat(child)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", child, err)
		}
		if err := s.walkAs(ctx, child, info, fn); err != nil {
			return err
		}
	}
	return nil
}

// content is that of an open file, which is not closed with it.
func (s *Source) content(f *os.File, info fs.FileInfo) (*Content, error) {
	if err := s.bounded(info.Size()); err != nil {
		return nil, err
	}
	return &Content{SectionReader: io.NewSectionReader(f, 0, info.Size())}, nil
}

func (s *Source) openFile(p string) (*Content, error) {
	var f *os.File
	var err error
	if s.as != nil {
		f, err = openWithin(s.as, s.file, p, false)
	} else {
		f, err = s.root.OpenFile(p, os.O_RDONLY|nonBlocking, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open file: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file any more", p)
	}
	var c *Content
	if err == nil {
		c, err = s.content(f, info)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	c.file = f
	return c, nil
}
