// Package api is the HTTP API under /api/v1: Argo Server's paths for workflows and ours (docs/api.md). It holds no
// state: it reads the ledger and gives commands to the controllers.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/people"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/control/apps"
	"github.com/tiphys/tiphys/control/audit"
	"github.com/tiphys/tiphys/control/crons"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/events"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/server/feed"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/workflow"
)

// Limits of requests.
const (
	quick     = 30 * time.Second // for what reads or writes a few rows
	small     = 1 << 20          // bytes of a JSON body
	manifests = 8 << 20          // bytes of manifests
	// longest is for a release that leaves out many things, each of which is recorded, and for an erasure, after which all rows are made anew.
	longest = 30 * time.Minute
)

// Logs reads the log of a run's node.
type Logs interface {
	Log(ctx context.Context, run workflow.Run, n workflow.Node, container string, o executor.LogOptions) (io.ReadCloser, error)
}

// Forges are all that there are, the built-in remote among them.
type Forges interface {
	States(ctx context.Context) ([]forge.State, error)
}

// API makes the handlers. All fields but Version are required.
type API struct {
	// Policy says who may see and do what.
	Policy      access.Policy
	Ledger      ledger.Ledger
	Runs        *runs.Controller
	Definitions *definitions.Store
	Logs        Logs
	// Artifacts is the default store, Guard what holds a run to its own.
	Artifacts artifact.Store
	Guard     artifact.Guard
	Events    *events.Controller
	Git       Git
	Forges    Forges
	Apps      *apps.Controller
	Targets   *deploy.Targets
	Crons     *crons.Controller
	// Audit verifies the ledger.
	Audit *audit.Auditor
	// Hold says whether the server is held after a restore, Planners what would happen if it was released.
	Hold     *hold.Hold
	Planners hold.Planners
	// Quarantine has the items that are left out, and Rooms are who can do something about them.
	Quarantine *quarantine.Book
	Rooms      quarantine.Rooms
	// Eraser takes leaked bodies out of the ledger.
	Eraser Eraser
	// Keys is the folder with the key that signs ledger heads.
	Keys    string
	Version string
	// People are who may use the server.
	People *people.Store
	// Public is the address under which the server is reached from elsewhere, without a slash at its end; empty if it was not said.
	Public string
	// Feed tells the streams what changes; NewFeed makes it. Closing it ends them all at once.
	Feed *feed.Hub
	Log  *slog.Logger
	Now  func() time.Time
}

// Routes are the API's lines of the route table.
func (a *API) Routes() []gate.Route {
	packing := newPacking()
	get := func(pattern string, h http.HandlerFunc) gate.Route {
		return gate.Route{Pattern: "GET " + pattern, Access: gate.User, Timeout: quick, Handle: packing.wrap(h)}
	}
	stream := func(pattern string, endless func(*http.Request) bool, h http.HandlerFunc) gate.Route {
		return gate.Route{Pattern: "GET " + pattern, Access: gate.User, Endless: endless, Handle: h}
	}
	send := func(method, pattern string, body int64, h http.HandlerFunc) gate.Route {
		return gate.Route{Pattern: method + " " + pattern, Access: gate.User, Body: body, Timeout: quick, Handle: h}
	}
	return asking(append(append(a.roomRoutes(packing), a.peopleRoutes(get, send)...), []gate.Route{
		get("/api/v1/info", a.info),
		get("/api/v1/version", a.version),
		get("/api/v1/userinfo", a.userinfo),

		get("/api/v1/runs", a.listRuns),
		get("/api/v1/runs/{namespace}/{name}", a.getRun),
		get("/api/v1/runs/{namespace}/{name}/nodes", a.listNodes),
		get("/api/v1/runs/{namespace}/{name}/nodes/{node}", a.getNode),
		get("/api/v1/runs/{namespace}/{name}/attempts", a.listAttempts),
		get("/api/v1/runs/{namespace}/{name}/manifest", a.getManifest),
		stream("/api/v1/runs/{namespace}/{name}/artifacts/{node}/{artifact}", nil, a.getArtifact),
		stream("/api/v1/runs/{namespace}/{name}/log/{node}", gate.Following("follow"), a.runLog),

		get("/api/v1/workflows/{namespace}", a.argoList),
		send("POST", "/api/v1/workflows/{namespace}", manifests, a.argoCreate),
		send("POST", "/api/v1/workflows/{namespace}/submit", small, a.argoSubmit),
		send("POST", "/api/v1/workflows/{namespace}/lint", manifests, a.argoLint),
		get("/api/v1/workflows/{namespace}/{name}", a.argoGet),
		stream("/api/v1/workflows/{namespace}/{name}/log", gate.Following("logOptions.follow"), a.argoLog),
		send("PUT", "/api/v1/workflows/{namespace}/{name}/{verb}", small, a.argoVerb),
		send("DELETE", "/api/v1/workflows/{namespace}/{name}", 0, a.argoDelete),
		stream("/api/v1/workflow-events/{namespace}", gate.Always, a.argoWatch),

		get("/api/v1/definitions", a.listDefinitions),
		get("/api/v1/definitions/{kind}/{namespace}/{name}", a.getDefinition),
		send("POST", "/api/v1/definitions", manifests, a.applyDefinitions),
		send("DELETE", "/api/v1/definitions/{kind}/{namespace}/{name}", 0, a.deleteDefinition),

		get("/api/v1/entries", a.listEntries),
		get("/api/v1/trail", a.trail),
		get("/api/v1/ledger/head", a.ledgerHead),
		{Pattern: "POST /api/v1/entries/{seq}/erase", Access: gate.User, Body: small, Timeout: longest, Handle: a.eraseEntry},
		send("POST", "/api/v1/ledger/verify", small, a.ledgerVerify),
		get("/api/v1/ledger/verify", a.ledgerVerified),
		get("/api/v1/restore", a.restorePlan),
		get("/api/v1/quarantine", a.quarantined),
		send("POST", "/api/v1/quarantine/{verb}", small, a.unquarantine),
		{Pattern: "POST /api/v1/restore", Access: gate.User, Body: small, Timeout: longest, Handle: a.restoreRelease},
		stream("/api/v1/stream", gate.Always, a.stream),
	}...))
}

