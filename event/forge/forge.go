// Package forge knows Git hosts: how their webhooks are verified and what they mean, and how to write back to
// them. The built-in Git remote is one of them (event/forge/builtin).
package forge

import (
	"context"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/failure"
)

// ErrNotFound says that the forge has no such repository, merge request or file.
var ErrNotFound = failure.New(failure.NotFound, "not found on the forge")

// Forge is a Git host. Every implementation runs the suite in event/forge/forgetest.
type Forge interface {
	// PullRequests lists the open merge requests of a repository.
	PullRequests(ctx context.Context, repo string) ([]event.PullRequest, error)
	// PullRequest gives one merge request, open or not.
	PullRequest(ctx context.Context, repo string, number int) (event.PullRequest, error)
	// SetStatus puts a commit status; the same context replaces the earlier one.
	SetStatus(ctx context.Context, repo, sha string, s Status) error
	// Comment puts one comment on a merge request, or changes the one with the same marker in place.
	Comment(ctx context.Context, repo string, number int, marker, body string) error
	// File reads one file at a commit, at most 4 MiB.
	File(ctx context.Context, repo, revision, path string) ([]byte, error)
	// Resolve turns a branch, tag or commit into a commit's full hash.
	Resolve(ctx context.Context, repo, revision string) (string, error)
}

// Status is a commit status.
type Status struct {
	// State: pending, running, success, failed, error, canceled.
	State       string `json:"state"`
	Context     string `json:"context"`
	Description string `json:"description,omitempty"`
	URL         string `json:"url,omitempty"`
}
