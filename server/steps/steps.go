// Package steps is what steps can ask of the server, each with the token of its attempt and nothing beyond what
// that token says: releases, commit statuses, comments, artifacts, and what a pod pushes where it shares no disk with the
// server.
package steps

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/stepclaims"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/image"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/server/gate"
)

// KindImage is the kind of the entries that record a pushed image; subject image/NAME@DIGEST.
const KindImage = "image.pushed"

// Posts are written to forges, by the name of the instance. forge.WithBy says in the context for whom.
type Posts interface {
	// SetStatus puts a commit status; the same context replaces the earlier one. It returns when that is on record.
	SetStatus(ctx context.Context, instance, repo, sha string, s forge.Status) error
	// Comment puts a comment on a merge request, or changes the one with the same marker. It returns when that is on record.
	Comment(ctx context.Context, instance, repo string, number int, marker, body string) error
}

// Merged knows which merge request made a commit, and which branch of a repository is the default one.
type Merged interface {
	// DefaultBranch gives the name of a repository's default branch; empty if the forge cannot be asked.
	DefaultBranch(ctx context.Context, instance, repo string) (string, error)
	// MergedAs gives the number of the merge request whose merge made a commit; 0 for a commit of another kind.
	MergedAs(ctx context.Context, instance, repo, sha string) (int, error)
}

// API holds the handlers. All fields are required.
type API struct {
	// Policy says what a step may do.
	Policy    access.Policy
	Ledger    ledger.Ledger
	Posts     Posts
	Merged    Merged
	Images    *image.Store
	Artifacts artifact.Store
	Pushes    Pushes
	// Server is the address of the screens, without a slash at the end.
	Server string
	Log    *slog.Logger
}

// Limits of requests.
const (
	jsonBody     = 1 << 20
	artifactBody = 32 << 30
	quick        = 30 * time.Second
)

// Routes are the lines of the steps' route table.
func (a *API) Routes() []gate.Route {
	post := func(pattern string, h http.HandlerFunc) gate.Route {
		return gate.Route{Pattern: "POST " + pattern, Access: gate.Step, Body: jsonBody, Timeout: quick, Handle: h}
	}
	return asking(append([]gate.Route{
		{Pattern: "GET /api/v1/step", Access: gate.Step, Timeout: quick, Handle: a.whoami},
		post("/api/v1/step/releases", a.release),
		post("/api/v1/step/statuses", a.status),
		post("/api/v1/step/comments", a.comment),
		{Pattern: "GET /api/v1/step/artifacts", Access: gate.Step, Timeout: quick, Handle: a.list},
		{Pattern: "GET /api/v1/step/artifacts/{key...}", Access: gate.Step, Handle: a.get},
		{Pattern: "PUT /api/v1/step/artifacts/{key...}", Access: gate.Step, Body: artifactBody, Handle: a.put},
	}, a.pushRoutes()...))
}

// asking puts to the routes what the policy is asked before their handlers run; the handlers ask about the thing itself. A
// route without a line is refused to everybody.
func asking(routes []gate.Route) []gate.Route {
	each := func(verb access.Verb, kind string) gate.Ask { return gate.Ask{Verb: verb, Kind: kind, Each: true} }
	table := map[string]gate.Ask{
		"GET /api/v1/step":                    each(access.Get, access.Attempt),
		"POST /api/v1/step/releases":          each(access.Create, access.Release),
		"POST /api/v1/step/statuses":          each(access.Create, access.Status),
		"POST /api/v1/step/comments":          each(access.Create, access.Comment),
		"GET /api/v1/step/artifacts":          each(access.Get, access.Artifact),
		"GET /api/v1/step/artifacts/{key...}": each(access.Get, access.Artifact),
		"PUT /api/v1/step/artifacts/{key...}": each(access.Create, access.Artifact),

		"PUT /api/v1/step/outputs/{name}":        each(access.Create, access.Attempt),
		"GET /api/v1/step/outputs/{name}":        each(access.Get, access.Attempt),
		"POST /api/v1/step/logs/{container}":     each(access.Create, access.Attempt),
		"GET /api/v1/step/logs/{container}":      each(access.Get, access.Attempt),
		"GET /api/v1/step/logs/{container}/size": each(access.Get, access.Attempt),
	}
	for i := range routes {
		routes[i].Ask = table[routes[i].Pattern]
	}
	return routes
}

// refused is an error about rights, with what to do next.
func refused(hint, format string, args ...any) error {
	return failure.WithHint(failure.Refusedf(format, args...), hint)
}

// can asks the policy about a thing of a step's.
func (a *API) can(ctx context.Context, verb access.Verb, kind, name string) error {
	id := gate.From(ctx)
	namespace, _, _ := strings.Cut(id.Step.Run, "/")
	return a.Policy.Can(id, verb, kind, namespace, name)
}

func fail(w http.ResponseWriter, err error) { gate.Fail(w, err) }

func bad(format string, args ...any) error { return failure.Invalidf(format, args...) }

