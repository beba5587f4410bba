package front

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/keeper/clients"
)

// transports speak to the pods. Requests that may be sent twice share connections; others get one of their own, so that
// none is lost in a connection that the pod is just closing.
type transports struct {
	shared, single, http2, secure2 *http.Transport
}

const (
	idlePerHost = 64
	// handshakeTimeout bounds what a pod with TLS takes to prove itself.
	handshakeTimeout = 10 * time.Second
	idleTime         = 3 * time.Second // shorter than any pod's own, so that it is we who close
)

func newTransports() transports {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, &unreachable{err}
		}
		return conn, nil
	}
	plain, cleartext, encrypted := new(http.Protocols), new(http.Protocols), new(http.Protocols)
	plain.SetHTTP1(true)
	cleartext.SetUnencryptedHTTP2(true)
	encrypted.SetHTTP2(true)
	// As with ingress-nginx the certificate of a pod is not asked for whom it is: nobody could have one for the address of a pod.
	whoever := func() *tls.Config { return &tls.Config{InsecureSkipVerify: true} } //nolint:gosec // see above
	return transports{
		shared: &http.Transport{DialContext: dial, IdleConnTimeout: idleTime, MaxIdleConnsPerHost: idlePerHost, DisableCompression: true, Protocols: plain,
			TLSClientConfig: whoever(), TLSHandshakeTimeout: handshakeTimeout},
		single: &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true, Protocols: plain, TLSClientConfig: whoever(), TLSHandshakeTimeout: handshakeTimeout},
		http2:  &http.Transport{DialContext: dial, IdleConnTimeout: idleTime, DisableCompression: true, Protocols: cleartext},
		secure2: &http.Transport{DialContext: dial, IdleConnTimeout: idleTime, DisableCompression: true, Protocols: encrypted, TLSClientConfig: whoever(),
			TLSHandshakeTimeout: handshakeTimeout},
	}
}

func (t transports) close() {
	for _, each := range []*http.Transport{t.shared, t.single, t.http2, t.secure2} {
		each.CloseIdleConnections()
	}
}

// choose gives the transport of a request to a route.
func (t transports) choose(r *http.Request, to route) *http.Transport {
	switch {
	case to.HTTP2 && to.TLS:
		return t.secure2
	case to.HTTP2:
		return t.http2
	case r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions:
		return t.shared
	}
	return t.single
}

// unreachable marks an error after which nothing has been sent.
type unreachable struct{ err error }

func (u *unreachable) Error() string { return u.err.Error() }
func (u *unreachable) Unwrap() error { return u.err }

// flushAfter is how long a part of an answer whose length is known may wait for the rest, so that a small answer is sent in one piece. Of
// one whose length is not known, a stream most likely, every part is sent at once.
const flushAfter = 5 * time.Millisecond

// bufferSize is how many bytes are copied at a time.
const bufferSize = 32 << 10

// pool keeps buffers for copying, of size bytes; bufferSize if 0.
type pool struct {
	free sync.Pool
	size int
}

// Get implements httputil.BufferPool.
func (p *pool) Get() []byte {
	if b, ok := p.free.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, cmp.Or(p.size, bufferSize))
}

// Put implements httputil.BufferPool.
func (p *pool) Put(b []byte) { p.free.Put(&b) }

func (f *Front) newReverse() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "pod", r.In.Host
			r.SetXForwarded()
			if r.In.Header.Get("X-Forwarded-Proto") == "https" {
				r.Out.Header.Set("X-Forwarded-Proto", "https")
			}
			if a, ok := r.In.Context().Value(attemptKey{}).(*attempt); ok && a.manner != nil {
				a.send(r.Out)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if a, ok := r.Request.Context().Value(attemptKey{}).(*attempt); ok && a.manner != nil {
				a.receive(r)
			}
			return nil
		},
		Transport:     tripper{f},
		FlushInterval: flushAfter,
		BufferPool:    &f.pool,
		ErrorHandler:  f.failed,
		ErrorLog:      slog.NewLogLogger(f.log.Handler(), slog.LevelWarn),
	}
}

// Host is the host that a Host header names: in lower case, without a port or a final dot.
func Host(header string) string {
	if h, _, err := net.SplitHostPort(header); err == nil {
		header = h
	}
	return strings.TrimSuffix(strings.ToLower(header), ".")
}

func (f *Front) find(host, path string) (route, bool) {
	routes, known := list(*f.hosts.Load(), host)
	for i := range routes {
		if r := &routes[i]; r.matches(path) {
			return *r, true
		}
	}
	return route{}, known
}

// matches tells whether a route is for a path, which is a normal one.
func (r *route) matches(path string) bool {
	if r.Regexp {
		return r.pattern != nil && r.pattern.MatchString(path)
	}
	return r.Matches(path)
}

type attemptKey struct{}

// attempt is the request on its way: where it goes and what it uses.
type attempt struct {
	host, path string // the path is normal
	used       []*backend
	// manner is the route's, with the pattern of its path; nil if it has none.
	manner  *Manner
	pattern *regexp.Regexp
	broken  error // why the request cannot be sent
	size    *bounded
	// stuck names the pod that the client belongs to, sticks the one that answers.
	stuck, sticks string
	// body is the request's; nil for one without, or one that is not waited for with a limit.
	body *clients.Body
}

