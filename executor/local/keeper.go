package local

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keeper is the shim of all pods that end with this process: starting a process for each costs more than most steps.
type keeper struct {
	program   program
	dir, root string // root is where pods mount their roots

	mu     sync.Mutex
	socket *os.File // nil while it does not run
	ended  chan struct{}
	closed bool
}

// start starts the keeper's process unless it runs.
func (k *keeper) start() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.startLocked()
}

func (k *keeper) startLocked() error {
	if k.closed {
		return errors.New("the executor is closed")
	}
	if k.socket != nil {
		select {
		case <-k.ended:
			_ = k.socket.Close()
			k.socket = nil
		default:
			return nil
		}
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer func() { _ = theirs.Close() }()
	log, err := os.OpenFile(filepath.Join(k.dir, "keeper.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		_ = ours.Close()
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := &exec.Cmd{
		Path: k.program.path, Args: []string{"tiphys-init", "keeper", k.root}, Dir: k.dir, Env: []string{"GOMAXPROCS=1"},
		Stdin: theirs, Stderr: log, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		_ = ours.Close()
		return few(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	k.socket, k.ended = ours, ended
	return nil
}

// connect gives the connection over which a new pod is ordered.
func (k *keeper) connect() (net.Conn, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for again := range 2 {
		if err := k.startLocked(); err != nil {
			return nil, err
		}
		conn, err := k.hand()
		if err == nil || again > 0 {
			return conn, err
		}
		// It ended at this moment: the next one serves.
		_ = k.socket.Close()
		if !k.awaitEnd() {
			return nil, err
		}
	}
	return nil, errors.New("the keeper of pods does not run")
}

// hand gives the keeper one end of a new connection.
func (k *keeper) hand() (net.Conn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = ours.Close(), theirs.Close() }()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	if err := unix.Sendmsg(int(k.socket.Fd()), []byte{0}, unix.UnixRights(int(theirs.Fd())), nil, 0); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("hand over a pod: %w", err)
	}
	return conn, nil
}

// close lets the keeper end: it does when its pods have.
func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.socket == nil {
		return
	}
	_ = k.socket.Close()
	k.awaitEnd()
}

// awaitEnd waits for the process to end, and reports whether it has.
func (k *keeper) awaitEnd() bool {
	limit := time.NewTimer(acknowledgeWait)
	defer limit.Stop()
	select {
	case <-k.ended:
		return true
	case <-limit.C:
		return false
	}
}

// socketPair gives two connected sockets.
func socketPair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(pair[0]), "shim"), os.NewFile(uintptr(pair[1]), "shim"), nil
}