func decode(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		return bad("read body: %w", err)
	}
	return nil
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func claims(r *http.Request) steptoken.Claims { return *gate.From(r.Context()).Step }

func (a *API) whoami(w http.ResponseWriter, r *http.Request) { reply(w, claims(r)) }

// cause is the entry that a step's deeds follow: the latest about its node.
func (a *API) cause(ctx context.Context, c steptoken.Claims) (int64, error) {
	row, err := a.Ledger.Row(ctx, "node", c.Run+"/"+c.Node)
	if err != nil {
		return 0, fmt.Errorf("find the step's node: %w", err)
	}
	return row.Seq, nil
}

// maxKey bounds an idempotency key, in bytes.
const maxKey = 200

// unique makes a request's repetition harmless. The key is the attempt's own: another step that sends the same one means another request.
func unique(r *http.Request) (string, error) {
	k := r.Header.Get("Idempotency-Key")
	if len(k) > maxKey {
		return "", bad("the Idempotency-Key has %d bytes and may have %d", len(k), maxKey)
	}
	if k == "" {
		return "", nil
	}
	c := claims(r)
	return fmt.Sprintf("step/%s/%s/%d/%s", c.UID, c.Node, c.Attempt, k), nil
}

// release records a release of the run's own commit. Its branch and merge request are the token's, never the
// request's: which Applications take it is decided by their policy on the branch.
func (a *API) release(w http.ResponseWriter, r *http.Request) {
	c := claims(r)
	var body struct {
		Name   string            `json:"name"`
		Images map[string]string `json:"images"`
		Commit string            `json:"commit"`
	}
	err := decode(r, &body)
	if err == nil {
		err = a.ofProtected(r.Context(), c)
	}
	if err == nil {
		err = a.checkRelease(r.Context(), c, body.Name, body.Commit, body.Images)
	}
	var cause int64
	if err == nil {
		cause, err = a.cause(r.Context(), c)
	}
	key := ""
	if err == nil {
		key, err = unique(r)
	}
	var merged int
	if err == nil && c.MR == 0 {
		merged, err = a.Merged.MergedAs(r.Context(), forge.NameOf(c.Forge), c.Repo, c.Commit)
	}
	if err != nil {
		fail(w, err)
		return
	}
	ns, _, _ := strings.Cut(c.Run, "/")
	rel := deploy.Release{
		Namespace: ns, Name: body.Name, Forge: c.Forge, Repo: c.Repo, Commit: c.Commit, Branch: strings.TrimPrefix(c.Ref, "refs/heads/"),
		MR: c.MR, Merged: merged, Unprotected: !c.Protected && c.MR == 0, Images: body.Images, Run: c.Run, Actor: gate.From(r.Context()).Actor,
	}
	err = a.Ledger.Write(r.Context(), ledger.On(rel.Subject()), func(tx ledger.Tx) error { return record(tx, &rel, cause, key) })
	var again *ledger.ExistsError
	if errors.As(err, &again) {
		rel, err = a.recorded(r.Context(), again.Seq())
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, rel)
}

// ofProtected refuses a release of the default branch to a run that does not act for a protected ref: production takes it.
func (a *API) ofProtected(ctx context.Context, c steptoken.Claims) error {
	if c.Protected || c.MR != 0 || c.Repo == "" {
		return nil
	}
	branch, err := a.Merged.DefaultBranch(ctx, forge.NameOf(c.Forge), c.Repo)
	if err != nil || branch == "" || c.Ref != "refs/heads/"+branch {
		return err
	}
	return refused("protect the branch, and take the manifest from it or from the commit that the event is about",
		"a step of %s may not release from %s: its run is not protected", c.Run, branch)
}

func (a *API) checkRelease(ctx context.Context, c steptoken.Claims, name, commit string, images map[string]string) error {
	if name == "" || len(name) > maxName || strings.ContainsAny(name, "/#@,% \t\r\n") {
		return bad("release name %q: give one of at most %d bytes, without / # @ , %% and spaces", name, maxName)
	}
	if commit == "" {
		commit = c.Commit
	}
	if err := a.can(ctx, access.Create, access.Release, access.CommitName(c.Repo, commit)); err != nil {
		return err
	}
	if len(images) == 0 {
		return bad("a release has at least one image: SERVICE=NAME@sha256:…")
	}
	for service, ref := range images {
		repo, digest, ok := strings.Cut(ref, "@")
		if !ok {
			return bad("image of %s: %q has no digest (use what `tiphys image pack` prints)", service, ref)
		}
		if own := access.ImagesOf(c); repo != own && !strings.HasPrefix(repo, own+"/") {
			return refused("", "image of %s: a step of repository %s may release images named %s/…, not %s", service, c.Repo, own, repo)
		}
		if _, err := a.Images.Resolve(repo, digest); err != nil {
			return bad("image of %s: %s is not in the built-in registry: %w", service, ref, err)
		}
	}
	return nil
}

