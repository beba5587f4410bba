package keeper

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/keeper/front"
)

// serveFront is a process that carries requests as a server with --keeper=false does, by a table that it reads, until nobody writes
// to it any more.
func serveFront() {
	in := json.NewDecoder(os.Stdin)
	var table front.Table
	f := front.New(front.Options{})
	if err := in.Decode(&table); err != nil {
		return
	}
	if err := f.Set(table); err != nil {
		return
	}
	s := httptest.NewUnstartedServer(f)
	s.Config.ReadHeaderTimeout, s.Config.IdleTimeout = headerTimeout, idleTimeout // as a server has them
	s.Start()
	fmt.Println(s.URL)
	_, _ = io.Copy(io.Discard, in.Buffered())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startFront starts such a process and gives its address.
func startFront(b *testing.B, table front.Table) string {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0], "__front")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as a keeper is: the kernel may share out processors by sessions
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		err = json.NewEncoder(in).Encode(table)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// BenchmarkHop compares the time of a small answer over one lasting connection: from an application itself, through another process
// that carries requests as a server without a keeper does, and through a keeper; and of our own page without and with a keeper,
// which only passes the connection on.
func BenchmarkHop(b *testing.B) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "shop") })
	shop := httptest.NewServer(page)
	defer shop.Close()
	table := front.Table{Hosts: map[string][]front.Route{"shop.localhost": {{Path: "/", Endpoints: []front.Endpoint{{Address: shop.Listener.Addr().String(), Backend: "shop"}}}}}}
	other := startFront(b, table)
	data := b.TempDir()
	c, err := Attach(b.Context(), Options{Data: data, Listen: "127.0.0.1:0", Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = c.Close()
		if _, err := End(b.Context(), data); err != nil {
			b.Error(err)
		}
	}()
	if err := c.Set(table); err != nil {
		b.Fatal(err)
	}
	own := &http.Server{Handler: page}
	go func() { _ = own.Serve(c.Listener()) }()
	defer own.Close()
	c.Serve()
	for _, way := range []struct{ name, url, host string }{
		{"application/itself", shop.URL, ""},
		{"application/server", other, "shop.localhost"},
		{"application/keeper", "http://" + c.addr.String(), "shop.localhost"},
		{"own/itself", shop.URL, "localhost"},
		{"own/keeper", "http://" + c.addr.String(), "localhost"},
	} {
		b.Run(way.name, func(b *testing.B) { ask(b, way.url, way.host) })
	}
}

func ask(b *testing.B, url, host string) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	took := make([]time.Duration, 0, 1<<16)
	for b.Loop() {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
		if err != nil {
			b.Fatal(err)
		}
		request.Host = host
		began := time.Now()
		response, err := transport.RoundTrip(request)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if took = append(took, time.Since(began)); response.StatusCode != http.StatusOK {
			b.Fatal(response.Status)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
}
