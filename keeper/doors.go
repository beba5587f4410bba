package keeper

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/tiphys/tiphys/keeper/front"
)

// accept takes connections of the port until it is closed.
func (k *keeper) accept(ctx context.Context, l *net.TCPListener) {
	for {
		conn, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// No descriptors, most likely: connections wait in the kernel.
			k.log.Warn("a connection could not be accepted", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		case k.sorting.Add(1) > maxSorting:
			k.sorting.Add(-1)
			_ = conn.Close()
		default:
			leave, ok := k.crowd.Enter(conn.RemoteAddr())
			if !ok {
				k.sorting.Add(-1)
				_ = conn.Close()
				continue
			}
			k.conns.Go(func() { k.admit(ctx, conn, leave) })
		}
	}
}

// admit finds out whose a connection is, and sees that it gets there. One of the server's is counted there from then on.
func (k *keeper) admit(ctx context.Context, conn *net.TCPConn, leave func()) {
	whose, read := k.sort(ctx, conn)
	if whose == servers && k.elsewhere(conn.RemoteAddr()) {
		whose = keepers // which says that it wants TLS
	}
	if whose == keepers {
		k.serve(conn, read, leave)
		return
	}
	defer leave()
	switch whose {
	case unknown:
		_ = conn.Close()
	case servers:
		h := &held{read: read, until: time.Now().Add(k.o.Wait)}
		var err error
		h.file, err = conn.File()
		_ = conn.Close()
		if err != nil {
			k.log.Warn("a connection could not be passed on", "error", err)
			return
		}
		if err := k.deliver(ctx, h); err != nil {
			h.sorry()
		}
	}
}

// sort reads a connection until it is clear whose it is; unknown if it says too little in time.
func (k *keeper) sort(ctx context.Context, conn *net.TCPConn) (verdict, []byte) {
	defer k.sorting.Add(-1)
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	_ = conn.SetReadDeadline(time.Now().Add(headerTimeout))
	k.mu.Lock()
	own := k.own
	k.mu.Unlock()
	buffer := make([]byte, 4<<10)
	read := 0
	whose := unknown
	for whose == unknown {
		if read == len(buffer) {
			larger := make([]byte, 2*len(buffer))
			copy(larger, buffer)
			buffer = larger
		}
		n, err := conn.Read(buffer[read:])
		read += n
		if err != nil {
			return unknown, nil
		}
		if buffer[0] == handshake {
			whose = keepers
			break
		}
		whose = own.sort(buffer[:read])
	}
	_ = conn.SetReadDeadline(time.Time{})
	return whose, buffer[:read]
}

// serve gives a connection, of which something was read already, to the keeper's own web server.
func (k *keeper) serve(conn net.Conn, read []byte, leave func()) {
	k.served.Add(1)
	var b net.Conn = &begun{Conn: conn, read: read, closed: func() { k.served.Add(-1); leave() }}
	if len(read) > 0 && read[0] == handshake {
		b = tls.Server(b, k.proof)
	}
	k.inside.put(b)
}

// held is a connection on its way to a server.
type held struct {
	file *os.File
	read []byte
	// remote is the client's address where the file is not the client's own connection.
	remote string
	// secure says that the client speaks TLS with the keeper.
	secure bool
	until  time.Time
}

// sorry answers the request of a connection that no server took.
func (h *held) sorry() {
	conn, err := net.FileConn(h.file)
	_ = h.file.Close()
	if err != nil {
		return // nobody can be told
	}
	defer conn.Close()
	if h.remote != "" {
		return // the keeper itself asked, and answers
	}
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	body := front.HTML(awayTitle, awayText)
	_, err = fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n"+
		"Retry-After: 5\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\nConnection: close\r\n\r\n%s", len(body), body)
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		// What the client still sends is read, so that it can read the answer.
		_ = tcp.CloseWrite()
		_, _ = io.CopyN(io.Discard, conn, 1<<20)
	}
}

// What is said for a server that is away.
const (
	awayTitle = "The server is away"
	awayText  = "The applications are served meanwhile. " + againText
	againText = "It may be starting: try again in some seconds."
)

// inside is the listener of the keeper's web server: connections are put into it.
type inside struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newInside() *inside { return &inside{conns: make(chan net.Conn), done: make(chan struct{})} }

func (i *inside) put(c net.Conn) {
	select {
	case i.conns <- c:
	case <-i.done:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (i *inside) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (i *inside) Close() error {
	i.once.Do(func() { close(i.done) })
	return nil
}

// Addr implements net.Listener.
func (i *inside) Addr() net.Addr { return &net.TCPAddr{} }

// begun is a connection of which something was read already.
type begun struct {
	net.Conn
	read   []byte
	remote net.Addr // nil means the connection's own
	secure bool     // it came over TLS
	once   sync.Once
	closed func()
}

// Read implements net.Conn.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.read) > 0 {
		n := copy(p, b.read)
		if b.read = b.read[n:]; len(b.read) == 0 {
			b.read = nil
		}
		return n, nil
	}
	return b.Conn.Read(p)
}

// RemoteAddr implements net.Conn.
func (b *begun) RemoteAddr() net.Addr {
	if b.remote != nil {
		return b.remote
	}
	return b.Conn.RemoteAddr()
}

// Close implements net.Conn.
func (b *begun) Close() error {
	b.once.Do(b.closed)
	return b.Conn.Close()
}

// CloseWrite lets a web server end its answer before it closes.
func (b *begun) CloseWrite() error {
	if half, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// handler answers what the keeper serves itself.
func (k *keeper) handler() http.Handler {
	own := k.ownProxy()
	all := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		names, retired := k.own, k.retired
		k.mu.Unlock()
		if retired && r.ProtoMajor == 1 {
			// The next request of this client meets the keeper that took over.
			w.Header().Set("Connection", "close")
		}
		if names.Has(r.Host) {
			own.ServeHTTP(w, withSecure(r))
			return
		}
		if !k.awaitRoutes(r.Context()) {
			w.Header().Set("Retry-After", "5")
			front.Page(w, http.StatusServiceUnavailable, awayTitle, "It has not yet said which applications there are. "+againText)
			return
		}
		k.front.ServeHTTP(w, r)
	})
	encrypted := OnlyTLS(all)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if k.tls.Load() != nil {
			encrypted.ServeHTTP(w, r)
			return
		}
		all.ServeHTTP(w, r)
	})
}

// awaitRoutes waits until somebody has said what goes where, after the machine's start most likely; false if nobody does in time.
func (k *keeper) awaitRoutes(ctx context.Context) bool {
	select {
	case <-k.routed:
		return true
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, k.o.Wait)
	defer cancel()
	select {
	case <-k.routed:
		return true
	case <-ctx.Done():
		return false
	}
}
