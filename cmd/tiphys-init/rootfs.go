package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/tiphys/tiphys/executor/protocol"
)

// buildRoot mounts the root file system of container i at target.
func (p *pod) buildRoot(i int, c protocol.Container, target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	private := filepath.Join(p.spec.Work, fmt.Sprintf("c%d", i))
	lower := c.Layers
	if c.Host && !p.locked() {
		lower = []string{"/"}
	}
	if len(lower) == 0 {
		lower = []string{p.empty}
	}
	if err := p.layer(lower, private, target); err != nil {
		return err
	}
	root, err := openRoot(target)
	if err != nil {
		return err
	}
	defer root.close()
	root.owner = p.root()
	if c.Host && p.locked() {
		if err := p.showParts(root, "/", private); err != nil {
			return err
		}
	}
	if c.Host {
		if err := p.overlayMachine(root, private); err != nil {
			return err
		}
	}
	if err := p.systemMounts(root, c); err != nil {
		return err
	}
	if c.Host {
		if err := p.freshFolders(root, private); err != nil {
			return err
		}
	}
	if err := p.userMounts(root, c); err != nil {
		return err
	}
	if c.ReadOnly {
		return remount(root, ".", syscall.MS_RDONLY|syscall.MS_NODEV)
	}
	return nil
}

// layer mounts an overlay; where the attempt's own file system cannot hold the writable part (it is an overlay
// itself, or on the network), that part is kept in memory.
func (p *pod) layer(lower []string, private, target string) error {
	upper, work := filepath.Join(private, "upper"), filepath.Join(private, "work")
	err := p.overlay(lower, upper, work, target)
	if !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	if p.memory == "" {
		dir := filepath.Join(p.base, "memory")
		if e := os.MkdirAll(dir, 0o755); e != nil {
			return e
		}
		if e := mount("tmpfs", dir, "tmpfs", syscall.MS_NODEV, "mode=0755"); e != nil {
			return e
		}
		p.memory = dir
	}
	private = filepath.Join(p.memory, filepath.Base(private))
	return p.overlay(lower, filepath.Join(private, "upper"), filepath.Join(private, "work"), target)
}

// freshFolders gives a host view a /tmp and a /run of its own.
func (p *pod) freshFolders(root folder, private string) error {
	dir := filepath.Join(private, "tmp")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := p.place(root, protocol.Mount{Source: dir, Path: "/tmp"}); err != nil {
		return err
	}
	resolv, target := p.resolvConf()
	if err := mountAt(root, "/run", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0755"); err != nil {
		return err
	}
	if target == "" {
		return nil
	}
	fd, err := root.touch(target)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	return os.WriteFile(proc(fd), resolv, 0o644)
}

// resolvConf gives the name-server file where it is a link into /run, which a host view has empty.
func (p *pod) resolvConf() (data []byte, target string) {
	target, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil || !strings.HasPrefix(target, "/run/") {
		return nil, ""
	}
	if data, err = os.ReadFile(target); err != nil {
		return nil, ""
	}
	return data, target
}

func (p *pod) userMounts(root folder, c protocol.Container) error {
	mounts := append([]protocol.Mount(nil), c.Mounts...)
	// A mount inside another one comes after it.
	sort.SliceStable(mounts, func(i, j int) bool {
		return strings.Count(filepath.Clean(mounts[i].Path), "/") < strings.Count(filepath.Clean(mounts[j].Path), "/")
	})
	for _, m := range mounts {
		if err := p.place(root, m); err != nil {
			return err
		}
	}
	return nil
}

const safeMount = syscall.MS_NOSUID | syscall.MS_NOEXEC | syscall.MS_NODEV

// systemMounts gives a root /proc, /sys and /dev. Which /sys it is depends on the pod's network.
func (p *pod) systemMounts(root folder, c protocol.Container) error {
	if taken, err := p.takeReady(root, c); err != nil {
		return err
	} else if !taken {
		if err := p.ownMounts(root, c); err != nil {
			return err
		}
	}
	if err := p.giveDevices(root); err != nil {
		return err
	}
	flags := uintptr(safeMount)
	if !c.Privileged {
		flags |= syscall.MS_RDONLY
	}
	err := mountAt(root, "/sys", "sysfs", flags, "")
	if errors.Is(err, syscall.EPERM) {
		// Whose network it is may see that network's /sys: root of a user namespace that shares this machine's may not, and shows what is there.
		err = p.place(root, protocol.Mount{Source: "/sys", Path: "/sys", ReadOnly: flags&syscall.MS_RDONLY != 0})
	}
	return err
}

