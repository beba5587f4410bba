package archive

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// nonBlocking keeps the opening of a pipe from waiting for its writer.
const nonBlocking = unix.O_NONBLOCK

// openBeneath opens name as a process would that has root as its root folder.
func openBeneath(root, name string) (*os.File, error) {
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
