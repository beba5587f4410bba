package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/forge/builtin"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/server/apps"
	"github.com/tiphys/tiphys/server/gate"
)

// roomRoutes are the lines about events, applications, Git and schedules.
func (a *API) roomRoutes() []gate.Route {
	get := func(pattern string, h http.HandlerFunc) gate.Route {
		return gate.Route{Pattern: "GET " + pattern, Access: gate.User, Timeout: quick, Handle: h}
	}
	post := func(pattern string, h http.HandlerFunc) gate.Route {
		return gate.Route{Pattern: "POST " + pattern, Access: gate.User, Body: small, Timeout: time.Minute, Handle: h}
	}
	return []gate.Route{
		get("/api/v1/events", a.listEvents),
		get("/api/v1/events/{id}", a.getEvent),
		post("/api/v1/events/{id}/replay", a.replayEvent),
		get("/api/v1/firings", a.listFirings),
		post("/api/v1/firings/{key}/redrive", a.redrive),
		get("/api/v1/sensors", a.sensors),

		get("/api/v1/apps", a.listApps),
		get("/api/v1/apps/{namespace}/{name}", a.getApp),
		post("/api/v1/apps/{namespace}/{name}/{verb}", a.appVerb),
		{Pattern: "GET /api/v1/apps/{namespace}/{name}/logs/{pod}", Access: gate.User, Handle: a.appLog},
		get("/api/v1/releases", a.listReleases),

		get("/api/v1/repos", a.listRepos),
		post("/api/v1/repos", a.createRepo),
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

// listedEvent is an event in a list, with what the sensors decided.
type listedEvent struct {
	event.EventRow
	Decisions []event.Decision `json:"decisions"`
}

func (a *API) listed(ctx context.Context, row ledger.Row) (listedEvent, error) {
	var one listedEvent
	if err := json.Unmarshal(row.Body, &one.EventRow); err != nil {
		return one, fmt.Errorf("decode event %s: %w", row.Key, err)
	}
	decided, err := a.decided(ctx, row.Key)
	one.Decisions = decided.Decisions
	return one, err
}

func (a *API) getEvent(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if seq, err := strconv.ParseInt(id, 10, 64); err == nil {
		if e, err := a.Ledger.Entry(r.Context(), seq); err == nil && e.Kind == event.KindReceived {
			if ev, err := event.FromEntry(e); err == nil {
				id = ev.ID
			}
		}
	}
	e, err := a.Events.Event(r.Context(), id)
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
	answer(w, map[string]any{"event": e, "decisions": decided.Decisions, "unheard": a.Events.Unheard(e), "firings": firings}, err)
}

// decided is what the sensors made of an event; nothing yet is no error.
func (a *API) decided(ctx context.Context, id string) (event.DecisionRow, error) {
	d := event.DecisionRow{Decisions: []event.Decision{}}
	row, err := a.Ledger.Row(ctx, event.TableDecision, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(row.Body, &d)
	}
	return d, err
}

func (a *API) replayEvent(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("dryRun") != "" {
		ds, err := a.Events.DryRun(r.Context(), r.PathValue("id"))
		answer(w, map[string]any{"decisions": ds}, err)
		return
	}
	e, err := a.Events.Replay(r.Context(), r.PathValue("id"), gate.From(r.Context()).Actor)
	answer(w, e, err)
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
	err := a.Events.Redrive(r.Context(), r.PathValue("key"), gate.From(r.Context()).Actor)
	answer(w, struct{}{}, err)
}

func (a *API) sensors(w http.ResponseWriter, r *http.Request) {
	out, err := a.Events.Waiting(r.Context())
	answer(w, map[string]any{"items": out}, err)
}

// app is an application as lists show it.
type app struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Project   string            `json:"project,omitempty"`
	Preview   *previewOf        `json:"preview,omitempty"`
	Sync      string            `json:"sync,omitempty"`
	Message   string            `json:"message,omitempty"`
	Health    deploy.Health     `json:"health"`
	Revision  string            `json:"revision,omitempty"`
	Release   *releaseOf        `json:"release,omitempty"`
	Version   string            `json:"version,omitempty"`
	Commit    string            `json:"commit,omitempty"`
	MR        int               `json:"mr,omitempty"`
	Images    map[string]string `json:"images,omitempty"`
	Sources   map[string]string `json:"sources,omitempty"`
	URLs      []string          `json:"urls,omitempty"`
	Actor     string            `json:"actor,omitempty"`
	Since     time.Time         `json:"since"`
	Until     time.Time         `json:"until,omitzero"`
	Deleted   bool              `json:"deleted,omitempty"`
}

type previewOf struct {
	MR    int    `json:"mr"`
	Repo  string `json:"repo,omitempty"`
	Title string `json:"title,omitempty"`
}

type releaseOf struct {
	Name   string `json:"name"`
	Number int64  `json:"number"`
}

func releaseNamed(text string) *releaseOf {
	// A preview names its own build first: "harbour#8 on harbour#7".
	text, _, _ = strings.Cut(text, " on ")
	name, number := promote.ParseKey(text)
	if name == "" {
		return nil
	}
	return &releaseOf{name, number}
}

func (a *API) deployments(ctx context.Context, owner string) ([]deploy.Deployment, error) {
	var out []deploy.Deployment
	q := ledger.Query{Table: deploy.TableDeployment, Owner: owner, Limit: 1000}
	for {
		rows, err := a.Ledger.List(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			var d deploy.Deployment
			if err := json.Unmarshal(row.Body, &d); err != nil {
				return nil, fmt.Errorf("decode deployment: %w", err)
			}
			out = append(out, d)
		}
		if len(rows) < q.Limit {
			return out, nil
		}
		q.After = &ledger.Cursor{Time: rows[len(rows)-1].Time, Key: rows[len(rows)-1].Key}
	}
}

func appOf(d deploy.Deployment) app {
	ns, name, _ := strings.Cut(d.Application, "/")
	out := app{
		Namespace: ns, Name: name, Release: releaseNamed(d.Release), Version: d.Version, Commit: d.Commit, Revision: d.Commit, MR: d.MR,
		Images: d.Images, Sources: d.Sources, URLs: d.URLs, Actor: d.Actor, Since: d.Since, Until: d.Until, Deleted: d.Deleted,
	}
	return out
}

func (a *API) listApps(w http.ResponseWriter, r *http.Request) {
	at := r.URL.Query().Get("at")
	if at != "" {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			fail(w, badRequest("at=%q is not a time like 2006-01-02T15:04:05Z", at))
			return
		}
		ds, err := a.deployments(r.Context(), "")
		items := []app{}
		for _, d := range promote.At(ds, when) {
			items = append(items, appOf(d))
		}
		answer(w, map[string]any{"items": items}, err)
		return
	}
	q := ledger.Query{Table: deploy.TableApplication}
	if err := page(r, &q); err != nil {
		fail(w, err)
		return
	}
	rows, err := a.Ledger.List(r.Context(), q)
	if err != nil {
		fail(w, err)
		return
	}
	items := []app{}
	for _, row := range rows {
		one, _, err := a.appRow(r.Context(), row)
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

// appRow joins an application with what it runs.
func (a *API) appRow(ctx context.Context, row ledger.Row) (app, deploy.ApplicationRow, error) {
	var ar deploy.ApplicationRow
	if err := json.Unmarshal(row.Body, &ar); err != nil {
		return app{}, ar, fmt.Errorf("decode application %s: %w", row.Key, err)
	}
	out := app{Since: ar.Since}
	if ar.Current != "" {
		cur, err := a.Ledger.Row(ctx, deploy.TableDeployment, ar.Current)
		if err == nil {
			var d deploy.Deployment
			if err := json.Unmarshal(cur.Body, &d); err != nil {
				return out, ar, fmt.Errorf("decode deployment: %w", err)
			}
			out = appOf(d)
		} else if !errors.Is(err, ledger.ErrNotFound) {
			return out, ar, err
		}
	}
	out.Namespace, out.Name, out.Project = ar.Namespace, ar.Name, ar.Spec.Project
	out.Sync, out.Message, out.Health, out.Revision = ar.Sync, ar.Message, ar.Health, ar.Revision
	if len(ar.URLs) > 0 {
		out.URLs = ar.URLs
	}
	if out.Images == nil {
		out.Images = ar.Images
	}
	if ar.MR != 0 {
		out.MR, out.Preview = ar.MR, a.previewOf(ctx, ar)
	}
	return out, ar, nil
}

// previewOf names the merge request that an application shows.
func (a *API) previewOf(ctx context.Context, ar deploy.ApplicationRow) *previewOf {
	p := &previewOf{MR: ar.MR}
	if ar.Spec.Source == nil {
		return p
	}
	name, ok := a.Remote.RepositoryOf(ar.Spec.Source.RepoURL)
	if !ok {
		return p
	}
	p.Repo = name
	if m, err := a.Remote.MR(ctx, name, ar.MR); err == nil {
		p.Title = m.Title
	}
	return p
}

func (a *API) getApp(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("namespace") + "/" + r.PathValue("name")
	row, err := a.Ledger.Row(r.Context(), deploy.TableApplication, key)
	if err != nil {
		fail(w, fmt.Errorf("application %s: %w", key, err))
		return
	}
	one, ar, err := a.appRow(r.Context(), row)
	if err != nil {
		fail(w, err)
		return
	}
	history, err := a.deployments(r.Context(), key)
	if err != nil {
		fail(w, err)
		return
	}
	resources, err := a.resources(r.Context(), key)
	answer(w, map[string]any{"app": one, "spec": ar.Spec, "resources": resources, "history": history, "problems": ar.Problems, "operation": ar.Operation, "seq": row.Seq}, err)
}

func (a *API) appVerb(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("namespace") + "/" + r.PathValue("name")
	actor := gate.From(r.Context()).Actor
	var body struct {
		Prune     bool   `json:"prune"`
		Confirmed bool   `json:"confirmed"`
		To        string `json:"to"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	var err error
	switch r.PathValue("verb") {
	case "sync":
		err = a.Apps.Sync(r.Context(), key, apps.SyncRequest{Actor: actor, Prune: body.Prune, Confirmed: body.Confirmed})
	case "rollback":
		err = a.Apps.Rollback(r.Context(), key, body.To, actor)
	case "refresh":
		a.Apps.Refresh(key)
	default:
		err = badRequest("unknown command %q: use sync, rollback or refresh", r.PathValue("verb"))
	}
	answer(w, struct{}{}, err)
}

func (a *API) appLog(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	tail, err := number(r, "tail", 0)
	if err != nil {
		fail(w, err)
		return
	}
	key := r.PathValue("namespace") + "/" + r.PathValue("name")
	pod, container, err := a.findPod(r.Context(), key, r.PathValue("pod"), q.Get("container"))
	if err != nil {
		fail(w, err)
		return
	}
	log, err := a.Target.Logs(r.Context(), pod, container, deploy.LogOptions{Follow: q.Get("follow") == "1", Tail: tail, Previous: q.Get("previous") == "1"})
	if err != nil {
		fail(w, err)
		return
	}
	defer log.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "sandbox")
	copyFlushing(w, log)
}

func (a *API) listReleases(w http.ResponseWriter, r *http.Request) {
	q := ledger.Query{Table: deploy.TableRelease}
	if name := r.URL.Query().Get("name"); name != "" {
		ns := r.URL.Query().Get("namespace")
		if ns == "" {
			ns = "default"
		}
		q.Owner = ns + "/" + name
	}
	if err := page(r, &q); err != nil {
		fail(w, err)
		return
	}
	out, err := a.rows(r.Context(), q)
	answer(w, out, err)
}

func person(r *http.Request) builtin.Actor {
	id := gate.From(r.Context())
	return builtin.Actor{Name: id.Actor, Verified: id.Verified}
}

func (a *API) listRepos(w http.ResponseWriter, r *http.Request) {
	repos, err := a.Remote.Repositories(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	items := []map[string]any{}
	for _, repo := range repos {
		item := map[string]any{"name": repo.Name, "description": repo.Description, "defaultBranch": repo.DefaultBranch, "cloneURL": a.Remote.URL(repo.Name), "createdAt": repo.Created}
		if sha, err := a.Remote.Resolve(r.Context(), repo.Name, repo.DefaultBranch); err == nil {
			item["head"] = sha
		}
		items = append(items, item)
	}
	reply(w, map[string]any{"items": items})
}

func (a *API) createRepo(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name          string `json:"name"`
		Description   string `json:"description"`
		DefaultBranch string `json:"defaultBranch"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	repo, err := a.Remote.CreateRepository(r.Context(), person(r), builtin.Repository{Name: body.Name, Description: body.Description, DefaultBranch: body.DefaultBranch})
	answer(w, map[string]any{"name": repo.Name, "cloneURL": a.Remote.URL(repo.Name), "defaultBranch": repo.DefaultBranch}, err)
}

// mr is a merge request in the API's words.
func mr(m builtin.MergeRequest) map[string]any {
	out := map[string]any{
		"repo": m.Repo, "number": m.Number, "title": m.Title, "description": m.Body, "url": m.URL, "state": m.State, "draft": m.Draft,
		"source": m.Source, "target": m.Target, "headSHA": m.HeadSHA, "mergeSHA": m.MergeSHA, "author": m.Author, "verified": m.Verified,
		"labels": m.Labels, "mergedBy": m.MergedBy, "createdAt": m.Created, "updatedAt": m.Updated,
	}
	if m.State == "merged" {
		out["mergedAt"] = m.Closed
	}
	return out
}

func (a *API) listMRs(w http.ResponseWriter, r *http.Request) {
	list, err := a.Remote.ListMRs(r.Context(), r.URL.Query().Get("repo"), r.URL.Query().Get("state"))
	items := []map[string]any{}
	for _, m := range list {
		item := mr(m)
		if p, ok := a.preview(r.Context(), m.Repo, m.Number); ok {
			item["preview"] = p
		}
		items = append(items, item)
	}
	answer(w, map[string]any{"items": items}, err)
}

func (a *API) mrOf(r *http.Request) (string, int, error) {
	repo, err := url.PathUnescape(r.PathValue("repo"))
	if err != nil {
		return "", 0, badRequest("repository %q: %w", r.PathValue("repo"), err)
	}
	n, err := strconv.Atoi(r.PathValue("number"))
	if err != nil {
		return "", 0, badRequest("%q is not the number of a merge request", r.PathValue("number"))
	}
	return repo, n, nil
}

func (a *API) getMR(w http.ResponseWriter, r *http.Request) {
	repo, number, err := a.mrOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	d, err := a.Remote.GetMR(r.Context(), repo, number)
	if err != nil {
		fail(w, err)
		return
	}
	one := mr(d.MergeRequest)
	one["conflicts"] = len(d.Conflicts) > 0
	one["mergeable"], one["reason"] = d.Mergeable, d.Reason
	var stat bytes.Buffer
	for _, f := range d.Files {
		fmt.Fprintf(&stat, "%s +%d -%d\n", f.Path, f.Added, f.Removed)
	}
	out := map[string]any{"mr": one, "commits": d.Commits, "statuses": d.Statuses, "comments": d.Comments, "diffstat": stat.String(), "files": d.Files}
	if p, ok := a.preview(r.Context(), repo, number); ok {
		out["preview"] = p
	}
	reply(w, out)
}

// preview finds the application of a merge request.
func (a *API) preview(ctx context.Context, repo string, number int) (app, bool) {
	rows, err := a.Ledger.List(ctx, ledger.Query{Table: deploy.TableApplication, Labels: map[string]string{"mr": strconv.Itoa(number)}, Limit: 100})
	if err != nil {
		return app{}, false
	}
	for _, row := range rows {
		one, ar, err := a.appRow(ctx, row)
		if err == nil && a.sourceIs(ar, repo) {
			return one, true
		}
	}
	return app{}, false
}

func (a *API) sourceIs(ar deploy.ApplicationRow, repo string) bool {
	if ar.Spec.Source == nil {
		return false
	}
	name, ok := a.Remote.RepositoryOf(ar.Spec.Source.RepoURL)
	return ok && name == repo
}

func (a *API) openMR(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Source, Target, Title, Description string
		Labels                             []string
		Draft                              bool
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	m, err := a.Remote.OpenMR(r.Context(), person(r), builtin.NewMR{
		Repo: r.PathValue("repo"), Source: body.Source, Target: body.Target, Title: body.Title, Body: body.Description, Labels: body.Labels, Draft: body.Draft,
	})
	answer(w, mr(m), err)
}

func (a *API) mrVerb(w http.ResponseWriter, r *http.Request) {
	repo, number, err := a.mrOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	var body struct {
		Method  string `json:"method"`
		Message string `json:"message"`
		SHA     string `json:"sha"`
		Text    string `json:"body"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	var m builtin.MergeRequest
	yes, no := true, false
	switch r.PathValue("verb") {
	case "merge":
		m, err = a.Remote.MergeMR(r.Context(), person(r), repo, number, builtin.MergeOptions{Method: body.Method, Message: body.Message, SHA: body.SHA})
	case "close":
		m, err = a.Remote.CloseMR(r.Context(), person(r), repo, number)
	case "reopen":
		m, err = a.Remote.ReopenMR(r.Context(), person(r), repo, number)
	case "ready":
		m, err = a.Remote.EditMR(r.Context(), person(r), repo, number, builtin.MREdit{Draft: &no})
	case "draft":
		m, err = a.Remote.EditMR(r.Context(), person(r), repo, number, builtin.MREdit{Draft: &yes})
	case "comment":
		_, err = a.Remote.AddComment(r.Context(), person(r), repo, number, body.Text)
		if err == nil {
			m, err = a.Remote.MR(r.Context(), repo, number)
		}
	default:
		err = badRequest("unknown command %q", r.PathValue("verb"))
	}
	answer(w, mr(m), err)
}

func (a *API) listCrons(w http.ResponseWriter, r *http.Request) {
	list, err := a.Crons.List(r.Context())
	answer(w, map[string]any{"items": list}, err)
}

// forgeCode maps the forge's errors.
func forgeCode(err error) int {
	switch {
	case errors.Is(err, forge.ErrNotFound), errors.Is(err, apps.ErrNotFound), errors.Is(err, deploy.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, builtin.ErrConflict), errors.Is(err, builtin.ErrRefused):
		return http.StatusConflict
	case errors.Is(err, builtin.ErrName):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}
