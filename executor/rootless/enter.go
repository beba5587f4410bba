package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what [Enter] starts.
type Options struct {
	// Args are the arguments that the program is started with again.
	Args []string
	// Files are its standard input, standard output and standard error.
	Files [3]*os.File
	// Network asks for a network of the namespace's own; nil for this machine's.
	Network *Network
}

// Enter starts this program again as root of a user namespace, and gives its exit status when it has ended. It ends with this process. Signals
// that this process gets go to it, but for an interrupt from a terminal, which both get.
func Enter(ctx context.Context, o Options) (status int, err error) {
	// The child ends with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if o.Network == nil {
		child, err := o.begin(ctx, nil)
		if err != nil {
			return 0, err
		}
		return child.wait(ctx, signals)
	}
	child, err := o.rejoin(ctx)
	if err == nil && child == nil {
		child, err = o.begin(ctx, o.Network)
	}
	if err != nil {
		return 0, err
	}
	status, err = child.wait(ctx, signals)
	return status, errors.Join(err, Leave(ctx, o.Network.Folder, leaving))
}

// leaving is how long those that a server ended with itself may take to be gone.
const leaving = 300 * time.Millisecond

// child is the program in the namespace.
type child struct {
	process *os.Process
	// session says that it has left this process's session, so that no terminal tells it anything.
	session bool
}

// begin makes the namespaces and starts the program in them.
func (o Options) begin(ctx context.Context, network *Network) (_ *child, err error) {
	mapping := Helpers()
	ready, tell, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("enter a user namespace: %w", err)
	}
	defer func() { _ = errors.Join(ready.Close(), tell.Close()) }()                // both may be closed
	cmd := exec.Command("/proc/self/exe", append([]string{Command}, o.Args...)...) //nolint:noctx // it is asked to end by a signal
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Files[0], o.Files[1], o.Files[2]
	cmd.ExtraFiles = []*os.File{ready}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if network != nil {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	if !mapping.there() {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return nil, refused(err)
	}
	c := &child{process: cmd.Process}
	defer func() {
		if err != nil {
			c.kill()
		}
	}()
	if mapping.there() {
		if err := mapping.tell(ctx, cmd.Process.Pid); err != nil {
			return nil, err
		}
	}
	if network != nil {
		if err := network.connect(ctx, cmd.Process.Pid); err != nil {
			return nil, err
		}
	}
	if _, err := tell.Write([]byte{1}); err != nil {
		return nil, fmt.Errorf("enter a user namespace: %w", err)
	}
	return c, nil
}

// refused says what to do where the kernel or a security module allows no user namespaces.
func refused(err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("this machine lets user %d make no user namespace (%w): run tiphys as root, or see tiphys doctor", os.Geteuid(), err)
	}
	return fmt.Errorf("enter a user namespace: %w", err)
}

// kill ends the program at once.
func (c *child) kill() {
	_ = c.process.Kill() // it may have ended
	_, _ = c.process.Wait()
}

// wait hands on signals, and gives the exit status as a shell would. The end of ctx asks the program to end.
func (c *child) wait(ctx context.Context, signals <-chan os.Signal) (int, error) {
	ended := make(chan struct{})
	defer close(ended)
	go c.pass(ctx, signals, ended)
	state, err := c.process.Wait()
	if err != nil {
		return 0, fmt.Errorf("wait for the program in its namespace: %w", err)
	}
	if s, ok := state.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal()), nil
	}
	return state.ExitCode(), nil
}

func (c *child) pass(ctx context.Context, signals <-chan os.Signal, ended <-chan struct{}) {
	terminal := false
	if f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil && !c.session {
		terminal = true
		_ = f.Close()
	}
	done := ctx.Done()
	for {
		select {
		case s := <-signals:
			if terminal && (s == os.Interrupt || s == syscall.SIGQUIT) {
				continue // the terminal has sent it to both
			}
			_ = c.process.Signal(s) // it may have ended
		case <-done:
			_ = c.process.Signal(syscall.SIGTERM) // as above
			done = nil
		case <-ended:
			return
		}
	}
}

// Wait is the program in its new namespace: it waits until its users are known, and becomes args as root of it. It returns only with an
// error.
func Wait(args []string) error {
	ready := os.NewFile(3, "ready")
	if err := ready.SetReadDeadline(time.Now().Add(2 * patience)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return fmt.Errorf("wait in the user namespace: %w", err)
	}
	if n, err := ready.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("nobody said who the users of the namespace are: %w", err)
	}
	_ = ready.Close()
	path, list, env, err := again(args, os.Getppid())
	if err != nil {
		return err
	}
	return fmt.Errorf("start this program again: %w", unix.Exec(path, list, env))
}

// again is how this program is started as root of the namespace by a parent.
func again(args []string, parent int) (path string, list, env []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, nil, fmt.Errorf("find this program: %w", err)
	}
	return "/proc/self/exe", append([]string{self}, args...), append(os.Environ(), fmt.Sprintf("%s=%d", parentVariable, parent)), nil
}

// parentVariable tells the program who has started it in a namespace.
const parentVariable = "TIPHYS_ROOTLESS_PARENT"

// Begin is called first of all. In a namespace that [Enter] made it has this process end with the one that called it, which becoming root has
// undone, and keeps the mounts that are made here to the namespace. Elsewhere it does nothing.
func Begin() error {
	parent, err := strconv.Atoi(os.Getenv(parentVariable))
	if err != nil {
		return nil //nolint:nilerr // nobody has
	}
	if err := os.Unsetenv(parentVariable); err != nil {
		return fmt.Errorf("end with the parent: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the parent: %w", err)
	}
	if os.Getppid() != parent {
		return errors.New("end with the parent: it has ended")
	}
	// Mounts that others make outside are seen here as well.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts to the namespace: %w", err)
	}
	if OwnNetwork() {
		return resolveNames()
	}
	return nil
}
