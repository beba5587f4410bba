package builtin

import (
	"github.com/tiphys/tiphys/repo/git"

	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
)

// mergeAttempts is how often a merge is tried when the target moves at the same time.
const mergeAttempts = 5

// ErrConflict says that a merge request cannot be merged without resolving conflicts.
var ErrConflict = failure.New(failure.Conflict, "merge conflict")

// MergeMR merges a merge request: the target branch is moved by compare-and-swap, the merge and the push of
// the target branch are recorded, and the source branch is deleted in the same step if that is wanted.
// Conflicts are ErrConflict; drafts, closed merge requests and heads that moved are ErrRefused.
func (r *Remote) MergeMR(ctx context.Context, actor forge.Actor, repo string, number int, opt forge.MergeOptions) (forge.MergeRequest, error) {
	switch opt.Method {
	case "", forge.MethodMerge, forge.MethodFastForward, forge.MethodSquash:
	default:
		return forge.MergeRequest{}, failure.Invalidf("merge !%d: method %q: use merge, fast-forward or squash: %w", number, opt.Method, ErrRefused)
	}
	for attempt := 1; ; attempt++ {
		m, err := r.mergeOnce(ctx, actor, repo, number, opt)
		if errors.Is(err, errMoved) && attempt < mergeAttempts {
			continue
		}
		if errors.Is(err, errMoved) {
			err = fmt.Errorf("merge !%d: the branches keep moving; try again: %w", number, ErrRefused)
		}
		return m, err
	}
}

// errMoved says that a branch moved between looking and merging.
var errMoved = errors.New("a branch moved meanwhile")

func (r *Remote) mergeOnce(ctx context.Context, actor forge.Actor, name string, number int, opt forge.MergeOptions) (forge.MergeRequest, error) {
	unlock, err := r.lock(ctx, name)
	if err != nil {
		return forge.MergeRequest{}, err
	}
	defer unlock()
	// What the disk shows is recorded first, so that the merge request is what it is on disk.
	if err := r.settleLocked(ctx, name, "", nil); err != nil {
		return forge.MergeRequest{}, err
	}
	repo, err := r.Repository(ctx, name)
	if err != nil {
		return forge.MergeRequest{}, err
	}
	m, err := r.MR(ctx, name, number)
	if err != nil {
		return forge.MergeRequest{}, err
	}
	if err := mergeable(m, opt); err != nil {
		return m, err
	}
	switch blocked, err := r.blocked(ctx, repo, m); {
	case err != nil:
		return m, err
	case blocked == "":
		opt.Override = ""
	case opt.Override == "":
		return m, failure.WithHint(fmt.Errorf("merge !%d: %s: %w", number, blocked, ErrRefused),
			"an administrator may merge it all the same: tiphys mr merge --override \"the reason\"")
	}
	target, err := r.Resolve(ctx, name, "refs/heads/"+m.Target)
	if err != nil {
		return m, fmt.Errorf("merge !%d: there is no target branch %s: %w", number, m.Target, ErrRefused)
	}
	method := opt.Method
	if method == "" && m.Squash {
		method = forge.MethodSquash
	}
	commit, err := r.mergeCommit(ctx, actor, m, target, method, opt.Message)
	if err != nil {
		return m, err
	}
	if err := r.moveTarget(ctx, actor, repo, m, target, commit, method, opt); err != nil {
		return m, err
	}
	return r.MR(ctx, name, number)
}

// mergeable says why a merge request cannot be merged, apart from conflicts.
func mergeable(m forge.MergeRequest, opt forge.MergeOptions) error {
	switch {
	case m.State != stateOpen:
		return fmt.Errorf("merge !%d: it is %s: %w", m.Number, m.State, ErrRefused)
	case m.Draft:
		return fmt.Errorf("merge !%d: it is a draft; mark it as ready first: %w", m.Number, ErrRefused)
	case opt.SHA != "" && opt.SHA != m.HeadSHA:
		return fmt.Errorf("merge !%d: the branch has moved from %.10s to %.10s; look at it again: %w", m.Number, opt.SHA, m.HeadSHA, ErrRefused)
	}
	return nil
}

// moveTarget carries out a merge whose commit is made: intention, refs, confirmation.
func (r *Remote) moveTarget(ctx context.Context, actor forge.Actor, repo forge.Repository, m forge.MergeRequest, target, commit, method string, opt forge.MergeOptions) error {
	id, err := r.newID()
	if err != nil {
		return err
	}
	p := Push{
		ID: id, Repo: m.Repo, Actor: actor.Name, Verified: actor.Verified,
		Changes: []Change{{Ref: "refs/heads/" + m.Target, Old: target, New: commit}},
		Merge:   &mergeIntent{Number: m.Number, SHA: m.HeadSHA, Method: method, Override: opt.Override},
	}
	remove := m.RemoveSource
	if opt.RemoveSource != nil {
		remove = *opt.RemoveSource
	}
	if _, protected := repo.Protection("refs/heads/" + m.Source); remove && !protected && m.Source != repo.DefaultBranch {
		p.Changes = append(p.Changes, Change{Ref: "refs/heads/" + m.Source, Old: m.HeadSHA, New: git.Zero})
	}
	// From here on the caller going away must not leave the merge half recorded.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := r.intend(ctx, actor, &p, causeOf(ctx).seq); err != nil {
		return err
	}
	r.opt.Fault("ref-update")
	var in strings.Builder
	for _, c := range p.Changes {
		if c.New == git.Zero {
			fmt.Fprintf(&in, "delete %s %s\n", c.Ref, c.Old)
		} else {
			fmt.Fprintf(&in, "update %s %s %s\n", c.Ref, c.New, c.Old)
		}
	}
	// The source must still be what was merged, even if it stays.
	if len(p.Changes) == 1 {
		fmt.Fprintf(&in, "verify refs/heads/%s %s\n", m.Source, m.HeadSHA)
	}
	_, err = r.git.Run(ctx, git.Call{Dir: r.dir(m.Repo), Args: []string{"update-ref", "--stdin"}, Stdin: []byte(in.String())})
	if err != nil {
		r.log.Info("merge did not move the target", "repository", m.Repo, "number", m.Number, "error", err)
		if err := r.abandon(ctx, p, "a branch moved meanwhile"); err != nil {
			return err
		}
		return errMoved
	}
	r.opt.Fault("before-confirm")
	if err := r.settleLocked(ctx, m.Repo, p.ID, p.Changes); err != nil {
		return err
	}
	r.opt.Fault("after-confirm")
	return nil
}

