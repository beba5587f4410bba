package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control/crons"
	"github.com/tiphys/tiphys/control/events"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/server/gate"
)

// roomRoutes are the lines about events, applications, Git and schedules.
func (a *API) roomRoutes(packing *packing) []gate.Route {
	get := func(pattern string, h http.HandlerFunc) gate.Route {
		return gate.Route{Pattern: "GET " + pattern, Access: gate.User, Timeout: quick, Handle: packing.wrap(h)}
	}
	post := func(pattern string, h http.HandlerFunc) gate.Route {
		return gate.Route{Pattern: "POST " + pattern, Access: gate.User, Body: small, Timeout: time.Minute, Handle: h}
	}
	return []gate.Route{
		get("/api/v1/events", a.listEvents),
		get("/api/v1/events/{id}", a.getEvent),
		post("/api/v1/events/{id}/replay", a.replayEvent),
		post("/api/v1/events/{id}/approve", a.approveEvent),
		get("/api/v1/approvals", a.listApprovals),
		get("/api/v1/firings", a.listFirings),
		post("/api/v1/firings/{key}/redrive", a.redrive),
		get("/api/v1/sensors", a.sensors),
		get("/api/v1/sources", a.sources),

		get("/api/v1/apps", a.listApps),
		get("/api/v1/apps/{namespace}/{name}", a.getApp),
		post("/api/v1/apps/{namespace}/{name}/{verb}", a.appVerb),
		{Pattern: "GET /api/v1/apps/{namespace}/{name}/logs/{pod}", Access: gate.User, Endless: gate.Following("follow"), Handle: a.appLog},
		get("/api/v1/applicationsets", a.listSets),
		get("/api/v1/releases", a.listReleases),

		get("/api/v1/forges", a.listForges),
		get("/api/v1/posts", a.listPosts),
		get("/api/v1/repos", a.listRepos),
		post("/api/v1/repos", a.createRepo),
		{Pattern: "PATCH /api/v1/repos/{repo}", Access: gate.User, Body: small, Timeout: quick, Handle: a.editRepo},
		get("/api/v1/mrs", a.listMRs),
		get("/api/v1/mrs/{repo}/{number}", a.getMR),
		post("/api/v1/mrs/{repo}", a.openMR),
		post("/api/v1/mrs/{repo}/{number}/{verb}", a.mrVerb),

		get("/api/v1/cron", a.listCrons),
	}
}

// answer replies with v, or with the error.
func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, v)
}

func (a *API) listEvents(w http.ResponseWriter, r *http.Request) {
	q := ledger.Query{Table: event.TableEvent, Labels: map[string]string{}}
	for _, name := range []string{"type", "repo", "branch", "source"} {
		if v := r.URL.Query().Get(name); v != "" {
			q.Labels[name] = v
		}
	}
	if err := page(r, &q); err != nil {
		fail(w, err)
		return
	}
	rows, err := a.Ledger.List(r.Context(), q)
	if err != nil {
		fail(w, err)
		return
	}
	items := make([]listedEvent, 0, len(rows))
	for _, row := range rows {
		one, err := a.listed(r.Context(), row)
		if err != nil {
			fail(w, err)
			return
		}
		items = append(items, one)
	}
	next := ""
	if len(rows) == q.Limit {
		next = cursor(rows[len(rows)-1])
	}
	reply(w, map[string]any{"items": items, "next": next})
}

// listedEvent is an event in a list, with what the sensors decided in short.
type listedEvent struct {
	event.EventRow
	Decisions []event.Outcome `json:"decisions"`
}

func (a *API) listed(ctx context.Context, row ledger.Row) (listedEvent, error) {
	var one listedEvent
	if err := json.Unmarshal(row.Body, &one.EventRow); err != nil {
		return one, fmt.Errorf("decode event %s: %w", row.Key, err)
	}
	decided, _, err := a.outcomes(ctx, row.Key)
	one.Decisions = decided.Decisions
	return one, err
}

