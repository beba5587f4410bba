package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control/posts"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/server/gate"
)

// Git is the forge that is part of this server, as its people work with it.
type Git interface {
	Repositories
	MergeRequests
	Approvals
	Comments
}

// Repositories are those that are kept here.
type Repositories interface {
	// Repositories lists those that exist, by name.
	Repositories(ctx context.Context) ([]forge.Repository, error)
	// CreateRepository makes an empty one; ledger.ErrExists says that the name is in use.
	CreateRepository(ctx context.Context, actor forge.Actor, repo forge.Repository) (forge.Repository, error)
	// Repository gives one; forge.ErrNotFound if there is none.
	Repository(ctx context.Context, name string) (forge.Repository, error)
	// EditRepository changes what is said of one. What cannot be is of kind failure.Invalid.
	EditRepository(ctx context.Context, actor forge.Actor, name string, e forge.RepositoryEdit) (forge.Repository, error)
	// Resolve turns a branch, tag or commit into a commit's full hash.
	Resolve(ctx context.Context, repo, revision string) (string, error)
	// URL is the address to clone a repository from.
	URL(repo string) string
	// RepositoryOf tells which of these repositories a clone URL names; ok is false for what is elsewhere.
	RepositoryOf(raw string) (repo string, ok bool)
}

// MergeRequests are those of these repositories. One that there is not is forge.ErrNotFound; what the rules do not allow is of kind
// failure.Conflict or failure.Invalid.
type MergeRequests interface {
	// ListMRs lists merge requests, newest first; repo and state (open, closed, merged) restrict if not empty.
	ListMRs(ctx context.Context, repo, state string) ([]forge.MergeRequest, error)
	MR(ctx context.Context, repo string, number int) (forge.MergeRequest, error)
	// GetMR gives one with commits, files, conflicts, comments and statuses.
	GetMR(ctx context.Context, repo string, number int) (forge.MRDetail, error)
	// OpenMR opens one. An actor without a name is the one that the newest commit names.
	OpenMR(ctx context.Context, actor forge.Actor, n forge.NewMR) (forge.MergeRequest, error)
	EditMR(ctx context.Context, actor forge.Actor, repo string, number int, e forge.MREdit) (forge.MergeRequest, error)
	MergeMR(ctx context.Context, actor forge.Actor, repo string, number int, o forge.MergeOptions) (forge.MergeRequest, error)
	CloseMR(ctx context.Context, actor forge.Actor, repo string, number int) (forge.MergeRequest, error)
	ReopenMR(ctx context.Context, actor forge.Actor, repo string, number int) (forge.MergeRequest, error)
}

// Approvals are what people say about merge requests that counts: each is for one commit. sha, if not empty, is the commit that was looked at:
// another head is a conflict.
type Approvals interface {
	// ApproveMR is a review: what a protected branch may ask for before a merge.
	ApproveMR(ctx context.Context, actor forge.Actor, repo string, number int, sha string) (forge.MergeRequest, error)
}

// Comments are what people say about merge requests.
type Comments interface {
	// AddComment adds a person's comment, which is an event.
	AddComment(ctx context.Context, actor forge.Actor, repo string, number int, body string) (forge.Comment, error)
}

func person(r *http.Request) forge.Actor {
	id := gate.From(r.Context())
	return forge.Actor{Name: id.Actor, Verified: id.Verified}
}

