// Package fronttest is the suite of whatever carries requests by a table: in this process, or in one that outlives it.
package fronttest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/keeper/front"
)

// Front is what is tested.
type Front interface {
	Set(front.Table) error
	Drained(ctx context.Context, backend string)
}

// Run tests a front that open makes, which routes nothing yet, with the address of its HTTP port.
func Run(t *testing.T, open func(t *testing.T) (f Front, address string)) {
	for name, test := range map[string]func(*testing.T, Front, string){
		"hosts and paths": hosts, "headers": headers, "upgrade": upgrade, "streams": streams, "HTTP/2": http2, "a pod that is gone": gone,
		"a pod that comes": comes, "drain": drain, "Service": service, "datagrams": datagrams, "affinity": affinity, "half a conversation": half, "refused table": refused,
	} {
		t.Run(name, func(t *testing.T) {
			f, address := open(t)
			test(t, f, address)
		})
	}
}

// patience bounds what is waited for.
const patience = 30 * time.Second

// pod serves as a pod would, and gives its endpoint.
func pod(t *testing.T, name string, h http.Handler) front.Endpoint {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return front.Endpoint{Address: s.Listener.Addr().String(), Backend: name}
}

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text, " ", r.URL.Path, " ", r.Proto) })
}

// set gives a table and waits until it counts: what is asked next is done after it.
func set(t *testing.T, f Front, table front.Table) {
	t.Helper()
	if err := f.Set(table); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f.Drained(ctx, "nobody")
}

func root(endpoints ...front.Endpoint) map[string][]front.Route {
	return map[string][]front.Route{"shop.localhost": {{Path: "/", Endpoints: endpoints}}}
}

func client(t *testing.T, protocols func(*http.Protocols)) *http.Client {
	p := new(http.Protocols)
	protocols(p)
	transport := &http.Transport{Protocols: p}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func http1(t *testing.T) *http.Client { return client(t, func(p *http.Protocols) { p.SetHTTP1(true) }) }

func ask(t *testing.T, c *http.Client, address, host, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// await asks until the answer is there: another process may take a moment to know a table.
func await(t *testing.T, address string, code int, text string) {
	t.Helper()
	c := http1(t)
	deadline := time.Now().Add(patience)
	for {
		got, body := ask(t, c, address, "shop.localhost", "/")
		if got == code && strings.HasPrefix(body, text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it answers %d %q, not %d %q", got, body, code, text)
		}
	}
}

func hosts(t *testing.T, f Front, address string) {
	a, b, c := pod(t, "a", says("a")), pod(t, "b", says("b")), pod(t, "c", says("c"))
	set(t, f, front.Table{Hosts: map[string][]front.Route{
		"shop.localhost": {{Path: "/", Endpoints: []front.Endpoint{a}}, {Path: "/api", Endpoints: []front.Endpoint{b}}, {Path: "/api", Exact: true, Endpoints: []front.Endpoint{c}}},
		"*.mr.localhost": {{Path: "/only", Endpoints: []front.Endpoint{c}}},
	}})
	await(t, address, 200, "a / HTTP/1.1")
	for _, want := range []struct {
		host, path string
		code       int
		text       string
	}{
		{"shop.localhost:2746", "/apis", 200, "a /apis"},
		{"SHOP.localhost.", "/api/x", 200, "b /api/x"},
		{"shop.localhost", "/api", 200, "c /api"},
		{"7.mr.localhost", "/only/1", 200, "c /only/1"},
		{"7.mr.localhost", "/other", 404, ""},
		{"7.8.mr.localhost", "/only", 421, ""},
		{"other.localhost", "/", 421, ""},
	} {
		if code, body := ask(t, http1(t), address, want.host, want.path); code != want.code || !strings.HasPrefix(body, want.text) {
			t.Errorf("%s%s: %d %q, not %d %q", want.host, want.path, code, body, want.code, want.text)
		}
	}
}

// headers says what an application is told of its client, and what a client cannot make it believe.
func headers(t *testing.T, f Front, address string) {
	e := pod(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, " ", r.Header.Values("X-Forwarded-For"), r.Header.Values("X-Forwarded-Host"), r.Header.Values("X-Forwarded-Proto"), r.Header.Values("Forwarded"))
	}))
	set(t, f, front.Table{Hosts: root(e)})
	await(t, address, 200, "shop.localhost")
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	request.Host = "shop.localhost"
	request.Header.Set("X-Forwarded-For", "203.0.113.7")
	request.Header.Set("X-Forwarded-Host", "evil.example")
	request.Header.Set("Forwarded", "for=203.0.113.7")
	response, err := http1(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if got, want := string(body), "shop.localhost [127.0.0.1] [shop.localhost] [http] []"; got != want {
		t.Errorf("the application is told %s, not %s", got, want)
	}
}

func upgrade(t *testing.T, f Front, address string) {
	e := pod(t, "a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		fmt.Fprint(conn, "echo ", line)
	}))
	set(t, f, front.Table{Hosts: root(e)})
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v %v", response, err)
	}
	defer response.Body.Close()
	fmt.Fprint(conn, "hello\n")
	if line, err := in.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("%q %v", line, err)
	}
}

// streams says that what an application sends is passed on at once.
func streams(t *testing.T, f Front, address string) {
	more := make(chan struct{})
	e := pod(t, "a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "one\n")
		_ = http.NewResponseController(w).Flush()
		<-more
		fmt.Fprint(w, "two\n")
	}))
	set(t, f, front.Table{Hosts: root(e)})
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	request.Host = "shop.localhost"
	response, err := http1(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	in := bufio.NewReader(response.Body)
	if line, err := in.ReadString('\n'); line != "one\n" {
		t.Errorf("%q %v", line, err)
	}
	close(more)
	if line, err := in.ReadString('\n'); line != "two\n" {
		t.Errorf("%q %v", line, err)
	}
}

