package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"
)

// takeOver gets everything from the keeper that runs: the port, if it is to be the same, the ports of Services and the table.
// That one finishes what it has begun.
func (k *keeper) takeOver(ctx context.Context) error {
	link, m, port, err := dial(ctx, k.dir, k.o.Version)
	if errors.Is(err, errNone) {
		k.load()
		k.listener, err = listenPort(ctx, k.o.Listen) // it went at this moment
		return err
	}
	if err != nil {
		return err
	}
	if m.Op == opRefused {
		return k.replace(ctx, link)
	}
	defer func() { _ = port.Close() }()
	if m.Listen == k.o.Listen {
		k.listener, err = listenerOf(port)
	} else {
		k.listener, err = listenPort(ctx, k.o.Listen)
	}
	if err != nil {
		link.close()
		return err
	}
	return k.inherit(ctx, link)
}

// replace ends a keeper of another language and does without what it had.
func (k *keeper) replace(ctx context.Context, l *link) error {
	defer l.close()
	if err := l.send(message{Op: opEnd}); err != nil {
		return err
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(endDrain + saying))
	for {
		if _, _, err := l.receive(); err != nil {
			break // it has hung up
		}
	}
	var err error
	k.listener, err = listenPort(ctx, k.o.Listen)
	return err
}

// inherit takes what the keeper before hands over, and is its server from now on.
func (k *keeper) inherit(ctx context.Context, l *link) error {
	err := l.send(message{Op: opAttach, Own: &k.own, PerClient: k.o.PerClient, TLS: named(k.o.TLS)})
	if err == nil {
		err = l.send(message{Op: opTakeOver})
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(saying))
	for more := true; err == nil && more; {
		var m message
		var files []*os.File
		if m, files, err = l.receive(); err != nil {
			break
		}
		if m.Op == opListeners {
			more, err = m.Number > 0, k.adopt(m, files)
		}
		for _, f := range files {
			_ = f.Close()
		}
	}
	_ = l.conn.SetReadDeadline(time.Time{})
	if err == nil {
		err = l.send(message{Op: opServe})
	}
	if err != nil {
		l.close()
		return fmt.Errorf("take over from the keeper before: %w", err)
	}
	e := newAsker(l)
	k.mu.Lock()
	k.elders = append(slices.Clone(k.elders), e) // it is read without the lock
	k.mu.Unlock()
	k.conns.Go(func() {
		stop := context.AfterFunc(ctx, l.close)
		defer stop()
		e.hear(func(m message, files []*os.File) { k.passOn(ctx, l, m, files) })
		k.mu.Lock()
		defer k.mu.Unlock()
		k.elders = slices.DeleteFunc(slices.Clone(k.elders), func(other *asker) bool { return other == e })
	})
	return nil
}

// adopt uses listeners, and the table that comes with the last of them if the keeper before had one.
func (k *keeper) adopt(m message, files []*os.File) error {
	if len(m.Names) != len(files) {
		return fmt.Errorf("%d ports came for %d names", len(files), len(m.Names))
	}
	given := map[string]net.Listener{}
	for i, f := range files {
		l, err := listenerOf(f)
		if err != nil {
			return err
		}
		given[m.Names[i]] = l
	}
	k.front.Adopt(given)
	k.epoch = max(k.epoch, m.Epoch)
	if m.Table == nil {
		return nil
	}
	return k.route(*m.Table)
}

// passOn gives a connection of the keeper before to the server.
func (k *keeper) passOn(ctx context.Context, l *link, m message, files []*os.File) {
	if m.Op != opConn || len(files) != 1 {
		for _, f := range files {
			_ = f.Close()
		}
		return
	}
	if err := l.send(message{Op: opTook, Number: m.Number}); err != nil {
		k.log.Debug("the keeper before is gone", "error", err)
	}
	k.again(ctx, []*held{{file: files[0], read: m.Read, remote: m.Remote, secure: m.Secure, until: time.Now().Add(k.o.Wait)}})
}

// giveOver hands everything to the keeper that takes over. What is under way goes on here.
func (k *keeper) giveOver(c *caller) error {
	k.mu.Lock()
	if k.retired || k.server != c {
		k.mu.Unlock()
		return errors.New("a caller may not take over")
	}
	k.retired, k.lonely = true, time.Now()
	epoch := k.epoch
	k.mu.Unlock()
	table := k.front.Table()
	m := message{Op: opListeners, Epoch: epoch}
	var files []*os.File
	rest := k.front.Release()
	for name, l := range rest {
		if len(files) == maxFiles {
			m.Number = 1 // more follow
			if err := c.send(m, files...); err != nil {
				return err
			}
			closeAll(files)
			m, files = message{Op: opListeners, Epoch: epoch}, nil
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			continue
		}
		f, err := tcp.File()
		_ = l.Close()
		if err != nil {
			k.log.Warn("port of a Service could not be handed over", "address", name, "error", err)
			continue
		}
		m.Names, files = append(m.Names, name), append(files, f)
	}
	select {
	case <-k.routed:
		m.Table = &table
	default: // nobody has said yet what goes where
	}
	err := c.send(m, files...)
	closeAll(files)
	if err != nil {
		return err
	}
	return k.port().Close()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
