package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/tiphys/tiphys/artifact"
)

// Source is a file or folder that is read without following links out of it.
type Source struct {
	// Name is the last element of its path.
	Name string
	file *os.File
	root *os.Root // of a folder
	info fs.FileInfo
}

// Open opens src beneath root. Links on the way to src are followed as a process would that has root as its
// root folder, so they cannot lead out; links inside of src are never followed. The error wraps
// [artifact.ErrNotFound] if there is nothing at src.
func Open(root, src string) (*Source, error) {
	inner := src
	if clean := path.Clean(root); clean != "/" {
		if rest, ok := strings.CutPrefix(path.Clean(src), clean+"/"); ok {
			inner = rest
		}
	}
	inner = strings.TrimLeft(inner, "/")
	f, err := openBeneath(root, inner)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", src, artifact.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", src, err)
	}
	s := &Source{Name: path.Base(path.Clean("/" + inner)), file: f}
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
func (s *Source) Reader() io.Reader { return io.NewSectionReader(s.file, 0, s.info.Size()) }

// Entry is something in a source.
type Entry struct {
	// Path is relative to the source; "." is the source itself.
	Path string
	Info fs.FileInfo
	// Link is where a symbolic link points.
	Link string
	open func() (*os.File, error)
}

// Open opens the content of a file.
func (e Entry) Open() (*os.File, error) { return e.open() }

// Walk calls fn for the source and everything in it, folders before what is in them, in order of name.
// Sockets, pipes and devices are left out: they are not contents.
func (s *Source) Walk(ctx context.Context, fn func(Entry) error) error {
	if s.root == nil {
		return fn(Entry{Path: ".", Info: s.info, open: func() (*os.File, error) { return s.file, nil }})
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
		e := Entry{Path: p, Info: info, open: func() (*os.File, error) { return s.openFile(p) }}
		switch info.Mode().Type() {
		case 0, fs.ModeDir:
		case fs.ModeSymlink:
			if e.Link, err = s.root.Readlink(p); err != nil {
				return fmt.Errorf("read link: %w", err)
			}
		default:
			return nil
		}
		return fn(e)
	})
}

func (s *Source) openFile(p string) (*os.File, error) {
	f, err := s.root.OpenFile(p, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, fmt.Errorf("open file: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file any more", p)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
