package front_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/keeper/front"
)

// Paths decide as nginx normalises them (http://nginx.org/en/docs/http/ngx_http_core_module.html#location).
func TestNormal(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "/a/b": "/a/b", "/a/b/": "/a/b/", "//a": "/a", "/a//b": "/a/b", "/a/./b": "/a/b", "/a/../b": "/b", "/../b": "/b", "/a/..": "/", "/a/b/..": "/a/", "/a/.": "/a/", "/.well-known/x": "/.well-known/x", "/a..b/..c": "/a..b/..c",
	} {
		if got := front.Normal(path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

// An expression takes no more memory than its bounds say, however it is written.
func TestPattern(t *testing.T) {
	for text, ok := range map[string]bool{
		"/api(/|$)(.*)": true, "/[a-z0-9-]+/v[0-9]{1,3}/": true, "/" + strings.Repeat("a", 500): true, `/\pL+`: true,
		"/" + strings.Repeat("a", 600): false, "/(a{900}b{900})": true, "/(a{999}){2}": false, "/((a{30}){30})c{999}d{999}": false,
		"/" + strings.Repeat(`\pL`, 100): false, "/(?!x)": false, "/(": false,
	} {
		if _, err := front.Pattern(text); (err == nil) != ok {
			t.Errorf("%.40s is taken: %t (%v)", text, err == nil, err)
		}
	}
	if p, err := front.Pattern("/Foo"); err != nil || !p.MatchString("/foo/bar") || p.MatchString("/x/foo") {
		t.Errorf("it matches from the beginning, without regard to case: %v", err)
	}
}

// A client that has a cookie stays with its pod, and only as long as that is there.
func TestCookie(t *testing.T) {
	pod := func(name string) front.Endpoint {
		return front.Endpoint{Address: serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })), Backend: name}
	}
	a, b, c := pod("one"), pod("two"), pod("three")
	f := front.New(front.Options{})
	defer f.Close()
	set := func(pods ...front.Endpoint) {
		if err := f.Set(front.Table{Hosts: map[string][]front.Route{"x": {{Path: "/", Manner: &front.Manner{Cookie: &front.Cookie{Name: "route", Path: "/"}}, Endpoints: pods}}}}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(cookie *http.Cookie) (string, *http.Cookie) {
		r := httptest.NewRequest(http.MethodGet, "http://x/", nil)
		if cookie != nil {
			r.AddCookie(cookie)
		}
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		for _, c := range w.Result().Cookies() {
			return w.Body.String(), c
		}
		return w.Body.String(), nil
	}
	set(a, b, c)
	first, cookie := ask(nil)
	if cookie == nil || cookie.Name != "route" || strings.Contains(cookie.Value, first) {
		t.Fatalf("%s: %v", first, cookie)
	}
	for range 6 {
		if got, again := ask(cookie); got != first || again != nil {
			t.Errorf("%s answers for %s, with %v", got, first, again)
		}
	}
	others := map[string]bool{}
	for range 6 {
		got, _ := ask(nil)
		others[got] = true
	}
	if len(others) != 3 {
		t.Errorf("those without a cookie go to %v", others)
	}
	var rest []front.Endpoint
	for _, e := range []front.Endpoint{a, b, c} {
		if e.Backend != first {
			rest = append(rest, e)
		}
	}
	set(rest...)
	got, next := ask(cookie)
	if next == nil || got == first {
		t.Fatalf("its pod is gone: %s %v", got, next)
	}
	if again, none := ask(next); again != got || none != nil {
		t.Errorf("%s, then %s %v", got, again, none)
	}
}

// An application may speak TLS, and HTTP/2 with it.
func TestEncryptedEndpoints(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		fmt.Fprint(w, r.Proto, " ", r.TLS != nil)
		w.Header().Set("Grpc-Status", "0")
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	to := []front.Endpoint{{Address: s.Listener.Addr().String(), Backend: "a"}}
	f := front.New(front.Options{})
	defer f.Close()
	if err := f.Set(front.Table{Hosts: map[string][]front.Route{"https": {{Path: "/", TLS: true, Endpoints: to}}, "grpcs": {{Path: "/", TLS: true, HTTP2: true, Endpoints: to}}}}); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"https": "HTTP/1.1 true", "grpcs": "HTTP/2.0 true"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			w := httptest.NewRecorder()
			f.ServeHTTP(w, httptest.NewRequest(method, "http://"+host+"/", nil))
			if w.Body.String() != want || host == "grpcs" && w.Result().Trailer.Get("Grpc-Status") != "0" {
				t.Errorf("%s %s: %q %v", method, host, w.Body, w.Result().Trailer)
			}
		}
	}
}

// Requests without TLS are sent to where it is, but for those of a proxy that says that it had it, and where that is enough those over loopback.
func TestEncrypted(t *testing.T) {
	f := front.New(front.Options{})
	defer f.Close()
	app := []front.Endpoint{{Address: serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), Backend: "a"}}
	hosts := map[string][]front.Route{}
	for host, how := range map[string]front.Encrypted{"always": front.EncryptedAlways, "elsewhere": front.EncryptedElsewhere} {
		hosts[host] = []front.Route{{Path: "/", Manner: &front.Manner{Encrypted: how}, Endpoints: app}}
	}
	if err := f.Set(front.Table{Hosts: hosts}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host, from, proto string
		tls               bool
		want              int
	}{
		{"always", "127.0.0.1:1", "", false, 308}, {"always", "127.0.0.1:1", "https", false, 200}, {"always", "192.0.2.1:1", "", true, 200},
		{"elsewhere", "127.0.0.1:1", "", false, 200}, {"elsewhere", "[::ffff:127.0.0.1]:1", "", false, 200}, {"elsewhere", "192.0.2.1:1", "", false, 308}, {"elsewhere", "192.0.2.1:1", "", true, 200},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://"+c.host+":8080/x?y=z", nil)
		if r.RemoteAddr = c.from; c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if c.proto != "" {
			r.Header.Set("X-Forwarded-Proto", c.proto)
		}
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if location := w.Header().Get("Location"); w.Code != c.want || (w.Code == 308) != (location == "https://"+c.host+":8080/x?y=z") {
			t.Errorf("%+v: %d %s", c, w.Code, location)
		}
	}
}