// maxName bounds the name of a release, in bytes.
const maxName = 200

// releaseList bounds how many releases of a name are looked at to number the next.
const releaseList = 1

func record(tx ledger.Tx, rel *deploy.Release, cause int64, unique string) error {
	line := rel.Line() + "/"
	rows, err := tx.List(ledger.Query{Table: deploy.TableRelease, KeyPrefix: line, Limit: releaseList})
	if err != nil {
		return err
	}
	rel.Number = 1
	if len(rows) > 0 {
		// The key has the number, whatever the body is like.
		last, err := strconv.ParseInt(strings.TrimPrefix(rows[0].Key, line), 10, 64)
		if err != nil {
			return fmt.Errorf("read the number of release %s: %w", rows[0].Key, err)
		}
		rel.Number = last + 1
	}
	rel.Time = tx.Now()
	_, err = tx.Append(ledger.Draft{
		Actor: rel.Actor, Kind: deploy.KindReleaseRecorded, Cause: ledger.At(cause), Unique: unique, Body: rel,
		Subject: rel.Subject(),
	})
	return err
}

func (a *API) recorded(ctx context.Context, seq int64) (deploy.Release, error) {
	var rel deploy.Release
	e, err := a.Ledger.Entry(ctx, seq)
	if err == nil {
		err = json.Unmarshal(e.Body, &rel)
	}
	return rel, err
}

// status puts a commit status on the run's own commit.
func (a *API) status(w http.ResponseWriter, r *http.Request) {
	c := claims(r)
	var body struct {
		forge.Status
		Repo string `json:"repo"`
		SHA  string `json:"sha"`
	}
	err := decode(r, &body)
	if err == nil {
		err = a.can(r.Context(), access.Create, access.Status, access.CommitName(cmp.Or(body.Repo, c.Repo), cmp.Or(body.SHA, c.Commit)))
	}
	if body.URL == "" {
		// Who reads the status wants to see the run that set it.
		body.URL = a.Server + "/runs/" + c.Run
	}
	var cause int64
	if err == nil {
		cause, err = a.cause(r.Context(), c)
	}
	if err == nil {
		ctx := forge.WithBy(r.Context(), forge.By{Actor: gate.From(r.Context()).Actor, Verified: true, Cause: cause})
		err = a.Posts.SetStatus(ctx, forge.NameOf(c.Forge), c.Repo, c.Commit, body.Status)
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]string{"repo": c.Repo, "sha": c.Commit, "state": body.State})
}

// comment puts a comment on the run's own merge request, or changes it in place.
func (a *API) comment(w http.ResponseWriter, r *http.Request) {
	c := claims(r)
	var body struct {
		Marker string `json:"marker"`
		Body   string `json:"body"`
		MR     int    `json:"mr"`
	}
	err := decode(r, &body)
	if err == nil {
		err = a.can(r.Context(), access.Create, access.Comment, access.MergeRequestName(c.Repo, cmp.Or(body.MR, c.MR)))
	}
	var cause int64
	if err == nil {
		cause, err = a.cause(r.Context(), c)
	}
	if err == nil {
		ctx := forge.WithBy(r.Context(), forge.By{Actor: gate.From(r.Context()).Actor, Verified: true, Cause: cause})
		if body.Marker == "" {
			body.Marker = "run"
		}
		err = a.Posts.Comment(ctx, forge.NameOf(c.Forge), c.Repo, c.MR, body.Marker, body.Body)
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]any{"repo": c.Repo, "mr": c.MR})
}

// key is where a run's own artifact is. A run reads and writes beneath its uid, so that no other run's can be named.
func key(c steptoken.Claims, name string) string {
	return stepclaims.ArtifactPrefix + c.UID + "/" + name
}

func (a *API) put(w http.ResponseWriter, r *http.Request) {
	c := claims(r)
	body, err := check(r, false)
	var info artifact.Info
	if err == nil {
		info, err = a.Artifacts.Put(r.Context(), key(c, r.PathValue("key")), body)
	}
	if err != nil {
		fail(w, err)
		return
	}
	info.Key = r.PathValue("key")
	reply(w, info)
}

func (a *API) get(w http.ResponseWriter, r *http.Request) {
	body, info, err := a.Artifacts.Get(r.Context(), key(claims(r), r.PathValue("key")))
	if err != nil {
		fail(w, err)
		return
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(info.Size))
	if _, err := io.Copy(w, body); err != nil {
		a.Log.Warn("send artifact", "key", info.Key, "error", err)
	}
}

func (a *API) list(w http.ResponseWriter, r *http.Request) {
	own := key(claims(r), "")
	infos, err := a.Artifacts.List(r.Context(), own+r.URL.Query().Get("prefix"))
	if err != nil {
		fail(w, err)
		return
	}
	for i := range infos {
		infos[i].Key = strings.TrimPrefix(infos[i].Key, own)
	}
	reply(w, map[string]any{"items": infos})
}
