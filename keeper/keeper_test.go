package keeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/keeper/front"
	"github.com/tiphys/tiphys/keeper/front/fronttest"
)

// TestMain lets this test's own program be the keeper.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "__keeper" {
		if err := Main(context.Background(), os.Stdin, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "__front" {
		serveFront()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const patience = 30 * time.Second

// options are those of a server whose keeper ends with the test.
func options(t *testing.T) Options {
	t.Helper()
	data := t.TempDir()
	t.Cleanup(func() {
		if _, err := End(context.Background(), data); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(filepath.Join(data, "keeper", logName)); err == nil && t.Failed() {
			t.Logf("the keeper says: %s", text)
		}
	})
	return Options{
		Data: data, Listen: "127.0.0.1:0", Own: Own{Names: []string{"tiphys.localhost"}}, Version: "one",
		Log: slog.New(slog.NewTextHandler(logged{t}, nil)),
	}
}

type logged struct{ t *testing.T }

func (l logged) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Logf("%s", p)
	}
	return len(p), nil
}

func attach(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := Attach(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pages is a server of our own pages.
type pages struct {
	*Client
	web  *http.Server
	done chan struct{}
}

// serve has a server answer with its name, the path and the client's address.
func serve(t *testing.T, o Options, name string) *pages {
	t.Helper()
	p := &pages{Client: attach(t, o), done: make(chan struct{})}
	p.web = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !o.Own.Has(r.Host) {
			p.ServeHTTP(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s", name, r.URL.Path, r.RemoteAddr, body)
	})}
	go func() {
		defer close(p.done)
		_ = p.web.Serve(p.Listener())
	}()
	p.Serve()
	t.Cleanup(func() { _ = p.web.Close() })
	return p
}

// stop ends a server in order.
func (p *pages) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p.Pause(ctx)
	if err := p.web.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	p.Wait(ctx)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	<-p.done
}

func get(t *testing.T, c *http.Client, address, host, path string) (int, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0, "", err
	}
	request.Host = host
	response, err := c.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func fresh() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
}

func must(t *testing.T, address, host, path, prefix string) string {
	t.Helper()
	code, body, err := get(t, fresh(), address, host, path)
	if err != nil || code != http.StatusOK || !strings.HasPrefix(body, prefix) {
		t.Fatalf("%s%s: %d %q %v", host, path, code, body, err)
	}
	return body
}

func app(t *testing.T, h http.HandlerFunc) front.Table {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return front.Table{Hosts: map[string][]front.Route{"shop.localhost": {{Path: "/", Endpoints: []front.Endpoint{{Address: s.Listener.Addr().String(), Backend: "shop"}}}}}}
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

func set(t *testing.T, c *Client, table front.Table) {
	t.Helper()
	if err := c.Set(table); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c.Drained(ctx, "nobody") // which is done after it
}

func TestKeeperIsAFront(t *testing.T) {
	fronttest.Run(t, func(t *testing.T) (fronttest.Front, string) {
		c := attach(t, options(t))
		t.Cleanup(func() { _ = c.Close() })
		return c, c.addr.String()
	})
}

// The demand: applications do not notice that the server goes, and our own pages wait for the next one.
func TestServerComesAndGoes(t *testing.T) {
	o := options(t)
	first := serve(t, o, "first")
	address := first.addr.String()
	set(t, first.Client, app(t, says("shop")))
	must(t, address, "localhost", "/a", "first /a")
	must(t, address, "shop.localhost", "/", "shop")
	// HTTP/2 has one connection for everything, which the keeper reads.
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	two := &http.Client{Transport: &http.Transport{Protocols: protocols}, Timeout: patience}
	for host, want := range map[string]string{"localhost": "first /b 127.0.0.1:", "shop.localhost": "shop"} {
		if code, body, err := get(t, two, address, host, "/b"); err != nil || code != http.StatusOK || !strings.HasPrefix(body, want) {
			t.Errorf("%s over HTTP/2: %d %q %v", host, code, body, err)
		}
	}
	two.CloseIdleConnections()
	first.stop(t)
	must(t, address, "shop.localhost", "/", "shop")
	// These come while there is no server.
	type answer struct {
		body string
		err  error
	}
	answers := make(chan answer, 3)
	arrived := make(chan struct{}, 3)
	for range cap(answers) {
		go func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				answers <- answer{err: err}
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "POST /waits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbo")
			arrived <- struct{}{}
			fmt.Fprint(conn, "dy")
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				answers <- answer{err: err}
				return
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			answers <- answer{string(body), err}
		}()
	}
	for range cap(answers) {
		<-arrived
	}
	second := serve(t, o, "second")
	if second.addr.String() != address {
		t.Errorf("the port moved from %s to %s", address, second.addr)
	}
	for range cap(answers) {
		if a := <-answers; a.err != nil || !strings.HasPrefix(a.body, "second /waits 127.0.0.1:") || !strings.HasSuffix(a.body, " body") {
			t.Errorf("a request that waited got %q, %v", a.body, a.err)
		}
	}
	// The routes are the keeper's own, until the server has others.
	must(t, address, "shop.localhost", "/", "shop")
	second.stop(t)
}

