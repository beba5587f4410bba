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

// openBeneath opens name as a process would that has root as its root folder; with the rights of as, unless that is nil.
func openBeneath(as artifact.Opener, root, name string) (*os.File, error) {
	dir, err := os.Open(root) //nolint:gosec // the caller's root is trusted; what is beneath it is not
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	if name == "" {
		name = "."
	}
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if as != nil {
		fd, err := as.Open(int(dir.Fd()), name, how.Flags, how.Resolve)
		if errors.Is(err, unix.ENOTDIR) {
			err = os.ErrNotExist
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	// The kernel answers EAGAIN when something was renamed while it resolved "..".
	for range 16 {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOSYS):
			return nil, fmt.Errorf("artifacts need Linux 5.6 or newer, for openat2: %w", err)
		case errors.Is(err, unix.ENOTDIR):
			return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
		}
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return nil, fmt.Errorf("open %s: its folders are renamed all the time", name)
}

// rootOf returns the root for a folder that is open already.
func rootOf(f *os.File) (*os.Root, error) {
	return os.OpenRoot("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
}
