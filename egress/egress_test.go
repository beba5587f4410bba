package egress_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/failure"
)

// names is a name service that a stranger runs: each look-up of a name takes the next answer, and the last one stays.
type names struct {
	mu      sync.Mutex
	answers map[string][][]string
	asked   int
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	left := n.answers[host]
	if len(left) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(left) > 1 {
		n.answers[host] = left[1:]
	}
	var list []netip.Addr
	for _, a := range left[0] {
		list = append(list, netip.MustParseAddr(a))
	}
	return list, nil
}

// server counts the requests that reach it.
func server(t *testing.T, handler http.HandlerFunc) (*httptest.Server, func() int) {
	t.Helper()
	var mu sync.Mutex
	count := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		count++
		mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return s, func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
}

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }

func client(t *testing.T, o egress.Options) *egress.Client {
	t.Helper()
	c := egress.New(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func get(t *testing.T, c *egress.Client, target string) error {
	t.Helper()
	ctx := egress.For(t.Context(), "http.url")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: c.Shared()}).Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func port(t *testing.T, s *httptest.Server) string {
	t.Helper()
	_, p, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Loopback is reached by none of its names, and the refusal says what to do about it.
func TestLoopbackIsRefused(t *testing.T) {
	s, count := server(t, hello)
	p := port(t, s)
	n := &names{answers: map[string][][]string{
		"rebound.example": {{"127.0.0.1"}}, "mapped.example": {{"::ffff:127.0.0.1"}}, "translated.example": {{"64:ff9b::7f00:1"}}, "2130706433": {{"127.0.0.1"}},
	}}
	strict := client(t, egress.Options{Resolver: n})
	var none *egress.Client
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST.", "shop.localhost", "[::1]", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "127.1.2.3", "rebound.example", "mapped.example", "translated.example", "2130706433"} {
		err := get(t, strict, "http://"+host+":"+p+"/")
		refusal, refused := egress.Refused(err)
		if !refused || !failure.Is(err, failure.Refused) {
			t.Errorf("%s: %v", host, err)
			continue
		}
		if text := refusal.Error(); !strings.HasPrefix(text, "http.url: ") || !strings.Contains(text, "--allow-egress ") || !strings.Contains(text, ":"+p) {
			t.Errorf("%s: the refusal says %q", host, text)
		}
	}
	if _, refused := egress.Refused(get(t, none, s.URL)); !refused {
		t.Error("a client that nobody made reaches loopback")
	}
	if count() != 0 {
		t.Errorf("%d requests arrived", count())
	}
	for _, c := range []struct {
		rule string
		want bool
	}{{"127.0.0.0/8", true}, {"127.0.0.1:" + p, true}, {"127.0.0.1:1", false}, {"10.0.0.0/8", false}} {
		rule, err := egress.ParseRule(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		if err := get(t, client(t, egress.Options{Allow: []egress.Rule{rule}}), s.URL); (err == nil) != c.want {
			t.Errorf("with --allow-egress %s: %v", c.rule, err)
		}
	}
	if err := get(t, egress.Unrestricted(), s.URL); err != nil {
		t.Errorf("at one's own desk: %v", err)
	}
}

// The machine's own addresses are those that it has when it is asked.
func TestOwnAddresses(t *testing.T) {
	mine := []net.Addr{&net.IPNet{IP: net.ParseIP("198.51.100.9"), Mask: net.CIDRMask(24, 32)}}
	c := client(t, egress.Options{Addresses: func() ([]net.Addr, error) { return mine, nil }, Cluster: func() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("10.88.0.0/16")} }})
	for host, words := range map[string]string{"198.51.100.9": "server's own machine", "10.88.0.5": "pods and Services"} {
		if _, err := c.Dial(t.Context(), "tcp", host+":80"); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", host, err)
		}
	}
	broken := client(t, egress.Options{Addresses: func() ([]net.Addr, error) { return nil, errors.New("no netlink") }})
	if _, err := broken.Dial(t.Context(), "tcp", "203.0.113.1:80"); err == nil || !strings.Contains(err.Error(), "no netlink") {
		t.Errorf("without knowing its own addresses: %v", err)
	}
}

