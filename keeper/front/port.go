package front

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// port listens on one address of a Service and carries each connection to one of its endpoints.
type port struct {
	f       *Front
	address string
	to      atomic.Pointer[destination]

	mu       sync.Mutex
	listener net.Listener // nil while it cannot be had
	ended    bool
}

const (
	// callsPerClient bounds the connections that one address has with all Services: whoever has more would take descriptors from everybody.
	callsPerClient = 4096
	// listenAgain is the time between two tries to listen on an address that is not to be had.
	listenAgain = 2 * time.Second
	dialTimeout = 2 * time.Second
	// tryAgain is the time between two looks for an endpoint that answers.
	tryAgain = 50 * time.Millisecond
)

// setPorts makes the ports those of the table; f.mu is held.
func (f *Front) setPorts(wanted []Port, resolve func([]Endpoint) []endpoint) {
	keep := map[string]bool{}
	for _, w := range wanted {
		if w.Protocol != "" {
			continue
		}
		keep[w.Address] = true
		p := f.ports[w.Address]
		if p == nil {
			if f.released {
				continue // another front has them now
			}
			p = f.newPort(w.Address, nil)
			f.ports[w.Address] = p
		}
		p.to.Store(&destination{resolve(w.Endpoints), w.Sticky})
	}
	for address, p := range f.ports {
		if !keep[address] {
			if err := p.close(); err != nil {
				f.log.Warn("port of a Service could not be closed", "address", address, "error", err)
			}
			delete(f.ports, address)
		}
	}
}

// newPort begins to accept connections; f.mu is held.
func (f *Front) newPort(address string, l net.Listener) *port {
	p := &port{f: f, address: address, listener: l}
	p.to.Store(&destination{})
	if l == nil {
		p.listen()
	}
	f.work.Go(p.run)
	return p
}

// listen tries to have the address, and reports whether that is over: it listens, or is not to any more.
func (p *port) listen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.listener != nil {
		return true
	}
	var config net.ListenConfig
	l, err := config.Listen(p.f.ctx, "tcp", p.address)
	if err != nil {
		p.f.log.Warn("port of a Service could not be opened; trying again", "address", p.address, "error", err)
		return false
	}
	p.listener = l
	return true
}

func (p *port) run() {
	for !p.listen() {
		select {
		case <-p.f.ctx.Done():
			return
		case <-time.After(listenAgain):
		}
	}
	p.mu.Lock()
	l := p.listener
	p.mu.Unlock()
	if l == nil {
		return
	}
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// No descriptors, most likely: connections wait.
			p.f.log.Warn("a connection could not be accepted", "address", p.address, "error", err)
			select {
			case <-p.f.ctx.Done():
				return
			case <-time.After(tryAgain):
			}
		default:
			leave, ok := p.f.crowd.Enter(conn.RemoteAddr())
			if !ok {
				reset(conn)
				continue
			}
			p.f.work.Go(func() {
				defer leave()
				p.forward(p.f.ctx, conn)
			})
		}
	}
}

func (p *port) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.listener == nil {
		return nil
	}
	if err := p.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// release gives a copy of the listener away and stops listening; nil if it does not listen.
func (p *port) release() net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	tcp, ok := p.listener.(*net.TCPListener)
	if !ok {
		return nil
	}
	file, err := tcp.File()
	if err != nil {
		p.f.log.Warn("port of a Service could not be handed over", "address", p.address, "error", err)
		return nil
	}
	copied, err := net.FileListener(file)
	_ = file.Close()
	_ = tcp.Close()
	if err != nil {
		p.f.log.Warn("port of a Service could not be handed over", "address", p.address, "error", err)
		return nil
	}
	return copied
}

// refusedFor is how long a connection waits for a pod while all that are said to be ready refuse it: they do not listen, or nobody lets the caller.
const refusedFor = time.Second

// forward carries one connection to a ready pod. A pod that cannot be reached is passed over: nothing was sent yet.
func (p *port) forward(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	for wait := p.f.wait; time.Since(began) < wait && ctx.Err() == nil; {
		to := p.to.Load()
		refused := len(to.endpoints) > 0
		for e := range p.f.turns(to.endpoints, to.sticky, addressOf(client)) {
			err := p.through(ctx, client, e)
			if err == nil {
				return
			}
			refused = refused && errors.Is(err, syscall.ECONNREFUSED)
		}
		if wait = p.f.wait; refused {
			wait = min(wait, refusedFor)
		}
		select {
		case <-ctx.Done():
		case <-time.After(tryAgain):
		}
	}
	reset(client)
	p.f.log.Debug("a connection found no ready pod that takes it", "address", client.LocalAddr().String(), "from", client.RemoteAddr().String())
}

// reset closes a connection so that the client sees that its call failed, and no empty answer.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// through carries the connection to one pod. An error says that it could not be reached.
func (p *port) through(ctx context.Context, client net.Conn, e endpoint) error {
	if !e.backend.take() {
		return errNotReady
	}
	defer e.backend.give()
	server, err := p.f.call(ctx, "tcp", addressOf(client), e)
	if err != nil {
		return err
	}
	p.carry(ctx, client, server, e.backend)
	return nil
}

func (p *port) carry(ctx context.Context, client, server net.Conn, b *backend) {
	c := &forwarded{client: client, server: server, pool: &p.f.pool}
	c.last.Store(time.Now().UnixNano())
	c.answering.Store(true)
	b.mu.Lock()
	b.conns[c] = true
	b.mu.Unlock()
	stop := context.AfterFunc(ctx, c.close)
	defer func() {
		stop()
		c.close()
		b.mu.Lock()
		delete(b.conns, c)
		b.mu.Unlock()
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.copy(server, client, false)
	}()
	c.copy(client, server, true)
	<-done
}

// forwarded is one connection through a Service.
type forwarded struct {
	client, server net.Conn
	// last is when bytes last went by, in Unix nanoseconds; answering says that they came from the server.
	last      atomic.Int64
	answering atomic.Bool
	pool      *pool
}

func (c *forwarded) close() {
	_ = c.client.Close()
	_ = c.server.Close()
}

// betweenRequests guesses: nothing is sent yet, or the server spoke last and then nobody for a while.
func (c *forwarded) betweenRequests() bool {
	return c.answering.Load() && time.Since(time.Unix(0, c.last.Load())) > 3*drainLook
}

// copy moves bytes one way and then says that no more come.
func (c *forwarded) copy(to, from net.Conn, answer bool) {
	buffer := c.pool.Get()
	defer c.pool.Put(buffer)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			c.answering.Store(answer)
			c.last.Store(time.Now().UnixNano())
			if _, err := to.Write(buffer[:n]); err != nil {
				c.close()
				return
			}
		}
		if err != nil {
			if half, ok := to.(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
			return
		}
	}
}
