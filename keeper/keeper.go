// Package keeper is a small process that owns the port and carries requests to applications, so that neither depends on the
// life of the server. The server tells it what goes where, and is given the connections of its own pages. A server that is
// stopped, killed or replaced by another version leaves the keeper as it is; the next one of the same data folder attaches to it.
//
// [Attach] is the server's side, [Main] the process.
package keeper

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/access/certificate"
	"github.com/tiphys/tiphys/keeper/clients"
	"github.com/tiphys/tiphys/keeper/front"
)

// Times of the keeper.
const (
	headerTimeout = 10 * time.Second // for the first bytes and the headers of a request
	idleTimeout   = 2 * time.Minute  // of a connection between two requests
	ownWait       = 15 * time.Second // how long our own pages wait for a server, unless the server says
	endDrain      = 10 * time.Second // for what is under way when the keeper is told to end
	elderLife     = 10 * time.Minute // for what is under way when another keeper has taken over
	aloneTime     = time.Minute      // without a server and without anything to carry
	folderLook    = 2 * time.Second  // between two looks whether the data folder is still there
)

// maxHeader bounds the first line and the headers of a request, in bytes, as on the server's own routes.
const maxHeader = 64 << 10

// Bounds of the connections that are being sorted, and of those that wait for a server: those for applications are not kept out by
// those that wait.
const (
	maxSorting = 4096
	maxWaiting = 1024
)

// config is what a keeper is told at its start.
type config struct {
	Version string `json:"version"`
	Listen  string `json:"listen"`
	Own     Own    `json:"own"`
	// PerClient is how many connections one client may have; 0 is no bound.
	PerClient int `json:"perClient,omitempty"`
	// TLS is the certificate that proves the port; its zero value is none.
	TLS certificate.Files `json:"tls,omitzero"`
	// Wait is how long our own pages wait for a server.
	Wait time.Duration `json:"wait"`
	// TakeOver says that there is a keeper to take over from; Listener, that descriptor 3 is the port.
	TakeOver bool `json:"takeOver,omitempty"`
	Listener bool `json:"listener,omitempty"`
}

// keeper is the process.
type keeper struct {
	dir    string
	o      config
	log    *slog.Logger
	front  *front.Front
	web    *http.Server
	inside *inside
	crowd  *clients.Crowd
	tls    atomic.Pointer[secured]
	proof  *tls.Config
	conns  sync.WaitGroup // being sorted, waiting, or on their way
	// sorting and waiting count connections, served those that the web server has.
	sorting, waiting, served atomic.Int64
	routed                   chan struct{} // closed when it is known what goes where
	end                      chan struct{} // closed when a caller has asked for the end

	mu       sync.Mutex
	listener *net.TCPListener
	own      Own
	epoch    uint64
	server   *caller
	changed  chan struct{} // closed when server is replaced or begins or ends to take connections
	elders   []*asker
	retired  bool
	ending   bool
	lonely   time.Time // since when there is no server, or another keeper
}

// Main runs a keeper whose folder is the working folder, until it is told to end or has nothing to do any more. It reads its
// configuration from in and says on out that it is ready, or why not.
func Main(ctx context.Context, in *os.File, out *os.File, complain *os.File) error {
	o, inherited, err := readConfig(in)
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the keeper's folder: %w", err)
	}
	k := newKeeper(dir, o, slog.New(slog.NewTextHandler(&complaints{file: complain}, nil)))
	control, err := k.begin(ctx, inherited)
	if said := k.ready(out, err); err == nil {
		err = said
	}
	if err != nil {
		return errors.Join(err, k.front.Close())
	}
	return k.run(ctx, control)
}

