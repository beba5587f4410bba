package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"github.com/tiphys/tiphys/executor/protocol"
)

// A pod with a user namespace has other ids on this machine than inside. What is its own alone (its private layer, folders and files made for
// it) belongs to those on this machine. What others see as well (layers of images, claims) has the ids of the inside on disk, and the
// pod has a mount of it that translates (mount_setattr(2), MOUNT_ATTR_IDMAP).

const (
	sysOpenTree     = 428
	sysMoveMount    = 429
	sysMountSetattr = 442

	atEmptyPath   = 0x1000
	atRecursive   = 0x8000
	openTreeClone = 1
	// moveFromFD and moveToFD say that the names are empty and the descriptors meant (MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH).
	moveFromFD = 0x4
	moveToFD   = 0x40

	attrReadOnly = 0x1
	attrIDMap    = 0x100000
)

// mountAttr is struct mount_attr of mount_setattr(2).
type mountAttr struct{ set, clear, propagation, users uint64 }

// root is the owner, on this machine, of what root in the pod owns.
func (p *pod) root() int {
	if p.spec.Users == nil {
		return 0
	}
	return int(p.spec.Users.First)
}

// ownIDs reports whether the pod has a user namespace.
func (p *pod) ownIDs() bool { return p.spec.Users != nil }

// translated gives a mount of an open file or folder, nowhere attached, in which ids of the disk are those in the pod. how is atRecursive for
// one with the mounts in it.
func (p *pod) translated(source int, attrs uint64, how uintptr) (int, error) {
	empty := [1]byte{}
	name := uintptr(unsafe.Pointer(&empty[0]))
	tree, _, e := syscall.Syscall(sysOpenTree, uintptr(source), name, openTreeClone|syscall.O_CLOEXEC|atEmptyPath|how)
	if e != 0 {
		return -1, fmt.Errorf("make a mount that translates ids: %w", e)
	}
	attr := mountAttr{set: attrIDMap | attrs, users: uint64(p.own.users)}
	_, _, e = syscall.Syscall6(sysMountSetattr, tree, name, atEmptyPath|how, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if e != 0 {
		_ = syscall.Close(int(tree))
		return -1, fmt.Errorf("have a mount translate ids: %w", e)
	}
	return int(tree), nil
}

// attach puts a mount that is nowhere at the open target.
func attach(tree, target int) error {
	empty := [1]byte{}
	name := uintptr(unsafe.Pointer(&empty[0]))
	if _, _, e := syscall.Syscall6(sysMoveMount, uintptr(tree), name, uintptr(target), name, moveFromFD|moveToFD, 0); e != 0 {
		return fmt.Errorf("attach a mount: %w", e)
	}
	return nil
}

// bindInside is bind of what has the ids of the pod on disk.
func (p *pod) bindInside(source, target int) error {
	tree, err := p.translated(source, 0, atRecursive)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(tree) }()
	return attach(tree, target)
}

// layerInside gives a layer of an image as the pod sees it.
func (p *pod) layerInside(path string) (int, error) {
	fd, err := syscall.Open(path, openPathFolder, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open layer", Path: path, Err: err}
	}
	defer func() { _ = syscall.Close(fd) }()
	tree, err := p.translated(fd, attrReadOnly, 0)
	if err != nil {
		return -1, fmt.Errorf("layer %s: %w", path, err)
	}
	return tree, nil
}

// attachLayers puts layers somewhere in this process's mounts, where a kernel before 6.15 wants them. detach takes them away again.
func (p *pod) attachLayers(layers []int) (detach func(), err error) {
	var dirs []string
	detach = func() {
		for _, dir := range dirs {
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
			_ = syscall.Rmdir(dir)
		}
	}
	for i, tree := range layers {
		dir := filepath.Join(p.base, fmt.Sprintf("layer%d", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			detach()
			return nil, err
		}
		dirs = append(dirs, dir)
		fd, err := syscall.Open(dir, openPathFolder, 0)
		if err == nil {
			err = attach(tree, fd)
			_ = syscall.Close(fd)
		}
		if err != nil {
			detach()
			return nil, err
		}
	}
	return detach, nil
}

// giveDevices makes /dev the pod's root's, as far as it was made before it was known whose it would be.
func (p *pod) giveDevices(root folder) error {
	if !p.ownIDs() {
		return nil
	}
	for _, path := range []string{"/dev", "/dev/shm", "/dev/pts", "/dev/pts/ptmx"} {
		fd, err := root.open(path, openPath)
		if err != nil {
			return err
		}
		err = syscall.Fchownat(fd, "", p.root(), p.root(), atEmptyPath)
		_ = syscall.Close(fd)
		if err != nil {
			return fmt.Errorf("hand over %s: %w", path, err)
		}
	}
	fd, err := root.open("/dev/pts", openPath)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	options := fmt.Sprintf("ptmxmode=0666,mode=0620,gid=%d", p.root()+terminalGroup)
	if err := syscall.Mount("", proc(fd), "", syscall.MS_REMOUNT|syscall.MS_NOSUID|syscall.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("hand over /dev/pts: %w", err)
	}
	return nil
}

// outside gives the id on this machine of one in the pod.
func (p *pod) outside(id uint32) (int, error) {
	if !p.ownIDs() {
		if p.alone && id != 0 {
			return 0, fmt.Errorf("there is no user or group %d: pods have no user but the one who started this program: install newuidmap (package uidmap) and give that user ids in /etc/subuid and /etc/subgid, or run it as root", id)
		}
		return int(id), nil
	}
	if id >= protocol.UsersSize {
		return 0, fmt.Errorf("user or group %d: a pod has the %d from 0 on: choose one of these, or set hostUsers for those of this machine", id, protocol.UsersSize)
	}
	return p.root() + int(id), nil
}
