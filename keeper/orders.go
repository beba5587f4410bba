package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

var errSuperseded = errors.New("another server has attached")

// do carries out what a caller says. Only the server that attached last may change or be given anything.
func (k *keeper) do(ctx context.Context, c *caller, m message, files []*os.File) error {
	switch m.Op {
	case opAttach:
		return k.attach(ctx, c, m)
	case opTakeOver:
		return k.giveOver(c)
	case opTook:
		c.took(m.Number)
		return nil
	case opEnd:
		k.stop()
		return nil
	}
	k.mu.Lock()
	is := k.server == c
	k.mu.Unlock()
	if !is {
		return errors.Join(errSuperseded, c.send(message{Op: opSuperseded}))
	}
	switch m.Op {
	case opTable:
		return k.setTable(m)
	case opServe, opPause:
		return k.setTakes(c, m)
	case opDrain:
		c.drains.Go(func() { k.drainBackend(ctx, c, m) })
		return nil
	case opConn:
		return k.takeBack(m, files)
	}
	return fmt.Errorf("a caller said %q", m.Op)
}

// attach makes a caller the server.
func (k *keeper) attach(ctx context.Context, c *caller, m message) error {
	k.mu.Lock()
	before := k.server
	k.server = c
	k.epoch++
	if m.Own != nil {
		k.own = *m.Own
	}
	k.crowd.Bound(m.PerClient)
	k.certify(m.TLS)
	epoch := k.epoch
	k.tell()
	k.mu.Unlock()
	if before != nil && before != c {
		k.again(ctx, before.end())
		if err := before.send(message{Op: opSuperseded}); err != nil {
			k.log.Debug("the server before is gone", "error", err)
		}
		before.close()
	}
	k.save()
	return c.send(message{Op: opAttached, Epoch: epoch})
}

// leave takes note that a caller has gone.
func (k *keeper) leave(ctx context.Context, c *caller) {
	back := c.end()
	k.mu.Lock()
	if k.server == c {
		k.server = nil
		k.lonely = time.Now()
		k.tell()
	}
	k.mu.Unlock()
	k.again(ctx, back)
	c.drains.Wait()
}

func (k *keeper) setTable(m message) error {
	if m.Table == nil {
		return errors.New("a caller sent no table")
	}
	if err := k.route(*m.Table); err != nil {
		return err
	}
	k.mu.Lock()
	elders := k.elders
	k.mu.Unlock()
	for _, e := range elders {
		if err := e.link.send(message{Op: opTable, Table: m.Table}); err != nil {
			k.log.Debug("the keeper before is gone", "error", err)
		}
	}
	k.save()
	return nil
}

// setTakes has connections given to the server, or none any more. What was given before it was told so arrives before.
func (k *keeper) setTakes(c *caller, m message) error {
	c.mu.Lock()
	c.takes = m.Op == opServe
	c.mu.Unlock()
	k.mu.Lock()
	k.tell()
	k.mu.Unlock()
	if m.Op == opServe {
		return nil
	}
	return c.send(message{Op: opPaused})
}

// drainBackend answers when nothing is under way to a backend, neither here nor at the keepers before.
func (k *keeper) drainBackend(ctx context.Context, c *caller, m message) {
	ctx, cancel := context.WithTimeout(ctx, elderLife)
	defer cancel()
	k.mu.Lock()
	elders := k.elders
	k.mu.Unlock()
	for _, e := range elders {
		e.drained(ctx, m.Backend)
	}
	k.front.Drained(ctx, m.Backend)
	if err := c.send(message{Op: opDrained, Number: m.Number}); err != nil {
		k.log.Debug("the server is gone", "error", err)
	}
}

// takeBack serves a connection that the server was given and on which an application was asked.
func (k *keeper) takeBack(m message, files []*os.File) error {
	if len(files) != 1 {
		return errors.New("a caller gave no connection back")
	}
	conn, err := net.FileConn(files[0])
	if err != nil {
		k.log.Warn("a connection could not be taken back", "error", err)
		return nil
	}
	leave, ok := k.crowd.Enter(conn.RemoteAddr())
	if !ok {
		return conn.Close()
	}
	k.conns.Go(func() { k.serve(conn, m.Read, leave) })
	return nil
}

// dismiss ends the connection to the server.
func (k *keeper) dismiss() {
	k.mu.Lock()
	server, elders := k.server, k.elders
	k.mu.Unlock()
	if server != nil {
		server.close()
	}
	for _, e := range elders {
		e.link.close()
	}
}
