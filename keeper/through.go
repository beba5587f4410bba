package keeper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tiphys/tiphys/keeper/front"
)

// ownProxy carries requests for our own pages that come over a connection which the keeper itself has to read: one on which
// an application was asked before, or one of HTTP/2. The server gets a connection of its own for each, and is told by the
// control socket whose it is; nothing that a client writes can say so.
func (k *keeper) ownProxy() http.Handler {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return k.connect(ctx, address) }}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			// The transport connects to the "address" of the URL: it is the client's, for the server to know.
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", r.In.RemoteAddr, r.In.Host
		},
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(k.log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return
			}
			k.log.Debug("our own page could not be had", "path", r.URL.Path, "error", err)
			w.Header().Set("Retry-After", "5")
			front.Page(w, http.StatusServiceUnavailable, awayTitle, awayText)
		},
	}
}

// connect gives the server one end of a new connection.
func (k *keeper) connect(ctx context.Context, remote string) (net.Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "own"), os.NewFile(uintptr(pair[1]), "own")
	conn, err := net.FileConn(ours)
	err = errors.Join(err, ours.Close())
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	if err := k.deliver(ctx, &held{file: theirs, remote: remote, secure: isSecure(ctx), until: time.Now().Add(k.o.Wait)}); err != nil {
		return nil, errors.Join(err, theirs.Close(), conn.Close())
	}
	return conn, nil
}