// reply answers with JSON.
func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// fail answers with an error.
func fail(w http.ResponseWriter, err error) { gate.Fail(w, err) }

// badRequest is an error of whoever asked.
func badRequest(format string, args ...any) error { return failure.Invalidf(format, args...) }

// decode reads a JSON body.
func decode(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil && !errors.Is(err, io.EOF) {
		if failure.Is(err, failure.TooLarge) {
			return err
		}
		return badRequest("read body: %w", err)
	}
	return nil
}

// page reads limit and after of a list.
func page(r *http.Request, q *ledger.Query) error {
	limit, err := number(r, "limit", 100)
	if err != nil {
		return err
	}
	q.Limit = min(max(limit, 1), 1000)
	if after := r.URL.Query().Get("after"); after != "" {
		q.After, err = parseCursor(after)
	}
	return err
}

func number(r *http.Request, name string, otherwise int) (int, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, badRequest("%s=%q is not a number", name, s)
	}
	return n, nil
}

// cursor is a place in a list as a word: time and key.
func cursor(row ledger.Row) string {
	return row.Time.UTC().Format(time.RFC3339Nano) + "," + row.Key
}

func parseCursor(s string) (*ledger.Cursor, error) {
	t, key, ok := strings.Cut(s, ",")
	at, err := time.Parse(time.RFC3339Nano, t)
	if !ok || err != nil {
		return nil, badRequest("after=%q is not what a list gave as next", s)
	}
	return &ledger.Cursor{Time: at, Key: key}, nil
}

// list answers with the bodies of a table's rows.
type list struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next,omitempty"`
}

func (a *API) rows(ctx context.Context, q ledger.Query) (list, error) {
	rows, err := a.Ledger.List(ctx, q)
	if err != nil {
		return list{}, err
	}
	out := list{Items: make([]json.RawMessage, 0, len(rows))}
	for _, row := range rows {
		out.Items = append(out.Items, row.Body)
	}
	if len(rows) > 0 && len(rows) == q.Limit {
		out.Next = cursor(rows[len(rows)-1])
	}
	return out, nil
}

// labels reads repeated label=a=b parameters.
func labels(r *http.Request, name string) (map[string]string, error) {
	out := map[string]string{}
	for _, v := range r.URL.Query()[name] {
		for _, one := range strings.Split(v, ",") {
			if one == "" {
				continue
			}
			key, value, ok := strings.Cut(one, "=")
			if !ok {
				return nil, badRequest("%s: %q is not of the form key=value", name, one)
			}
			out[key] = strings.TrimPrefix(value, "=")
		}
	}
	return out, nil
}

func (a *API) info(w http.ResponseWriter, _ *http.Request) {
	reply(w, map[string]any{"managedNamespace": "", "links": []any{}, "columns": []any{}, "navColor": ""})
}

func (a *API) version(w http.ResponseWriter, _ *http.Request) {
	reply(w, map[string]string{"version": a.Version})
}

func (a *API) userinfo(w http.ResponseWriter, r *http.Request) {
	id := gate.From(r.Context())
	roles := []string{}
	for _, b := range id.Bindings {
		roles = append(roles, b.String())
	}
	reply(w, map[string]any{
		"subject": id.Actor, "name": strings.TrimPrefix(id.Actor, "user:"), "user": id.Person, "admin": id.Role == access.Admin, "role": id.Role, "roles": roles, "verified": id.Verified, "scopes": id.Only,
	})
}
