// Package archive packs files and folders and unpacks what others have packed.
//
// Unpacking trusts nothing: every path goes through [os.Root], no entry is written through a link, a link that
// would lead out of the archive is refused, devices are refused, setuid bits are dropped, and bytes and entries
// are counted. CVE-2025-62156 and its successors in Argo are why.
package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/blob"
	"github.com/tiphys/tiphys/failure"
)

// ErrUnsafe says that an archive was refused because of what is in it.
var ErrUnsafe = failure.New(failure.Invalid, "unsafe archive")

// Limits of what one archive may become.
type Limits struct {
	// Bytes is the sum of the sizes of all files; 0 for 32 GiB.
	Bytes int64
	// Entries is how many files, folders and links there may be; 0 for a million.
	Entries int
}

func (l Limits) orDefault() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 32 << 30
	}
	if l.Entries <= 0 {
		l.Entries = 1_000_000
	}
	return l
}

// unpacker writes entries beneath root.
type unpacker struct {
	ctx     context.Context //nolint:containedctx // it lives as long as one unpacking
	root    *os.Root
	limits  Limits
	bytes   int64
	entries int
	// folders are those known to be real folders, by clean path.
	folders map[string]bool
	// late are the folders whose mode and time are set at the end, when nothing is written into them any more.
	late []lateFolder
	// links are the symbolic links that were made, by clean path.
	links map[string]string
	top   map[string]bool
	// whole keeps a folder of one thing a folder.
	whole bool
}

type lateFolder struct {
	name string
	mode fs.FileMode
	time time.Time
}

func newUnpacker(ctx context.Context, dir string, l Limits) (*unpacker, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open folder to unpack into: %w", err)
	}
	return &unpacker{
		ctx: ctx, root: root, limits: l.orDefault(),
		folders: map[string]bool{".": true}, links: map[string]string{}, top: map[string]bool{},
	}, nil
}

// Tar unpacks a tar stream into dest, which must not exist. As in Argo, an archive of a single file or folder
// becomes dest itself, and one of several a folder dest with all of them.
func Tar(ctx context.Context, r io.Reader, dest string, l Limits) error {
	return unpackTo(ctx, dest, l, func(u *unpacker) error { return u.tar(r) })
}

func (u *unpacker) tar(r io.Reader) error {
	// Headers and padding count as well, or an archive of nothing but skipped entries would never end.
	most := int64(math.MaxInt64)
	if overhead := int64(u.limits.Entries)*4096 + 1<<20; u.limits.Bytes < most-overhead {
		most = u.limits.Bytes + overhead
	}
	tr := tar.NewReader(&limitedReader{r: blob.Reader(u.ctx, r), left: most})
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := u.tarEntry(h, tr); err != nil {
			return err
		}
	}
}

func (u *unpacker) tarEntry(h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := u.enter(h.Name)
	if err != nil {
		return err
	}
	mode := fs.FileMode(h.Mode).Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		return u.folder(name, mode, h.ModTime)
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(name, mode, h.ModTime, body)
	case tar.TypeSymlink:
		return u.symlink(name, h.Linkname)
	case tar.TypeLink:
		return u.hardLink(name, h.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		return fmt.Errorf("%w: %q is a device", ErrUnsafe, h.Name)
	}
	return fmt.Errorf("%w: %q is of type %q, which is neither file, folder nor link", ErrUnsafe, h.Name, h.Typeflag)
}

// unpackTo unpacks beside dest and gives the result its name once it is whole.
func unpackTo(ctx context.Context, dest string, l Limits, unpack func(*unpacker) error) error {
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("unpack to %s: %w", dest, fs.ErrExist)
	}
	tmp, err := os.MkdirTemp(path.Dir(dest), ".unpack-")
	if err != nil {
		return fmt.Errorf("make folder to unpack into: %w", blob.Explain(err, dest))
	}
	defer func() { _ = removeAll(tmp) }()
	u, err := newUnpacker(ctx, tmp, l)
	if err != nil {
		return err
	}
	defer func() { _ = u.root.Close() }()
	if err := unpack(u); err != nil {
		return blob.Explain(err, dest)
	}
	return u.place(tmp, dest)
}

// place gives what was unpacked its name: all of it, or the only thing that it is.
func (u *unpacker) place(tmp, dest string) error {
	only := "."
	if len(u.top) == 1 && !u.whole {
		for only = range u.top {
			if err := u.checkLinks(only); err != nil {
				return err
			}
		}
	}
	mode, err := u.finish(only)
	if err != nil {
		return err
	}
	if err := os.Rename(path.Join(tmp, only), dest); err != nil {
		return fmt.Errorf("name the unpacked artifact: %w", err)
	}
	if mode == 0 {
		return nil
	}
	// Only now, because a folder that may not be written cannot be moved.
	if err := os.Chmod(dest, mode); err != nil {
		return fmt.Errorf("set mode of the unpacked artifact: %w", err)
	}
	return nil
}

// enter counts an entry and returns its clean name.
func (u *unpacker) enter(name string) (string, error) {
	u.entries++
	if u.entries > u.limits.Entries {
		return "", fmt.Errorf("%w: more than %d files and folders", artifact.ErrTooLarge, u.limits.Entries)
	}
	if err := u.ctx.Err(); err != nil {
		return "", err
	}
	clean, err := cleanName(name)
	if err == nil && clean != "." {
		first, _, _ := strings.Cut(clean, "/")
		u.top[first] = true
	}
	return clean, err
}

func cleanName(name string) (string, error) {
	if name == "" || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%w: the name %q", ErrUnsafe, name)
	}
	if path.IsAbs(name) {
		return "", fmt.Errorf("%w: the absolute path %q", ErrUnsafe, name)
	}
	for segment := range strings.SplitSeq(name, "/") {
		if segment == ".." {
			return "", fmt.Errorf("%w: the path %q leads upwards", ErrUnsafe, name)
		}
	}
	return path.Clean(name), nil
}