// ServeHTTP sends a request to the application that its host and path name. A host that nobody has is answered with 421.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, path := Host(r.Host), Normal(r.URL.Path)
	found, known := f.find(host, path)
	switch {
	case !known:
		Page(w, http.StatusMisdirectedRequest, "No application has this host", "No Ingress names the host "+host+". See the list of applications for the URLs that there are.")
		return
	case found.Path == "":
		Page(w, http.StatusNotFound, "Nothing here", "No path of "+host+" matches "+r.URL.Path+".")
		return
	case found.Manner != nil && found.Manner.answer(w, r):
		return
	case found.Refused:
		Page(w, http.StatusServiceUnavailable, "A NetworkPolicy is against it", "The pods behind "+host+" take no requests from outside: a NetworkPolicy of theirs does not let this machine's address.")
		return
	}
	a := &attempt{host: host, path: path, manner: found.Manner, pattern: found.pattern}
	a.remember(r)
	defer func() {
		for _, b := range a.used {
			b.give()
		}
	}()
	a.bound(w, r, found)
	f.reverse.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), attemptKey{}, a)))
}

// converses says that a request's body and its answer are two sides of a conversation, in which nobody need speak: gRPC, to an application that
// says that it takes HTTP/2. One connection to its pod carries all such requests, so that none holds up others.
func converses(r *http.Request, to route) bool {
	return to.HTTP2 && r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// errNotReady says that no pod became ready in time.
var errNotReady = errors.New("no pod is ready")

// tripper is the transport of the reverse proxy.
type tripper struct{ f *Front }

// RoundTrip implements http.RoundTripper: it chooses a ready pod, and another as long as nothing has been sent.
func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) {
	a, ok := r.Context().Value(attemptKey{}).(*attempt)
	if !ok {
		return nil, errors.New("not a proxied request")
	}
	if a.broken != nil {
		return nil, a.broken
	}
	body := r.Body
	if body != nil && body != http.NoBody {
		// A transport closes the body when it cannot connect; the next try still needs it.
		r.Body = io.NopCloser(body)
	}
	deadline := time.NewTimer(t.f.wait)
	defer deadline.Stop()
	for failed := map[string]bool{}; ; {
		t.f.mu.Lock()
		changed := t.f.changed
		t.f.mu.Unlock()
		to, _ := t.f.find(a.host, a.path)
		if e, found := t.f.choose(a, to, failed); found {
			response, err := t.try(r, a, to, e)
			var lost *unreachable
			if !errors.As(err, &lost) {
				return response, err
			}
			failed[e.address] = true
			continue
		}
		retry := time.NewTimer(tryAgain)
		select {
		case <-r.Context().Done():
			retry.Stop()
			return nil, r.Context().Err()
		case <-deadline.C:
			retry.Stop()
			return nil, errNotReady
		case <-changed:
		case <-retry.C:
		}
		clear(failed)
		retry.Stop()
	}
}

// try sends the request to one endpoint. An unreachable error says that it may go to another.
func (t tripper) try(r *http.Request, a *attempt, to route, e endpoint) (*http.Response, error) {
	if !e.backend.take() {
		return nil, &unreachable{errNotReady}
	}
	r.URL = &url.URL{Scheme: to.scheme(), Host: e.address, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	response, err := t.f.transports.choose(r, to).RoundTrip(r)
	var lost *unreachable
	if errors.As(err, &lost) {
		e.backend.give()
		return nil, err
	}
	a.used = append(a.used, e.backend)
	if a.manner != nil && a.manner.Cookie != nil {
		if a.sticks = sticky(e.name); a.stuck != "" && a.sticks != a.stuck && !a.manner.Cookie.Anew && t.f.knows(to, a.stuck) {
			a.sticks = a.stuck // its own pod was away for a moment
		}
	}
	if err == nil && a.body != nil {
		a.body.Free() // the application answers: how long it listens meanwhile is for it to say
	}
	return response, err
}

// scheme is how endpoints are spoken to.
func (r *Route) scheme() string {
	if r.TLS {
		return "https"
	}
	return "http"
}

// knows says whether a cookie names a pod that is there.
func (f *Front) knows(to route, stuck string) bool {
	return slices.ContainsFunc(to.endpoints, func(e endpoint) bool { return sticky(e.name) == stuck })
}

// choose gives the next endpoint in turn that has not failed.
func (f *Front) choose(a *attempt, to route, failed map[string]bool) (endpoint, bool) {
	if e, found := a.stays(to, failed); found {
		return e, true
	}
	n := uint64(len(to.endpoints))
	start := f.next.Add(1)
	for i := range n {
		if e := to.endpoints[(start+i)%n]; !failed[e.address] {
			return e, true
		}
	}
	return endpoint{}, false
}

func (f *Front) failed(w http.ResponseWriter, r *http.Request, err error) {
	a, _ := r.Context().Value(attemptKey{}).(*attempt)
	switch {
	case a != nil && a.body != nil && a.body.Late():
		w.Header().Set("Connection", "close")
		Page(w, http.StatusRequestTimeout, "Too slow", "The body of the request did not come in time.")
	case a != nil && a.size != nil && a.size.over.Load():
		a.manner.tooLarge(w)
	case errors.Is(err, errTooLong):
		Page(w, http.StatusRequestURITooLong, "Too long", "The path of the request is too long once it is rewritten.")
	case errors.Is(err, context.Canceled):
		return
	case errors.Is(err, errNotReady):
		w.Header().Set("Retry-After", "5")
		Page(w, http.StatusServiceUnavailable, "Not ready yet", fmt.Sprintf("No pod behind %s was ready within %s. It may still be starting; see the application's health.", r.Host, f.wait))
	default:
		f.log.Warn("request failed", "host", r.Host, "path", r.URL.Path, "error", err)
		Page(w, http.StatusBadGateway, "The application broke off", "The pod behind "+r.Host+" gave no whole answer: see its log.")
	}
}