func (a *API) getEvent(w http.ResponseWriter, r *http.Request) {
	e, err := a.event(r, access.Get)
	if err != nil {
		fail(w, err)
		return
	}
	decided, err := a.decided(r.Context(), e.ID)
	if err != nil {
		fail(w, err)
		return
	}
	firings, _, err := a.firings(r.Context(), ledger.Query{Table: event.TableFiring, Owner: e.ID, Oldest: true, Limit: 1000})
	answer(w, map[string]any{"event": e, "decisions": decided, "unheard": a.ofSensors(r, a.Events.Unheard(e)), "firings": firings,
		"conditions": a.ofDefinitions(r, a.Events.Conditions())}, err)
}

// event reads the event that a request names, if the caller may see it and do something with it.
func (a *API) event(r *http.Request, verb access.Verb) (event.Event, error) {
	id := a.eventID(r)
	if _, err := a.Ledger.Row(r.Context(), event.TableEvent, id); err != nil {
		return event.Event{}, noEvent(r, err)
	}
	e, err := a.Events.Event(r.Context(), id)
	if err == nil {
		err = a.can(r, verb, access.Event, e.Namespace, e.Source)
	}
	return e, noEvent(r, err)
}

// ofSensors leaves out the decisions of sensors that the caller may not get.
func (a *API) ofSensors(r *http.Request, all []event.Decision) []event.Decision {
	return slices.DeleteFunc(all, func(d event.Decision) bool { return !a.sees(r, "Sensor", d.Sensor) })
}

// ofDefinitions leaves out what is wrong with definitions that the caller may not get.
func (a *API) ofDefinitions(r *http.Request, all []events.Condition) []events.Condition {
	return slices.DeleteFunc(all, func(c events.Condition) bool {
		kind, key, _ := strings.Cut(c.Definition, "/")
		return !a.sees(r, kind, key)
	})
}

// outcomes is what the sensors made of an event, in short, and the entry that says it in full; nothing yet is no error.
func (a *API) outcomes(ctx context.Context, id string) (event.DecisionRow, int64, error) {
	d := event.DecisionRow{Decisions: []event.Outcome{}}
	row, err := a.Ledger.Row(ctx, event.TableDecision, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return d, 0, nil
	}
	if err == nil {
		err = json.Unmarshal(row.Body, &d)
	}
	return d, row.Seq, err
}

// decided is what the sensors made of an event, with their reasons.
func (a *API) decided(ctx context.Context, id string) ([]event.Decision, error) {
	_, seq, err := a.outcomes(ctx, id)
	if err != nil || seq == 0 {
		return []event.Decision{}, err
	}
	entry, err := a.Ledger.Entry(ctx, seq)
	if err != nil || entry.Pruned {
		return []event.Decision{}, err
	}
	d, err := ledger.Read[event.Decided](entry)
	return d.Decisions, err
}

func (a *API) replayEvent(w http.ResponseWriter, r *http.Request) {
	e, err := a.event(r, access.Create)
	if err != nil {
		fail(w, err)
		return
	}
	if r.URL.Query().Get("dryRun") != "" {
		ds, err := a.Events.DryRun(r.Context(), e.ID)
		answer(w, map[string]any{"decisions": a.ofSensors(r, ds)}, noEvent(r, err))
		return
	}
	e, err = a.Events.Replay(r.Context(), e.ID, gate.From(r.Context()).String())
	answer(w, e, noEvent(r, err))
}

// approveEvent lets a merge request run whose author may not write to the repository, at the event's commit.
func (a *API) approveEvent(w http.ResponseWriter, r *http.Request) {
	e, err := a.event(r, access.Update)
	if err != nil {
		fail(w, err)
		return
	}
	e, err = a.Events.Approve(r.Context(), e.ID, gate.From(r.Context()).String())
	answer(w, e, noEvent(r, err))
}

// listApprovals gives the merge requests of people who may not write to the repository: those that wait for an approval, and those that have one.
func (a *API) listApprovals(w http.ResponseWriter, r *http.Request) {
	q := ledger.Query{Table: event.TableApproval, States: r.URL.Query()["state"]}
	if err := page(r, &q); err != nil {
		fail(w, err)
		return
	}
	out, err := a.rows(r.Context(), q)
	answer(w, out, err)
}

