package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/posts"
	"github.com/tiphys/tiphys/control/runs"
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
	if s.forges, err = forge.NewForges(own, s.o.ForgeTypes, declaredForges{s.defs}, runs.NewSecrets(s.defs)); err != nil {
		return err
	}
	s.posts = posts.New(posts.Options{Ledger: s.ledger, Forges: s.forges, Now: s.o.Now, Log: s.o.Log})
	return nil
}

// declaredForges reads declarations of kind Forge. Of one that cannot be read the last version that could be goes on.
type declaredForges struct{ store *definitions.Store }

// maxEarlier is how many earlier versions of a declaration are tried.
const maxEarlier = 20

// Forges implements forge.Declarations.
func (d declaredForges) Forges(ctx context.Context) ([]forge.Declaration, error) {
	all, err := definitions.All[manifest.Forge](ctx, d.store, "")
	if err != nil {
		return nil, fmt.Errorf("read declared forges: %w", err)
	}
	out := make([]forge.Declaration, 0, len(all))
	for _, seen := range all {
		one := forge.Declaration{Namespace: seen.Namespace, Name: seen.Name}
		if one.Spec, one.Problem = specOf(seen); one.Problem == nil {
			one.Digest = seen.Digest
		} else if err := d.earlier(ctx, seen.Definition, &one); err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// earlier puts the last version that could be read into a declaration, if there is one.
func (d declaredForges) earlier(ctx context.Context, now definitions.Definition, one *forge.Declaration) error {
	earlier, err := d.store.Earlier(ctx, now, maxEarlier)
	if err != nil {
		return err
	}
	for _, was := range earlier {
		if spec, err := specOf(definitions.Decode[manifest.Forge](was)); err == nil {
			one.Spec, one.Digest = spec, was.Digest
			return nil
		}
	}
	return nil
}

// specOf reads one declaration.
func specOf(seen definitions.Seen[manifest.Forge]) (manifest.ForgeSpec, error) {
	if seen.State != definitions.Present {
		return manifest.ForgeSpec{}, seen.Problem
	}
	if err := manifest.FirstError(seen.Value.Validate()); err != nil {
		return manifest.ForgeSpec{}, err
	}
	return seen.Value.Spec, nil
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
