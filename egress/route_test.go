package egress_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/egress"
)

// TestMain lets the test binary be the hidden commands.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case egress.SSHCommand:
			err = egress.SSH(context.Background(), os.Args[2:])
		case egress.ConnectCommand:
			err = egress.Connect(context.Background(), os.Getenv, os.Stdin, os.Stdout)
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func route(t *testing.T, c *egress.Client) *egress.Route {
	t.Helper()
	r, err := c.Route(egress.For(t.Context(), "git.repo"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func allow(t *testing.T, texts ...string) []egress.Rule {
	t.Helper()
	rules, err := egress.ParseRules(texts)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// ask speaks to the proxy as a program does, and gives the status and the open connection.
func ask(t *testing.T, proxy *url.URL, first, host string) (int, net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", proxy.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	login := ""
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		login = "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)) + "\r\n"
	}
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\n%s\r\n", first, host, login)
	reader := bufio.NewReader(conn)
	method, _, _ := strings.Cut(first, " ")
	resp, err := http.ReadResponse(reader, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, conn, reader
}

// The proxy serves the programs that the server started, and judges each connection and each request of theirs.
func TestProxy(t *testing.T) {
	s, count := server(t, hello)
	at := s.Listener.Addr().String()
	c := client(t, egress.Options{Allow: allow(t, at)})
	r := route(t, c)
	proxy, err := url.Parse(r.Proxy())
	if err != nil {
		t.Fatal(err)
	}
	code, conn, reader := ask(t, proxy, "CONNECT "+at, at)
	if code != http.StatusOK {
		t.Fatalf("CONNECT: %d", code)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", at)
	if got, err := io.ReadAll(reader); err != nil || !strings.HasSuffix(string(got), "hello") {
		t.Errorf("through the connection comes %q, %v", got, err)
	}
	if code, _, _ := ask(t, proxy, "GET http://"+at+"/", at); code != http.StatusOK {
		t.Errorf("GET: %d", code)
	}
	if err := r.Explain(io.ErrUnexpectedEOF); err != io.ErrUnexpectedEOF {
		t.Errorf("nothing was refused, and the error is %v", err)
	}
	for _, to := range []string{"127.0.0.1:1", "localhost:22", "169.254.169.254:80", "[::ffff:127.0.0.1]:1", proxy.Host} {
		if code, _, _ := ask(t, proxy, "CONNECT "+to, to); code != http.StatusForbidden {
			t.Errorf("CONNECT %s: %d", to, code)
		}
		if code, _, _ := ask(t, proxy, "GET http://"+to+"/", to); code != http.StatusForbidden {
			t.Errorf("GET %s: %d", to, code)
		}
	}
	refusal, refused := egress.Refused(r.Explain(io.ErrUnexpectedEOF))
	if !refused || refusal.Field != "git.repo" || refusal.Host != "127.0.0.1" {
		t.Errorf("the refusal is %v", refusal)
	}
	before := count()
	strangers := *proxy
	strangers.User = nil
	if code, _, _ := ask(t, &strangers, "CONNECT "+at, at); code != http.StatusProxyAuthRequired {
		t.Errorf("without credentials: %d", code)
	}
	strangers.User = url.UserPassword(proxy.User.Username(), "guess")
	if code, _, _ := ask(t, &strangers, "GET http://"+at+"/", at); code != http.StatusProxyAuthRequired {
		t.Errorf("with a guess: %d", code)
	}
	r.Close()
	if code, _, _ := ask(t, proxy, "CONNECT "+at, at); code != http.StatusProxyAuthRequired {
		t.Errorf("after the route's end: %d", code)
	}
	if count() != before {
		t.Error("strangers reached the host")
	}
}

// What goes through a route ends with it.
func TestRouteEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r := route(t, client(t, egress.Options{Allow: allow(t, "127.0.0.1")}))
	proxy, err := url.Parse(r.Proxy())
	if err != nil {
		t.Fatal(err)
	}
	code, _, reader := ask(t, proxy, "CONNECT "+l.Addr().String(), l.Addr().String())
	if code != http.StatusOK {
		t.Fatal(code)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	_ = far.SetDeadline(time.Now().Add(time.Minute))
	r.Close()
	if _, err := reader.ReadByte(); err == nil {
		t.Error("the program's end is open")
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the host's end is open: %d, %v", n, err)
	}
}

// ssh, as git starts it, connects through the route to where the URL says, and nowhere else.
func TestSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("SKIPPED: not tested: there is no ssh")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	said := make(chan string, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			said <- line
			_ = conn.Close()
		}
	}()
	_, p, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(t.TempDir(), "executed")
	run := func(c *egress.Client, address string) (error, error) {
		r := route(t, c)
		command, err := r.SSH()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "git", "ls-remote", address)
		cmd.Env = append(os.Environ(), append(r.Env(), "GIT_SSH_COMMAND="+command+" -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null")...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err = cmd.Run()
		if err == nil {
			t.Errorf("%s: it is no repository, and is listed: %s", address, &out)
		}
		return r.Explain(err), fmt.Errorf("%s", &out)
	}
	open := client(t, egress.Options{Allow: allow(t, "127.0.0.0/8:"+p)})
	for _, address := range []string{"ssh://git@127.0.0.1:" + p + "/x.git", "ssh://git@localhost:" + p + "/x.git"} {
		err, out := run(open, address)
		select {
		case line := <-said:
			if !strings.HasPrefix(line, "SSH-2.0") {
				t.Errorf("%s: the host hears %q", address, line)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: the host hears nothing: %v: %v", address, err, out)
		}
	}
	strict := client(t, egress.Options{})
	for _, address := range []string{"ssh://git@127.0.0.1:" + p + "/x.git", "git@localhost:x.git"} {
		if err, out := run(strict, address); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: %v: %v", address, err, out)
		}
	}
	// A host that a shell would execute is a name like others.
	if err, out := run(open, "ssh://git@$(touch${IFS}"+marker+")/x.git"); err == nil {
		t.Error("a host of shell is reached", out)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a URL's host was executed")
	}
	select {
	case line := <-said:
		t.Errorf("the host hears %q", line)
	default:
	}
}
