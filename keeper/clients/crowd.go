package clients

import (
	"net"
	"net/netip"
	"sync"
)

// Crowd bounds how many connections one client (see [Of]) has at the same time, so that one cannot take the places of all. It is safe for
// concurrent use.
type Crowd struct {
	mu    sync.Mutex
	most  int
	count map[netip.Prefix]int
}

// DefaultPerClient is the bound of connections where nothing is said, and loopbackTimes how many times more this machine itself may have:
// a proxy in front of the server is on it, most likely, and speaks for many.
const (
	DefaultPerClient = 256
	loopbackTimes    = 16
)

// NewCrowd returns a crowd of nobody. most is the bound for a client; 0 is none.
func NewCrowd(most int) *Crowd { return &Crowd{most: most, count: map[netip.Prefix]int{}} }

// Bound changes the bound. What there is stays.
func (c *Crowd) Bound(most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = most
}

// Enter takes in a connection from an address. ok is false if its client has too many; else leave is called once when the connection ends.
func (c *Crowd) Enter(from net.Addr) (leave func(), ok bool) {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return func() {}, true // a socket of this machine's own
	}
	client := Of(tcp.AddrPort().Addr())
	times := 1
	if client.Addr().IsLoopback() {
		times = loopbackTimes
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > 0 && c.count[client] >= c.most*times {
		return nil, false
	}
	c.count[client]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.count[client]--; c.count[client] == 0 {
			delete(c.count, client)
		}
	}), true
}

// Listener bounds the connections of another listener: those that are too many are closed at once.
func (c *Crowd) Listener(l net.Listener) net.Listener { return crowded{l, c} }

type crowded struct {
	net.Listener
	crowd *Crowd
}

// Accept implements net.Listener.
func (l crowded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		leave, ok := l.crowd.Enter(conn.RemoteAddr())
		if !ok {
			_ = conn.Close()
			continue
		}
		return &counted{conn, leave}, nil
	}
}

// counted is a connection that leaves the crowd when it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}

// NetConn is the connection within.
func (c *counted) NetConn() net.Conn { return c.Conn }