func (a *API) listRepos(w http.ResponseWriter, r *http.Request) {
	repos, err := a.Git.Repositories(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	items := []map[string]any{}
	for _, repo := range repos {
		if a.can(r, access.Get, access.Repository, "", repo.Name) != nil {
			continue
		}
		item := a.repository(repo)
		if sha, err := a.Git.Resolve(r.Context(), repo.Name, repo.DefaultBranch); err == nil {
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
	if err := a.can(r, access.Create, access.Repository, "", body.Name); err != nil {
		fail(w, err)
		return
	}
	repo, err := a.Git.CreateRepository(r.Context(), person(r), forge.Repository{Name: body.Name, Description: body.Description, DefaultBranch: body.DefaultBranch})
	answer(w, map[string]any{"name": repo.Name, "cloneURL": a.Git.URL(repo.Name), "defaultBranch": repo.DefaultBranch}, err)
}

// editRepo changes a repository. What protects its refs is its owner's to say, and an administrator's.
func (a *API) editRepo(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Description   *string             `json:"description"`
		DefaultBranch *string             `json:"defaultBranch"`
		Protect       *[]forge.Protection `json:"protect"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	name := r.PathValue("repo")
	repo, err := a.Git.Repository(r.Context(), name)
	if err == nil && (body.Protect != nil || body.DefaultBranch != nil) && (repo.Owner == "" || repo.Owner != person(r).Name) {
		err = a.can(r, access.Override, access.Repository, "", name)
	}
	if err == nil {
		repo, err = a.Git.EditRepository(r.Context(), person(r), name, forge.RepositoryEdit{Description: body.Description, DefaultBranch: body.DefaultBranch, Protect: body.Protect})
	}
	answer(w, a.repository(repo), err)
}

// repository is one in the API's words. Without a list of its own it protects its default branch.
func (a *API) repository(repo forge.Repository) map[string]any {
	own, _ := repo.Protection("refs/heads/" + repo.DefaultBranch)
	protect := []forge.Protection{own}
	if repo.Protect != nil {
		protect = *repo.Protect
	}
	return map[string]any{"name": repo.Name, "description": repo.Description, "defaultBranch": repo.DefaultBranch, "cloneURL": a.Git.URL(repo.Name),
		"createdAt": repo.Created, "owner": repo.Owner, "protect": protect}
}

// mr is a merge request in the API's words.
func mr(m forge.MergeRequest) map[string]any {
	out := map[string]any{
		"repo": m.Repo, "number": m.Number, "title": m.Title, "description": m.Body, "url": m.URL, "state": m.State, "draft": m.Draft,
		"source": m.Source, "target": m.Target, "headSHA": m.HeadSHA, "mergeSHA": m.MergeSHA, "author": forge.Actor{Name: m.Author, Verified: m.Verified}.String(), "verified": m.Verified,
		"approvedBy": m.ApprovedBy(), "override": m.Override, "labels": m.Labels, "mergedBy": m.MergedBy, "createdAt": m.Created, "updatedAt": m.Updated,
	}
	if m.State == "merged" {
		out["mergedAt"] = m.Closed
	}
	return out
}

func (a *API) listMRs(w http.ResponseWriter, r *http.Request) {
	list, err := a.Git.ListMRs(r.Context(), r.URL.Query().Get("repo"), r.URL.Query().Get("state"))
	items := []map[string]any{}
	for _, m := range list {
		if a.can(r, access.Get, access.MergeRequest, "", access.MergeRequestName(m.Repo, m.Number)) != nil {
			continue
		}
		item := mr(m)
		if p, ok := a.preview(r.Context(), m.Repo, m.Number); ok {
			item["preview"] = p
		}
		items = append(items, item)
	}
	answer(w, map[string]any{"items": items}, err)
}

func (a *API) mrOf(r *http.Request) (string, int, error) {
	n, err := strconv.Atoi(r.PathValue("number"))
	if err != nil {
		return "", 0, badRequest("%q is not the number of a merge request", r.PathValue("number"))
	}
	return r.PathValue("repo"), n, nil
}

func (a *API) getMR(w http.ResponseWriter, r *http.Request) {
	repo, number, err := a.mrOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	d, err := a.Git.GetMR(r.Context(), repo, number)
	if err != nil {
		fail(w, err)
		return
	}
	one := mr(d.MergeRequest)
	one["conflicts"] = len(d.Conflicts) > 0
	one["mergeable"], one["reason"], one["blocked"] = d.Mergeable, d.Reason, d.Blocked
	one["mayOverride"] = a.can(r, access.Override, access.MergeRequest, "", access.MergeRequestName(repo, number)) == nil
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
	name, ok := a.Git.RepositoryOf(ar.Spec.Source.RepoURL)
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
	m, err := a.Git.OpenMR(r.Context(), person(r), forge.NewMR{
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
		// Override is why it is merged though the rules of the target do not let it.
		Override string `json:"override"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	var m forge.MergeRequest
	yes, no := true, false
	switch r.PathValue("verb") {
	case "merge":
		if body.Override != "" {
			err = a.can(r, access.Override, access.MergeRequest, "", access.MergeRequestName(repo, number))
		}
		if err == nil {
			m, err = a.Git.MergeMR(r.Context(), person(r), repo, number,
				forge.MergeOptions{Method: body.Method, Message: body.Message, SHA: body.SHA, Override: body.Override})
		}
	case "approve":
		m, err = a.Git.ApproveMR(r.Context(), person(r), repo, number, body.SHA)
	case "close":
		m, err = a.Git.CloseMR(r.Context(), person(r), repo, number)
	case "reopen":
		m, err = a.Git.ReopenMR(r.Context(), person(r), repo, number)
	case "ready":
		m, err = a.Git.EditMR(r.Context(), person(r), repo, number, forge.MREdit{Draft: &no})
	case "draft":
		m, err = a.Git.EditMR(r.Context(), person(r), repo, number, forge.MREdit{Draft: &yes})
	case "comment":
		_, err = a.Git.AddComment(r.Context(), person(r), repo, number, body.Text)
		if err == nil {
			m, err = a.Git.MR(r.Context(), repo, number)
		}
	default:
		err = badRequest("unknown command %q", r.PathValue("verb"))
	}
	answer(w, mr(m), err)
}

func (a *API) listForges(w http.ResponseWriter, r *http.Request) {
	states, err := a.Forges.States(r.Context())
	states = slices.DeleteFunc(states, func(s forge.State) bool { return s.Name != forge.Builtin && !a.sees(r, "Forge", s.Name) })
	answer(w, map[string]any{"items": states}, err)
}

// listPosts gives what forges were told, or are to be.
func (a *API) listPosts(w http.ResponseWriter, r *http.Request) {
	q := ledger.Query{Table: posts.Table, States: r.URL.Query()["state"], Owner: r.URL.Query().Get("forge")}
	if err := page(r, &q); err != nil {
		fail(w, err)
		return
	}
	out, err := a.rows(r.Context(), q)
	answer(w, out, err)
}
