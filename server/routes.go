package server

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tiphys/tiphys/server/api"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/web"
)

// Limits of the routes that are not the API's.
const (
	webhookBody = 26 << 20 // forges send up to 25 MiB; event sources set lower limits of their own
	gitBody     = 2 << 30
	imageBody   = 10 << 30
)

// routes is the table of the one port: who may use what, how much a body may have, how long it may take.
func (s *Server) routes() []gate.Route {
	table := []gate.Route{
		{Pattern: "GET /healthz", Access: gate.Public, Timeout: time.Second, Handle: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }},
		{Pattern: "GET /readyz", Access: gate.Public, Timeout: 5 * time.Second, Handle: s.ready},
		{Pattern: "GET /metrics", Access: gate.User, Timeout: 10 * time.Second, Handle: s.metrics().ServeHTTP},
		{Pattern: "POST /api/v1/login", Access: gate.Public, Body: 4 << 10, Timeout: 5 * time.Second},
		{Pattern: "/webhooks/", Access: gate.Public, Body: webhookBody, Timeout: 30 * time.Second, Handle: s.events.ServeHTTP},
		{Pattern: "/git/", Access: gate.Public, Body: gitBody, Handle: s.remote.Handler().ServeHTTP},
		{Pattern: "/v2/", Access: gate.Public, Body: imageBody, Handle: s.registry.ServeHTTP},
		{Pattern: "/", Access: gate.Public, Timeout: 30 * time.Second, Handle: web.Handler().ServeHTTP},
	}
	for i := range table {
		if table[i].Pattern == "POST /api/v1/login" {
			table[i].Handle = s.gate.Login
		}
	}
	a := &api.API{
		Ledger: s.machine.Ledger, Runs: s.machine.Runs, Definitions: s.defs, Logs: s.machine, Events: s.events, Remote: s.remote,
		Apps: s.apps, Targets: s.targets, Crons: s.crons, Keys: s.o.Data, Version: s.o.Version, Trouble: s.trouble, Log: s.o.Log, Now: s.o.Now,
	}
	return append(table, a.Routes()...)
}

// Handler is the one port: our own pages by our own host names, applications by theirs.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.Handle(r.Pattern, s.gate.Wrap(r))
	}
	own, _, _ := net.SplitHostPort(s.o.Listen)
	proxy := s.target.Proxy()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.ours(r.Host, own) {
			mux.ServeHTTP(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// ours tells our own host names from those of applications. An unknown name is nobody's: the proxy answers 421, so
// that a name which was made to point here reaches nothing.
func (s *Server) ours(hostport, own string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if gate.LoopbackHost(host) || strings.EqualFold(host, "tiphys.localhost") || strings.EqualFold(host, RegistryHost) {
		return true
	}
	if s.o.Token.IsZero() {
		return false
	}
	return own != "" && strings.EqualFold(host, own) || net.ParseIP(host) != nil || strings.EqualFold(host, s.o.Name)
}

// stepHandler is what steps reach on their socket.
func (s *Server) stepHandler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.steps.Routes() {
		mux.Handle(r.Pattern, s.gate.Wrap(r))
	}
	registry := gate.Route{Pattern: "/v2/", Access: gate.Step, Body: imageBody, Handle: s.registry.ServeHTTP}
	mux.Handle(registry.Pattern, s.gate.Wrap(registry))
	return mux
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if _, err := s.machine.Ledger.Head(r.Context()); err != nil {
		gate.Fail(w, http.StatusServiceUnavailable, err)
		return
	}
	if t := s.trouble(); t != "" {
		gate.Fail(w, http.StatusServiceUnavailable, errors.New(t))
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// metrics are the process's and the ledger's.
func (s *Server) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newCollector(s.machine.Ledger), s.sweeper)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}
