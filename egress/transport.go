package egress

import (
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"time"
)

// HTTP says what is special about requests; the zero value is nothing.
type HTTP struct {
	// TLS is how hosts are proved; nil is as usual.
	TLS *tls.Config
	// Trusted are hosts that the operator named, "HOST" or "HOST:PORT" as a URL has them: requests to them are not judged.
	Trusted []string
	// Field is for requests whose context says none; see [For].
	Field string
	// Once has each connection be of one request.
	Once bool
	// Answer is how long the headers of an answer are waited for; 0 is as long as the request's context lasts.
	Answer time.Duration
}

// Transport makes requests, each judged where it goes, a redirected one again. It is an http.RoundTripper.
type Transport struct {
	c       *Client
	trusted []string
	field   string
	// direct judges where it connects to. trusting connects to the operator's proxies and to trusted hosts.
	direct, trusting *http.Transport
}

// Transport returns one of its own. Whoever asked for it closes its idle connections.
func (c *Client) Transport(o HTTP) *Transport { return c.orStrict().transport(o) }

func (c *Client) transport(o HTTP) *Transport {
	base := func() *http.Transport {
		return &http.Transport{
			TLSClientConfig: o.TLS.Clone(), TLSHandshakeTimeout: connectTime, ResponseHeaderTimeout: o.Answer,
			IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 4, ForceAttemptHTTP2: true, DisableKeepAlives: o.Once,
		}
	}
	t := &Transport{c: c, trusted: o.Trusted, field: o.Field, direct: base(), trusting: base()}
	t.direct.DialContext = c.dial
	t.trusting.DialContext = (&net.Dialer{Timeout: connectTime, KeepAlive: 15 * time.Second}).DialContext
	t.trusting.Proxy = c.o.Proxy
	return t
}

// Shared is the transport of requests that ask for nothing special.
func (c *Client) Shared() *Transport { return c.orStrict().shared }

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.field != "" && Field(r.Context()) == "" {
		r = r.WithContext(For(r.Context(), t.field))
	}
	if t.c.open || slices.Contains(t.trusted, r.URL.Host) || slices.Contains(t.trusted, r.URL.Hostname()) {
		return t.trusting.RoundTrip(r)
	}
	if t.c.o.Proxy != nil {
		through, err := t.c.o.Proxy(r)
		if err == nil && through != nil {
			if err = t.c.Check(r.Context(), hostPort(r.URL.Host, r.URL.Scheme)); err == nil {
				return t.trusting.RoundTrip(r)
			}
		}
		if err != nil {
			if r.Body != nil {
				_ = r.Body.Close() // as every RoundTripper does
			}
			return nil, err
		}
	}
	return t.direct.RoundTrip(r)
}

// CloseIdleConnections closes the connections that nobody uses.
func (t *Transport) CloseIdleConnections() {
	t.direct.CloseIdleConnections()
	t.trusting.CloseIdleConnections()
}

// hostPort is a URL's host with its port.
func hostPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	return net.JoinHostPort(host, port)
}
