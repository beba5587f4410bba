package keeper

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access/certificate/certificatetest"
	"github.com/tiphys/tiphys/keeper/front"
)

// proved is a certificate of a table.
func proved(t *testing.T, a *certificatetest.Authority, host string) front.Certificate {
	t.Helper()
	files := a.Issue(t, t.TempDir(), host, time.Hour)
	cert, err := os.ReadFile(files.Cert)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	return front.Certificate{Hosts: []string{host}, Cert: string(cert), Key: string(key)}
}

// A port without a certificate of its own speaks TLS for the hosts that a table proves: by HTTP/1 and HTTP/2, with trailers and for conversations. No key
// gets to the keeper's file, and a keeper that takes over, or comes after one that died, has them again.
func TestHostsWithTLS(t *testing.T) {
	first, second := certificatetest.New(t), certificatetest.New(t)
	o := options(t)
	p := serve(t, o, "first")
	table := app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_ = rw.Flush()
			for {
				line, err := rw.ReadString('\n')
				if err != nil {
					return
				}
				fmt.Fprint(conn, "echo ", line)
			}
		}
		w.Header().Set("Trailer", "Grpc-Status")
		fmt.Fprint(w, "shop ", r.Header.Get("X-Forwarded-Proto"))
		w.Header().Set("Grpc-Status", "0")
	})
	shop := table.Hosts["shop.localhost"]
	table.Hosts["a.wild.localhost"], table.Hosts["plain.localhost"] = shop, shop
	table.Certificates = []front.Certificate{proved(t, first, "shop.localhost"), proved(t, first, "*.wild.localhost")}
	set(t, p.Client, table)
	ask := func(roots *x509.CertPool, host string, two bool) (string, error) {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!two)
		protocols.SetHTTP2(two)
		c := &http.Client{Transport: &http.Transport{Protocols: protocols, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: host}}, Timeout: patience}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+p.addr.String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := c.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return fmt.Sprint(response.ProtoMajor, " ", string(body), " ", response.Trailer.Get("Grpc-Status")), err
	}
	await := func(what string, roots *x509.CertPool) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for {
			got, err := ask(roots, "shop.localhost", true)
			if err == nil && got == "2 shop https 0" {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %q %v", what, got, err)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	await("at first", first.Roots)
	for _, host := range []string{"shop.localhost", "a.wild.localhost"} {
		if got, err := ask(first.Roots, host, false); err != nil || got != "1 shop https 0" {
			t.Errorf("%s: %q %v", host, got, err)
		}
	}
	for _, host := range []string{"plain.localhost", "tiphys.localhost", "b.a.wild.localhost"} {
		if got, err := ask(first.Roots, host, false); err == nil {
			t.Errorf("%s has TLS: %q", host, got)
		}
	}
	if code, body, err := get(t, http.DefaultClient, p.addr.String(), "shop.localhost", "/"); code != 200 || body != "shop http" || err != nil {
		t.Errorf("without TLS: %d %q %v", code, body, err)
	}
	conn, err := tls.Dial("tcp", p.addr.String(), &tls.Config{RootCAs: first.Roots, ServerName: "shop.localhost", NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if response, err := http.ReadResponse(in, nil); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v %v", response, err)
	}
	echo := func(when string) {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(conn, when, "\n")
		if line, err := in.ReadString('\n'); line != "echo "+when+"\n" {
			t.Errorf("%s: %q %v", when, line, err)
		}
	}
	echo("in time")
	kept, err := os.ReadFile(filepath.Join(o.Data, "keeper", stateName))
	if err != nil || strings.Contains(string(kept), "PRIVATE KEY") || strings.Contains(string(kept), "CERTIFICATE") {
		t.Errorf("the keeper's file: %v, has a key: %t", err, strings.Contains(string(kept), "PRIVATE KEY"))
	}
	table.Certificates = []front.Certificate{proved(t, second, "shop.localhost")}
	set(t, p.Client, table)
	await("another certificate", second.Roots)
	echo("with the certificate of before")
	p.stop(t)
	echo("without a server")
	if got, err := ask(second.Roots, "shop.localhost", true); err != nil || got != "2 shop https 0" {
		t.Errorf("without a server: %q %v", got, err)
	}
	// Another version takes over, and with it the certificates.
	o.Version = "two"
	next := serve(t, o, "second")
	p.addr = next.addr
	if got, err := ask(second.Roots, "shop.localhost", true); err != nil || got != "2 shop https 0" {
		t.Errorf("after the takeover: %q %v", got, err)
	}
	echo("by the keeper before")
	set(t, next.Client, table)
	next.stop(t)
}

// What an application is asked has headers of no more bytes than what the server itself is asked.
func TestHeadersOfApplications(t *testing.T) {
	p := serve(t, options(t), "server")
	set(t, p.Client, app(t, says("shop")))
	for size, want := range map[int]int{32 << 10: http.StatusOK, 100 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.addr.String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "shop.localhost"
		request.Header.Set("X-Long", strings.Repeat("x", size))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("headers of %d bytes: %d, want %d", size, response.StatusCode, want)
		}
	}
	p.stop(t)
}