// parents makes sure that name lies in real folders. A folder that is a link is refused: what a link means
// depends on where it is, and [unpacker.symlink] has judged it by its name.
func (u *unpacker) parents(name string) error {
	dir := path.Dir(name)
	if u.folders[dir] {
		return nil
	}
	if err := u.parents(dir); err != nil {
		return err
	}
	info, err := u.root.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := u.root.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("make folder %q: %w", dir, err)
		}
	} else if err != nil {
		return fmt.Errorf("look at folder %q: %w", dir, err)
	} else if !info.IsDir() {
		return fmt.Errorf("%w: %q lies in %q, which is not a folder", ErrUnsafe, name, dir)
	}
	u.folders[dir] = true
	return nil
}

// clear makes room for an entry that is not a folder.
func (u *unpacker) clear(name string) error {
	if name == "." {
		return fmt.Errorf("%w: a file named %q", ErrUnsafe, name)
	}
	if err := u.parents(name); err != nil {
		return err
	}
	info, err := u.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %q: %w", name, err)
	}
	if info.IsDir() {
		return fmt.Errorf("%w: %q is both a folder and a file", ErrUnsafe, name)
	}
	delete(u.links, name)
	if err := u.root.Remove(name); err != nil {
		return fmt.Errorf("replace %q: %w", name, err)
	}
	return nil
}

func (u *unpacker) folder(name string, mode fs.FileMode, t time.Time) error {
	if err := u.parents(path.Join(name, "x")); err != nil {
		return err
	}
	u.late = append(u.late, lateFolder{name, mode, t})
	return nil
}

func (u *unpacker) file(name string, mode fs.FileMode, t time.Time, body io.Reader) error {
	if err := u.clear(name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	left := u.limits.Bytes - u.bytes
	n, err := io.Copy(f, io.LimitReader(body, left+1))
	u.bytes += n
	if err == nil && n > left {
		err = fmt.Errorf("%w: more than %d bytes", artifact.ErrTooLarge, u.limits.Bytes)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return u.setTime(name, t)
}

func (u *unpacker) setTime(name string, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	if err := u.root.Chtimes(name, t, t); err != nil {
		return fmt.Errorf("set time of %q: %w", name, err)
	}
	return nil
}

func (u *unpacker) symlink(name, target string) error {
	if err := u.clear(name); err != nil {
		return err
	}
	if err := CheckLink(name, target); err != nil {
		return err
	}
	if err := u.root.Symlink(target, name); err != nil {
		return fmt.Errorf("make link %q: %w", name, err)
	}
	u.links[name] = target
	return nil
}

// CheckLink says why the symbolic link at name, relative to a root in which no folder on the way to name is a
// link, could lead out of that root. Its target must be relative, climb only at its beginning, and not above the root;
// then following it, through any number of links of which the same holds, stays inside.
func CheckLink(name, target string) error {
	if target == "" || path.IsAbs(target) || strings.ContainsRune(target, 0) {
		return fmt.Errorf("%w: the link %q points to %q", ErrUnsafe, name, target)
	}
	depth, down := strings.Count(path.Clean(name), "/"), false
	for segment := range strings.SplitSeq(target, "/") {
		switch segment {
		case "", ".":
		case "..":
			depth--
			if down || depth < 0 {
				return fmt.Errorf("%w: the link %q points to %q, which may be outside", ErrUnsafe, name, target)
			}
		default:
			down = true
		}
	}
	return nil
}

// checkLinks judges all links again with the folder only as root, because it will be taken out.
func (u *unpacker) checkLinks(only string) error {
	for name, target := range u.links {
		inner, ok := strings.CutPrefix(name, only+"/")
		if !ok {
			return fmt.Errorf("%w: it is nothing but the link %q to %q", ErrUnsafe, name, target)
		}
		if err := CheckLink(inner, target); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) hardLink(name, target string) error {
	clean, err := cleanName(target)
	if err != nil {
		return err
	}
	if err := u.parents(clean); err != nil {
		return err
	}
	info, err := u.root.Lstat(clean)
	if err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %q is a hard link to %q, which is not a file of the archive", ErrUnsafe, name, target)
	}
	if clean == name {
		return nil
	}
	if err := u.clear(name); err != nil {
		return err
	}
	if err := u.root.Link(clean, name); err != nil {
		return fmt.Errorf("make hard link %q: %w", name, err)
	}
	return nil
}

// finish gives folders their modes and times, the deepest first, and returns the mode that the folder top
// shall get: 0755 for the folder that has it all, whatever the archive says, and none for a file.
func (u *unpacker) finish(top string) (fs.FileMode, error) {
	var mode fs.FileMode
	if info, err := u.root.Lstat(top); err == nil && info.IsDir() {
		mode = 0o755
	}
	for i := len(u.late) - 1; i >= 0; i-- {
		f := u.late[i]
		if f.name == "." {
			continue
		}
		if err := u.setTime(f.name, f.time); err != nil {
			return 0, err
		}
		if f.name == top {
			mode = f.mode
			continue
		}
		if err := u.root.Chmod(f.name, f.mode); err != nil {
			return 0, fmt.Errorf("set mode of %q: %w", f.name, err)
		}
	}
	return mode, nil
}

// removeAll removes a folder even if parts of it may not be written.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil || os.Getuid() == 0 {
		return err
	}
	_ = fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path.Join(dir, p), 0o700) //nolint:gosec // it is about to be removed
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// limitedReader fails, rather than ends, when more than left bytes are read.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("%w: the archive does not end", artifact.ErrTooLarge)
	}
	return n, err
}
