package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/tiphys/tiphys/executor/fork"
)

// openat2(2): resolution is confined by the kernel, so neither ".." nor a link leads out of the folder.
const (
	resolveInRoot   = 0x10 // links and ".." stop at the folder, as in a chroot
	resolveBeneath  = 0x08 // whatever leads out of the folder is an error
	resolveNoMagic  = 0x02
	openPath        = 0x200000 // O_PATH
	openPathFolder  = openPath | syscall.O_DIRECTORY | syscall.O_CLOEXEC
	maxPathElements = 255
	atNoFollow      = 0x100 // AT_SYMLINK_NOFOLLOW
)

func openat2(dir int, path string, flags int, mode uint32, resolve uint64) (int, error) {
	if path == "" {
		path = "."
	}
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	how := fork.How{Flags: uint64(flags) | syscall.O_CLOEXEC, Mode: uint64(mode), Resolve: resolve | resolveNoMagic}
	for {
		fd, _, e := syscall.Syscall6(fork.SysOpenat2, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
		switch e {
		case 0:
			return int(fd), nil
		case syscall.EINTR, syscall.EAGAIN:
			continue
		}
		return -1, &os.PathError{Op: "open", Path: path, Err: e}
	}
}

// folder is an open folder under which paths are resolved.
type folder struct {
	fd      int
	resolve uint64
	owner   int // of what is made in it
}

// openRoot opens a file-system root: absolute links in it are relative to it.
func openRoot(path string) (folder, error) {
	fd, err := syscall.Open(path, openPathFolder, 0)
	if err != nil {
		return folder{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return folder{fd: fd, resolve: resolveInRoot}, nil
}

func (f folder) close() { _ = syscall.Close(f.fd) }

func (f folder) open(path string, flags int) (int, error) {
	return openat2(f.fd, path, flags, 0, f.resolve)
}

// read reads at most limit bytes of a regular file; more is an error.
func (f folder) read(path string, limit int64) ([]byte, error) {
	// Opening a FIFO must not block.
	fd, err := f.open(path, syscall.O_RDONLY|syscall.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return readFile(fd, path, limit)
}

// readAs is read with the rights of a user.
func (f folder) readAs(u fork.User, path string, limit int64) ([]byte, error) {
	if path == "" {
		path = "."
	}
	fd, err := u.Open(f.fd, path, fork.How{Flags: syscall.O_RDONLY | syscall.O_NONBLOCK | syscall.O_NOCTTY, Resolve: f.resolve | resolveNoMagic})
	if err != nil {
		return nil, err
	}
	return readFile(fd, path, limit)
}

func readFile(fd int, path string, limit int64) ([]byte, error) {
	file := os.NewFile(uintptr(fd), path)
	defer func() { _ = file.Close() }()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	return readLimited(file, limit)
}

var errTooLarge = errors.New("too large")

func readLimited(file *os.File, limit int64) ([]byte, error) {
	buf := make([]byte, 0, 4096)
	for {
		if int64(len(buf)) > limit {
			return nil, errTooLarge
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := file.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n == 0 || err != nil {
			break
		}
	}
	if int64(len(buf)) > limit {
		return nil, errTooLarge
	}
	return buf, nil
}

// mkdirs makes a folder and its parents and returns it opened by path.
func (f folder) mkdirs(path string) (int, error) {
	if fd, err := f.open(path, openPathFolder); err == nil {
		return fd, nil
	} else if !errors.Is(err, syscall.ENOENT) {
		return -1, err
	}
	parts := strings.Split(strings.Trim(filepath.Clean("/"+path), "/"), "/")
	if len(parts) > maxPathElements {
		return -1, &os.PathError{Op: "mkdir", Path: path, Err: syscall.ENAMETOOLONG}
	}
	at := ""
	for _, part := range parts {
		parent, err := f.open(at, openPathFolder)
		if err != nil {
			return -1, err
		}
		err = syscall.Mkdirat(parent, part, 0o755)
		if err == nil && f.owner != 0 {
			err = syscall.Fchownat(parent, part, f.owner, f.owner, atNoFollow)
		}
		_ = syscall.Close(parent)
		if err != nil && !errors.Is(err, syscall.EEXIST) {
			return -1, &os.PathError{Op: "mkdir", Path: path, Err: err}
		}
		at = filepath.Join(at, part)
	}
	return f.open(path, openPathFolder)
}

// touch makes sure that there is something at path, an empty file if need be, and returns it opened by path.
func (f folder) touch(path string) (int, error) {
	if fd, err := f.open(path, openPath); err == nil {
		return fd, nil
	}
	clean := filepath.Clean("/" + path)
	parent, err := f.mkdirs(filepath.Dir(clean))
	if err != nil {
		return -1, err
	}
	fd, err := syscall.Openat(parent, filepath.Base(clean), syscall.O_CREAT|syscall.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o644)
	_ = syscall.Close(parent)
	if err != nil {
		return -1, &os.PathError{Op: "create", Path: path, Err: err}
	}
	if f.owner != 0 {
		err = syscall.Fchown(fd, f.owner, f.owner)
	}
	_ = syscall.Close(fd)
	if err != nil {
		return -1, &os.PathError{Op: "create", Path: path, Err: err}
	}
	return f.open(path, openPath)
}

// proc names an open file so that mount(2) and others can take it as a path.
func proc(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
