package gate_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/server/gate"
)

// A client that says that a body comes, and sends none, is not waited for longer than the route's time; the connection of one that was
// quick goes on to be used.
func TestBodiesThatDoNotCome(t *testing.T) {
	g, err := gate.New(gate.Options{Policy: access.BuiltIn()})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	s := httptest.NewServer(g.Wrap(gate.Route{Access: gate.Public, Body: 1 << 10, Timeout: time.Millisecond, Handle: func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		read <- err
	}}))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok")
	if err := <-read; err != nil {
		t.Errorf("a body that came: %v", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nx")
	select {
	case err := <-read:
		if err == nil {
			t.Error("half a body is taken for a whole one")
		}
	case <-time.After(time.Minute):
		t.Error("it is waited for a body that does not come")
	}
}

// A browser that shows another page, be it of an application beside ours, lends it neither session nor remembered password.
func TestOtherPages(t *testing.T) {
	const token = "0123456789abcdef"
	for _, guarded := range []bool{true, false} {
		o := gate.Options{Policy: access.BuiltIn()}
		if guarded {
			o.Token = secret.New(token)
		}
		g, err := gate.New(o)
		if err != nil {
			t.Fatal(err)
		}
		h := g.Wrap(gate.Route{Access: gate.User, Ask: gate.Ask{Verb: access.Get, Kind: access.Run, Each: true}, Timeout: time.Second, Handle: func(http.ResponseWriter, *http.Request) {}})
		for _, c := range []struct {
			name, value string
			want        int
		}{
			{"", "", 200}, {"Sec-Fetch-Site", "same-origin", 200}, {"Sec-Fetch-Site", "none", 200}, {"Origin", "http://localhost", 200},
			{"Sec-Fetch-Site", "cross-site", 403}, {"Sec-Fetch-Site", "same-site", 403}, {"Origin", "http://shop.localhost", 403}, {"Origin", "null", 403},
		} {
			r := httptest.NewRequest(http.MethodPost, "http://localhost/api/v1/runs", nil)
			r.SetBasicAuth("ada", token)
			if c.name != "" {
				r.Header.Set(c.name, c.value)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("guarded %t, %s %s: %d, want %d", guarded, c.name, c.value, w.Code, c.want)
			}
		}
	}
}
