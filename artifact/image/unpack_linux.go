package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/archive"
	"github.com/tiphys/tiphys/artifact/blob"
)

// The marks of removals in a layer, from the OCI image specification 1.1, layer.md.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	aufs     = ".wh..wh." // other names of this form are notes of a file system that nobody uses any more
)

// layerUnpacker writes a layer as overlayfs wants it: a removal becomes a character device 0/0, a folder that hides
// what is below it gets an attribute. Links mean what they mean in the container, so an absolute one is no
// danger as long as nothing is written through it; the kernel resolves every folder with the layer as its root.
type layerUnpacker struct {
	root    int
	limits  archive.Limits
	bytes   int64
	entries int
	super   bool
	// last is the folder that was resolved last, since an archive goes through folders one by one.
	lastName string
	last     int
	late     []*tar.Header
}

// unpackLayer unpacks the tar of a layer into dir.
func unpackLayer(ctx context.Context, r io.Reader, dir string, l archive.Limits) error {
	if l.Bytes <= 0 {
		l.Bytes = 32 << 30
	}
	if l.Entries <= 0 {
		l.Entries = 2_000_000
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open layer folder: %w", err)
	}
	u := &layerUnpacker{root: root, limits: l, super: os.Geteuid() == 0, last: -1}
	defer u.close()
	t := tar.NewReader(blob.Reader(ctx, r))
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return fmt.Errorf("read layer: %w", err)
		}
		if u.entries++; u.entries > l.Entries {
			return fmt.Errorf("%w: more than %d files", artifact.ErrTooLarge, l.Entries)
		}
		if err := u.entry(h, t); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
}

func (u *layerUnpacker) close() {
	u.forget()
	_ = unix.Close(u.root)
}

func (u *layerUnpacker) forget() {
	if u.last >= 0 {
		_ = unix.Close(u.last)
	}
	u.last = -1
}

func (u *layerUnpacker) entry(h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if strings.ContainsRune(h.Name, 0) || strings.ContainsRune(h.Linkname, 0) {
		return fmt.Errorf("%w: a name with a zero byte", archive.ErrUnsafe)
	}
	// Rooted before it is cleaned, ".." cannot climb out.
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if name == "" {
		u.late = append(u.late, h)
		return nil
	}
	dir, base := path.Split(name)
	parent, err := u.folder(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	switch {
	case base == opaque:
		return u.setOpaque(parent, ".")
	case strings.HasPrefix(base, aufs):
		return nil
	case strings.HasPrefix(base, whiteout):
		return u.remove(parent, strings.TrimPrefix(base, whiteout))
	}
	return u.create(h, parent, base, body)
}

// folder resolves a folder within the layer, and makes what is missing.
func (u *layerUnpacker) folder(name string) (int, error) {
	if u.last >= 0 && u.lastName == name {
		return u.last, nil
	}
	fd, err := u.open(name)
	if errors.Is(err, unix.ENOENT) {
		dir, base := path.Split(name)
		var parent int
		if parent, err = u.folder(strings.TrimSuffix(dir, "/")); err != nil {
			return -1, err
		}
		if err := unix.Mkdirat(parent, base, 0o755); err != nil {
			return -1, fmt.Errorf("make folder %q: %w", name, err)
		}
		fd, err = u.open(name)
	}
	if err != nil {
		return -1, fmt.Errorf("open folder %q: %w", name, err)
	}
	u.forget()
	u.last, u.lastName = fd, name
	return fd, nil
}

func (u *layerUnpacker) open(name string) (int, error) {
	if name == "" {
		name = "."
	}
	return unix.Openat2(u.root, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

func proc(fd int, base string) string {
	p := "/proc/self/fd/" + strconv.Itoa(fd)
	if base == "." {
		return p
	}
	return p + "/" + base
}

// setOpaque hides what lower layers have in a folder. Both names are set: the kernel reads the second in mounts of
// users that are not root.
func (u *layerUnpacker) setOpaque(parent int, base string) error {
	set := false
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		err := unix.Setxattr(proc(parent, base), attr, []byte("y"), 0)
		set = set || err == nil
	}
	if !set {
		return errors.New("the file system under the data folder keeps no extended attributes; use ext4, xfs or btrfs")
	}
	return nil
}

// remove marks a name as removed.
func (u *layerUnpacker) remove(parent int, base string) error {
	if base == "" || base == "." || base == ".." {
		return fmt.Errorf("%w: a removal of %q", archive.ErrUnsafe, base)
	}
	var st unix.Stat_t
	if unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return u.setOpaque(parent, base) // removed below, and made anew in this layer
		}
		return nil
	}
	if err := unix.Mknodat(parent, base, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("mark as removed: %w", err)
	}
	return nil
}

