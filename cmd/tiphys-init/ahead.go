package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tiphys/tiphys/executor/protocol"
)

// Much of a pod's file systems is the same for every pod. A first process that waits for its pod has that part ready, and moves it to its
// place when the order comes.

// ahead mounts what does not depend on the order: the file system that holds the roots, and /proc and /dev as a container without
// privileges has them.
func (p *pod) ahead(base string) error {
	// From now on nothing that is mounted here is seen outside. What is mounted outside is still seen here: the order may speak of it.
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts from others: %w", err)
	}
	p.base = base
	p.empty = filepath.Join(base, "empty")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	if err := mount("tmpfs", base, "tmpfs", syscall.MS_NODEV|syscall.MS_NOSUID, "mode=0755"); err != nil {
		return err
	}
	if err := os.Mkdir(p.empty, 0o755); err != nil {
		return err
	}
	ready := filepath.Join(base, "ready")
	if err := os.Mkdir(ready, 0o755); err != nil {
		return err
	}
	root, err := openRoot(ready)
	if err != nil {
		return err
	}
	defer root.close()
	if err := p.ownMounts(root, protocol.Container{}); err != nil {
		return err
	}
	p.ready = ready
	return nil
}

// afresh forgets what ahead came to, and does it again: what was wanting then may be there now.
func (p *pod) afresh(base string) error {
	_ = syscall.Unmount(base, syscall.MNT_DETACH)
	p.ready, p.shm = "", ""
	return p.ahead(base)
}

// takeReady moves the mounts that are ready to a container's root. The first container without privileges has them; false says that they
// are not for this one.
func (p *pod) takeReady(root folder, c protocol.Container) (bool, error) {
	if p.ready == "" || c.Privileged {
		return false, nil
	}
	ready := p.ready
	p.ready = ""
	for _, path := range []string{"/proc", "/dev"} {
		fd, err := root.mkdirs(path)
		if err != nil {
			return false, err
		}
		err = syscall.Mount(ready+path, proc(fd), "", syscall.MS_MOVE, "")
		_ = syscall.Close(fd)
		if err != nil {
			return false, fmt.Errorf("move %s to its place: %w", path, err)
		}
	}
	return true, nil
}
