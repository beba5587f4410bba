package front_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/tiphys/tiphys/keeper/front"
	"github.com/tiphys/tiphys/keeper/front/fronttest"
)

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestFront(t *testing.T) {
	fronttest.Run(t, func(t *testing.T) (fronttest.Front, string) {
		f := front.New(front.Options{Wait: 2 * time.Second})
		t.Cleanup(func() { _ = f.Close() })
		return f, serve(t, f)
	})
}

// The ports of Services go from one front to another without a moment in which nobody listens, and a connection through
// the first one goes on.
func TestPortsAreHandedOver(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	_ = l.Close()
	echo := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	table := front.Table{Ports: []front.Port{{Address: at, Endpoints: []front.Endpoint{{Address: echo, Backend: "a"}}}}}
	first, second := front.New(front.Options{}), front.New(front.Options{})
	defer second.Close()
	if err := first.Set(table); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	answer := make(chan string)
	go func() {
		response, err := http.Post("http://"+at, "text/plain", r)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		answer <- fmt.Sprint(string(body), err)
	}()
	fmt.Fprint(w, "half ")
	for first.Idle() { // the connection is in the kernel's queue until it is accepted
		runtime.Gosched()
	}
	given := first.Release()
	if len(given) != 1 || given[at] == nil {
		t.Fatalf("%v is given", given)
	}
	// Nobody accepts at this moment; whoever connects waits.
	waits, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer waits.Close()
	second.Adopt(given)
	if err := second.Set(table); err != nil {
		t.Fatal(err)
	}
	if first.Idle() {
		t.Error("the first front forgot the connection that it carries")
	}
	fmt.Fprint(waits, "GET / HTTP/1.0\r\n\r\n")
	if line, err := io.ReadAll(waits); err != nil || len(line) == 0 {
		t.Errorf("the connection that waited got %q, %v", line, err)
	}
	fmt.Fprint(w, "whole")
	_ = w.Close()
	if got := <-answer; got != "half whole<nil>" {
		t.Errorf("what was under way got %q", got)
	}
	_ = first.Close()
}

// Somebody may read the beginning of an answer before there is an end, whether or not its length is known.
func TestAnswersArriveAsTheyAreMade(t *testing.T) {
	for name, length := range map[string]string{"known length": "8", "unknown length": ""} {
		t.Run(name, func(t *testing.T) {
			read := make(chan struct{})
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-read:
				case <-r.Context().Done():
				}
				_, _ = io.WriteString(w, "rest")
			}))
			defer app.Close()
			f := front.New(front.Options{})
			defer f.Close()
			if err := f.Set(front.Table{Hosts: map[string][]front.Route{"shop.localhost": {{
				Path: "/", Endpoints: []front.Endpoint{{Address: app.Listener.Addr().String(), Backend: "shop"}},
			}}}}); err != nil {
				t.Fatal(err)
			}
			s := httptest.NewServer(f)
			defer s.Close()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Host = "shop.localhost"
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			half := make([]byte, 4)
			if _, err := io.ReadFull(response.Body, half); err != nil || string(half) != "half" {
				t.Fatalf("%q %v", half, err)
			}
			close(read)
			if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "rest" {
				t.Errorf("%q %v", rest, err)
			}
		})
	}
}

// One address takes no more than its connections with Services: what is more is reset, and the rest goes on.
func TestCallsOfOneClient(t *testing.T) {
	f := front.New(front.Options{CallsPerClient: 1}) // loopback has sixteen times as many
	defer f.Close()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	_ = l.Close()
	held := make(chan struct{})
	slow := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-held }))
	defer close(held)
	if err := f.Set(front.Table{Ports: []front.Port{{Address: at, Endpoints: []front.Endpoint{{Address: slow, Backend: "a"}}}}}); err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, 0, 17)
	for i := range 17 {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			if i < 16 {
				t.Fatal(err)
			}
			return // it is reset before it is there
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		conns = append(conns, conn)
	}
	for i, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if i == 16 {
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		}
		_, err := conn.Read(make([]byte, 1))
		var late net.Error
		if waits := errors.As(err, &late) && late.Timeout(); waits != (i < 16) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}
