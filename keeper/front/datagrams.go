package front

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// datagrams carries the datagrams of one UDP port of a Service. What comes from one port of one client is a session: it goes to one pod, whose answers
// go back under the Service's address, until nothing was said for a while. Sessions do not go from one keeper to the next: the next datagram
// begins another.
type datagrams struct {
	f       *Front
	address string
	to      atomic.Pointer[destination]

	mu       sync.Mutex
	conn     *net.UDPConn // nil while it cannot be had
	ended    bool
	sessions map[netip.AddrPort]*session
	clients  map[netip.Addr]int // sessions of each
}

// destination is where a port of a Service leads.
type destination struct {
	endpoints []endpoint
	sticky    bool
}

const (
	// quickIdle ends a session of one question and one answer, or none, and longIdle another, when nothing was said for so long.
	quickIdle = 30 * time.Second
	longIdle  = 2 * time.Minute
	// maxSessions bounds the sessions of all Services, and clientSessions those that one address has with one of them. Whoever has that
	// many loses the one that was silent longest.
	maxSessions    = 8192
	clientSessions = 1024
	maxDatagram    = 64 << 10
)

// session is one client's port and the pod that it speaks with.
type session struct {
	d       *datagrams
	client  netip.AddrPort
	server  *net.UDPConn
	backend *backend
	last    atomic.Int64 // when something was said, in Unix nanoseconds
	asked   atomic.Int64
	told    atomic.Int64
}

// setFlows makes the UDP ports those of the table; f.mu is held.
func (f *Front) setFlows(wanted []Port, resolve func([]Endpoint) []endpoint) {
	keep := map[string]bool{}
	for _, w := range wanted {
		if w.Protocol != UDP {
			continue
		}
		keep[w.Address] = true
		d := f.flows[w.Address]
		if d == nil {
			if f.released {
				continue // another front has them now
			}
			d = &datagrams{f: f, address: w.Address, sessions: map[netip.AddrPort]*session{}, clients: map[netip.Addr]int{}}
			d.to.Store(&destination{})
			d.listen()
			f.flows[w.Address] = d
			f.work.Go(d.run)
		}
		d.to.Store(&destination{resolve(w.Endpoints), w.Sticky})
		d.leaveGone()
	}
	for address, d := range f.flows {
		if !keep[address] {
			d.close()
			delete(f.flows, address)
		}
	}
}

// listen tries to have the address, and reports whether that is over: it listens, or is not to any more.
func (d *datagrams) listen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || d.conn != nil {
		return true
	}
	var config net.ListenConfig
	made, err := config.ListenPacket(d.f.ctx, "udp", d.address)
	if err != nil {
		d.f.log.Warn("UDP port of a Service could not be opened; trying again", "address", d.address, "error", err)
		return false
	}
	d.conn, _ = made.(*net.UDPConn)
	return true
}

func (d *datagrams) run() {
	for !d.listen() {
		select {
		case <-d.f.ctx.Done():
			return
		case <-time.After(listenAgain):
		}
	}
	d.mu.Lock()
	conn := d.conn
	d.mu.Unlock()
	if conn == nil {
		return
	}
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			select {
			case <-d.f.ctx.Done():
				return
			case <-time.After(tryAgain):
			}
		default:
			d.carry(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buffer[:n])
		}
	}
}

// carry sends a datagram to the pod of its session. As on any network it is lost if there is none.
func (d *datagrams) carry(from netip.AddrPort, data []byte) {
	d.mu.Lock()
	s := d.sessions[from]
	d.mu.Unlock()
	if s != nil && s.backend.leaves.Load() && s.betweenRequests() {
		s.close()
		s = nil
	}
	if s == nil {
		if s = d.begin(from); s == nil {
			return
		}
	}
	s.asked.Add(1)
	s.last.Store(time.Now().UnixNano())
	if _, err := s.server.Write(data); errors.Is(err, syscall.ECONNREFUSED) {
		s.close()
	}
}

