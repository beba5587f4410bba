package archive

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/artifact"
)

// nonBlocking keeps the opening of a pipe from waiting for its writer.
const nonBlocking = unix.O_NONBLOCK

// openWithin opens what is in a folder, with an opener's rights. No link is followed.
func openWithin(as artifact.Opener, dir *os.File, name string, folder bool) (*os.File, error) {
	flags := uint64(unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_NOFOLLOW)
	if folder {
		flags |= unix.O_DIRECTORY
	}
	fd, err := as.Open(int(dir.Fd()), name, flags, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openBeneath opens name as a process would that has root as its root folder, with an opener's rights; nil means those of this process.
func openBeneath(as artifact.Opener, root, name string) (*os.File, error) {
	dir, err := os.Open(root) //nolint:gosec // the caller's root is trusted; what is beneath it is not
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	if name == "" {
		name = "."
	}
	if as == nil {
		as = self{}
	}
	const flags, resolve = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY, unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	fd, err := as.Open(int(dir.Fd()), name, flags, resolve)
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), name), nil
	case errors.Is(err, errRenamed):
		return nil, fmt.Errorf("open %s: %w", name, err)
	case errors.Is(err, unix.ENOSYS):
		return nil, fmt.Errorf("artifacts need Linux 5.6 or newer, for openat2: %w", err)
	case errors.Is(err, unix.ENOTDIR):
		err = os.ErrNotExist
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: err}
}

var errRenamed = errors.New("its folders are renamed all the time")

// self opens files with the rights of this process.
type self struct{}

// Open implements [artifact.Opener].
func (self) Open(dir int, path string, flags, resolve uint64) (int, error) {
	// The kernel answers EAGAIN when something was renamed while it resolved "..".
	for range 16 {
		fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: flags, Resolve: resolve})
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
	return -1, errRenamed
}

// rootOf returns the root for a folder that is open already.
func rootOf(f *os.File) (*os.Root, error) {
	return os.OpenRoot("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
}
