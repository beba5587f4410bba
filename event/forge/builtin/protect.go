package builtin

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/repo/git"
)

// quarantined lets git see the objects of a push that it has not taken yet.
func (r *Remote) quarantined(repo string, req hookRequest) []string {
	if !strings.HasPrefix(filepath.Clean(req.Objects), r.dir(repo)+string(filepath.Separator)) {
		return nil
	}
	return []string{"GIT_OBJECT_DIRECTORY=" + req.Objects, "GIT_ALTERNATE_OBJECT_DIRECTORIES=" + filepath.Join(r.dir(repo), "objects")}
}

// mayChange refuses what the protection of a ref does not let a push do.
func (r *Remote) mayChange(ctx context.Context, repo forge.Repository, live *livePush, req hookRequest, c Change) error {
	p, protected := repo.Protection(c.Ref)
	if !protected {
		return nil
	}
	if err := repo.MayPush(p, live.actor, live.administers); err != nil {
		return err
	}
	switch {
	case c.New == git.Zero:
		return fmt.Errorf("%s is protected and cannot be deleted: %w", c.Ref, ErrRefused)
	case c.Old == git.Zero:
		return nil
	}
	_, err := r.git.Run(ctx, git.Call{Dir: r.dir(repo.Name), Args: []string{"merge-base", "--is-ancestor", c.Old, c.New}, Env: r.quarantined(repo.Name, req)})
	if err != nil {
		return failure.WithHint(fmt.Errorf("%s is protected and cannot be moved to a commit without %.10s, which is there now: %w", c.Ref, c.Old, ErrRefused),
			"pull, and push again without --force")
	}
	return nil
}

// Protected tells whether a ref is protected; HEAD is the default branch.
func (r *Remote) Protected(ctx context.Context, name, ref string) (bool, error) {
	repo, err := r.Repository(ctx, name)
	if err != nil {
		return false, err
	}
	if ref == "HEAD" {
		ref = "refs/heads/" + repo.DefaultBranch
	}
	_, protected := repo.Protection(ref)
	return protected, nil
}

// blocked says why the rules of the target do not let a merge request be merged; empty if they do.
func (r *Remote) blocked(ctx context.Context, repo forge.Repository, m forge.MergeRequest) (string, error) {
	p, protected := repo.Protection("refs/heads/" + m.Target)
	if !protected {
		return "", nil
	}
	statuses, err := r.Statuses(ctx, m.Repo, m.HeadSHA)
	if err != nil {
		return "", err
	}
	return p.Blocked(m, statuses), nil
}

// ApproveMR says somebody's yes to a merge request at the commit that he looked at. A push needs a new one.
func (r *Remote) ApproveMR(ctx context.Context, actor forge.Actor, repo string, number int, sha string) (forge.MergeRequest, error) {
	return r.changeMR(ctx, actor, repo, number, func(m *forge.MergeRequest, _ map[string]string, _ []forge.MergeRequest) ([]string, error) {
		approval := forge.Approval{By: actor.String(), SHA: m.HeadSHA}
		switch {
		case m.State != stateOpen:
			return nil, fmt.Errorf("approve merge request !%d: it is %s: %w", number, m.State, ErrRefused)
		case sha != "" && sha != m.HeadSHA:
			return nil, fmt.Errorf("approve merge request !%d: the branch has moved from %.10s to %.10s; look at it again: %w", number, sha, m.HeadSHA, ErrRefused)
		case approval.By == m.Author:
			return nil, failure.Refusedf("approve merge request !%d: somebody else than its author has to", number)
		case slices.Contains(m.Approvals, approval):
			return nil, nil
		}
		m.Approvals = append(slices.Clone(m.Approvals), approval)
		return []string{"approve"}, nil
	})
}
