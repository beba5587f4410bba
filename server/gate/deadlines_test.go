package gate_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/people"
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
	s := httptest.NewServer(g.Wrap(gate.Route{Access: gate.Public, Body: 1 << 10, Timeout: time.Millisecond, Handle: func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest) // as handlers do that know nothing of time
		}
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
		t.Fatal("it is waited for a body that does not come")
	}
	late, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Body.Close()
	if late.StatusCode != http.StatusRequestTimeout || !late.Close {
		t.Errorf("it is answered %s, and the connection is to be used again: %t", late.Status, !late.Close)
	}
}

// A browser that shows another page, be it of an application beside ours, lends it neither session nor remembered password. What changes something
// must come from a page of our own; what only looks may be asked by the address bar.
func TestOtherPages(t *testing.T) {
	const token = "0123456789abcdef"
	store := peopled(t, time.Now)
	public, err := url.Parse("https://ci.example.org")
	if err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(gate.Options{Policy: access.BuiltIn(), Token: secret.New(token), People: store, Public: public})
	if err != nil {
		t.Fatal(err)
	}
	h := g.Wrap(gate.Route{Access: gate.User, Ask: gate.Ask{Verb: access.Get, Kind: access.Run, Each: true}, Timeout: time.Second, Handle: func(http.ResponseWriter, *http.Request) {}})
	session := loggedIn(t, g, store, people.Admin)
	for _, c := range []struct {
		name, value              string
		basic, looking, changing int
	}{
		{"", "", 200, 200, 403}, {"Sec-Fetch-Site", "same-origin", 200, 200, 200}, {"Sec-Fetch-Site", "none", 200, 200, 403},
		{"Origin", "http://localhost:2746", 200, 200, 200},
		{"Sec-Fetch-Site", "cross-site", 403, 403, 403}, {"Sec-Fetch-Site", "same-site", 403, 403, 403},
		{"Origin", "http://shop.localhost:2746", 403, 403, 403}, {"Origin", "http://localhost:2747", 403, 403, 403}, {"Origin", "null", 403, 403, 403},
	} {
		ask := func(method string, prove func(*http.Request)) int {
			r := httptest.NewRequest(method, "http://localhost:2746/api/v1/runs", nil)
			prove(r)
			if c.name != "" {
				r.Header.Set(c.name, c.value)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		cookie := func(r *http.Request) { r.AddCookie(session) }
		got := []int{ask(http.MethodPost, func(r *http.Request) { r.SetBasicAuth("ada", token) }), ask(http.MethodGet, cookie), ask(http.MethodPost, cookie)}
		if diff := cmp.Diff([]int{c.basic, c.looking, c.changing}, got); diff != "" {
			t.Errorf("%s %s: a remembered password, a session that looks, one that changes: %s", c.name, c.value, diff)
		}
	}
}
