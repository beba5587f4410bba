package builtin

import (
	"github.com/tiphys/tiphys/repo"

	"github.com/tiphys/tiphys/repo/git"

	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"strings"
	"sync"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// PullRequests implements forge.Forge.
func (r *Remote) PullRequests(ctx context.Context, repo string) ([]event.PullRequest, error) {
	if _, err := r.Repository(ctx, repo); err != nil {
		return nil, err
	}
	open, err := r.ListMRs(ctx, repo, stateOpen)
	if err != nil {
		return nil, err
	}
	all := make([]event.PullRequest, 0, len(open))
	for _, m := range open {
		all = append(all, pullRequest(m))
	}
	return all, nil
}

// PullRequest implements forge.Forge.
func (r *Remote) PullRequest(ctx context.Context, repo string, number int) (event.PullRequest, error) {
	m, err := r.MR(ctx, repo, number)
	if err != nil {
		return event.PullRequest{}, err
	}
	return pullRequest(m), nil
}

// Describe implements forge.Forge.
func (r *Remote) Describe(ctx context.Context, repo string) (event.Repo, error) {
	found, err := r.Repository(ctx, repo)
	if err != nil {
		return event.Repo{}, err
	}
	return r.repoOf(found), nil
}

// Statuses are the statuses of one commit, latest first.
func (r *Remote) Statuses(ctx context.Context, repo, sha string) ([]forge.CommitStatus, error) {
	all := []forge.CommitStatus{}
	err := r.each(ctx, ledger.Query{Table: tableStatus, Owner: repo + "@" + sha}, func(row ledger.Row) error {
		var s forge.CommitStatus
		if err := json.Unmarshal(row.Body, &s); err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list statuses of %s: %w", repo, err)
	}
	return all, nil
}

// SetStatus implements forge.Forge. Setting what is set already records nothing. Once all statuses of a merge
// request's head are success and it waits for that, it is merged.
func (r *Remote) SetStatus(ctx context.Context, repo, sha string, s forge.Status) error {
	if !slices.Contains([]string{"pending", "running", "success", "failed", "error", "canceled"}, s.State) {
		return failure.Invalidf("set status: state %q: use pending, running, success, failed, error or canceled: %w", s.State, ErrRefused)
	}
	if s.Context == "" {
		s.Context = "default"
	}
	full, err := r.Resolve(ctx, repo, sha)
	if err != nil {
		return fmt.Errorf("set status: %w", err)
	}
	key := statusKey(repo, full, s.Context)
	err = r.ledger.Write(ctx, ledger.On("repo/"+repo), func(tx ledger.Tx) error {
		var now forge.CommitStatus
		if found, err := rowBody(tx, tableStatus, key, &now); err != nil || found && now.Status == s {
			return err
		}
		_, err := tx.Append(ledger.Draft{Actor: actorOf(ctx).String(), Kind: kindStatus, Subject: "commit/" + repo + "/" + full,
			Cause: ledger.At(causeOf(ctx).seq), Body: forge.CommitStatus{Repo: repo, SHA: full, Status: s, Time: r.now()}})
		return err
	})
	if err != nil {
		return fmt.Errorf("set status of %s at %.10s: %w", repo, full, err)
	}
	if s.State != "success" {
		return nil
	}
	open, err := r.ListMRs(ctx, repo, stateOpen)
	if err != nil {
		return err
	}
	for _, m := range open {
		if m.AutoMerge && m.HeadSHA == full {
			r.tryAutoMerge(ctx, m)
		}
	}
	return nil
}

// Comment implements forge.Forge. It makes no event: what Tiphys itself says must not trigger anything.
func (r *Remote) Comment(ctx context.Context, repo string, number int, marker, body string) error {
	if marker == "" {
		_, err := r.AddComment(ctx, actorOf(ctx), repo, number, body)
		return err
	}
	m, err := r.MR(ctx, repo, number)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(marker))
	now := r.now()
	c := forge.Comment{ID: "m" + hex.EncodeToString(sum[:8]), Repo: repo, Number: number, Marker: marker, Body: cut(body, maxBody),
		Author: actorOf(ctx).String(), Created: now, Updated: now}
	err = r.ledger.Write(ctx, ledger.On("repo/"+m.Repo), func(tx ledger.Tx) error {
		var before forge.Comment
		found, err := rowBody(tx, tableComment, mrKey(repo, number)+"/"+c.ID, &before)
		if err != nil {
			return err
		}
		if found {
			if before.Body == c.Body {
				return nil
			}
			c.Created = before.Created
		}
		_, err = tx.Append(ledger.Draft{Actor: c.Author, Kind: kindMRCommented, Subject: fmt.Sprintf("mr/%s/%d", m.Repo, m.Number), Cause: ledger.At(causeOf(ctx).seq), Body: c})
		return err
	})
	if err != nil {
		return fmt.Errorf("comment on %s!%d: %w", repo, number, err)
	}
	return nil
}

// AddComment adds a person's comment, which is an event.
func (r *Remote) AddComment(ctx context.Context, actor forge.Actor, name string, number int, body string) (forge.Comment, error) {
	if strings.TrimSpace(body) == "" {
		return forge.Comment{}, failure.Invalidf("comment on %s!%d: the comment is empty: %w", name, number, ErrRefused)
	}
	repo, err := r.Repository(ctx, name)
	if err != nil {
		return forge.Comment{}, err
	}
	m, err := r.MR(ctx, name, number)
	if err != nil {
		return forge.Comment{}, err
	}
	id, err := r.newID()
	if err != nil {
		return forge.Comment{}, err
	}
	now := r.now()
	c := forge.Comment{ID: id, Repo: name, Number: number, Body: cut(body, maxBody), Author: actor.String(), Created: now, Updated: now}
	b := r.newBatch(repo)
	entry := b.add(ledger.Draft{Actor: c.Author, Kind: kindMRCommented, Subject: fmt.Sprintf("mr/%s/%d", name, number), Body: c}, causeOf(ctx))
	b.commentEvent(actor, m, c, entry)
	return c, b.write(ctx)
}

// Comments of a merge request, oldest first.
func (r *Remote) Comments(ctx context.Context, repo string, number int) ([]forge.Comment, error) {
	all := []forge.Comment{}
	err := r.each(ctx, ledger.Query{Table: tableComment, Owner: mrKey(repo, number), Oldest: true}, func(row ledger.Row) error {
		var c forge.Comment
		if err := json.Unmarshal(row.Body, &c); err != nil {
			return err
		}
		all = append(all, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list comments of %s!%d: %w", repo, number, err)
	}
	return all, nil
}

var hexPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{7,40}$`) })

// Resolve implements forge.Forge. A branch comes before a tag, a tag before a commit; an empty revision and
// HEAD are the default branch. Operators such as ~ and ^ are not understood.
func (r *Remote) Resolve(ctx context.Context, repo, revision string) (string, error) {
	info, err := r.Repository(ctx, repo)
	if err != nil {
		return "", err
	}
	if revision == "" || revision == "HEAD" {
		revision = "refs/heads/" + info.DefaultBranch
	}
	if checkBranch(revision) != nil {
		return "", fmt.Errorf("revision %q of %s: use a branch, a tag or a commit: %w", cut(revision, 100), repo, forge.ErrNotFound)
	}
	candidates := []string{"refs/heads/" + revision, "refs/tags/" + revision}
	if strings.HasPrefix(revision, "refs/") {
		candidates = []string{revision}
	}
	if hexPattern().MatchString(revision) {
		candidates = append(candidates, revision)
		if len(revision) == 40 {
			candidates = []string{revision}
		}
	}
	for _, c := range candidates {
		out, err := r.git.Read(ctx, r.dir(repo), "rev-parse", "--verify", "--quiet", c+"^{commit}")
		if err == nil {
			return strings.TrimSpace(out), nil
		}
		if git.ExitCode(err) < 0 {
			return "", fmt.Errorf("revision %q of %s: %w", revision, repo, err)
		}
	}
	return "", fmt.Errorf("revision %q of %s: %w", revision, repo, forge.ErrNotFound)
}

// File implements forge.Forge.
func (r *Remote) File(ctx context.Context, repository, revision, path string) ([]byte, error) {
	sha, err := r.Resolve(ctx, repository, revision)
	if err != nil {
		return nil, err
	}
	content, err := r.bare(repository).File(ctx, sha, path)
	switch {
	case errors.Is(err, repo.ErrNotFound):
		err = fmt.Errorf("%s: %w: %w", repository, err, forge.ErrNotFound)
	case errors.Is(err, repo.ErrUnsafe), errors.Is(err, repo.ErrTooLarge):
		err = fmt.Errorf("%s: %w: %w", repository, err, ErrRefused)
	case err != nil:
		err = fmt.Errorf("%s: %w", repository, err)
	}
	return content, err
}

// Checkout writes the files of a revision into dest, as [repo.Bare.Checkout] does, and returns the commit.
func (r *Remote) Checkout(ctx context.Context, repository, revision, dest string) (string, error) {
	sha, err := r.Resolve(ctx, repository, revision)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.Longest)
	defer cancel()
	if err := r.bare(repository).Checkout(ctx, sha, dest); err != nil {
		return "", fmt.Errorf("check out %s at %.10s: %w", repository, sha, err)
	}
	return sha, nil
}

// DefaultBranch gives the name of the branch that HEAD is, whether it has a commit or not.
func (r *Remote) DefaultBranch(ctx context.Context, repository string) (string, error) {
	info, err := r.Repository(ctx, repository)
	if err != nil {
		return "", err
	}
	return info.DefaultBranch, nil
}

// Tags lists a repository's tags.
func (r *Remote) Tags(ctx context.Context, repository string) ([]string, error) {
	if _, err := r.Repository(ctx, repository); err != nil {
		return nil, err
	}
	return r.bare(repository).Tags(ctx)
}

// bare is a repository's folder.
func (r *Remote) bare(repository string) repo.Bare {
	return repo.Bare{Git: r.git, Dir: r.dir(repository)}
}