func newKeeper(dir string, o config, log *slog.Logger) *keeper {
	if o.Wait == 0 {
		o.Wait = ownWait
	}
	k := &keeper{
		dir: dir, o: o, log: log, front: front.New(front.Options{Log: log}), inside: newInside(), crowd: clients.NewCrowd(o.PerClient), end: make(chan struct{}), routed: make(chan struct{}),
		own: o.Own, changed: make(chan struct{}), lonely: time.Now(),
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP2(true)
	k.secure(o.TLS)
	k.proof = k.proving()
	k.web = &http.Server{
		Handler: k.handler(), Protocols: protocols, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return k
}

// begin opens the port and takes over what another keeper had.
func (k *keeper) begin(ctx context.Context, inherited *net.TCPListener) (*net.UnixListener, error) {
	control, publish, err := listenControl(ctx, k.dir)
	if err != nil {
		return nil, err
	}
	k.listener = inherited
	switch {
	case k.o.TakeOver:
		err = k.takeOver(ctx)
	case inherited == nil:
		k.load()
		k.listener, err = listenPort(ctx, k.o.Listen)
	default:
		k.load()
	}
	if err == nil {
		err = publish()
	}
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	k.save()
	return control, nil
}

// portPatience is how long a port is waited for: a child that a killed process was about to make holds it until it executes
// its program.
const portPatience = time.Second

func listenPort(ctx context.Context, address string) (*net.TCPListener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	for wait := time.Millisecond; errors.Is(err, syscall.EADDRINUSE) && wait < portPatience; wait *= 2 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		l, err = config.Listen(ctx, "tcp", address)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on %s: it is not TCP", address), l.Close())
	}
	return tcp, nil
}

// run serves until there is nothing to serve any more.
func (k *keeper) run(ctx context.Context, control *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() {
		if err := k.web.Serve(k.inside); !errors.Is(err, http.ErrServerClosed) {
			k.log.Error("requests are not served any more", "error", err)
		}
	})
	work.Go(func() { k.accept(ctx, k.port()) })
	work.Go(func() { k.acceptCallers(ctx, control) })
	k.live(ctx)
	k.stopListening()
	_ = control.Close()
	k.drain(ctx)
	cancel()
	_ = k.inside.Close()
	err := errors.Join(k.web.Close(), k.front.Close())
	k.dismiss()
	work.Wait()
	k.conns.Wait()
	return err
}

// live returns when the keeper has no reason to live any more.
func (k *keeper) live(ctx context.Context) {
	look := time.NewTicker(folderLook)
	defer look.Stop()
	self, err := os.Stat(k.dir)
	socket, lost := os.Stat(filepath.Join(k.dir, socketName))
	for err == nil && lost == nil {
		select {
		case <-ctx.Done():
			return
		case <-k.end:
			return
		case <-look.C:
			if k.needless() {
				k.log.Info("there is no server and nothing to carry")
				return
			}
			var now os.FileInfo
			if now, err = os.Stat(k.dir); err == nil && !os.SameFile(self, now) {
				return
			}
			if k.replaced(socket) {
				k.log.Warn("another keeper has this one's place: its server took it for dead")
				return
			}
		}
	}
}

// replaced reports whether another keeper has taken this one's place without asking: both have the port, and this one knows less.
func (k *keeper) replaced(socket os.FileInfo) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.retired {
		return false
	}
	now, err := os.Stat(filepath.Join(k.dir, socketName))
	return err != nil || !os.SameFile(socket, now)
}

// needless reports whether nobody would miss this keeper.
func (k *keeper) needless() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.retired {
		return k.served.Load() == 0 && k.sorting.Load() == 0 && k.waiting.Load() == 0 && k.front.Idle() || time.Since(k.lonely) > elderLife
	}
	return k.server == nil && time.Since(k.lonely) > aloneTime && k.front.Table().Empty() && k.served.Load() == 0
}

// drain waits for what is under way, within bounds.
func (k *keeper) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endDrain)
	defer cancel()
	k.mu.Lock()
	for _, e := range k.elders {
		if err := e.link.send(message{Op: opEnd}); err != nil {
			k.log.Debug("the keeper before is gone", "error", err)
		}
	}
	k.mu.Unlock()
	if err := k.web.Shutdown(ctx); err != nil {
		k.log.Warn("requests were broken off", "error", err)
	}
	for !k.front.Idle() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// route replaces the table.
func (k *keeper) route(t front.Table) error {
	if err := k.front.Set(t); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.routed:
	default:
		close(k.routed)
	}
	return nil
}

func (k *keeper) port() *net.TCPListener {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listener
}

func (k *keeper) stopListening() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ending = true
	if k.listener != nil {
		_ = k.listener.Close() // it may have been handed over
	}
}

// stop asks for the end, once.
func (k *keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ending {
		k.ending = true
		close(k.end)
	}
}

// folder is the keeper's folder in a data folder.
func folder(data string) string { return filepath.Join(data, "keeper") }