// A name that changes between two look-ups (DNS rebinding) is connected to at the address that was judged.
func TestRebinding(t *testing.T) {
	s, count := server(t, hello)
	p := port(t, s)
	n := &names{answers: map[string][][]string{"turn.example": {{"127.0.0.2"}, {"127.0.0.1"}}}}
	allowed, err := egress.ParseRule("127.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	// 127.0.0.2 is allowed and has no server at this port; a second look-up would give 127.0.0.1, which has.
	c := client(t, egress.Options{Resolver: n, Allow: []egress.Rule{allowed}})
	if err := get(t, c, "http://turn.example:"+p+"/"); err == nil {
		t.Error("the second answer was connected to")
	}
	if n.asked != 1 || count() != 0 {
		t.Errorf("the name was looked up %d times, and %d requests arrived", n.asked, count())
	}
	if _, refused := egress.Refused(get(t, c, "http://turn.example:"+p+"/")); !refused {
		t.Error("the next connection is not judged")
	}
}

// Of several addresses those are tried that may be reached.
func TestSeveralAddresses(t *testing.T) {
	s, count := server(t, hello)
	n := &names{answers: map[string][][]string{"both.example": {{"169.254.169.254", "127.0.0.1"}}}}
	allowed, err := egress.ParseRule("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, egress.Options{Resolver: n, Allow: []egress.Rule{allowed}})
	if err := get(t, c, "http://both.example:"+port(t, s)+"/"); err != nil || count() != 1 {
		t.Errorf("%v, %d requests", err, count())
	}
	if err := c.Check(t.Context(), "both.example:80"); err == nil {
		t.Error("who connects by a name of which one address is refused may get that one")
	}
}

// A redirect is judged like the first request.
func TestRedirects(t *testing.T) {
	for _, to := range []string{"http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://127.0.0.1:1/"} {
		s, _ := server(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) })
		rule, err := egress.ParseRule(s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		err = get(t, client(t, egress.Options{Allow: []egress.Rule{rule}}), s.URL)
		refusal, refused := egress.Refused(err)
		if !refused || !strings.Contains(to, refusal.Host) {
			t.Errorf("to %s: %v", to, err)
		}
	}
}

// Through the operator's proxy the destination is judged, as far as this machine can resolve it; the proxy itself is the operator's word.
func TestOperatorsProxy(t *testing.T) {
	proxy, count := server(t, hello)
	through := func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	n := &names{answers: map[string][][]string{"inside.example": {{"169.254.169.254"}}, "outside.example": {{"203.0.113.9"}}}}
	c := client(t, egress.Options{Resolver: n, Proxy: through})
	for host, want := range map[string]bool{"outside.example": true, "unknown.example": true, "inside.example": false, "localhost": false, "169.254.169.254": false} {
		before := count()
		err := get(t, c, "http://"+host+"/")
		if (err == nil) != want || (count() > before) != want {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, refused := egress.Refused(get(t, client(t, egress.Options{}), proxy.URL)); !refused {
		t.Error("the proxy's own address is reached by who names it")
	}
}

// A host that the operator named is not judged; where it sends a request on to is.
func TestTrustedHosts(t *testing.T) {
	other, _ := server(t, hello)
	s, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/on" {
			http.Redirect(w, r, other.URL, http.StatusFound)
		}
	})
	c := client(t, egress.Options{})
	web := &http.Client{Transport: c.Transport(egress.HTTP{Trusted: []string{s.Listener.Addr().String()}})}
	for path, want := range map[string]bool{"/": true, "/on": false} {
		resp, err := web.Get(s.URL + path)
		if err == nil {
			_ = resp.Body.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}