// A server that dies has read nothing of a connection whose arrival it did not confirm: the next one gets it.
func TestConnectionOnItsWayToADyingServer(t *testing.T) {
	o := options(t)
	first := attach(t, o)
	address := first.addr.String()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	dying, m, port, err := dial(t.Context(), folder(o.Data), o.Version)
	if err != nil || m.Op != opWelcome {
		t.Fatal(m, err)
	}
	_ = port.Close()
	for _, op := range []string{opAttach, opServe} {
		if err := dying.send(message{Op: op}); err != nil {
			t.Fatal(err)
		}
	}
	answer := make(chan string, 1)
	go func() {
		code, body, err := get(t, fresh(), address, "localhost", "/x")
		answer <- fmt.Sprint(code, " ", body, " ", err)
	}()
	for m.Op != opConn {
		var files []*os.File
		if m, files, err = dying.receive(); err != nil {
			t.Fatal(err)
		}
		closeAll(files)
	}
	dying.close()
	second := serve(t, o, "second")
	if got := <-answer; !strings.HasPrefix(got, "200 second /x") {
		t.Errorf("the request got %s", got)
	}
	second.stop(t)
}

// One connection may ask for our own pages and for applications in turn, and the server knows whose each request is.
func TestOneConnectionForBoth(t *testing.T) {
	o := options(t)
	s := serve(t, o, "server")
	set(t, s.Client, app(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "shop %s %s %s", r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Custom"), body)
	}))
	conn, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	self := conn.LocalAddr().String()
	for i, exchange := range []struct{ request, want string }{
		{"GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\n", "server /1 " + self + " "},
		{"GET /2 HTTP/1.1\r\nHost: LOCALHOST:80\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n", "server /2 " + self + " "},
		{"POST / HTTP/1.1\r\nHost: shop.localhost\r\nX-Custom: yes\r\nContent-Length: 4\r\n\r\nfour", "shop 127.0.0.1 yes four"},
		{"POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsix\r\n0\r\n\r\n", "shop 127.0.0.1  six"},
		{"POST /3 HTTP/1.1\r\nHost: tiphys.localhost\r\nX-Forwarded-For: 203.0.113.7\r\nForwarded: for=203.0.113.7\r\nContent-Length: 2\r\n\r\nok", "server /3 " + self + " ok"},
		{"GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n", "shop 127.0.0.1  "},
	} {
		fmt.Fprint(conn, exchange.request)
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if string(body) != exchange.want || err != nil {
			t.Errorf("request %d got %q, not %q: %v", i, body, exchange.want, err)
		}
	}
	// The body of a request that is given back may be larger than what was read of it.
	large := strings.Repeat("large ", 100_000)
	second, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	_ = second.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(second, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	in = bufio.NewReader(second)
	for i := range 2 {
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || i == 1 && !strings.HasSuffix(string(body), large) {
			t.Errorf("%d bytes came back, %v", len(body), err)
		}
		if i == 0 {
			fmt.Fprintf(second, "POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: %d\r\n\r\n%s", len(large), large)
		}
	}
	s.stop(t)
}

