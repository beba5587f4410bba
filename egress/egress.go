// Package egress is how this program reaches other hosts because a manifest says so: the requests of http templates and triggers, http and
// git artifacts, sources of triggers, repositories of applications, registries, and the APIs of declared forges. Whoever writes a manifest
// chooses the address and is not on this machine, and so must not reach what only this machine reaches. A name is resolved first, every
// address is judged, and the connection goes to the address that was judged.
//
// A [Client] is the one way out. Programs that resolve names themselves, git, go through a proxy of it ([Client.Route]).
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Resolver finds the addresses of a name. A *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options of a Client. The zero value refuses everything that is to be refused, and knows no proxy.
type Options struct {
	// Allow are the operator's exceptions.
	Allow []Rule
	// Cluster gives the networks of this server's pods and Services; nil for none.
	Cluster func() []netip.Prefix
	// Addresses gives those of this machine's interfaces; net.InterfaceAddrs if nil.
	Addresses func() ([]net.Addr, error)
	// Resolver is the machine's own if nil.
	Resolver Resolver
	// Proxy is the operator's, as in net/http: the proxy of a request, or nil. What goes through it is judged as far as this machine can
	// resolve it; the proxy resolves names again, and its own rules count. nil is none.
	Proxy func(*http.Request) (*url.URL, error)
}

// Client is the way out. A nil Client is one with the zero Options. It is safe for concurrent use.
type Client struct {
	o    Options
	open bool
	// shared makes the requests that ask for nothing special.
	shared *Transport

	mu    sync.Mutex
	proxy *proxy // nil until a program is to be sent out
}

// New returns a client. End it with Close.
func New(o Options) *Client {
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Addresses == nil {
		o.Addresses = net.InterfaceAddrs
	}
	c := &Client{o: o}
	c.shared = c.transport(HTTP{})
	return c
}

// Unrestricted returns the client of somebody's own desk: what is run there is theirs, and may reach what they reach.
func Unrestricted() *Client {
	c := New(Options{Proxy: http.ProxyFromEnvironment})
	c.open = true
	return c
}

// strict stands in for a client that nobody gave.
var strict = sync.OnceValue(func() *Client { return New(Options{}) })

func (c *Client) orStrict() *Client {
	if c == nil {
		return strict()
	}
	return c
}

// Close ends the proxy for programs and the connections that nobody uses.
func (c *Client) Close() error {
	if c == nil {
		return nil
	}
	c.shared.CloseIdleConnections()
	c.mu.Lock()
	p := c.proxy
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.close()
}

// Times of a connection. A name is looked up, and all its addresses are tried, within these.
const (
	lookupTime  = 10 * time.Second
	connectTime = 10 * time.Second
	// leastTime is what one of several addresses gets.
	leastTime = 2 * time.Second
)

// Dial connects to "host:port", or refuses. The connection is to an address that was judged, whatever the name resolves to next.
func (c *Client) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return c.orStrict().dial(ctx, network, address)
}

func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: connectTime, KeepAlive: 15 * time.Second}
	if c.open {
		return dialer.DialContext(ctx, network, address)
	}
	host, addresses, err := c.find(ctx, address)
	if err != nil {
		return nil, err
	}
	allowed, refusal := c.sift(ctx, host, addresses)
	if len(allowed) == 0 {
		return nil, refusal
	}
	dialer.Timeout = max(leastTime, connectTime/time.Duration(len(allowed)))
	var errs []error
	for _, to := range allowed {
		conn, err := dialer.DialContext(ctx, network, to.String())
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// Check refuses "host:port" if any of its addresses is to be refused. It is for what somebody else connects to: of a name that cannot be
// resolved here nothing is known.
func (c *Client) Check(ctx context.Context, address string) error {
	c = c.orStrict()
	if c.open {
		return nil
	}
	host, addresses, err := c.find(ctx, address)
	var unknown *net.DNSError
	if errors.As(err, &unknown) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, refusal := c.sift(ctx, host, addresses); refusal != nil {
		return refusal
	}
	return nil
}

// find resolves "host:port".
func (c *Client) find(ctx context.Context, address string) (string, []netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return "", nil, err
	}
	addresses, err := c.lookup(ctx, host)
	if err != nil {
		return "", nil, err
	}
	list := make([]netip.AddrPort, 0, len(addresses))
	for _, a := range addresses {
		list = append(list, netip.AddrPortFrom(a.Unmap(), uint16(port))) //nolint:gosec // a port has 16 bits
	}
	return host, list, nil
}

// lookup gives the addresses of a host. Names of loopback need no name service, and get none, since not every one knows them.
func (c *Client) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lookupTime, fmt.Errorf("the name service did not find %s within %s", host, lookupTime))
	defer cancel()
	list, err := c.o.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return list, nil
}

// sift gives the addresses that may be reached, and why the first of the others may not.
func (c *Client) sift(ctx context.Context, host string, addresses []netip.AddrPort) ([]netip.AddrPort, error) {
	own, err := c.own()
	if err != nil {
		return nil, err
	}
	var cluster []netip.Prefix
	if c.o.Cluster != nil {
		cluster = c.o.Cluster()
	}
	var allowed []netip.AddrPort
	var refusal error
	for _, to := range addresses {
		words := judge(to.Addr(), own, cluster)
		if words == "" || c.excepted(to) {
			allowed = append(allowed, to)
		} else if refusal == nil {
			refusal = &Refusal{Field: Field(ctx), Host: host, Address: to, Words: words}
		}
	}
	return allowed, refusal
}

func (c *Client) excepted(to netip.AddrPort) bool {
	for _, r := range c.o.Allow {
		if r.Allows(to) {
			return true
		}
	}
	return false
}

// own are this machine's addresses as they are now. If they cannot be had nobody can say what is safe.
func (c *Client) own() ([]netip.Addr, error) {
	list, err := c.o.Addresses()
	if err != nil {
		return nil, fmt.Errorf("find this machine's own addresses: %w", err)
	}
	var own []netip.Addr
	for _, a := range list {
		network, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(network.IP); ok {
			own = append(own, ip.Unmap())
		}
	}
	return own, nil
}
