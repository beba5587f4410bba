package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/tiphys/tiphys/executor/protocol"
)

// How a host view shows this machine: each file system of it under an overlay of the view's own.

// overlayable lists the file systems that hold this machine's real files: views get a private overlay of them.
// The value is false for those that cannot be written to anyway and are shown as they are.
func overlayable() map[string]bool {
	return map[string]bool{
		"ext2": true, "ext3": true, "ext4": true, "xfs": true, "btrfs": true, "f2fs": true, "zfs": true, "bcachefs": true,
		"overlay": true, "nfs": true, "nfs4": true, "virtiofs": true, "9p": true, "fuseblk": true, "vfat": true, "exfat": true,
		"squashfs": false, "erofs": false, "iso9660": false,
	}
}

// machineMount is a mount of this machine.
type machineMount struct {
	path    string
	overlay bool
}

// overlayMachine covers each further mount of this machine with a private overlay of its own: an overlay of "/"
// shows only the empty folders under them.
func (p *pod) overlayMachine(root folder, private string) error {
	for i, m := range p.machine {
		var st syscall.Stat_t
		if err := syscall.Stat(m.path, &st); err != nil {
			continue // not ours to see
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			if err := copyFile(root, m.path); err != nil {
				return err
			}
			continue
		}
		fd, err := root.mkdirs(m.path)
		if err != nil {
			return err
		}
		if m.overlay {
			err = p.layer([]string{m.path}, filepath.Join(private, fmt.Sprintf("m%d", i)), proc(fd))
		} else {
			err = p.place(root, protocol.Mount{Source: m.path, Path: m.path, ReadOnly: true})
		}
		_ = syscall.Close(fd)
		if err != nil {
			// A file system that cannot be a lower layer stays out of sight: never the real thing.
			continue
		}
	}
	return p.hide(root)
}

// hide covers what a host view does not show: folders by an empty one, files by an empty file. What is not there needs no cover.
func (p *pod) hide(root folder) error {
	for _, h := range p.spec.Hide {
		fd, err := root.open(h, openPath)
		if err != nil {
			continue
		}
		err = p.cover(fd)
		_ = syscall.Close(fd)
		if err != nil {
			return fmt.Errorf("hide %s: %w", h, err)
		}
	}
	return nil
}

func (p *pod) cover(fd int) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		return syscall.Mount("tmpfs", proc(fd), "tmpfs", syscall.MS_RDONLY|syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0555,size=4k")
	}
	nothing := filepath.Join(p.base, "nothing")
	if err := os.WriteFile(nothing, nil, 0o444); err != nil {
		return err
	}
	return syscall.Mount(nothing, proc(fd), "", syscall.MS_BIND, "")
}

// copyFile copies a file that is a mount of its own (a container engine's /etc/hosts, say) into the private layer.
func copyFile(root folder, path string) error {
	machine, err := openRoot("/")
	if err != nil {
		return err
	}
	defer machine.close()
	data, err := machine.read(path, 1<<20)
	if err != nil {
		return nil // a device or a huge file: left out
	}
	fd, err := root.touch(path)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	return os.WriteFile(proc(fd), data, 0o644)
}

// machineMounts finds the mount points of this machine: all of them, and those that hold files, parents first, without "/" and without
// what every view has fresh.
func (p *pod) machineMounts() error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	seen := map[string]bool{"/": true}
	kinds := overlayable()
	p.machine = []machineMount{}
	for _, line := range strings.Split(string(b), "\n") {
		fields := strings.Fields(line)
		sep := 0
		for i, f := range fields {
			if f == "-" {
				sep = i
				break
			}
		}
		if sep < 6 || len(fields) < sep+3 {
			continue
		}
		point := unescapeMount(fields[4])
		if seen[point] {
			continue
		}
		seen[point] = true
		p.points = append(p.points, point)
		if overlay, files := kinds[fields[sep+1]]; files && !isFresh(point, p.spec.Hide) {
			p.machine = append(p.machine, machineMount{point, overlay})
		}
	}
	sort.Slice(p.machine, func(i, j int) bool { return p.machine[i].path < p.machine[j].path })
	return nil
}

// locked tells whether what is under a mount of this machine may not be seen, so that nothing with another mount in it can be the layer of an
// overlay: root of a user namespace finds them so (mount_namespaces(7)).
func (p *pod) locked() bool { return p.namespaced && len(p.points) > 0 }

// holds tells whether there is a mount within a folder of this machine.
func (p *pod) holds(dir string) bool {
	prefix := strings.TrimSuffix(dir, "/") + "/"
	for _, point := range p.points {
		if strings.HasPrefix(point, prefix) {
			return true
		}
	}
	return false
}

// showParts shows in a root what is in a folder of this machine that holds mounts: each folder without any as an overlay, the others by their parts.
// The mounts themselves are for overlayMachine.
func (p *pod) showParts(root folder, dir, private string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil //nolint:nilerr // not ours to see
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if isFresh(path, p.spec.Hide) || p.isPoint(path) {
			continue
		}
		if err := p.showPart(root, path, private, e.Type()); err != nil {
			return fmt.Errorf("show %s: %w", path, err)
		}
	}
	return nil
}

func (p *pod) isPoint(path string) bool {
	for _, point := range p.points {
		if point == path {
			return true
		}
	}
	return false
}

func (p *pod) showPart(root folder, path, private string, kind os.FileMode) error {
	switch {
	case kind&os.ModeSymlink != 0:
		return link(root, path)
	case kind.IsRegular():
		return copyFile(root, path)
	case !kind.IsDir():
		return nil // a device or a socket of this machine's is no part of a view
	}
	fd, err := root.mkdirs(path)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	const enterAndList = 0o5 // of access(2)
	if syscall.Access(path, enterAndList) != nil {
		return nil // not ours to see, so it is empty: root's home among them, which is the view's own then
	}
	if p.holds(path) {
		return p.showParts(root, path, private)
	}
	p.shown++
	return p.layer([]string{path}, filepath.Join(private, fmt.Sprintf("s%d", p.shown)), proc(fd))
}

// link makes in a root the symbolic link that this machine has there.
func link(root folder, path string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return nil // it has gone
	}
	parent, err := root.mkdirs(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(parent) }()
	return os.Symlink(target, filepath.Join(proc(parent), filepath.Base(path)))
}

func isFresh(point string, hide []string) bool {
	for _, f := range append([]string{"/proc", "/sys", "/dev", "/run", "/tmp", "/var/run"}, hide...) {
		if point == f || strings.HasPrefix(point, f+"/") {
			return true
		}
	}
	return false
}

// unescapeMount undoes the octal escapes of /proc/self/mountinfo.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | s[i+3] - '0')
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