// eventID reads the event that a request names: by its id, or by its number in the ledger.
func (a *API) eventID(r *http.Request) string {
	id := r.PathValue("id")
	if seq, err := strconv.ParseInt(id, 10, 64); err == nil {
		if e, err := a.Ledger.Entry(r.Context(), seq); err == nil && e.Kind == event.KindReceived {
			if ev, err := event.FromEntry(e); err == nil {
				return ev.ID
			}
		}
	}
	return id
}

func noEvent(r *http.Request, err error) error {
	return missing(err, "tiphys events shows the numbers of those that were received", "event %s", r.PathValue("id"))
}

func (a *API) listFirings(w http.ResponseWriter, r *http.Request) {
	q := ledger.Query{Table: event.TableFiring, States: r.URL.Query()["state"]}
	if err := page(r, &q); err != nil {
		fail(w, err)
		return
	}
	out, next, err := a.firings(r.Context(), q)
	answer(w, map[string]any{"items": out, "next": next}, err)
}

// firing is a firing with where it stands: pending, done or dead.
type firing struct {
	event.FiringRow
	State string `json:"state"`
}

func (a *API) firings(ctx context.Context, q ledger.Query) ([]firing, string, error) {
	rows, err := a.Ledger.List(ctx, q)
	if err != nil {
		return nil, "", err
	}
	out := make([]firing, len(rows))
	for i, row := range rows {
		if err := json.Unmarshal(row.Body, &out[i].FiringRow); err != nil {
			return nil, "", fmt.Errorf("decode firing %s: %w", row.Key, err)
		}
		out[i].State = row.State
	}
	next := ""
	if len(rows) > 0 && len(rows) == q.Limit {
		next = cursor(rows[len(rows)-1])
	}
	return out, next, nil
}

func (a *API) redrive(w http.ResponseWriter, r *http.Request) {
	row, err := a.Ledger.Row(r.Context(), event.TableFiring, r.PathValue("key"))
	if err == nil {
		namespace, sensor, _ := strings.Cut(row.Labels["sensor"], "/")
		err = a.can(r, access.Update, access.Firing, namespace, sensor)
	}
	if err != nil {
		fail(w, missing(err, "tiphys events shows what was fired", "firing %s", r.PathValue("key")))
		return
	}
	err = a.Events.Redrive(r.Context(), r.PathValue("key"), gate.From(r.Context()).String())
	answer(w, struct{}{}, err)
}

func (a *API) sensors(w http.ResponseWriter, r *http.Request) {
	out, err := a.Events.Waiting(r.Context())
	out = slices.DeleteFunc(out, func(s events.SensorState) bool { return !a.sees(r, "Sensor", s.Sensor) })
	answer(w, map[string]any{"items": out}, err)
}

func (a *API) sources(w http.ResponseWriter, r *http.Request) {
	list := slices.DeleteFunc(a.Events.Sources(), func(s events.SourceState) bool { return !a.sees(r, "EventSource", s.Source) })
	reply(w, map[string]any{"items": list})
}

func (a *API) listCrons(w http.ResponseWriter, r *http.Request) {
	list, err := a.Crons.List(r.Context())
	list = slices.DeleteFunc(list, func(s crons.State) bool { return !a.sees(r, "CronWorkflow", s.Namespace+"/"+s.Name) })
	answer(w, map[string]any{"items": list}, err)
}

// can asks the policy about the caller.
func (a *API) can(r *http.Request, verb access.Verb, kind, namespace, name string) error {
	return a.Policy.Can(gate.From(r.Context()), verb, kind, namespace, name)
}

// sees says whether the caller may get an object that is named by namespace and name.
func (a *API) sees(r *http.Request, kind, key string) bool {
	namespace, name, _ := strings.Cut(key, "/")
	return a.can(r, access.Get, kind, namespace, name) == nil
}
