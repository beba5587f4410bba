package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// prSetDumpable is an operation of prctl(2).
const prSetDumpable = 4

type identity struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

// lookupUser finds a user as an image names it: "name", "uid", "name:group", "uid:gid".
func lookupUser(root folder, user string) (identity, error) {
	who := identity{home: "/"}
	name, group, hasGroup := strings.Cut(user, ":")
	passwd, _ := root.read("/etc/passwd", 1<<20)
	uid, err := strconv.ParseUint(name, 10, 32)
	numeric := err == nil || name == ""
	who.uid = uint32(uid)
	found := false
	login := name
	eachLine(passwd, 7, func(f []string) bool {
		if (numeric && f[2] == strconv.FormatUint(uid, 10)) || (!numeric && f[0] == name) {
			u, e1 := strconv.ParseUint(f[2], 10, 32)
			g, e2 := strconv.ParseUint(f[3], 10, 32)
			if e1 == nil && e2 == nil {
				who.uid, who.gid, who.home, login, found = uint32(u), uint32(g), f[5], f[0], true
			}
			return true
		}
		return false
	})
	if !found && !numeric {
		return who, fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
	}
	groups, _ := root.read("/etc/group", 1<<20)
	if hasGroup && group != "" {
		g, err := strconv.ParseUint(group, 10, 32)
		if err != nil {
			ok := false
			eachLine(groups, 3, func(f []string) bool {
				if f[0] == group {
					g, err = strconv.ParseUint(f[2], 10, 32)
					ok = err == nil
				}
				return ok
			})
			if !ok {
				return who, fmt.Errorf("unable to find group %s: no matching entries in group file", group)
			}
		}
		who.gid = uint32(g)
		return who, nil
	}
	eachLine(groups, 4, func(f []string) bool {
		for _, member := range strings.Split(f[3], ",") {
			if g, err := strconv.ParseUint(f[2], 10, 32); err == nil && member == login && login != "" {
				who.groups = append(who.groups, uint32(g))
			}
		}
		return false
	})
	return who, nil
}

func eachLine(data []byte, fields int, visit func([]string) bool) {
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Split(line, ":"); len(f) >= fields && visit(f) {
			return
		}
	}
}

// workingDir makes sure that the folder is there, as container engines do, owned by the container's user.
func workingDir(root folder, dir string, uid, gid int) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("working directory %q is not absolute", dir)
	}
	fd, err := root.open(dir, openPathFolder)
	if err == nil {
		return syscall.Close(fd)
	}
	if !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("working directory: %w", err)
	}
	if fd, err = root.mkdirs(dir); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Fchownat(fd, "", uid, gid, atEmptyPath); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	return nil
}

// loopbackUp switches on the loopback interface of a new network namespace.
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("switch on loopback: %w", err)
	}
	defer func() { _ = syscall.Close(fd) }()
	// struct ifreq: a name of 16 bytes, then the flags.
	var request [40]byte
	copy(request[:], "lo")
	*(*uint16)(unsafe.Pointer(&request[16])) = syscall.IFF_UP | syscall.IFF_RUNNING
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request[0]))); e != 0 {
		return fmt.Errorf("switch on loopback: %w", e)
	}
	return nil
}
