package local

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tiphys/tiphys/deploy"
)

// Proxy serves the hosts of every Ingress: to the Service that the host and the longest path name, to one of its
// ready pods. It is an http.Handler; it answers 421 for a host that no Ingress has.
type Proxy struct {
	wait  time.Duration
	log   *slog.Logger
	table atomic.Pointer[table]
	// changed is closed when the table is replaced.
	mu      sync.Mutex
	changed chan struct{}
	// Requests that may be sent twice share connections; others get one of their own, so that none is lost in a
	// connection that the pod is just closing.
	shared, single *http.Transport
	reverse        *httputil.ReverseProxy
	next           atomic.Uint64
}

// table is what is routed where, by host; it is never changed, only replaced.
type table struct {
	hosts map[string][]route
}

type route struct {
	path      string
	exact     bool
	service   string
	ingress   deploy.Key
	endpoints []endpoint
}

func newProxy(wait time.Duration, log *slog.Logger) *Proxy {
	dialer := &net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, &unreachable{err}
		}
		return conn, nil
	}
	p := &Proxy{wait: wait, log: log, changed: make(chan struct{}),
		shared: &http.Transport{DialContext: dial, IdleConnTimeout: 3 * time.Second, MaxIdleConnsPerHost: 64, DisableCompression: true},
		single: &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true}}
	p.table.Store(&table{})
	p.reverse = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "pod", r.In.Host
			r.SetXForwarded()
			if r.In.Header.Get("X-Forwarded-Proto") == "https" {
				r.Out.Header.Set("X-Forwarded-Proto", "https")
			}
		},
		Transport:     http.RoundTripper(p),
		FlushInterval: -1,
		ErrorHandler:  p.failed,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return p
}

// unreachable marks an error after which nothing has been sent.
type unreachable struct{ err error }

func (u *unreachable) Error() string { return u.err.Error() }
func (u *unreachable) Unwrap() error { return u.err }

func (p *Proxy) close() {
	p.shared.CloseIdleConnections()
	p.single.CloseIdleConnections()
}

func (p *Proxy) set(t *table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table.Store(t)
	close(p.changed)
	p.changed = make(chan struct{})
}

// routes is the table as the Ingresses and the ready pods make it; t.mu is held.
func (t *Target) routes() *table {
	found := &table{hosts: map[string][]route{}}
	for _, o := range t.ofKind("Ingress") {
		if o.deleting() {
			continue
		}
		i := typedOf[networkingv1.Ingress](o)
		for _, rule := range i.Spec.Rules {
			host := strings.ToLower(rule.Host)
			if rule.HTTP == nil {
				continue
			}
			for _, path := range rule.HTTP.Paths {
				if path.Backend.Service == nil {
					continue
				}
				r := route{path: path.Path, service: path.Backend.Service.Name, ingress: o.Key,
					exact: path.PathType != nil && *path.PathType == networkingv1.PathTypeExact}
				if r.path == "" {
					r.path = "/"
				}
				r.endpoints = t.behind(o.Key.Namespace, path.Backend.Service)
				found.hosts[host] = append(found.hosts[host], r)
			}
		}
		if b := i.Spec.DefaultBackend; b != nil && b.Service != nil {
			for _, rule := range i.Spec.Rules {
				host := strings.ToLower(rule.Host)
				found.hosts[host] = append(found.hosts[host], route{path: "/", service: b.Service.Name, ingress: o.Key, endpoints: t.behind(o.Key.Namespace, b.Service)})
			}
		}
	}
	for _, list := range found.hosts {
		// As Kubernetes: exact before prefix, longer before shorter.
		slices.SortStableFunc(list, func(a, b route) int {
			if a.exact != b.exact {
				if a.exact {
					return -1
				}
				return 1
			}
			return len(b.path) - len(a.path)
		})
	}
	return found
}

func (t *Target) behind(namespace string, b *networkingv1.IngressServiceBackend) []endpoint {
	s := t.services[deploy.Key{Kind: "Service", Namespace: namespace, Name: b.Name}]
	if s == nil {
		return nil
	}
	for _, sp := range s.spec.Spec.Ports {
		if (b.Port.Name != "" && sp.Name == b.Port.Name) || (b.Port.Name == "" && sp.Port == b.Port.Number) {
			return t.endpoints(s.spec, namespace, sp)
		}
	}
	return nil
}

