package egress

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// proxy takes what programs send and judges where it goes. It listens on loopback, and whoever connects needs the credentials of a route.
type proxy struct {
	c        *Client
	listener net.Listener
	server   *http.Server
	done     chan struct{}

	mu     sync.Mutex
	routes map[string]*Route
}

// startProxy gives the proxy, which begins with the first route.
func (c *Client) startProxy(ctx context.Context) (*proxy, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proxy != nil {
		return c.proxy, nil
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{c: c, listener: l, routes: map[string]*Route{}, done: make(chan struct{})}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() {
		defer close(p.done)
		_ = p.server.Serve(l) // it ends with close
	}()
	c.proxy = p
	return p, nil
}

func (p *proxy) close() error {
	p.mu.Lock()
	for _, r := range p.routes {
		r.cancel()
	}
	p.mu.Unlock()
	err := p.server.Close()
	<-p.done
	return err
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) add(r *Route) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.routes[r.name] = r
}

func (p *proxy) remove(r *Route) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.routes, r.name)
}

// of finds the route that a request is of.
func (p *proxy) of(r *http.Request) *Route {
	encoded, ok := strings.CutPrefix(r.Header.Get("Proxy-Authorization"), "Basic ")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	name, password, both := strings.Cut(string(raw), ":")
	if !ok || err != nil || !both {
		return nil
	}
	p.mu.Lock()
	route := p.routes[name]
	p.mu.Unlock()
	if route == nil || !route.secret.Is(password) {
		return nil
	}
	return route
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	route := p.of(r)
	switch {
	case route == nil:
		w.Header().Set("Proxy-Authenticate", `Basic realm="tiphys"`)
		http.Error(w, "this proxy is for programs that the server started", http.StatusProxyAuthRequired)
	case r.Method == http.MethodConnect:
		p.connect(w, r, route)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		p.pass(w, r, route)
	default:
		http.Error(w, "this is a proxy", http.StatusBadRequest)
	}
}

// pass carries one request of plain HTTP.
func (p *proxy) pass(w http.ResponseWriter, r *http.Request, route *Route) {
	ctx, cancel := context.WithCancel(For(r.Context(), route.field))
	defer cancel()
	defer context.AfterFunc(route.ctx, cancel)()
	one := &httputil.ReverseProxy{
		Rewrite:       func(*httputil.ProxyRequest) {}, // the URL is where it goes, and what is for the proxy is gone
		Transport:     p.c.shared,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			route.note(err)
			fail(w, err)
		},
	}
	one.ServeHTTP(w, r.WithContext(ctx))
}

// fail answers for a host that was refused or not reached.
func fail(w http.ResponseWriter, err error) {
	code := http.StatusBadGateway
	if _, refused := Refused(err); refused {
		code = http.StatusForbidden
	}
	http.Error(w, err.Error(), code)
}

// directHeader says that a connection is not for an HTTP proxy of the operator's: they rarely take other ports than that of HTTPS.
const directHeader = "Tiphys-Direct"

// connect carries a connection.
func (p *proxy) connect(w http.ResponseWriter, r *http.Request, route *Route) {
	ctx, cancel := context.WithCancel(For(r.Context(), route.field))
	defer cancel()
	defer context.AfterFunc(route.ctx, cancel)()
	out, err := p.dial(ctx, r.Host, r.Header.Get(directHeader) != "")
	if err != nil {
		route.note(err)
		fail(w, err)
		return
	}
	defer func() { _ = out.Close() }()
	in, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		fail(w, err)
		return
	}
	defer func() { _ = in.Close() }()
	_ = in.SetDeadline(time.Time{}) // the route bounds it
	if _, err := io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return // the program has gone
	}
	// The server no longer looks whether the program is there: the route's end closes both.
	defer context.AfterFunc(route.ctx, func() { _, _ = in.Close(), out.Close() })()
	carry(buffered.Reader, in, out)
}

// carry copies both ways until both are at their end; from has what comes from in, of which something was read already.
func carry(from io.Reader, in, out net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { copyThen(out, from) })
	copyThen(in, out)
	both.Wait()
}

// copyThen copies, and says at the end that no more comes; the other direction may go on.
func copyThen(to net.Conn, from io.Reader) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_ = to.Close()
	}
}

// dial connects to where a program wants to go, by the operator's proxy if there is one for it.
func (p *proxy) dial(ctx context.Context, address string, direct bool) (net.Conn, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("connect to %q: %w", address, err)
	}
	var through *url.URL
	if p.c.o.Proxy != nil && !direct {
		var err error
		if through, err = p.c.o.Proxy(&http.Request{Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: address}}); err != nil {
			return nil, err
		}
	}
	if through == nil {
		return p.c.Dial(ctx, "tcp", address)
	}
	if err := p.c.Check(ctx, address); err != nil {
		return nil, err
	}
	return dialThrough(ctx, through, address)
}

// dialThrough has an HTTP proxy of the operator's connect.
func dialThrough(ctx context.Context, through *url.URL, address string) (net.Conn, error) {
	if through.Scheme != "http" {
		return nil, fmt.Errorf("git goes through HTTP proxies only, and the server's proxy for %s is one of %s", address, through.Scheme)
	}
	dialer := net.Dialer{Timeout: connectTime}
	conn, err := dialer.DialContext(ctx, "tcp", hostPort(through.Host, through.Scheme))
	if err != nil {
		return nil, fmt.Errorf("connect to the server's proxy: %w", err)
	}
	user, password := "", ""
	if through.User != nil {
		user = through.User.Username()
		password, _ = through.User.Password()
	}
	made, err := tunnel(conn, address, user, password, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return made, nil
}

// tunnel asks the proxy at the other end of a connection for another one.
func tunnel(conn net.Conn, address, user, password string, header http.Header) (net.Conn, error) {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	for name, values := range header {
		request.Header[name] = values
	}
	if user != "" {
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	_ = conn.SetDeadline(time.Now().Add(connectTime + lookupTime))
	if err := request.Write(conn); err != nil {
		return nil, fmt.Errorf("ask the proxy for %s: %w", address, err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, fmt.Errorf("ask the proxy for %s: %w", address, err)
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // what there is of it
		_ = response.Body.Close()
		return nil, fmt.Errorf("the proxy answered %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	_ = conn.SetDeadline(time.Time{})
	return &tunnelled{Conn: conn, reader: reader}, nil
}

// tunnelled is a connection of which a reader may hold the beginning.
type tunnelled struct {
	net.Conn
	reader *bufio.Reader
}

// Read implements net.Conn.
func (t *tunnelled) Read(p []byte) (int, error) { return t.reader.Read(p) }

// CloseWrite says that no more comes.
func (t *tunnelled) CloseWrite() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