// ownMounts gives a root /proc and /dev.
func (p *pod) ownMounts(root folder, c protocol.Container) error {
	if err := mountAt(root, "/proc", "proc", safeMount, ""); err != nil {
		return err
	}
	if err := p.devices(root, c); err != nil {
		return err
	}
	if c.Privileged {
		return nil
	}
	return protectProc(root)
}

// protectProc keeps root in a pod from steering this machine through /proc: these files ask for user 0 only.
func protectProc(root folder) error {
	for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"} {
		fd, err := root.open(path, openPath)
		if err != nil {
			continue
		}
		err = bind(fd, fd, true)
		_ = syscall.Close(fd)
		if err == nil {
			err = remount(root, path, syscall.MS_RDONLY|syscall.MS_NOSUID|syscall.MS_NOEXEC|syscall.MS_NODEV)
		}
		if err != nil {
			return fmt.Errorf("protect %s: %w", path, err)
		}
	}
	null, err := root.open("/dev/null", openPath)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(null) }()
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"} {
		fd, err := root.open(path, openPath)
		if err != nil {
			continue
		}
		err = bind(null, fd, false)
		_ = syscall.Close(fd)
		if err != nil {
			return fmt.Errorf("mask %s: %w", path, err)
		}
	}
	return nil
}

// terminalGroup owns terminals (devpts(5), "gid").
const terminalGroup = 5

type device struct {
	name         string
	major, minor int
}

func deviceList() []device {
	return []device{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}
}

// devices makes a small /dev. Privileged containers see this machine's.
func (p *pod) devices(root folder, c protocol.Container) error {
	if c.Privileged {
		return p.place(root, protocol.Mount{Source: "/dev", Path: "/dev"})
	}
	if err := mountAt(root, "/dev", "tmpfs", syscall.MS_NOSUID|syscall.MS_NOEXEC, "mode=0755,size=65536k"); err != nil {
		return err
	}
	fd, err := root.open("/dev", openPathFolder)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	dev := proc(fd)
	for _, d := range deviceList() {
		if err := p.device(root, dev, d); err != nil {
			return fmt.Errorf("make /dev/%s: %w", d.name, err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx", "core": "/proc/kcore",
	} {
		if err := syscall.Symlink(target, dev+"/"+name); err != nil {
			return err
		}
	}
	if err := terminals(root); err != nil {
		return err
	}
	return p.sharedMemory(root)
}

// device makes one device in a /dev. Root of a user namespace may make none, and shows this machine's.
func (p *pod) device(root folder, dev string, d device) error {
	path := dev + "/" + d.name
	err := syscall.Mknod(path, syscall.S_IFCHR|0o666, d.major<<8|d.minor)
	if errors.Is(err, syscall.EPERM) {
		return p.place(root, protocol.Mount{Source: "/dev/" + d.name, Path: "/dev/" + d.name})
	}
	if err != nil {
		return err
	}
	return syscall.Chmod(path, 0o666)
}

// terminals mounts /dev/pts. Their group may be nobody in a user namespace.
func terminals(root folder) error {
	const options = "newinstance,ptmxmode=0666,mode=0620"
	err := mountAt(root, "/dev/pts", "devpts", syscall.MS_NOSUID|syscall.MS_NOEXEC, fmt.Sprintf("%s,gid=%d", options, terminalGroup))
	if errors.Is(err, syscall.EINVAL) {
		err = mountAt(root, "/dev/pts", "devpts", syscall.MS_NOSUID|syscall.MS_NOEXEC, options)
	}
	return err
}

// sharedMemory mounts /dev/shm, one for all containers of the pod as in Kubernetes.
func (p *pod) sharedMemory(root folder) error {
	if p.shm == "" {
		dir := filepath.Join(p.base, "shm")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "mode=1777,size=65536k"); err != nil {
			return err
		}
		p.shm = dir
	}
	return p.place(root, protocol.Mount{Source: p.shm, Path: "/dev/shm"})
}
