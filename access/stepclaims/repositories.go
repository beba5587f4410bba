package stepclaims

import (
	"context"
	"strings"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/workflow"
)

// Own are the repositories of the built-in remote.
type Own interface {
	// RepositoryOf names the repository that a URL is of; ok is false for one that is elsewhere.
	RepositoryOf(raw string) (repo string, ok bool)
	// Folder gives its bare folder.
	Folder(ctx context.Context, raw string) (dir string, ok bool, err error)
}

// Repositories are those of the built-in remote that a run may read as a git artifact, without credentials of its own: see [MayRead].
type Repositories struct {
	Own    Own
	Claims Reader
}

// Folder implements mover.Repositories.
func (r Repositories) Folder(ctx context.Context, raw string) (dir string, ok bool, err error) {
	repo, ok := r.Own.RepositoryOf(raw)
	if !ok {
		return "", false, nil
	}
	caller := artifact.CallerFrom(ctx)
	acts, err := r.Claims.ofCaller(ctx, caller)
	if err != nil {
		return "", false, err
	}
	if err := MayRead(acts, repo); err != nil {
		return "", false, err
	}
	return r.Own.Folder(ctx, raw)
}

// ofCaller gives what the run of a caller acts for; nobody if the caller is no run.
func (r Reader) ofCaller(ctx context.Context, caller artifact.Caller) (claims.ActsFor, error) {
	run, found, err := r.runOf(ctx, caller)
	if err != nil || !found {
		return claims.ActsFor{Nobody: true}, err
	}
	return r.actsFor(ctx, run)
}

// runOf finds the run of a caller. A node's id is its run's name and a number.
func (r Reader) runOf(ctx context.Context, caller artifact.Caller) (run workflow.Run, found bool, err error) {
	name, numbered := caller.Node, true
	for numbered {
		run = workflow.Run{}
		found, err := Attempts{r.Ledger}.read(ctx, "run", caller.Namespace+"/"+name, &run)
		if err != nil || found && run.UID == caller.Owner {
			return run, found, err
		}
		at := strings.LastIndexByte(name, '-')
		if numbered = at > 0; numbered {
			name = name[:at]
		}
	}
	return workflow.Run{}, false, nil
}

// MayRead says whether a run may read a repository of the built-in remote: its own; and any if it was made by a person or a schedule of this
// server, or for a protected ref, which only those change who may. A merge request reads its own alone, and who cannot be told nothing.
func MayRead(a claims.ActsFor, repo string) error {
	own := a.Forge == "" && a.Repo != "" && strings.EqualFold(a.Repo, repo)
	switch {
	case a.Nobody:
	case own, a.Protected, a.Repo == "" && a.MR == 0:
		return nil
	}
	return failure.WithHint(failure.Refusedf("this run may not read repository %s", repo),
		"a run reads its own repository, and others of this server if it was made for the default branch, by a person or by a schedule")
}
