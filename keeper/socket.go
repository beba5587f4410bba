package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// socketName is the control socket in the keeper's folder.
const socketName = "sock"

// maxPath is the longest path that a socket's address takes, in bytes, and a little less.
const maxPath = 100

// near gives a path of a file in a folder that is short enough for a socket. Call done when it was used.
func near(dir, name string) (path string, done func(), err error) {
	if path = filepath.Join(dir, name); len(path) < maxPath {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) + "/" + name, func() { _ = f.Close() }, nil
}

// listenControl makes the control socket. It has its name, and so can be found, once publish was called.
func listenControl(ctx context.Context, dir string) (l *net.UnixListener, publish func() error, err error) {
	name := socketName + "." + strconv.Itoa(os.Getpid())
	path, done, err := near(dir, name)
	if err != nil {
		return nil, nil, fmt.Errorf("make control socket: %w", err)
	}
	defer done()
	var config net.ListenConfig
	made, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, nil, fmt.Errorf("make control socket: %w", err)
	}
	l, ok := made.(*net.UnixListener)
	if !ok {
		return nil, nil, errors.New("make control socket: it is none")
	}
	l.SetUnlinkOnClose(false) // it may have another's name by then
	if err := os.Chmod(filepath.Join(dir, name), 0o600); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make control socket: %w", err), l.Close())
	}
	return l, func() error {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, socketName)); err != nil {
			return fmt.Errorf("make control socket: %w", err)
		}
		return nil
	}, nil
}

// errNone says that no keeper runs.
var errNone = errors.New("no keeper runs for this data folder")

// dial connects to the keeper of a folder and says hello; errNone if there is none.
func dial(ctx context.Context, dir, version string) (*link, message, *os.File, error) {
	none := func(err error) (*link, message, *os.File, error) {
		return nil, message{}, nil, err
	}
	path, done, err := near(dir, socketName)
	if errors.Is(err, os.ErrNotExist) {
		return none(errNone)
	}
	if err != nil {
		return none(fmt.Errorf("reach the keeper: %w", err))
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, saying)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return none(errors.Join(errNone, err))
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return none(errors.Join(errNone, conn.Close()))
	}
	l := &link{conn: unixConn}
	err = sameUser(unixConn)
	var m message
	var files []*os.File
	if err == nil {
		defer context.AfterFunc(ctx, l.close)()
		if err = l.send(message{Op: opHello, Protocol: protocol, Version: version, PID: os.Getpid()}); err == nil {
			m, files, err = l.receive()
		}
	}
	if err == nil && (m.Op == opRefused || m.Op == opWelcome && len(files) == 1) {
		if m.Op == opRefused {
			return l, m, nil, nil
		}
		return l, m, files[0], nil
	}
	for _, f := range files {
		_ = f.Close()
	}
	l.forget()
	l.close()
	if err == nil {
		err = fmt.Errorf("it answered %q", m.Op)
	}
	return none(fmt.Errorf("reach the keeper: %w", err))
}
