package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tiphys/tiphys/executor/protocol"
)

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := syscall.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", fstype, err)
	}
	return nil
}

// layers are folders that are open by path.
type layers []int

func (l layers) close() {
	for _, fd := range l {
		_ = syscall.Close(fd)
	}
}

func (l *layers) open(path string) error {
	fd, err := syscall.Open(path, openPathFolder, 0)
	if err != nil {
		return &os.PathError{Op: "open layer", Path: path, Err: err}
	}
	*l = append(*l, fd)
	return nil
}

// overlay mounts lower layers (the topmost first) with a private writable one at target. Layers are named by
// descriptor: their real paths may hold commas and colons, and all of them must fit into one page.
func (p *pod) overlay(lower []string, upper, work, target string) error {
	var fds layers
	defer func() { fds.close() }()
	for _, path := range lower {
		if !p.ownIDs() {
			if err := fds.open(path); err != nil {
				return err
			}
			continue
		}
		fd, err := p.layerInside(path)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if p.ownIDs() {
		// The topmost folder of the upper layer is that of the whole.
		if err := os.Chown(upper, p.root(), p.root()); err != nil {
			return err
		}
	}
	for _, path := range []string{upper, work} {
		if err := fds.open(path); err != nil {
			return err
		}
	}
	err := p.mountOverlay(fds, target)
	if errors.Is(err, syscall.EINVAL) && p.ownIDs() {
		detach, attached := p.attachLayers(fds[:len(lower)])
		if attached != nil {
			return attached
		}
		err = p.mountOverlay(fds, target)
		detach()
	}
	if err != nil {
		return fmt.Errorf("mount overlay on %s: %w", strings.Join(lower, ":"), err)
	}
	return nil
}

// mountOverlay mounts an overlay of the lower layers, the upper one and its working folder at target.
func (p *pod) mountOverlay(fds layers, target string) error {
	names := make([]string, len(fds))
	for i, fd := range fds {
		names[i] = proc(fd)
	}
	lower := len(names) - 2
	options := "lowerdir=" + strings.Join(names[:lower], ":") + ",upperdir=" + names[lower] + ",workdir=" + names[lower+1]
	if p.namespaced {
		options += ",userxattr" // what layers say of folders is in attributes that root of a user namespace may read
	}
	// What a pod writes is thrown away with it: volatile saves the sync at the end (Linux 5.10).
	err := syscall.Mount("overlay", target, "overlay", syscall.MS_NODEV, options+",volatile")
	if errors.Is(err, syscall.EINVAL) {
		err = syscall.Mount("overlay", target, "overlay", syscall.MS_NODEV, options)
	}
	return err
}

// bind mounts the open file or folder at the open target.
func bind(source, target int, recursive bool) error {
	flags := uintptr(syscall.MS_BIND)
	if recursive {
		flags |= syscall.MS_REC
	}
	if err := syscall.Mount(proc(source), proc(target), "", flags, ""); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// remount makes the mount at path (under root) read-only, or takes devices and set-user-id away.
func remount(root folder, path string, flags uintptr) error {
	fd, err := root.open(path, openPath)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	err = syscall.Mount("", proc(fd), "", syscall.MS_REMOUNT|syscall.MS_BIND|flags, "")
	var st syscall.Statfs_t
	if errors.Is(err, syscall.EPERM) && syscall.Fstatfs(fd, &st) == nil {
		// Root of a user namespace may not take away what a mount of this machine's keeps. These flags are the same for both calls (statfs(2)).
		kept := uintptr(st.Flags) & (syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC)
		err = syscall.Mount("", proc(fd), "", syscall.MS_REMOUNT|syscall.MS_BIND|flags|kept, "")
	}
	if err != nil {
		return fmt.Errorf("remount %s: %w", path, err)
	}
	return nil
}

// alone tells whether this is a user namespace in which nobody may change groups: one that was made without newuidmap, and has one user.
func alone() bool {
	data, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(data)) == "deny"
}

// mountAt makes a folder under root and mounts a new file system there.
func mountAt(root folder, path, fstype string, flags uintptr, data string) error {
	fd, err := root.mkdirs(path)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Mount(fstype, proc(fd), fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", fstype, path, err)
	}
	return nil
}

// place does one of a container's mounts.
func (p *pod) place(root folder, m protocol.Mount) error {
	source, err := p.source(m)
	if err != nil {
		return fmt.Errorf("mount at %s: %w", m.Path, err)
	}
	defer func() { _ = syscall.Close(source) }()
	var st syscall.Stat_t
	if err := syscall.Fstat(source, &st); err != nil {
		return fmt.Errorf("mount at %s: %w", m.Path, err)
	}
	var target int
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		target, err = root.mkdirs(m.Path)
	} else {
		target, err = root.touch(m.Path)
	}
	if err != nil {
		return fmt.Errorf("mount at %s: %w", m.Path, err)
	}
	if inside := m.Inside || p.inside[m.Volume]; inside && p.ownIDs() {
		err = p.bindInside(source, target)
	} else {
		err = bind(source, target, true)
	}
	_ = syscall.Close(target)
	if err != nil {
		return fmt.Errorf("mount at %s: %w", m.Path, err)
	}
	if m.ReadOnly {
		return remount(root, m.Path, syscall.MS_RDONLY)
	}
	return nil
}

// source opens what a mount shows.
func (p *pod) source(m protocol.Mount) (int, error) {
	path := m.Source
	if m.Volume != "" {
		var ok bool
		if path, ok = p.volumes[m.Volume]; !ok {
			return -1, fmt.Errorf("volume %q is not there", m.Volume)
		}
	}
	if m.SubPath == "" {
		fd, err := syscall.Open(path, openPath|syscall.O_CLOEXEC, 0)
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
	fd, err := syscall.Open(path, openPathFolder, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = syscall.Close(fd) }()
	beneath := folder{fd: fd, resolve: resolveBeneath}
	if !p.inside[m.Volume] {
		beneath.owner = p.root()
	}
	if !filepath.IsLocal(m.SubPath) {
		return -1, fmt.Errorf("subPath %q leads out of the volume", m.SubPath)
	}
	if found, err := beneath.open(m.SubPath, openPath); err == nil {
		return found, nil
	} else if !errors.Is(err, syscall.ENOENT) {
		return -1, fmt.Errorf("subPath %q: %w", m.SubPath, err)
	}
	return beneath.mkdirs(m.SubPath)
}

// prepareVolumes makes the volumes that live in memory, under base, and notes where every volume is.
func (p *pod) prepareVolumes(base string) error {
	p.volumes, p.inside = make(map[string]string, len(p.spec.Volumes)), map[string]bool{}
	for i, v := range p.spec.Volumes {
		p.inside[v.Name] = v.Inside
		if v.Path != "" {
			p.volumes[v.Name] = v.Path
			continue
		}
		dir := fmt.Sprintf("%s/v%d", base, i)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		options := "mode=0777"
		if v.Live || len(v.Files) > 0 {
			options = "mode=0755"
		}
		if p.ownIDs() {
			options += fmt.Sprintf(",uid=%d,gid=%d", p.root(), p.root())
		}
		if v.Size > 0 {
			options += fmt.Sprintf(",size=%d", v.Size)
		}
		if err := mount("tmpfs", dir, "tmpfs", syscall.MS_NODEV|syscall.MS_NOSUID, options); err != nil {
			return err
		}
		if err := p.fill(dir, v); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
		p.volumes[v.Name] = dir
	}
	return nil
}
