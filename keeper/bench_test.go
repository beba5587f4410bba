package keeper

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/tiphys/tiphys/keeper/front"
)

// BenchmarkHop compares the time of a small answer over one lasting connection: from an application itself, through a front in this
// process as --keeper=false has it, and through a keeper; and of our own page without and with a keeper, which only passes the
// connection on.
func BenchmarkHop(b *testing.B) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "shop") })
	shop := httptest.NewServer(page)
	defer shop.Close()
	table := front.Table{Hosts: map[string][]front.Route{"shop.localhost": {{Path: "/", Endpoints: []front.Endpoint{{Address: shop.Listener.Addr().String(), Backend: "shop"}}}}}}
	f := front.New(front.Options{})
	defer f.Close()
	here := httptest.NewServer(f)
	defer here.Close()
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
	for _, target := range []interface{ Set(front.Table) error }{f, c} {
		if err := target.Set(table); err != nil {
			b.Fatal(err)
		}
	}
	own := &http.Server{Handler: page}
	go func() { _ = own.Serve(c.Listener()) }()
	defer own.Close()
	c.Serve()
	for _, way := range []struct{ name, url, host string }{
		{"application/itself", shop.URL, ""},
		{"application/front", here.URL, "shop.localhost"},
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
