package local

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// program is tiphys-init as shims are started from it: through a read-only mount of its own, which is nowhere. What a process was started from it
// can open (/proc/self/exe), and so can others in the same container; through this mount nobody can write to it.
type program struct {
	// path is what to start it by, from this process. It leads by this process's descriptors, not by those of the new one: what the new
	// one is given may have come to lie over the program there.
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
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID})
	self, noProc := os.Readlink("/proc/self") // the id of this process by that /proc
	if err != nil || noProc != nil {
		_ = unix.Close(tree)
		return p
	}
	p.tree = os.NewFile(uintptr(tree), path)
	p.path = fmt.Sprintf("/proc/%s/fd/%d", self, tree)
	return p
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
