package keeper

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/access/certificate"
	"github.com/tiphys/tiphys/keeper/front"
)

// protocol is the number of this language. A keeper that speaks another one is replaced.
const protocol = 1

// Operations. A caller (a server, or the keeper that takes over) begins with hello and is answered with welcome. The two may
// never change, so that keepers and servers of any versions understand that they do not understand each other.
const (
	opHello   = "hello"
	opWelcome = "welcome" // with the listener of the port
	opRefused = "refused"

	opAttach     = "attach" // from now on the caller is the server; the one before is dismissed
	opAttached   = "attached"
	opSuperseded = "superseded"
	opTable      = "table"
	opServe      = "serve" // the caller takes connections
	opPause      = "pause" // and takes no more
	opPaused     = "paused"
	opConn       = "conn" // a connection; in either direction
	opTook       = "took" // it has arrived; only now may the receiver read from it
	opDrain      = "drain"
	opDrained    = "drained"
	opTakeOver   = "take over"
	opListeners  = "listeners"
	opEnd        = "end"
)

// message is what is said over the control socket: its length in four bytes, JSON, and the files that go with it.
type message struct {
	Op       string `json:"op"`
	Protocol int    `json:"protocol,omitempty"`
	Version  string `json:"version,omitempty"`
	PID      int    `json:"pid,omitempty"`
	// Number names a drain or a connection in its answer.
	Number uint64 `json:"number,omitempty"`
	// Epoch counts the servers that have attached.
	Epoch  uint64 `json:"epoch,omitempty"`
	Listen string `json:"listen,omitempty"`
	Own    *Own   `json:"own,omitempty"`
	// PerClient is how many connections one client may have; 0 is no bound.
	PerClient int          `json:"perClient,omitempty"`
	Table     *front.Table `json:"table,omitempty"`
	Backend   string       `json:"backend,omitempty"`
	// Read is what was read of a connection before it was passed on.
	Read []byte `json:"read,omitempty"`
	// TLS is the certificate that proves the port; nil for none.
	TLS *certificate.Files `json:"tls,omitempty"`
	// Secure says that a connection came over TLS, and goes on without.
	Secure bool `json:"secure,omitempty"`
	// Remote is the client's address, where the file is not the client's own connection.
	Remote string `json:"remote,omitempty"`
	// Names are those of the files.
	Names  []string `json:"names,omitempty"`
	Reason string   `json:"reason,omitempty"`
	Files  int      `json:"files,omitempty"`
}

const (
	maxMessage = 32 << 20
	maxFiles   = 200 // the kernel takes 253
	// saying bounds the sending of a message: the other side always reads.
	saying = 10 * time.Second
)

// link is one end of a control connection. Send may be called by many, receive by one.
type link struct {
	conn  *net.UnixConn
	write sync.Mutex
	in    []byte
	files []*os.File // arrived, and not yet claimed by a message
}

var errTooLong = errors.New("the message is too long")

// send sends a message with copies of files.
func (l *link) send(m message, files ...*os.File) error {
	m.Files = len(files)
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("say %s: %w", m.Op, err)
	}
	if len(raw) > maxMessage || len(files) > maxFiles {
		return fmt.Errorf("say %s: %w", m.Op, errTooLong)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(raw)), uint32(len(raw)))
	frame = append(frame, raw...)
	var rights []byte
	if len(files) > 0 {
		fds, err := descriptors(files)
		if err != nil {
			return fmt.Errorf("say %s: %w", m.Op, err)
		}
		rights = unix.UnixRights(fds...)
	}
	defer runtime.KeepAlive(files)
	l.write.Lock()
	defer l.write.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(saying))
	n, _, err := l.conn.WriteMsgUnix(frame, rights, nil)
	if err == nil && n < len(frame) {
		_, err = l.conn.Write(frame[n:])
	}
	if err != nil {
		_ = l.conn.Close() // half a message may be on its way
		return fmt.Errorf("say %s: %w", m.Op, err)
	}
	return nil
}

// descriptors are the numbers of files. Fd would have whoever shares them wait for them without regard to deadlines.
func descriptors(files []*os.File) ([]int, error) {
	fds := make([]int, len(files))
	for i, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return nil, err
		}
		if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
			return nil, err
		}
	}
	return fds, nil
}

// receive waits for the next message. The files are the caller's to close.
func (l *link) receive() (message, []*os.File, error) {
	for {
		m, files, ok, err := l.next()
		if ok || err != nil {
			return m, files, err
		}
		if err := l.fill(); err != nil {
			return m, nil, err
		}
	}
}

// next takes a message out of what has arrived.
func (l *link) next() (m message, files []*os.File, ok bool, err error) {
	if len(l.in) < 4 {
		return m, nil, false, nil
	}
	size := binary.BigEndian.Uint32(l.in)
	if size > maxMessage {
		return m, nil, false, errTooLong
	}
	if len(l.in) < 4+int(size) {
		return m, nil, false, nil
	}
	err = json.Unmarshal(l.in[4:4+size], &m)
	l.in = append(l.in[:0], l.in[4+size:]...)
	switch {
	case err != nil:
		return m, nil, false, fmt.Errorf("understand message: %w", err)
	case m.Files < 0 || m.Files > len(l.files):
		return m, nil, false, fmt.Errorf("understand %s: it comes with %d files, not %d", m.Op, len(l.files), m.Files)
	}
	files = append(files, l.files[:m.Files]...)
	l.files = append(l.files[:0], l.files[m.Files:]...)
	return m, files, true, nil
}

// fill reads more. The kernel gives files with the first bytes of what they were sent with, and never those of two messages at a time.
func (l *link) fill() error {
	buffer, rights := make([]byte, 32<<10), make([]byte, unix.CmsgSpace(4*(maxFiles+1)))
	n, r, flags, _, err := l.conn.ReadMsgUnix(buffer, rights)
	if err != nil {
		return err
	}
	l.in = append(l.in, buffer[:n]...)
	if r > 0 {
		messages, err := unix.ParseSocketControlMessage(rights[:r])
		if err != nil {
			return fmt.Errorf("take files: %w", err)
		}
		for _, m := range messages {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				return fmt.Errorf("take files: %w", err)
			}
			for _, fd := range fds {
				l.files = append(l.files, os.NewFile(uintptr(fd), "passed"))
			}
		}
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return errors.New("take files: there were more than fit, or this process may open no more")
	}
	if n == 0 && r == 0 {
		return net.ErrClosed
	}
	return nil
}

func (l *link) close() { _ = l.conn.Close() }

// forget closes files that nobody claimed; only the receiver may call it.
func (l *link) forget() {
	for _, f := range l.files {
		_ = f.Close()
	}
	l.files = nil
}

// sameUser refuses a peer that is not a process of this user.
func sameUser(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("process %d is of user %d, not of %d", cred.Pid, cred.Uid, os.Geteuid())
	}
	return nil
}
