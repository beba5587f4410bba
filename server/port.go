// Package server is the one port: which routes there are, who may use each, and what stands behind it. What stands
// behind it is made elsewhere (wire) and handed in; the port holds no state of its own.
package server

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/server/api"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/server/steps"
)

// Names are the host names under which our own pages answer. Every other name is an application's, or nobody's.
type Names struct {
	// Registry is the built-in registry's name in image references.
	Registry string
	// Listen is the host that the port listens on; it may be empty.
	Listen string
	// Public are the names under which it is reached from elsewhere; empty ones do not count.
	Public []string
}

// LocalName is our own name that needs no name service.
const LocalName = "tiphys.localhost"

// Options of a Port. All fields are required.
type Options struct {
	Names Names
	Gate  *gate.Gate
	API   *api.API
	Steps *steps.API
	// Webhooks, Git, Registry and Screens serve /webhooks/, /git/, /v2/ and everything else under our own names.
	Webhooks, Git, Registry, Screens http.Handler
	// Applications serves every other host name.
	Applications http.Handler
	Ledger       ledger.Reader
	// Hold says whether the server is held after a restore.
	Hold *hold.Hold
	// Services are everything that loops.
	Services *control.Group
	// Collectors are the rooms' metrics.
	Collectors []prometheus.Collector
}

// Port is the table of routes. Create it with New.
type Port struct {
	o       Options
	metrics http.Handler
}

// New returns the port's handlers; nothing listens yet.
func New(o Options) *Port {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(o.Collectors...)
	return &Port{o: o, metrics: promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})}
}

// Limits of the routes that are not the API's, in bytes.
const (
	webhookBody = 26 << 20 // forges send up to 25 MiB; event sources set lower limits of their own
	gitBody     = 2 << 30
	imageBody   = 10 << 30
)

// routes is the table of the one port: who may use what, how much a body may have, how long it may take.
func (p *Port) routes() []gate.Route {
	table := []gate.Route{
		{Pattern: "GET /healthz", Access: gate.Public, Timeout: time.Second, Handle: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }},
		{Pattern: "GET /readyz", Access: gate.Public, Timeout: 5 * time.Second, Handle: p.ready},
		{Pattern: "GET /metrics", Access: gate.User, Door: access.DoorMetrics, Timeout: 10 * time.Second, Ask: gate.Ask{Verb: access.Get, Kind: access.Server}, Handle: p.metrics.ServeHTTP},
		{Pattern: "GET /api/v1/services", Access: gate.User, Timeout: 5 * time.Second, Ask: gate.Ask{Verb: access.Get, Kind: access.Server}, Handle: p.services},
		{Pattern: "POST /api/v1/login", Access: gate.Public, Body: 4 << 10, Timeout: 5 * time.Second, Handle: p.o.Gate.LogIn},
		{Pattern: "POST /api/v1/logout", Access: gate.User, Timeout: 5 * time.Second, Ask: gate.Ask{Verb: access.Delete, Kind: access.Self, Each: true}, Handle: p.o.Gate.LogOut},
		{Pattern: "/webhooks/", Access: gate.Public, Body: webhookBody, Timeout: 30 * time.Second, Handle: p.o.Webhooks.ServeHTTP},
		{Pattern: "/git/", Access: gate.Public, Door: access.DoorGit, Body: gitBody, Handle: p.o.Git.ServeHTTP},
		{Pattern: "/v2/", Access: gate.Public, Door: access.DoorImages, Body: imageBody, Handle: p.o.Registry.ServeHTTP},
		{Pattern: "/", Access: gate.Public, Timeout: 30 * time.Second, Handle: p.o.Screens.ServeHTTP},
	}
	return append(table, p.o.API.Routes()...)
}

// Handler is the one port: our own pages by our own host names, applications by theirs.
func (p *Port) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range p.routes() {
		mux.Handle(r.Pattern, p.o.Gate.Wrap(r))
	}
	ours := p.holding(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.o.Names.Ours(r.Host) {
			ours.ServeHTTP(w, r)
			return
		}
		p.o.Applications.ServeHTTP(w, r)
	})
}

// StepHandler is what steps reach: their own routes, and the registry.
func (p *Port) StepHandler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range p.stepRoutes() {
		mux.Handle(r.Pattern, p.o.Gate.Wrap(r))
	}
	return p.holding(mux)
}

// stepRoutes is the table of what steps reach.
func (p *Port) stepRoutes() []gate.Route {
	return append(p.o.Steps.Routes(), gate.Route{
		Pattern: "/v2/", Access: gate.Step, Ask: gate.Ask{Verb: access.Get, Kind: access.Image, Each: true}, Body: imageBody, Handle: p.o.Registry.ServeHTTP,
	})
}

// Ours tells our own host names, with or without a port, from those of applications. An unknown name is nobody's: the
// proxy answers 421, so that a name which was made to point here reaches nothing.
func (n Names) Ours(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if gate.LoopbackHost(host) || strings.EqualFold(host, LocalName) || strings.EqualFold(host, n.Registry) {
		return true
	}
	return n.Listen != "" && strings.EqualFold(host, n.Listen) || net.ParseIP(host) != nil || slices.ContainsFunc(n.Public, func(name string) bool { return name != "" && strings.EqualFold(host, name) })
}

// services tells how everything that loops is.
func (p *Port) services(w http.ResponseWriter, _ *http.Request) {
	type service struct {
		Name   string        `json:"name"`
		State  control.State `json:"state"`
		Reason string        `json:"reason,omitempty"`
		Since  *time.Time    `json:"since,omitempty"`
	}
	list := []service{}
	for _, s := range p.o.Services.Status() {
		one := service{Name: s.Name, State: s.Health.State, Reason: s.Health.Reason}
		if !s.Health.Since.IsZero() {
			one.Since = &s.Health.Since
		}
		list = append(list, one)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"items": list})
}

// ready says whether the server does its work: the record can be read, and everything that loops is well. To callers who are known each service
// has a line, with its reason; everybody else is told yes or no.
func (p *Port) ready(w http.ResponseWriter, r *http.Request) {
	if _, err := p.o.Ledger.Head(r.Context()); err != nil {
		gate.Fail(w, failure.Mark(failure.Waiting, err))
		return
	}
	id := gate.From(r.Context())
	known := id.Actor != "" && id.Step == nil
	code, text := http.StatusOK, ""
	var unwell []string
	for _, s := range p.o.Services.Status() {
		if !s.Health.Well() {
			code = http.StatusServiceUnavailable
		}
		if !s.Health.Well() {
			unwell = append(unwell, s.String())
		}
		text += s.String() + "\n"
	}
	first := "ready\n"
	if p.o.Hold.State().Held {
		first = "ready, and held after a restore: nothing acts until it is released\n"
		if known {
			first = "ready, and " + p.o.Hold.Reason() + "\n"
		}
	}
	if len(unwell) > 0 {
		first = "not ready: " + strings.Join(unwell, "; ") + "\n"
		if !known {
			first = "not ready\n"
		}
	}
	if !known {
		text = ""
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(first + text))
}