// mergeCommit makes the commit that the target is moved to.
func (r *Remote) mergeCommit(ctx context.Context, actor forge.Actor, m forge.MergeRequest, target, method, message string) (string, error) {
	if r.isAncestor(ctx, m.Repo, m.HeadSHA, target) {
		return "", fmt.Errorf("merge !%d: %s has nothing that %s does not have; close it instead: %w", m.Number, m.Source, m.Target, ErrRefused)
	}
	if method == forge.MethodFastForward {
		if !r.isAncestor(ctx, m.Repo, target, m.HeadSHA) {
			return "", fmt.Errorf("merge !%d: %s is not ahead of %s; rebase it, or merge with a merge commit: %w", m.Number, m.Source, m.Target, ErrRefused)
		}
		return m.HeadSHA, nil
	}
	tree, conflicts, err := r.mergeTree(ctx, m.Repo, target, m.HeadSHA)
	if err != nil {
		return "", err
	}
	if len(conflicts) > 0 {
		return "", fmt.Errorf("merge !%d: %s conflicts with %s in %s; merge %s into %s, resolve and push: %w",
			m.Number, m.Source, m.Target, strings.Join(conflicts, ", "), m.Target, m.Source, ErrConflict)
	}
	parents := []string{"-p", target, "-p", m.HeadSHA}
	if method == forge.MethodSquash {
		parents = parents[:2]
	}
	if message == "" {
		message = defaultMessage(m, method)
	}
	out, err := r.git.Run(ctx, git.Call{
		Dir: r.dir(m.Repo), Args: append(append([]string{"commit-tree", tree}, parents...), "-F", "-"),
		Stdin: []byte(strings.TrimSpace(message) + "\n"), Env: r.identityEnv(actor),
	})
	if err != nil {
		return "", fmt.Errorf("merge !%d: %w", m.Number, err)
	}
	return strings.TrimSpace(out), nil
}

func defaultMessage(m forge.MergeRequest, method string) string {
	if method == forge.MethodSquash {
		return strings.TrimSpace(fmt.Sprintf("%s (!%d)\n\n%s", m.Title, m.Number, m.Body))
	}
	return fmt.Sprintf("Merge branch '%s' into '%s'\n\n%s\n\nSee merge request %s!%d", m.Source, m.Target, m.Title, m.Repo, m.Number)
}

// identityEnv makes the actor author and committer.
func (r *Remote) identityEnv(actor forge.Actor) []string {
	clean := func(s string) string {
		return strings.Map(func(c rune) rune {
			if c < 0x20 || strings.ContainsRune("<>", c) {
				return -1
			}
			return c
		}, s)
	}
	name := strings.TrimSpace(clean(actor.Login()))
	if name == "" {
		name = "anonymous"
	}
	mail := strings.ReplaceAll(name, " ", ".")
	if !strings.Contains(mail, "@") {
		mail += "@users.noreply.tiphys"
	}
	date := r.opt.Now().UTC().Format(time.RFC3339)
	return []string{
		"GIT_AUTHOR_NAME=" + name, "GIT_AUTHOR_EMAIL=" + mail, "GIT_AUTHOR_DATE=" + date,
		"GIT_COMMITTER_NAME=" + name, "GIT_COMMITTER_EMAIL=" + mail, "GIT_COMMITTER_DATE=" + date,
	}
}

// mergeTree merges two commits without a work tree and gives the tree, or the files that conflict.
func (r *Remote) mergeTree(ctx context.Context, repo, ours, theirs string) (tree string, conflicts []string, err error) {
	out, err := r.git.Read(ctx, r.dir(repo), "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", "--allow-unrelated-histories", ours, theirs)
	if err != nil && git.ExitCode(err) != 1 {
		return "", nil, fmt.Errorf("merge in %s: %w", repo, err)
	}
	parts := strings.Split(strings.Trim(out, "\x00\n"), "\x00")
	if err == nil {
		return parts[0], nil, nil
	}
	for _, name := range parts[1:] {
		conflicts = append(conflicts, strings.ToValidUTF8(name, "\uFFFD"))
	}
	if len(conflicts) == 0 {
		conflicts = []string{"a file that git does not name"}
	}
	return "", conflicts, nil
}

// tryAutoMerge merges a merge request that waits for its statuses, if all of them are success.
func (r *Remote) tryAutoMerge(ctx context.Context, m forge.MergeRequest) {
	statuses, err := r.Statuses(ctx, m.Repo, m.HeadSHA)
	if err != nil || len(statuses) == 0 {
		return
	}
	for _, s := range statuses {
		if s.State != "success" {
			return
		}
	}
	actor := forge.Actor{Name: m.Author, Verified: m.Verified}
	if _, err := r.MergeMR(ctx, actor, m.Repo, m.Number, forge.MergeOptions{SHA: m.HeadSHA}); err != nil && !errors.Is(err, forge.ErrNotFound) {
		r.log.Warn("merge when all statuses are success", "repository", m.Repo, "number", m.Number, "error", err)
	}
}