// find gives the route of a request; a wildcard host stands for one label.
func (t *table) find(host, path string) (route, bool) {
	list, known := t.hosts[host]
	if !known {
		if _, rest, found := strings.Cut(host, "."); found {
			list, known = t.hosts["*."+rest]
		}
	}
	if !known {
		list, known = t.hosts[""]
	}
	for _, r := range list {
		if r.matches(path) {
			return r, true
		}
	}
	return route{}, known
}

func (r route) matches(path string) bool {
	if r.exact || path == r.path {
		return path == r.path
	}
	prefix := strings.TrimSuffix(r.path, "/")
	return strings.HasPrefix(path, prefix+"/") || prefix == ""
}

// Hosts reports whether an Ingress has the host (without port), so that the server can route by it.
func (p *Proxy) Hosts(host string) bool {
	_, known := p.table.Load().find(strings.ToLower(host), "/")
	return known
}

type attemptKey struct{}

// attempt is the request on its way: what it waits for and what it uses.
type attempt struct {
	host string
	used []*backend
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	found, known := p.table.Load().find(host, r.URL.Path)
	switch {
	case !known:
		page(w, http.StatusMisdirectedRequest, "No application has this host", "No Ingress names the host "+host+". See the list of applications for the URLs that there are.")
		return
	case found.service == "":
		page(w, http.StatusNotFound, "Nothing here", "No path of "+host+" matches "+r.URL.Path+".")
		return
	}
	a := &attempt{host: host}
	defer func() {
		for _, b := range a.used {
			b.give()
		}
	}()
	p.reverse.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), attemptKey{}, a)))
}

// errNotReady says that no pod became ready in time.
var errNotReady = errors.New("no pod is ready")

// RoundTrip implements http.RoundTripper: it chooses a ready pod, and another as long as nothing has been sent.
func (p *Proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	a, ok := r.Context().Value(attemptKey{}).(*attempt)
	if !ok {
		return nil, errors.New("not a proxied request")
	}
	transport := p.single
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions {
		transport = p.shared
	}
	body := r.Body
	if body != nil && body != http.NoBody {
		// A transport closes the body when it cannot connect; the next try still needs it.
		r.Body = io.NopCloser(body)
	}
	deadline := time.NewTimer(p.wait)
	defer deadline.Stop()
	path := r.URL.Path
	for failed := map[string]bool{}; ; {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		e, found := p.choose(a.host, path, failed)
		if found {
			r.URL = &url.URL{Scheme: "http", Host: e.address, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
			if !e.backend.take() {
				failed[e.address] = true
				continue
			}
			response, err := transport.RoundTrip(r)
			var lost *unreachable
			if !errors.As(err, &lost) {
				a.used = append(a.used, e.backend)
				return response, err
			}
			e.backend.give()
			failed[e.address] = true
			continue
		}
		retry := time.NewTimer(50 * time.Millisecond)
		select {
		case <-r.Context().Done():
			retry.Stop()
			return nil, r.Context().Err()
		case <-deadline.C:
			retry.Stop()
			return nil, errNotReady
		case <-changed:
			clear(failed)
		case <-retry.C:
			clear(failed)
		}
		retry.Stop()
	}
}

func (p *Proxy) choose(host, path string, failed map[string]bool) (endpoint, bool) {
	found, _ := p.table.Load().find(host, path)
	n := uint64(len(found.endpoints))
	start := p.next.Add(1)
	for i := range n {
		if e := found.endpoints[(start+i)%n]; !failed[e.address] {
			return e, true
		}
	}
	return endpoint{}, false
}

func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, context.Canceled):
		return
	case errors.Is(err, errNotReady):
		w.Header().Set("Retry-After", "5")
		page(w, http.StatusServiceUnavailable, "Not ready yet", fmt.Sprintf("No pod behind %s was ready within %s. It may still be starting; see the application's health.", r.Host, p.wait))
	default:
		p.log.Warn("request failed", "host", r.Host, "path", r.URL.Path, "error", err)
		page(w, http.StatusBadGateway, "The application broke off", "The pod behind "+r.Host+" gave no whole answer: see its log.")
	}
}

func page(w http.ResponseWriter, status int, title, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>%[1]s</title>
<body style="font:16px system-ui;max-width:40em;margin:15vh auto;padding:0 1em;color-scheme:light dark"><h1>%[1]s</h1><p>%[2]s</p>
`, html.EscapeString(title), html.EscapeString(text))
}
