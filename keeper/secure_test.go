package keeper

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access/certificate/certificatetest"
)

// outside is an address of this machine that is not loopback, as another machine would see it.
func outside(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("SKIPPED: not tested: this machine has no address but loopback")
	return ""
}

// The keeper ends TLS for our own pages and for applications, by HTTP/1 and HTTP/2, reads the certificate again when it changes, and takes nothing
// from other machines without.
func TestTLS(t *testing.T) {
	authority, dir := certificatetest.New(t), t.TempDir()
	o := options(t)
	o.Listen = "0.0.0.0:0"
	o.TLS = authority.Issue(t, dir, "one.example", time.Hour)
	p := serve(t, o, "first")
	p.web.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, secureKey{}, Secure(c))
	}
	p.web.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "own %s %t", r.RemoteAddr[:strings.LastIndex(r.RemoteAddr, ":")], r.Context().Value(secureKey{}))
	})
	set(t, p.Client, app(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "shop ", r.Header.Get("X-Forwarded-Proto"))
	}))
	_, port, err := net.SplitHostPort(p.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(scheme, address, host, name string, two bool) (string, error) {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!two)
		protocols.SetHTTP2(two)
		c := &http.Client{
			Transport:     &http.Transport{Protocols: protocols, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: authority.Roots, ServerName: name}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: patience,
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+"://"+net.JoinHostPort(address, port)+"/x?y", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := c.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body := make([]byte, 100)
		n, _ := response.Body.Read(body)
		return fmt.Sprint(response.StatusCode, " ", response.Header.Get("Location"), " ", string(body[:n])), nil
	}
	elsewhere := outside(t)
	for _, c := range []struct{ scheme, address, host, want string }{
		{"https", "127.0.0.1", "tiphys.localhost", "200  own 127.0.0.1 true"}, {"https", elsewhere, "tiphys.localhost", "200  own " + elsewhere + " true"},
		{"https", elsewhere, "shop.localhost", "200  shop https"}, {"http", "127.0.0.1", "tiphys.localhost", "200  own 127.0.0.1 false"},
		{"http", "127.0.0.1", "shop.localhost", "200  shop http"},
		{"http", elsewhere, "tiphys.localhost", "308 https://tiphys.localhost/x?y "}, {"http", elsewhere, "shop.localhost", "308 https://shop.localhost/x?y "},
	} {
		for _, two := range []bool{false, true} {
			if two && c.scheme == "http" {
				continue
			}
			if got, err := ask(c.scheme, c.address, c.host, "one.example", two); err != nil || !strings.HasPrefix(got, c.want) {
				t.Errorf("%+v, HTTP/2 %t: %q %v", c, two, got, err)
			}
		}
	}
	authority.Issue(t, dir, "two.example", time.Hour)
	if _, err := ask("https", elsewhere, "tiphys.localhost", "one.example", false); err == nil {
		t.Error("the certificate that was replaced still proves the port")
	}
	if got, err := ask("https", elsewhere, "tiphys.localhost", "two.example", false); err != nil {
		t.Errorf("the new certificate: %q %v", got, err)
	}
	p.stop(t)
	// The next server has no certificate: then there is no TLS.
	o.TLS.Cert, o.TLS.Key = "", ""
	next := serve(t, o, "second")
	if _, err := ask("https", "127.0.0.1", "tiphys.localhost", "two.example", false); err == nil {
		t.Error("a port without a certificate speaks TLS")
	}
	if got, err := ask("http", elsewhere, "tiphys.localhost", "", false); err != nil || !strings.HasPrefix(got, "200") {
		t.Errorf("a port without a certificate: %q %v", got, err)
	}
	next.stop(t)
}