// http2 says that a client may speak HTTP/2 without TLS, and that an application may, with trailers as gRPC needs them.
func http2(t *testing.T, f Front, address string) {
	e := pod(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		fmt.Fprint(w, r.Proto)
		w.Header().Set("Grpc-Status", "0")
	}))
	set(t, f, front.Table{Hosts: map[string][]front.Route{
		"shop.localhost": {{Path: "/", Endpoints: []front.Endpoint{e}}}, "grpc.localhost": {{Path: "/", HTTP2: true, Endpoints: []front.Endpoint{e}}},
	}})
	await(t, address, 200, "HTTP/1.1")
	c := client(t, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	for host, proto := range map[string]string{"shop.localhost": "HTTP/1.1", "grpc.localhost": "HTTP/2.0"} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/", strings.NewReader("x"))
		request.Host = host
		response, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.Proto != "HTTP/2.0" || string(body) != proto || response.Trailer.Get("Grpc-Status") != "0" {
			t.Errorf("%s: %s %q %v", host, response.Proto, body, response.Trailer)
		}
	}
}

// dead is an endpoint where nobody listens.
func dead(t *testing.T, name string) front.Endpoint {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return front.Endpoint{Address: l.Addr().String(), Backend: name}
}

// gone says that a request whose pod cannot be reached goes to another, with its body.
func gone(t *testing.T, f Front, address string) {
	e := pod(t, "b", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	set(t, f, front.Table{Hosts: root(dead(t, "a"), e)})
	await(t, address, 200, "")
	for range 4 {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/", strings.NewReader("order"))
		request.Host = "shop.localhost"
		response, err := http1(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK || string(body) != "order" {
			t.Errorf("%d %q", response.StatusCode, body)
		}
	}
}

// comes says that a request waits for a pod.
func comes(t *testing.T, f Front, address string) {
	set(t, f, front.Table{Hosts: root()})
	await(t, address, 503, "")
	answer := make(chan string, 1)
	go func() {
		_, body := ask(t, http1(t), address, "shop.localhost", "/")
		answer <- body
	}()
	set(t, f, front.Table{Hosts: root(pod(t, "a", says("here")))})
	if body := <-answer; !strings.HasPrefix(body, "here") {
		t.Errorf("a request that waited got %q", body)
	}
}

// drain says that a pod that leaves gets nothing new, and is drained when what is under way has ended.
func drain(t *testing.T, f Front, address string) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	leaving := pod(t, "leaving", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-finish
		}
		fmt.Fprint(w, "leaving")
	}))
	stays := pod(t, "stays", says("stays"))
	set(t, f, front.Table{Hosts: root(leaving)})
	await(t, address, 200, "leaving")
	answer := make(chan string, 1)
	go func() {
		_, body := ask(t, http1(t), address, "shop.localhost", "/slow")
		answer <- body
	}()
	<-arrived
	set(t, f, front.Table{Hosts: root(stays)})
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		f.Drained(t.Context(), "leaving")
	}()
	await(t, address, 200, "stays")
	select {
	case <-drained:
		t.Error("drained before its request has ended")
	default:
	}
	close(finish)
	if body := <-answer; body != "leaving" {
		t.Errorf("the request under way got %q", body)
	}
	select {
	case <-drained:
	case <-time.After(patience):
		t.Error("not drained when its request has ended")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if f.Drained(ctx, "nobody knows it"); ctx.Err() != nil {
		t.Error("a pod that was never routed to is not drained")
	}
}

// service says that a Service's address carries connections, and ends when the table has it no more.
func service(t *testing.T, f Front, _ string) {
	at := dead(t, "").Address
	set(t, f, front.Table{Ports: []front.Port{{Address: at, Endpoints: []front.Endpoint{dead(t, "a"), pod(t, "b", says("b"))}}}})
	var dialer net.Dialer
	connect := func() (net.Conn, error) { return dialer.DialContext(t.Context(), "tcp", at) }
	deadline := time.Now().Add(patience)
	for conn, err := connect(); ; conn, err = connect() {
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	for range 4 {
		if code, body := ask(t, http1(t), at, "any", "/x"); code != 200 || !strings.HasPrefix(body, "b /x") {
			t.Errorf("%d %q", code, body)
		}
	}
	set(t, f, front.Table{})
	for conn, err := connect(); err == nil; conn, err = connect() {
		_ = conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the address still answers")
		}
	}
}

func refused(t *testing.T, f Front, address string) {
	set(t, f, front.Table{Hosts: root(pod(t, "a", says("a")))})
	await(t, address, 200, "a")
	for _, bad := range []front.Table{
		{Hosts: map[string][]front.Route{"x": {{Path: "/", Endpoints: []front.Endpoint{{Address: "example.org:80", Backend: "a"}}}}}},
		{Hosts: map[string][]front.Route{"x": {{Endpoints: nil}}}},
		{Ports: []front.Port{{Address: "10.0.0.1"}}},
		{Ports: []front.Port{{Address: "10.0.0.1:1", Endpoints: []front.Endpoint{{Address: "10.0.0.1:1"}}}}},
		{Hosts: map[string][]front.Route{strings.Repeat("x", 5000): nil}},
	} {
		if err := f.Set(bad); err == nil {
			t.Errorf("taken: %+v", bad)
		}
	}
	await(t, address, 200, "a")
}