func TestNoServer(t *testing.T) {
	o := options(t)
	o.Wait = 10 * time.Millisecond
	c := attach(t, o)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	for _, client := range []*http.Client{fresh(), {Transport: &http.Transport{Protocols: protocols}}} {
		response, err := client.Post("http://"+c.addr.String(), "text/plain", strings.NewReader(strings.Repeat("x", 200_000)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "away") {
			t.Errorf("%+v %s %v", response, body, err)
		}
	}
}

// A request that comes before anybody has said what goes where waits for it: it is not told that there is no such host.
func TestRoutesAreNotKnownYet(t *testing.T) {
	o := options(t)
	c := attach(t, o)
	defer c.Close()
	arrived, answer := make(chan struct{}), make(chan string, 1)
	go func() {
		conn, err := net.Dial("tcp", c.addr.String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
		close(arrived)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		answer <- fmt.Sprint(response.StatusCode, " ", string(body), " ", err)
	}()
	<-arrived
	set(t, c, app(t, says("shop")))
	if got := <-answer; got != "200 shop <nil>" {
		t.Errorf("it got %s", got)
	}
	if code, _, err := get(t, fresh(), c.addr.String(), "other.localhost", "/"); code != http.StatusMisdirectedRequest {
		t.Errorf("a host that nobody has: %d %v", code, err)
	}
}

// What keepers complain of does not fill the disk.
func TestComplaintsAreBounded(t *testing.T) {
	f, err := openLog(filepath.Join(t.TempDir(), logName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := &complaints{file: f}
	line := []byte(strings.Repeat("x", 1<<20))
	for range 12 {
		if _, err := c.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := f.Stat(); err != nil || st.Size() > maxLog+int64(len(line)) {
		t.Errorf("the file has %d bytes, %v", st.Size(), err)
	}
}

// load sends requests to the shop until it is stopped, over connections of their own, and over lasting ones if those may be. Through a
// Service nobody can tell when a lasting one that is always in use may be ended.
func load(t *testing.T, address string, lasting bool) (stop func() int64) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var asked atomic.Int64
	for i := range 4 {
		wg.Go(func() {
			transport := &http.Transport{DisableKeepAlives: !lasting || i%2 == 0}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			for ctx.Err() == nil {
				code, body, err := get(t, client, address, "shop.localhost", "/")
				if err != nil || code != http.StatusOK || body != "shop" {
					t.Errorf("an application answered %d %q, %v", code, body, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	return func() int64 { cancel(); wg.Wait(); return asked.Load() }
}

func pid(t *testing.T, o Options) int {
	t.Helper()
	l, m, port, err := dial(t.Context(), folder(o.Data), o.Version)
	if err != nil {
		t.Fatal(err)
	}
	l.close()
	_ = port.Close()
	return m.PID
}

// ended waits until a process is no more, or is what its parent has not yet taken note of.
func ended(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A keeper of another version takes over: no request is lost, what is under way ends at the one before, which then ends too.
func TestUpgrade(t *testing.T) {
	o := options(t)
	first := serve(t, o, "first")
	address := first.addr.String()
	arrived, finish := make(chan struct{}), make(chan struct{})
	table := app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-finish
		}
		fmt.Fprint(w, "shop")
	})
	service, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := service.Addr().String()
	_ = service.Close()
	table.Ports = []front.Port{{Address: at, Endpoints: table.Hosts["shop.localhost"][0].Endpoints}}
	set(t, first.Client, table)
	must(t, address, "shop.localhost", "/", "shop")
	slow := make(chan string, 1)
	go func() {
		_, body, err := get(t, fresh(), address, "shop.localhost", "/slow")
		slow <- fmt.Sprint(body, " ", err)
	}()
	<-arrived
	old := pid(t, o)
	stopHost, stopService := load(t, address, true), load(t, at, false)
	first.stop(t)
	o.Version = "two"
	second := serve(t, o, "second")
	if now := pid(t, o); now == old {
		t.Error("the keeper of another version was not replaced")
	}
	if second.addr.String() != address {
		t.Errorf("the port moved from %s to %s", address, second.addr)
	}
	must(t, address, "localhost", "/", "second")
	set(t, second.Client, table)
	// What the keeper before carries counts when a pod is drained.
	empty := table
	empty.Hosts = map[string][]front.Route{"shop.localhost": {{Path: "/", Endpoints: app(t, says("shop")).Hosts["shop.localhost"][0].Endpoints}}}
	empty.Hosts["shop.localhost"][0].Endpoints[0].Backend = "new"
	empty.Ports = []front.Port{{Address: at, Endpoints: empty.Hosts["shop.localhost"][0].Endpoints}}
	set(t, second.Client, empty)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		second.Drained(t.Context(), "shop")
	}()
	must(t, address, "shop.localhost", "/", "shop")
	select {
	case <-drained:
		t.Error("drained while the keeper before has a request under way")
	default:
	}
	close(finish)
	if got := <-slow; got != "shop <nil>" {
		t.Errorf("the request under way got %s", got)
	}
	<-drained
	t.Logf("%d requests to the host and %d to the Service, none lost", stopHost(), stopService())
	ended(t, old)
	second.stop(t)
}

// A keeper that dies is started again by the server, at the same port, which is never closed.
func TestKeeperDies(t *testing.T) {
	o := options(t)
	s := serve(t, o, "server")
	address := s.addr.String()
	set(t, s.Client, app(t, says("shop")))
	must(t, address, "shop.localhost", "/", "shop")
	for range 3 {
		old := pid(t, o)
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		ended(t, old)
		must(t, address, "shop.localhost", "/", "shop")
		must(t, address, "localhost", "/", "server /")
	}
	s.stop(t)
}

// A keeper that did not answer, and whose place another has, ends when it finds out: both accept connections.
func TestKeeperThatWasTakenForDead(t *testing.T) {
	o := options(t)
	s := serve(t, o, "server")
	set(t, s.Client, app(t, says("shop")))
	old := pid(t, o)
	if err := os.Remove(filepath.Join(folder(o.Data), socketName)); err != nil {
		t.Fatal(err)
	}
	ended(t, old)
	must(t, s.addr.String(), "shop.localhost", "/", "shop")
	must(t, s.addr.String(), "localhost", "/", "server")
	s.stop(t)
}

// A keeper that dies without a server leaves its routes in a file.
func TestRoutesOutliveTheKeeper(t *testing.T) {
	o := options(t)
	first := attach(t, o)
	set(t, first, app(t, says("shop")))
	must(t, first.addr.String(), "shop.localhost", "/", "shop")
	old := pid(t, o)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, old)
	second := attach(t, o)
	defer second.Close()
	must(t, second.addr.String(), "shop.localhost", "/", "shop")
}

// A server that was taken for dead and comes back is refused: nothing that it says is done.
func TestStaleServer(t *testing.T) {
	o := options(t)
	stale := attach(t, o)
	defer stale.Close()
	set(t, stale, app(t, says("old")))
	now := serve(t, o, "now")
	set(t, now.Client, app(t, says("new")))
	must(t, now.addr.String(), "shop.localhost", "/", "new")
	set(t, stale, app(t, says("stale")))
	stale.Serve()
	for range 5 {
		must(t, now.addr.String(), "shop.localhost", "/", "new")
		must(t, now.addr.String(), "localhost", "/", "now")
	}
	select {
	case <-stale.done:
	case <-time.After(patience):
		t.Error("the stale server goes on")
	}
	now.stop(t)
}

// Nobody but the server that attached may say anything, and what no server says ends the conversation.
func TestStrangers(t *testing.T) {
	o := options(t)
	c := attach(t, o)
	defer c.Close()
	set(t, c, app(t, says("shop")))
	st, err := os.Stat(filepath.Join(folder(o.Data), socketName))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the control socket has mode %v, %v", st.Mode(), err)
	}
	path, done, err := near(folder(o.Data), socketName)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for name, said := range map[string]string{
		"table without attaching": frame(`{"op":"hello","protocol":1}`) + frame(`{"op":"table","table":{}}`),
		"take over":               frame(`{"op":"hello","protocol":1}`) + frame(`{"op":"take over"}`),
		"no hello":                frame(`{"op":"attach"}`),
		"nonsense":                frame(`{"op":`),
		"files that are not":      frame(`{"op":"hello","files":3}`),
		"a long message":          "\xff\xff\xff\xff",
		"HTTP":                    "GET / HTTP/1.1\r\n\r\n",
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(conn, said)
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the keeper still listens", name)
		}
		_ = conn.Close()
	}
	must(t, c.addr.String(), "shop.localhost", "/", "shop")
}

func frame(text string) string {
	return string([]byte{0, 0, byte(len(text) >> 8), byte(len(text))}) + text
}

func TestEnd(t *testing.T) {
	o := options(t)
	if there, err := End(t.Context(), o.Data); there || err != nil {
		t.Errorf("%v %v", there, err)
	}
	c := attach(t, o)
	set(t, c, app(t, says("shop")))
	must(t, c.addr.String(), "shop.localhost", "/", "shop")
	old := pid(t, o)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if there, err := End(t.Context(), o.Data); !there || err != nil {
		t.Errorf("%v %v", there, err)
	}
	ended(t, old)
	// A keeper whose data folder is gone ends by itself.
	c = attach(t, o)
	old = pid(t, o)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(folder(o.Data)); err != nil {
		t.Fatal(err)
	}
	ended(t, old)
}

func TestPortIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := options(t)
	o.Listen = l.Addr().String()
	var refused *StartError
	if _, err := Attach(t.Context(), o); !errors.As(err, &refused) || !strings.Contains(err.Error(), "listen on") {
		t.Errorf("%v", err)
	}
	// Another port of the same data folder is had by another keeper.
	o.Listen = "127.0.0.1:0"
	c := attach(t, o)
	set(t, c, app(t, says("shop")))
	must(t, c.addr.String(), "shop.localhost", "/", "shop")
	before := c.addr.String()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	o.Listen = "[::1]:0"
	moved := attach(t, o)
	defer moved.Close()
	if moved.addr.String() == before {
		t.Error("the port did not move")
	}
	must(t, moved.addr.String(), "shop.localhost", "/", "shop")
}
