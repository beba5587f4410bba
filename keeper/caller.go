package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// caller is whoever is connected to the control socket: the server, or the keeper that takes over.
type caller struct {
	*link
	version string
	drains  sync.WaitGroup

	mu     sync.Mutex
	takes  bool // connections
	number uint64
	given  map[uint64]*held // sent, and not known to have arrived
}

var errAway = errors.New("no server takes connections")

// give sends a connection. Until it is known to have arrived it is kept.
func (c *caller) give(h *held) error {
	c.mu.Lock()
	if !c.takes {
		c.mu.Unlock()
		return errAway
	}
	c.number++
	n := c.number
	c.given[n] = h
	c.mu.Unlock()
	if err := c.send(message{Op: opConn, Number: n, Read: h.read, Remote: h.remote, Secure: h.secure}, h.file); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.given[n] == nil {
			return nil // somebody else has taken it out
		}
		delete(c.given, n)
		return err
	}
	return nil
}

// took says that a connection has arrived, and forgets it.
func (c *caller) took(n uint64) {
	c.mu.Lock()
	h := c.given[n]
	delete(c.given, n)
	c.mu.Unlock()
	if h != nil {
		_ = h.file.Close()
	}
}

// end gives back what has not arrived: the other side has not read a byte of it.
func (c *caller) end() (back []*held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takes = false
	for n, h := range c.given {
		back = append(back, h)
		delete(c.given, n)
	}
	return back
}

// deliver gives a connection to the server, and waits for one while there is none.
func (k *keeper) deliver(ctx context.Context, h *held) error {
	deadline := time.NewTimer(time.Until(h.until))
	defer deadline.Stop()
	for waits := false; ; {
		k.mu.Lock()
		server, changed := k.server, k.changed
		k.mu.Unlock()
		if server != nil && server.give(h) == nil {
			return nil
		}
		if !waits {
			waits = true
			defer k.waiting.Add(-1)
			if k.waiting.Add(1) > maxWaiting {
				return errAway
			}
		}
		select {
		case <-changed:
		case <-deadline.C:
			return errAway
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// again delivers what a server that went away had not got.
func (k *keeper) again(ctx context.Context, back []*held) {
	for _, h := range back {
		k.conns.Go(func() {
			if err := k.deliver(ctx, h); err != nil {
				h.sorry()
			}
		})
	}
}

// tell has everybody who waits look again; k.mu is held.
func (k *keeper) tell() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// acceptCallers takes callers until the socket is closed.
func (k *keeper) acceptCallers(ctx context.Context, l *net.UnixListener) {
	var callers sync.WaitGroup
	defer callers.Wait()
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			k.log.Warn("a caller could not be accepted", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		callers.Go(func() {
			c := &caller{link: &link{conn: conn}, given: map[uint64]*held{}}
			defer context.AfterFunc(ctx, c.close)()
			err := k.hear(ctx, c)
			c.close()
			c.forget()
			k.leave(ctx, c)
			if !errors.Is(err, net.ErrClosed) {
				k.log.Info("a caller has gone", "version", c.version, "error", err)
			}
		})
	}
}

// hear does what a caller asks for until it hangs up, and returns why it ended.
func (k *keeper) hear(ctx context.Context, c *caller) error {
	if err := sameUser(c.conn); err != nil {
		return fmt.Errorf("refuse caller: %w", err)
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(saying))
	if err := k.welcome(c); err != nil {
		return err
	}
	_ = c.conn.SetReadDeadline(time.Time{})
	for {
		m, files, err := c.receive()
		if err != nil {
			return err
		}
		err = k.do(ctx, c, m, files)
		for _, f := range files {
			_ = f.Close()
		}
		if err != nil {
			return err
		}
	}
}

// welcome answers a caller's hello.
func (k *keeper) welcome(c *caller) error {
	m, files, err := c.receive()
	for _, f := range files {
		_ = f.Close()
	}
	if err != nil {
		return err
	}
	if m.Op != opHello {
		return fmt.Errorf("a caller began with %q", m.Op)
	}
	c.version = m.Version
	answer := message{Op: opWelcome, Protocol: protocol, Version: k.o.Version, PID: os.Getpid(), Listen: k.o.Listen}
	k.mu.Lock()
	listener, retired := k.listener, k.retired || k.ending
	answer.Epoch = k.epoch
	k.mu.Unlock()
	if m.Protocol != protocol || retired {
		answer.Op, answer.Reason = opRefused, fmt.Sprintf("this keeper speaks protocol %d", protocol)
		return c.send(answer)
	}
	port, err := listener.File()
	if err != nil {
		return fmt.Errorf("copy the port: %w", err)
	}
	defer func() { _ = port.Close() }()
	return c.send(answer, port)
}
