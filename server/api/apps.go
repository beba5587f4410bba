package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/control/apps"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/server/gate"
)

// app is an application as lists show it.
type app struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Project   string     `json:"project,omitempty"`
	Preview   *previewOf `json:"preview,omitempty"`
	Sync      string     `json:"sync,omitempty"`
	Message   string     `json:"message,omitempty"`
	// Conditions say what somebody should know of it.
	Conditions deploy.Conditions `json:"conditions,omitempty"`
	Health     deploy.Health     `json:"health"`
	Revision   string            `json:"revision,omitempty"`
	Release    *releaseOf        `json:"release,omitempty"`
	// Releases are all that its images are of.
	Releases []deploy.ReleaseRef `json:"releases,omitempty"`
	Version  string              `json:"version,omitempty"`
	Commit   string              `json:"commit,omitempty"`
	MR       int                 `json:"mr,omitempty"`
	Images   map[string]string   `json:"images,omitempty"`
	Sources  map[string]string   `json:"sources,omitempty"`
	URLs     []string            `json:"urls,omitempty"`
	Actor    string              `json:"actor,omitempty"`
	Since    time.Time           `json:"since"`
	Until    time.Time           `json:"until,omitzero"`
	Deleted  bool                `json:"deleted,omitempty"`
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
	wishes, _, err := promote.Wishes(text)
	if err != nil || len(wishes) == 0 {
		return nil
	}
	return &releaseOf{wishes[0].Name, wishes[0].Number}
}

func (a *API) deployments(ctx context.Context, owner string) ([]deploy.Deployment, error) {
	var out []deploy.Deployment
	for row, err := range ledger.Each(ctx, a.Ledger, ledger.Query{Table: deploy.TableDeployment, Owner: owner}) {
		if err != nil {
			return nil, err
		}
		var d deploy.Deployment
		if err := json.Unmarshal(row.Body, &d); err != nil {
			return nil, fmt.Errorf("decode deployment: %w", err)
		}
		out = append(out, d)
	}
	return out, nil
}

func appOf(d deploy.Deployment) app {
	ns, name, _ := strings.Cut(d.Application, "/")
	out := app{
		Namespace: ns, Name: name, Release: releaseNamed(d.Release), Version: d.Version, Commit: d.Commit, Revision: d.Commit, MR: d.MR,
		Images: d.Images, Sources: d.Sources, Releases: d.Releases, URLs: d.URLs, Actor: d.Actor, Since: d.Since, Until: d.Until, Deleted: d.Deleted,
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
	out.Sync, out.Message, out.Conditions, out.Health, out.Revision = ar.Sync, ar.Message, ar.Conditions, ar.Health, ar.Revision
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
	name, ok := a.Git.RepositoryOf(ar.Spec.Source.RepoURL)
	if !ok {
		return p
	}
	p.Repo = name
	if m, err := a.Git.MR(ctx, name, ar.MR); err == nil {
		p.Title = m.Title
	}
	return p
}

func (a *API) getApp(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("namespace") + "/" + r.PathValue("name")
	row, err := a.Ledger.Row(r.Context(), deploy.TableApplication, key)
	if err != nil {
		fail(w, missing(err, "tiphys apps shows those that there are, with --at those that there were", "application %s", key))
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
	resources, err := a.resources(r.Context(), ar)
	resources = slices.DeleteFunc(resources, func(o resource) bool { return o.Kind == "Secret" && !a.sees(r, o.Kind, o.Namespace+"/"+o.Name) })
	answer(w, map[string]any{"app": one, "spec": ar.Spec, "resources": resources, "history": history, "problems": ar.Problems, "operation": ar.Operation, "seq": row.Seq}, err)
}

func (a *API) appVerb(w http.ResponseWriter, r *http.Request) {
	key := r.PathValue("namespace") + "/" + r.PathValue("name")
	actor := gate.From(r.Context()).String()
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
	pod, container, cluster, err := a.findPod(r.Context(), key, r.PathValue("pod"), q.Get("container"))
	if err != nil {
		fail(w, err)
		return
	}
	log, err := cluster.Pods.Logs(r.Context(), pod, container, deploy.LogOptions{Follow: q.Get("follow") == "1", Tail: tail, Previous: q.Get("previous") == "1"})
	if err != nil {
		fail(w, err)
		return
	}
	defer log.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "sandbox")
	a.sendLog(w, r, log, func() string { return "" }) // whoever reads sees where it ends
}

func (a *API) listSets(w http.ResponseWriter, r *http.Request) {
	q := ledger.Query{Table: deploy.TableSet}
	if err := page(r, &q); err != nil {
		fail(w, err)
		return
	}
	out, err := a.rows(r.Context(), q)
	answer(w, out, err)
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