// begin makes a session with a ready pod; nil if there is none, or there are too many sessions.
func (d *datagrams) begin(from netip.AddrPort) *session {
	if !d.room(from.Addr()) {
		return nil
	}
	to := d.to.Load()
	for e := range d.f.turns(to.endpoints, to.sticky, from.Addr()) {
		if !e.backend.take() {
			continue
		}
		conn, err := d.f.call(d.f.ctx, "udp", from.Addr(), e)
		server, _ := conn.(*net.UDPConn)
		if err != nil {
			e.backend.give()
			d.f.log.Debug("a datagram could not be sent to a pod", "address", e.address, "error", err)
			continue
		}
		s := &session{d: d, client: from, server: server, backend: e.backend}
		s.last.Store(time.Now().UnixNano())
		d.mu.Lock()
		ended := d.ended
		if !ended {
			d.sessions[from] = s
			d.clients[from.Addr()]++
		}
		d.mu.Unlock()
		if ended {
			_ = server.Close()
			e.backend.give()
			return nil
		}
		d.f.sessions.Add(1)
		e.backend.mu.Lock()
		e.backend.conns[s] = true
		e.backend.mu.Unlock()
		d.f.work.Go(s.run)
		return s
	}
	return nil
}

// room makes room for another session of a client; false if there is none.
func (d *datagrams) room(client netip.Addr) bool {
	d.mu.Lock()
	full := d.f.sessions.Load() >= maxSessions
	var oldest *session
	if full || d.clients[client] >= clientSessions {
		for _, s := range d.sessions {
			if s.client.Addr() == client && (oldest == nil || s.last.Load() < oldest.last.Load()) {
				oldest = s
			}
		}
	}
	d.mu.Unlock()
	if oldest == nil {
		return !full
	}
	oldest.close()
	oldest.forget()
	return true
}

// run brings back what the pod says until the session has ended.
func (s *session) run() {
	defer func() {
		s.close()
		s.forget()
		s.backend.mu.Lock()
		delete(s.backend.conns, s)
		s.backend.mu.Unlock()
		s.backend.give()
		s.d.f.sessions.Add(-1)
	}()
	raw, err := s.server.SyscallConn()
	if err != nil {
		return
	}
	for {
		_ = s.server.SetReadDeadline(s.until())
		err := s.back(raw)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(s.until()): // the client spoke meanwhile
		default:
			return // silent for too long, closed, or nobody is at the pod's port
		}
	}
}

// back brings one datagram back. A buffer is taken only when there is something to read: most sessions are silent most of the time.
func (s *session) back(raw syscall.RawConn) error {
	var failed error
	err := raw.Read(func(fd uintptr) bool {
		buffer := s.d.f.large.Get()
		defer s.d.f.large.Put(buffer)
		n, err := unix.Read(int(fd), buffer)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return false
		}
		if failed = err; err != nil {
			return true
		}
		s.told.Add(1)
		s.last.Store(time.Now().UnixNano())
		s.d.mu.Lock()
		conn := s.d.conn
		s.d.mu.Unlock()
		if conn != nil {
			_, failed = conn.WriteToUDPAddrPort(buffer[:n], s.client)
		}
		return true
	})
	return errors.Join(err, failed)
}

// until is when the session ends if nothing is said.
func (s *session) until() time.Time {
	idle := longIdle
	if s.asked.Load() <= 1 && s.told.Load() <= 1 {
		idle = quickIdle
	}
	return time.Unix(0, s.last.Load()).Add(idle)
}

// betweenRequests implements carried: nobody said anything for a while.
func (s *session) betweenRequests() bool {
	return time.Since(time.Unix(0, s.last.Load())) > 3*drainLook
}

// close implements carried.
func (s *session) close() { _ = s.server.Close() }

// forget has the client's next datagram begin another session.
func (s *session) forget() {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.d.sessions[s.client] != s {
		return
	}
	delete(s.d.sessions, s.client)
	if s.d.clients[s.client.Addr()]--; s.d.clients[s.client.Addr()] == 0 {
		delete(s.d.clients, s.client.Addr())
	}
}

// leaveGone ends sessions with pods that are not among the endpoints any more: nothing says when such a conversation is over.
func (d *datagrams) leaveGone() {
	there := map[*backend]bool{}
	for _, e := range d.to.Load().endpoints {
		there[e.backend] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.sessions {
		if !there[s.backend] && s.betweenRequests() {
			s.close()
		}
	}
}

func (d *datagrams) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if d.conn != nil {
		_ = d.conn.Close()
	}
	for _, s := range d.sessions {
		s.close()
	}
}
