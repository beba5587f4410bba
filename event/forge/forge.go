// Package forge knows Git hosts: how their webhooks are verified and what they mean, and how to ask them and write back to
// them. The built-in Git remote is one of them (event/forge/builtin).
package forge

import (
	"context"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/failure"
)

// ErrNotFound says that the forge has no such repository, merge request or file, or that there is no such forge.
var ErrNotFound = failure.New(failure.NotFound, "not found on the forge")

// Forge is a Git host. Every implementation runs the suite in event/forge/forgetest. Methods are safe for concurrent use and end with
// their context. What was wrong is told by the error: [ErrNotFound]; failure.Refused for credentials that are not taken;
// failure.Invalid for what the forge will never take; failure.RetryAfter, with the time, where the forge limits requests; and any other
// error may pass.
type Forge interface {
	Requests
	Repositories
	Posts
}

// Requests are the merge requests of a forge: what previews and releases ask for.
type Requests interface {
	// PullRequests lists the open merge requests of a repository.
	PullRequests(ctx context.Context, repo string) ([]event.PullRequest, error)
	// PullRequest gives one merge request, open or not.
	PullRequest(ctx context.Context, repo string, number int) (event.PullRequest, error)
	// MergedAs gives the number of the merge request whose merge made a commit; 0 for a commit of another kind.
	MergedAs(ctx context.Context, repo, sha string) (int, error)
}

// Repositories are read at a commit, without a clone.
type Repositories interface {
	// Describe gives a repository with its default branch.
	Describe(ctx context.Context, repo string) (event.Repo, error)
	// File reads one file at a commit, at most 4 MiB.
	File(ctx context.Context, repo, revision, path string) ([]byte, error)
	// Resolve turns a branch, tag, commit, full ref or HEAD into a commit's full hash.
	Resolve(ctx context.Context, repo, revision string) (string, error)
}

// Protects is a forge that says which refs it protects.
type Protects interface {
	// Protected tells whether a full ref may be changed only as the forge's rules allow; HEAD is the default branch.
	Protected(ctx context.Context, repo, ref string) (bool, error)
}

// Posts are what is written back. Each may be repeated: what is there already is replaced, and nothing is there twice.
type Posts interface {
	// SetStatus puts a commit status; the same context replaces the earlier one.
	SetStatus(ctx context.Context, repo, sha string, s Status) error
	// Comment puts one comment on a merge request, or changes the one with the same marker in place.
	Comment(ctx context.Context, repo string, number int, marker, body string) error
}

// Status is a commit status.
type Status struct {
	// State: pending, running, success, failed, error, canceled.
	State       string `json:"state"`
	Context     string `json:"context"`
	Description string `json:"description,omitempty"`
	URL         string `json:"url,omitempty"`
}

// By says on whose behalf something is written, and because of which entry. A forge that is part of this server records it.
type By struct {
	Actor    string
	Verified bool
	// Cause is an entry of the ledger; 0 for none.
	Cause int64
}

type byKey struct{}

// WithBy says in a context on whose behalf is written.
func WithBy(ctx context.Context, by By) context.Context { return context.WithValue(ctx, byKey{}, by) }

// ByOf reads what [WithBy] put there; without it, it is the server itself.
func ByOf(ctx context.Context) By {
	if by, ok := ctx.Value(byKey{}).(By); ok {
		return by
	}
	return By{Actor: "system", Verified: true}
}
