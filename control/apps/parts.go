package apps

import (
	"context"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/manifest"
)

// Repositories reads any Git repository by its URL. Methods are safe for concurrent use and end with their context.
type Repositories interface {
	// Checkout gives a folder with a repository at a revision (branch, tag, commit or HEAD), readable for others, and
	// the commit's full hash. The folder stays until release is called.
	Checkout(ctx context.Context, url, revision string) (dir, sha string, release func(), err error)
	// Resolve gives the full hash of the commit that a revision is, without fetching what is in it.
	Resolve(ctx context.Context, url, revision string) (string, error)
	// DefaultBranch gives the name of the branch that HEAD is.
	DefaultBranch(ctx context.Context, url string) (string, error)
	// Tags lists the tags of the repository.
	Tags(ctx context.Context, url string) ([]string, error)
}

// Forges knows the merge requests of every forge. Methods are safe for concurrent use and end with their context.
type Forges interface {
	// PullRequests lists the open merge requests of a repository; kind is gitlab, github, gitea or tiphys. An error that
	// is forge.ErrNotFound means that there is no such repository.
	PullRequests(ctx context.Context, kind, repo string, f manifest.PullRequestForge) ([]event.PullRequest, error)
	// Is tells whether a URL names a repository of an instance; the empty instance is the built-in remote.
	Is(ctx context.Context, url, instance, repo string) (bool, error)
	// Own is the URL of a repository of the built-in remote.
	Own(repo string) string
	// Wakes are the kinds of entries that tell of changed merge requests, beside those of events.
	Wakes() []string
}

// Front is where deployed applications are reached.
type Front interface {
	// URL is the address of a host that an Ingress names.
	URL(host string) string
}