// clear makes room for an entry, and says what was there.
func (u *layerUnpacker) clear(parent int, base string, keepFolder bool) (wasFolder, wasRemoved bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if keepFolder {
			return true, false, nil
		}
		u.forget()
		if err := os.RemoveAll(proc(parent, base)); err != nil {
			return true, false, fmt.Errorf("replace folder: %w", err)
		}
		return true, false, nil
	}
	if err := unix.Unlinkat(parent, base, 0); err != nil {
		return false, false, fmt.Errorf("replace: %w", err)
	}
	return false, st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0, nil
}

func (u *layerUnpacker) create(h *tar.Header, parent int, base string, body io.Reader) error {
	// clear may forget the parent when it removes a folder, so keep a handle of our own.
	parent, err := unix.FcntlInt(uintptr(parent), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(parent) }()
	wasFolder, wasRemoved, err := u.clear(parent, base, h.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if !wasFolder {
			if err := unix.Mkdirat(parent, base, 0o755); err != nil {
				return err
			}
		}
		if wasRemoved {
			if err := u.setOpaque(parent, base); err != nil {
				return err
			}
		}
		u.late = append(u.late, h)
		return nil
	case tar.TypeReg, tar.TypeGNUSparse:
		err = u.file(parent, base, body)
	case tar.TypeSymlink:
		err = unix.Symlinkat(h.Linkname, parent, base)
	case tar.TypeLink:
		return u.hardLink(parent, base, h.Linkname)
	case tar.TypeFifo:
		err = unix.Mkfifoat(parent, base, 0o600)
	case tar.TypeChar, tar.TypeBlock:
		if strings.HasPrefix(path.Clean("/"+h.Name), "/dev/") {
			return nil // every container gets a /dev of its own
		}
		return fmt.Errorf("%w: a device outside of /dev", archive.ErrUnsafe)
	default:
		return fmt.Errorf("%w: an entry of type %q", archive.ErrUnsafe, h.Typeflag)
	}
	if err != nil {
		return err
	}
	return u.dress(h, parent, base)
}

func (u *layerUnpacker) file(parent int, base string, body io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	left := u.limits.Bytes - u.bytes
	n, err := io.Copy(f, io.LimitReader(body, left+1))
	u.bytes += n
	if err == nil && n > left {
		err = fmt.Errorf("%w: the layer has more than %d bytes", artifact.ErrTooLarge, u.limits.Bytes)
	}
	return errors.Join(err, f.Close())
}

func (u *layerUnpacker) hardLink(parent int, base, target string) error {
	dir, name := path.Split(strings.TrimPrefix(path.Clean("/"+target), "/"))
	from, err := u.open(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	defer func() { _ = unix.Close(from) }()
	if err := unix.Linkat(from, name, parent, base, 0); err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	return nil
}

// finish dresses the folders, the deepest first, when nothing is written into them any more.
func (u *layerUnpacker) finish() error {
	for i := len(u.late) - 1; i >= 0; i-- {
		h := u.late[i]
		dir, base := path.Split(strings.TrimPrefix(path.Clean("/"+h.Name), "/"))
		if base == "" {
			base = "."
		}
		parent, err := u.folder(strings.TrimSuffix(dir, "/"))
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue // replaced by a later entry
		}
		if err := u.dress(h, parent, base); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
	return nil
}

// dress sets owner, mode, attributes and times; in this order, because a new owner takes away setuid bits and capabilities.
func (u *layerUnpacker) dress(h *tar.Header, parent int, base string) error {
	if u.super {
		err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW)
		// In a user namespace without that user it stays root's.
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("set owner: %w", err)
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(parent, base, uint32(h.Mode)&0o7777, 0); err != nil { //nolint:gosec // masked
			return fmt.Errorf("set mode: %w", err)
		}
		if err := u.attributes(h, parent, base); err != nil {
			return err
		}
	}
	if h.ModTime.Unix() == 0 && h.ModTime.Nanosecond() == 0 {
		h.ModTime = archive.Epoch // tools that pack zip files choke on 1970
	}
	t := unix.NsecToTimespec(h.ModTime.UnixNano())
	if err := unix.UtimesNanoAt(parent, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// attributes sets those that mean something in a container. Those of overlayfs are refused by leaving them out:
// with them a layer could name folders of other layers.
func (u *layerUnpacker) attributes(h *tar.Header, parent int, base string) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok {
			continue
		}
		isUser := strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
		if !isUser && name != "security.capability" {
			continue
		}
		err := unix.Lsetxattr(proc(parent, base), name, []byte(value), 0)
		if err != nil && u.super && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}

func syncFiles(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // our own folder
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.Syncfs(int(f.Fd()))
}

func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return err == nil, err
}
