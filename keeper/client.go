package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/tiphys/tiphys/access/certificate"
	"github.com/tiphys/tiphys/keeper/clients"
	"github.com/tiphys/tiphys/keeper/front"
)

// Options of a Client.
type Options struct {
	// Data is the data folder, whose lock the caller has.
	Data string
	// Listen is the address of the port: "127.0.0.1:2746".
	Listen string
	// Own are the names of the server's own pages.
	Own Own
	// PerClient is how many connections one client may have at the same time, of applications and, apart from them, of our own pages; 0 is no bound.
	PerClient int
	// TLS is the certificate that proves the port to those who speak TLS, by absolute paths; others are taken over loopback only then. Its zero value
	// is none.
	TLS certificate.Files
	// Version is the program's. A keeper of another version is replaced.
	Version string
	// Wait is how long requests for our own pages wait for a server; 15 s if 0.
	Wait time.Duration
	// Command starts a keeper: a program and its arguments. Empty means this program and "__keeper".
	Command []string
	Log     *slog.Logger
}

// Client is the server's end of a keeper.
type Client struct {
	o    Options
	dir  string
	port *os.File // the listener: it outlives the keeper
	addr net.Addr

	conns  *inside
	crowd  *clients.Crowd
	open   sync.WaitGroup // connections that the server has
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	asker  *asker // nil while there is no keeper
	table  front.Table
	told   bool // the table is set
	takes  bool
	paused chan struct{} // closed when the keeper has heard that nothing is to come any more
	failed error         // why it is over
}

// Attach connects to the keeper of a data folder; it starts one if there is none, and replaces one of another version or with
// another port. Routes and connections follow: see Set and Serve. End with Close.
func Attach(ctx context.Context, o Options) (*Client, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.Command) == 0 {
		o.Command = []string{"/proc/self/exe", "__keeper"}
	}
	c := &Client{o: o, dir: folder(o.Data), conns: newInside(), crowd: clients.NewCrowd(o.PerClient), done: make(chan struct{})}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the keeper's folder: %w", err)
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	a, err := c.connect(ctx)
	if err != nil {
		c.cancel()
		return nil, err
	}
	l, err := net.FileListener(c.port)
	if err != nil {
		c.cancel()
		a.link.close()
		return nil, errors.Join(fmt.Errorf("look at the port: %w", err), c.port.Close())
	}
	c.addr = l.Addr()
	_ = l.Close()
	c.asker = a
	go c.run(a)
	return c, nil
}

// connect attaches to the keeper that runs, or to a new one.
func (c *Client) connect(ctx context.Context) (*asker, error) {
	l, m, port, err := dial(ctx, c.dir, c.o.Version)
	fits := err == nil && m.Op == opWelcome && m.Version == c.o.Version && m.Listen == c.o.Listen
	if !fits {
		if err != nil && !errors.Is(err, errNone) {
			c.o.Log.Warn("the keeper that runs does not answer; starting another", "error", err)
		}
		there := err == nil
		if there {
			c.o.Log.Info("replacing the keeper", "version", m.Version, "process", m.PID)
			l.close()
			_ = port.Close() // nil of one that speaks otherwise
		}
		if err := c.start(ctx, there); err != nil {
			return nil, err
		}
		if l, m, port, err = dial(ctx, c.dir, c.o.Version); err != nil {
			return nil, err
		}
		if m.Op != opWelcome {
			l.close()
			return nil, fmt.Errorf("attach to the keeper: %s", m.Reason)
		}
	}
	if c.port != nil {
		_ = c.port.Close()
	}
	c.port = port
	if err := c.attach(l); err != nil {
		l.close()
		return nil, fmt.Errorf("attach to the keeper: %w", err)
	}
	return newAsker(l), nil
}

func (c *Client) attach(l *link) error {
	if err := l.send(message{Op: opAttach, Own: &c.o.Own, PerClient: c.o.PerClient, TLS: named(c.o.TLS)}); err != nil {
		return err
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(saying))
	m, _, err := l.receive()
	if err == nil && m.Op != opAttached {
		err = fmt.Errorf("it answered %q", m.Op)
	}
	_ = l.conn.SetReadDeadline(time.Time{})
	return err
}

// Times between two tries to have a keeper again.
const (
	againFirst = 50 * time.Millisecond
	againMost  = 5 * time.Second
)

// run hears the keeper, and starts another when it has died.
func (c *Client) run(a *asker) {
	defer close(c.done)
	for {
		began := time.Now()
		a.hear(c.heard)
		c.mu.Lock()
		c.asker = nil
		over := c.failed != nil || c.ctx.Err() != nil
		c.mu.Unlock()
		if over {
			return
		}
		c.o.Log.Warn("the keeper has died; starting another", "lived", time.Since(began).Round(time.Millisecond))
		if a = c.revive(); a == nil {
			return
		}
	}
}

// revive starts a keeper and tells it everything; nil if the client is closed meanwhile. Connections wait at the port.
func (c *Client) revive() *asker {
	for wait := againFirst; ; wait = min(2*wait, againMost) {
		timer := time.NewTimer(wait)
		select {
		case <-c.ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		a, err := c.connect(c.ctx)
		if err == nil {
			if err = c.retell(a); err == nil {
				return a
			}
			a.link.close()
		}
		c.o.Log.Error("there is no keeper; trying again", "error", err)
	}
}

// retell tells a new keeper what the one before knew.
func (c *Client) retell(a *asker) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told {
		if err := a.link.send(message{Op: opTable, Table: &c.table}); err != nil {
			return err
		}
	}
	if c.takes {
		if err := a.link.send(message{Op: opServe}); err != nil {
			return err
		}
	}
	c.asker = a
	return nil
}

