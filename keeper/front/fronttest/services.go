package fronttest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/keeper/front"
)

// answering is a pod that answers datagrams with its name and what they say.
func answering(t *testing.T, name string) front.Endpoint {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, from, err := l.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(append([]byte(name+" "), buffer[:n]...), from)
		}
	}()
	return front.Endpoint{Address: l.LocalAddr().String(), Backend: name}
}

// flow is a client's port.
func flow(t *testing.T, at string) net.Conn {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say sends a datagram until it is answered, as those do who ask for names.
func say(t *testing.T, conn net.Conn, text string) string {
	t.Helper()
	buffer := make([]byte, 64<<10)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := conn.Write([]byte(text)); err != nil {
			continue // nobody listens yet
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := conn.Read(buffer); err == nil {
			return string(buffer[:n])
		}
	}
	t.Fatalf("%q is not answered", text[:min(len(text), 20)])
	return ""
}

// datagrams says that those of a Service's address go to its pods and come back from there, whatever has the port by TCP.
func datagrams(t *testing.T, f Front, _ string) {
	at := dead(t, "").Address
	a, b := answering(t, "a"), answering(t, "b")
	table := func(pods ...front.Endpoint) front.Table {
		return front.Table{Ports: []front.Port{{Address: at, Protocol: front.UDP, Endpoints: pods}, {Address: at, Endpoints: []front.Endpoint{pod(t, "web", says("web"))}}}}
	}
	set(t, f, table(a, b))
	first := flow(t, at)
	got := say(t, first, "one")
	for range 4 {
		if again := say(t, first, "one"); again != got {
			t.Errorf("one port of a client was answered %q, then %q", got, again)
		}
	}
	seen := map[string]bool{}
	for range 8 {
		seen[say(t, flow(t, at), "x")] = true
	}
	if len(seen) != 2 {
		t.Errorf("two pods answer %v", seen)
	}
	if long := strings.Repeat("x", 40_000); say(t, first, long) != got[:2]+long {
		t.Error("a long datagram is another one")
	}
	if code, body := ask(t, http1(t), at, "any", "/x"); code != 200 || !strings.HasPrefix(body, "web") {
		t.Errorf("the same port by TCP: %d %q", code, body)
	}
	// The pod of the first client leaves: its next datagram, after a silence, goes to the other one, and the pod is drained.
	rest := b
	if strings.HasPrefix(got, "b") {
		rest = a
	}
	set(t, f, table(rest))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f.Drained(ctx, got[:1])
	if ctx.Err() != nil {
		t.Error("a pod whose clients are silent is not drained")
	}
	if next := say(t, first, "one"); next[:1] != rest.Backend {
		t.Errorf("after its pod has left a client is answered %q", next)
	}
	// Nobody is at the pod's port: that is found out, and another pod is taken.
	set(t, f, table(dead(t, "gone"), rest))
	for range 4 {
		if next := say(t, flow(t, at), "y"); next != rest.Backend+" y" {
			t.Errorf("beside a pod that is gone: %q", next)
		}
	}
	set(t, f, front.Table{})
}

// affinity says that a client stays with a pod, by TCP and by UDP.
func affinity(t *testing.T, f Front, _ string) {
	at := dead(t, "").Address
	var web, names []front.Endpoint
	for _, name := range []string{"a", "b", "c", "d"} {
		web, names = append(web, pod(t, name, says(name))), append(names, answering(t, name))
	}
	set(t, f, front.Table{Ports: []front.Port{{Address: at, Sticky: true, Endpoints: web}, {Address: at, Protocol: front.UDP, Sticky: true, Endpoints: names}}})
	got := map[string]bool{}
	got[say(t, flow(t, at), "x")[:1]] = true
	for range 6 {
		_, body := ask(t, http1(t), at, "any", "/")
		got[body[:1]], got[say(t, flow(t, at), "x")[:1]] = true, true
	}
	if len(got) != 1 {
		t.Errorf("one client is answered by %v", got)
	}
}

// half says that either side of a conversation may have said all that it has to say, while the other goes on.
func half(t *testing.T, f Front, address string) {
	e := pod(t, "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		if r.URL.Path == "/server-first" {
			fmt.Fprint(conn, "all I have")
			_ = conn.(*net.TCPConn).CloseWrite()
			text, err := io.ReadAll(rw)
			if string(text) != "late" || err != nil {
				t.Errorf("after its own end the application reads %q, %v", text, err)
			}
			return
		}
		text, _ := io.ReadAll(rw)
		fmt.Fprintf(conn, "you said %s", text)
	}))
	set(t, f, front.Table{Hosts: root(e)})
	await(t, address, 200, "")
	for _, path := range []string{"/client-first", "/server-first"} {
		var dialer net.Dialer
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", path)
		in := bufio.NewReader(conn)
		response, err := http.ReadResponse(in, nil)
		if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%+v %v", response, err)
		}
		_ = response.Body.Close()
		want := "you said question"
		if path == "/client-first" {
			fmt.Fprint(conn, "question")
			_ = conn.(*net.TCPConn).CloseWrite()
		} else {
			want = "all I have"
		}
		if text, err := io.ReadAll(in); string(text) != want || err != nil {
			t.Errorf("%s: the client reads %q, %v", path, text, err)
		}
		if path == "/server-first" {
			fmt.Fprint(conn, "late")
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}
}
