package keeper

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestSort(t *testing.T) {
	o := Own{Names: []string{"tiphys.localhost", "ci.example.org"}}
	for text, want := range map[string]verdict{
		"":                                      unknown,
		"GET / HTTP/1.1\r\n":                    unknown,
		"GET / HTTP/1.1\r\nHost: localhost":     unknown,
		"GET / HTTP/1.1\r\nHost: localhost\r\n": servers,
		"GET / HTTP/1.1\r\nhOST:localhost:2746\r\n":              servers,
		"GET / HTTP/1.1\nA: b\nHost: CI.example.org.\n":          servers,
		"GET / HTTP/1.1\r\nHost: 127.0.0.1:2746\r\n":             servers,
		"GET / HTTP/1.1\r\nHost: [::1]:2746\r\n":                 servers,
		"GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n":                   keepers,
		"GET / HTTP/1.1\r\nHost: shop.localhost\r\n":             keepers,
		"GET http://localhost/ HTTP/1.1\r\n":                     servers,
		"GET http://shop.localhost/ HTTP/1.1\r\nHost: localhost": keepers,
		"GET / HTTP/1.1\r\n\r\n":                                 keepers,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                       keepers,
		"\x16\x03\x01 nonsense\n":                                keepers,
		strings.Repeat("x", maxRead):                             keepers,
		"GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", 4000):  keepers,
	} {
		if got := o.sort([]byte(text)); got != want {
			t.Errorf("%.60q is sorted as %d, not %d", text, got, want)
		}
	}
	if (Own{Addresses: true}).sort([]byte("GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n")) != servers {
		t.Error("whoever writes an address means the server, where that is so")
	}
}

// FuzzSort compares the quick look with net/http's reading: they may differ about odd requests, which costs a detour; but a plain one is
// sorted right, and nothing makes the look fail.
func FuzzSort(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	f.Add([]byte("GET http://shop.localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	f.Add([]byte("POST /x HTTP/1.0\r\nA: b\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc"))
	o := Own{Names: []string{"tiphys.localhost"}}
	f.Fuzz(func(t *testing.T, read []byte) {
		got := o.sort(read)
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(read)))
		if err != nil || got == unknown || !strings.HasPrefix(r.RequestURI, "/") || len(read) >= maxRead || r.ProtoMajor != 1 {
			return
		}
		if want := o.verdict(r.Host); got != want {
			t.Errorf("%q is sorted as %d; it is for %q: %d", read, got, r.Host, want)
		}
	})
}