// heard takes in what the keeper says.
func (c *Client) heard(m message, files []*os.File) {
	switch m.Op {
	case opConn:
		if len(files) == 1 {
			c.take(m, files[0])
			return
		}
	case opPaused:
		c.mu.Lock()
		if c.paused != nil {
			close(c.paused)
			c.paused = nil
		}
		c.mu.Unlock()
	case opSuperseded:
		c.mu.Lock()
		c.failed = errSuperseded
		c.mu.Unlock()
		c.o.Log.Error("another server has attached to the keeper of this data folder")
		_ = c.conns.Close()
	}
	closeAll(files)
}

// take gives a connection to the server. The keeper is told before anything is read of it.
func (c *Client) take(m message, file *os.File) {
	defer func() { _ = file.Close() }()
	c.mu.Lock()
	a := c.asker
	c.mu.Unlock()
	if a == nil || a.link.send(message{Op: opTook, Number: m.Number}) != nil {
		return // it gives it to another server
	}
	conn, err := net.FileConn(file)
	if err != nil {
		c.o.Log.Warn("a connection could not be taken", "error", err)
		return
	}
	c.open.Add(1)
	b := &begun{Conn: conn, read: m.Read, secure: m.Secure, closed: c.open.Done}
	if m.Remote != "" {
		if b.remote, err = net.ResolveTCPAddr("tcp", m.Remote); err != nil {
			c.o.Log.Warn("a connection of nobody", "error", err)
			_ = b.Close()
			return
		}
	}
	leave, ok := c.crowd.Enter(b.RemoteAddr())
	if !ok {
		_ = b.Close()
		return
	}
	b.closed = func() { leave(); c.open.Done() }
	c.conns.put(b)
}

// Listener has the connections of our own pages. Its address is the port's.
func (c *Client) Listener() net.Listener { return listener{c} }

type listener struct{ c *Client }

func (l listener) Accept() (net.Conn, error) { return l.c.conns.Accept() }
func (l listener) Close() error              { return l.c.conns.Close() }
func (l listener) Addr() net.Addr            { return l.c.addr }

// Set tells the keeper what goes where; it implements the target's Front.
func (c *Client) Set(t front.Table) error {
	if err := t.Check(); err != nil {
		return fmt.Errorf("take routes: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told && reflect.DeepEqual(t, c.table) {
		return nil
	}
	if c.asker != nil {
		err := c.asker.link.send(message{Op: opTable, Table: &t})
		if errors.Is(err, errTooLong) {
			return fmt.Errorf("take routes: %w", err)
		}
		if err != nil {
			c.o.Log.Debug("the keeper does not listen; the next one is told", "error", err)
		}
	}
	c.table, c.told = t, true
	return nil
}

// Drained implements the target's Front. What went with a keeper that died is not under way.
func (c *Client) Drained(ctx context.Context, backend string) {
	c.mu.Lock()
	a := c.asker
	c.mu.Unlock()
	if a != nil {
		a.drained(ctx, backend)
	}
}

// Serve has the keeper pass connections on from now on.
func (c *Client) Serve() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takes = true
	if c.asker == nil {
		return
	}
	if err := c.asker.link.send(message{Op: opServe}); err != nil {
		c.o.Log.Debug("the keeper does not listen; the next one is told", "error", err)
	}
}

// Pause has the keeper keep connections for the next server. When it returns, every connection that was passed on before was
// given out by Listener's Accept.
func (c *Client) Pause(ctx context.Context) {
	c.mu.Lock()
	c.takes = false
	a := c.asker
	if a == nil {
		c.mu.Unlock()
		return
	}
	if c.paused == nil {
		c.paused = make(chan struct{})
	}
	paused := c.paused
	err := a.link.send(message{Op: opPause})
	c.mu.Unlock()
	if err != nil {
		return
	}
	select {
	case <-paused:
	case <-a.gone:
	case <-ctx.Done():
	}
}

// Wait waits until the server has closed every connection that it was given, or ctx ends.
func (c *Client) Wait(ctx context.Context) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		c.open.Wait()
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
}

// Carries reports whether there is anything that goes on without a server: a host or a Service.
func (c *Client) Carries() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.table.Empty()
}

// Trouble says for people why requests do not reach this server; empty if they do.
func (c *Client) Trouble() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.failed != nil:
		return c.failed.Error()
	case c.asker == nil:
		return "the keeper of the port has died and another is being started"
	}
	return ""
}

// Close leaves the keeper as it is, for the next server.
func (c *Client) Close() error {
	c.cancel()
	_ = c.conns.Close()
	c.mu.Lock()
	if c.asker != nil {
		c.asker.link.close()
	}
	c.mu.Unlock()
	<-c.done
	return c.port.Close()
}

// End ends the keeper of a data folder, and waits until it has. It reports whether there was one.
func End(ctx context.Context, data string) (bool, error) {
	l, _, port, err := dial(ctx, folder(data), "")
	if errors.Is(err, errNone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer l.close()
	defer l.forget()
	_ = port.Close() // nil of one that speaks otherwise
	if err := l.send(message{Op: opEnd}); err != nil {
		return true, err
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(endDrain + saying))
	for {
		_, files, err := l.receive()
		closeAll(files)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return true, fmt.Errorf("end the keeper: %w", err)
		}
		if err != nil {
			return true, nil // it has hung up: it has ended
		}
	}
}
