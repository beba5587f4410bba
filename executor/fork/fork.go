// Package fork starts processes in ways that package syscall has not: in a user namespace that is there already, and for the sake of their
// namespaces alone. It imports nothing but the standard library, because the first process of a pod (cmd/tiphys-init) does neither.
//
// The child shares this process's memory until it executes its program, as with package syscall: a copy of the memory costs more than all
// the rest. Nobody else can reach it through the child if this process is not dumpable (prctl(2), PR_SET_DUMPABLE).
package fork

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"
)

// Command is a program and what its process is.
type Command struct {
	// Path of the program, in Root.
	Path      string
	Args, Env []string
	// Root is the root folder; empty for this process's own.
	Root string
	// Dir is the working folder in Root, which the user must be able to enter.
	Dir string
	// Files are standard input, standard output and standard error, as descriptors above 2.
	Files [3]int
	// Users is a descriptor of the user namespace that the process is in; -1 for this process's own. The ids below are those in it.
	Users    int
	UID, GID uint32
	// Spaces are descriptors of further namespaces that the process enters, in this order, as root of the user namespace. With a mount namespace
	// among them Root is empty.
	Spaces []int
	Groups []uint32
	// KeepGroups leaves this process's groups to it, where nobody may change them: in a user namespace that has one user (setgroups(2)).
	KeepGroups bool
	// Capabilities is the bounding set, one bit each.
	Capabilities uint64
	// NoNewPrivs is that of prctl(2).
	NoNewPrivs bool
	// Filter says which system calls may be used: a program as seccomp(2) takes it, an array of struct sock_filter. Empty for all.
	Filter []byte
	// Keyring gives the process a session keyring of its own, in place of this process's.
	Keyring bool
	// Cgroups gives the process a cgroup namespace of its own: the group that it is in is the topmost that it sees.
	Cgroups bool
	// Slack is how late the process's timers may be, in nanoseconds; 0 for as late as those of this process.
	Slack uintptr
	// Descriptors is the limit on open files; nil for this process's own.
	Descriptors *syscall.Rlimit
}

// Error says at which step a process could not be started.
type Error struct {
	Step string
	Err  syscall.Errno
}

// Error implements error.
func (e *Error) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap gives the reason.
func (e *Error) Unwrap() error { return e.Err }

// The steps of a child, in their order.
const (
	stepSession = iota + 1
	stepRoot
	stepCgroups
	stepUsers
	stepGroups
	stepGroup
	stepRootUser
	stepSpaces
	stepKeyring
	stepCapabilities
	stepPrivileges
	stepFiles
	stepLimit
	stepFilter
	stepUser
	stepDir
	stepProgram
	stepOpen
)

func stepName(step int32) string {
	names := map[int32]string{
		stepSession: "begin a session", stepRoot: "enter the root folder", stepCgroups: "make a cgroup namespace", stepUsers: "enter the user namespace",
		stepGroups: "set the groups", stepGroup: "set the group", stepRootUser: "become root of the user namespace", stepSpaces: "enter a namespace", stepKeyring: "make a keyring",
		stepCapabilities: "drop capabilities", stepPrivileges: "set no_new_privs", stepFiles: "hand over the files", stepLimit: "limit the files",
		stepFilter: "filter system calls", stepUser: "become the user", stepDir: "enter the working folder", stepProgram: "execute", stepOpen: "open",
	}
	return names[step]
}

// plan is a command in the form that system calls take, made before the child is.
type plan struct {
	path, root, dir *byte
	args, env       []*byte
	files           [3]int
	users           int
	uid, gid        uintptr
	groups          []uint32
	keepGroups      bool
	spaces          []int
	capabilities    uint64
	noNewPrivs      bool
	filter          *program
	keyring         bool
	cgroups         bool
	slack           uintptr
	limit           *syscall.Rlimit
	report          int
	failed          failure
}

// program is struct sock_fprog of seccomp(2).
type program struct {
	length uint16
	filter *byte
}

// failure is what a child reports that could not execute its program.
type failure struct{ step, errno int32 }

const filterSize = 8 // of a struct sock_filter

// Start starts the process and gives its number. The error is an [Error] if the child could not come as far as its program.
func (c *Command) Start() (pid int, err error) {
	p, err := c.plan()
	if err != nil {
		return 0, err
	}
	var pipe [2]int
	syscall.ForkLock.Lock()
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		syscall.ForkLock.Unlock()
		return 0, fmt.Errorf("make a pipe: %w", err)
	}
	p.report = pipe[1]
	child := execute(p)
	syscall.ForkLock.Unlock()
	_ = syscall.Close(pipe[1])
	defer func() { _ = syscall.Close(pipe[0]) }()
	if int(child) < 0 {
		return 0, fmt.Errorf("make a process: %w", syscall.Errno(-child))
	}
	var said failure
	n, err := readFailure(pipe[0], &said)
	if n == 0 && err == nil {
		return int(child), nil
	}
	Reap(int(child))
	if err != nil || n != int(unsafe.Sizeof(said)) {
		return 0, errors.Join(errors.New("a process ended before it was what it should be"), err)
	}
	return 0, &Error{Step: stepName(said.step), Err: syscall.Errno(said.errno)}
}

// Reap waits until a child of this process has ended, whatever interrupts that.
func Reap(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

func readFailure(fd int, f *failure) (int, error) {
	for {
		n, err := syscall.Read(fd, unsafe.Slice((*byte)(unsafe.Pointer(f)), unsafe.Sizeof(*f)))
		if err != syscall.EINTR {
			return n, err
		}
	}
}

func (c *Command) plan() (p *plan, err error) {
	p = &plan{
		files: c.Files, users: c.Users, uid: uintptr(c.UID), gid: uintptr(c.GID), groups: c.Groups, keepGroups: c.KeepGroups, spaces: c.Spaces, capabilities: c.Capabilities, noNewPrivs: c.NoNewPrivs,
		keyring: c.Keyring, cgroups: c.Cgroups, slack: c.Slack, limit: c.Descriptors,
	}
	for _, fd := range c.Files {
		if fd <= 2 {
			return nil, errors.New("a process is handed descriptors above 2")
		}
	}
	if c.Root != "" {
		if p.root, err = syscall.BytePtrFromString(c.Root); err != nil {
			return nil, err
		}
	}
	if p.dir, err = syscall.BytePtrFromString(c.Dir); err != nil {
		return nil, err
	}
	if p.path, err = syscall.BytePtrFromString(c.Path); err != nil {
		return nil, err
	}
	if p.args, err = syscall.SlicePtrFromStrings(c.Args); err != nil {
		return nil, err
	}
	if p.env, err = syscall.SlicePtrFromStrings(c.Env); err != nil {
		return nil, err
	}
	if len(c.Filter) >= filterSize {
		p.filter = &program{uint16(len(c.Filter) / filterSize), &c.Filter[0]}
	}
	return p, nil
}
