package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tiphys/tiphys/control/posts"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/manifest"
)

// ForgeTypes are the types of forges that can be declared beside the built-in remote: a folder below event/forge, and a line here.
func ForgeTypes() []forge.Type { return nil }

// openForges opens the registry of forges, and what writes to them.
func (s *Server) openForges(context.Context) (err error) {
	own := forge.Instance{
		Name: forge.Builtin, Type: forge.TypeBuiltin, URL: strings.TrimRight(s.URL(), "/"), Forge: s.remote, Addresses: s.remote, Local: true,
	}
	client := &http.Client{Transport: s.egress.Transport(egress.HTTP{Field: "the URL of a Forge"})}
	if s.forges, err = forge.NewForges(own, s.o.ForgeTypes, s.defs, runs.NewSecrets(s.defs), client); err != nil {
		return err
	}
	s.posts = posts.New(posts.Options{Ledger: s.ledger, Forges: s.forges, Now: s.o.Now, Log: s.o.Log})
	return nil
}

// PullRequests implements apps.Forges.
func (f forges) PullRequests(ctx context.Context, kind, repo string, g manifest.PullRequestForge) ([]event.PullRequest, error) {
	in, err := f.s.forges.Asked(ctx, kind, g.API)
	if err != nil {
		return nil, fmt.Errorf("the pullRequest generator: %w", err)
	}
	return in.Forge.PullRequests(ctx, repo)
}

// Is implements apps.Forges.
func (f forges) Is(ctx context.Context, url, instance, repo string) (bool, error) {
	return f.s.forges.Is(ctx, url, instance, repo)
}

// Own implements apps.Forges.
func (f forges) Own(repo string) string { return f.s.remote.URL(repo) }

// mergedAs tells which merge request of a forge made a commit; see steps.Merged.
type mergedAs struct{ *forge.Forges }

// MergedAs implements steps.Merged.
func (m mergedAs) MergedAs(ctx context.Context, instance, repo, sha string) (int, error) {
	in, err := m.Instance(ctx, instance)
	if errors.Is(err, forge.ErrNotFound) {
		return 0, nil // a forge that cannot be asked: the commit is of no merge request that is known
	}
	if err != nil {
		return 0, err
	}
	return in.Forge.MergedAs(ctx, repo, sha)
}

// DefaultBranch implements steps.Merged.
func (m mergedAs) DefaultBranch(ctx context.Context, instance, repo string) (string, error) {
	in, err := m.Instance(ctx, instance)
	if errors.Is(err, forge.ErrNotFound) {
		return "", nil // a forge that cannot be asked
	}
	if err != nil {
		return "", err
	}
	about, err := in.Forge.Describe(ctx, repo)
	return about.DefaultBranch, err
}

// files reads the files of triggers. A forge that is declared is asked for the one file; elsewhere the repository is fetched.
type files struct{ s *Server }

// File implements events.Repositories.
func (f files) File(ctx context.Context, url, revision, path string) ([]byte, error) {
	in, repo, err := f.s.forges.Of(ctx, url)
	if err != nil && !errors.Is(err, forge.ErrNotFound) {
		return nil, err
	}
	if err == nil && !in.Local {
		return in.Forge.File(ctx, repo, revision, path)
	}
	return f.s.repos.File(ctx, url, revision, path)
}

// programs evaluates programs of repositories.
type programs func(ctx context.Context, url, revision, path string, input map[string]any) ([]byte, error)

// Evaluate implements events.Programs.
func (p programs) Evaluate(ctx context.Context, url, revision, path string, input map[string]any) ([]byte, error) {
	return p(ctx, url, revision, path, input)
}

// commenter writes on merge requests of the forge that an event came from; see events.Answers.
type commenter struct{ s *Server }

// Answer implements events.Answers.
func (a commenter) Answer(ctx context.Context, g event.Git, marker, body string) error {
	in, err := a.s.forges.Sent(ctx, g.Forge, g.Instance)
	if err != nil {
		return err
	}
	return a.s.posts.Comment(ctx, in.Name, g.Repo.FullName, g.PR.Number, marker, body)
}
