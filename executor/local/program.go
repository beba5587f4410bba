package local

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lowestProgram is the lowest descriptor of the program: those that a process is given come before it.
const lowestProgram = 64

// program is tiphys-init as shims are started from it: through a read-only mount of its own, which is nowhere. What a process was started from it
// can open (/proc/self/exe), and so can others in the same container; through this mount nobody can write to it.
type program struct {
	path string
	tree *os.File // nil where the kernel has no such mounts
}

// openProgram opens the program. Without such a mount (Linux 5.12) it is started by its path.
func openProgram(path string) program {
	p := program{path: path}
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return p
	}
	defer func() { _ = unix.Close(tree) }()
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}); err != nil {
		return p
	}
	if fd, err := unix.FcntlInt(uintptr(tree), unix.F_DUPFD_CLOEXEC, lowestProgram); err == nil {
		p.tree = os.NewFile(uintptr(fd), path)
	}
	return p
}

// start is the path to start it by, from this process.
func (p program) start() string {
	if p.tree == nil {
		return p.path
	}
	return fmt.Sprintf("/proc/self/fd/%d", p.tree.Fd())
}

func (p program) close() error {
	if p.tree == nil {
		return nil
	}
	if err := p.tree.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close tiphys-init: %w", err)
	}
	return nil
}
