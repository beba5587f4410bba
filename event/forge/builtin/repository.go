package builtin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// ErrRefused says that the remote's rules do not allow what was asked; the message says why and what to do.
var ErrRefused = failure.New(failure.Conflict, "refused")

// CreateRepository makes an empty repository. The default branch is main if none is given. A name that was
// deleted may be used again; one that is in use is ledger.ErrExists.
func (r *Remote) CreateRepository(ctx context.Context, actor forge.Actor, repo forge.Repository) (forge.Repository, error) {
	if err := CheckName(repo.Name); err != nil {
		return forge.Repository{}, err
	}
	if repo.DefaultBranch == "" {
		repo.DefaultBranch = "main"
	}
	if err := checkBranch(repo.DefaultBranch); err != nil {
		return forge.Repository{}, err
	}
	unlock, err := r.lock(ctx, repo.Name)
	if err != nil {
		return forge.Repository{}, err
	}
	defer unlock()
	repo.Created, repo.Deleted, repo.LastMR = r.opt.Now().UTC(), false, 0
	if repo.Owner == "" {
		repo.Owner = actor.Name
	}
	_, err = r.Repository(ctx, repo.Name)
	if err == nil {
		return forge.Repository{}, fmt.Errorf("create repository %s: %w", repo.Name, ledger.ErrExists)
	}
	if !errors.Is(err, forge.ErrNotFound) {
		return forge.Repository{}, err
	}
	if err := r.trash(repo.Name); err != nil { // what a crash left of a repository of this name
		return forge.Repository{}, err
	}
	err = r.ledger.Write(ctx, ledger.On("repo/"+repo.Name), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: actor.String(), Kind: kindRepoCreated, Subject: "repo/" + repo.Name, Body: repo})
		return err
	})
	if err != nil {
		return forge.Repository{}, fmt.Errorf("create repository %s: %w", repo.Name, err)
	}
	r.opt.Fault("repo-record")
	if err := r.initBare(ctx, r.dir(repo.Name), repo.DefaultBranch); err != nil {
		return forge.Repository{}, fmt.Errorf("create repository %s: %w", repo.Name, err)
	}
	return repo, nil
}

// initBare makes a bare repository where there is none; repeating it does no harm.
func (r *Remote) initBare(ctx context.Context, dir, branch string) error {
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	_, err := r.git.Read(ctx, "", "init", "--quiet", "--bare", "--template=", "--initial-branch="+branch, "--", dir)
	return err
}

// Repositories lists the repositories that exist, by name.
func (r *Remote) Repositories(ctx context.Context) ([]forge.Repository, error) {
	var all []forge.Repository
	err := r.each(ctx, ledger.Query{Table: tableRepository, States: []string{stateActive}}, func(row ledger.Row) error {
		var repo forge.Repository
		if err := json.Unmarshal(row.Body, &repo); err != nil {
			return err
		}
		all = append(all, repo)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

// Repository gives one; forge.ErrNotFound if there is none or it was deleted.
func (r *Remote) Repository(ctx context.Context, name string) (forge.Repository, error) {
	var repo forge.Repository
	err := r.row(ctx, tableRepository, name, &repo)
	if err == nil && repo.Deleted {
		err = forge.ErrNotFound
	}
	if err != nil {
		return forge.Repository{}, fmt.Errorf("repository %s: %w", name, err)
	}
	return repo, nil
}

// EditRepository changes description, default branch or protected refs.
func (r *Remote) EditRepository(ctx context.Context, actor forge.Actor, name string, edit forge.RepositoryEdit) (forge.Repository, error) {
	unlock, err := r.lock(ctx, name)
	if err != nil {
		return forge.Repository{}, err
	}
	defer unlock()
	repo, err := r.Repository(ctx, name)
	if err != nil {
		return forge.Repository{}, err
	}
	if edit.Description != nil {
		repo.Description = *edit.Description
	}
	if edit.DefaultBranch != nil {
		if err := checkBranch(*edit.DefaultBranch); err != nil {
			return forge.Repository{}, err
		}
		repo.DefaultBranch = *edit.DefaultBranch
	}
	if edit.Protect != nil {
		if err := forge.CheckProtections(*edit.Protect); err != nil {
			return forge.Repository{}, err
		}
		repo.Protect = edit.Protect
	}
	return repo, r.changeRepository(ctx, actor, repo, 0)
}

// changeRepository records what a repository is now; the caller holds the lock. HEAD follows the ledger, at
// the latest when reconciling.
func (r *Remote) changeRepository(ctx context.Context, actor forge.Actor, repo forge.Repository, cause int64) error {
	err := r.ledger.Write(ctx, ledger.On("repo/"+repo.Name), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: actor.String(), Kind: kindRepoChanged, Subject: "repo/" + repo.Name, Cause: ledger.At(cause), Body: repo})
		return err
	})
	if err != nil {
		return fmt.Errorf("change repository %s: %w", repo.Name, err)
	}
	return r.setHead(ctx, repo)
}

func (r *Remote) setHead(ctx context.Context, repo forge.Repository) error {
	_, err := r.git.Read(ctx, r.dir(repo.Name), "symbolic-ref", "HEAD", "refs/heads/"+repo.DefaultBranch)
	if err != nil {
		return fmt.Errorf("set default branch of %s: %w", repo.Name, err)
	}
	return nil
}

// DeleteRepository closes the repository's merge requests and moves it out of the way; the ledger keeps its
// history, and the folder .deleted its objects.
func (r *Remote) DeleteRepository(ctx context.Context, actor forge.Actor, name string) error {
	unlock, err := r.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	repo, err := r.Repository(ctx, name)
	if err != nil {
		return err
	}
	refs, err := r.knownRefs(ctx, name)
	if err != nil {
		return err
	}
	open, err := r.ListMRs(ctx, name, stateOpen)
	if err != nil {
		return err
	}
	body := repoDeleted{Repository: repo}
	for ref := range refs {
		body.Refs = append(body.Refs, ref)
	}
	sort.Strings(body.Refs)
	b := r.newBatch(repo)
	first := b.add(ledger.Draft{Actor: actor.String(), Kind: kindRepoDeleted, Subject: "repo/" + name, Body: body}, cause{})
	for _, m := range open {
		after := m
		after.State = stateClosed
		b.mr(mrStep{actor: actor, before: m, after: after, actions: []string{"close"}, cause: first})
	}
	if err := b.write(ctx); err != nil {
		return fmt.Errorf("delete repository %s: %w", name, err)
	}
	return r.trash(name)
}

// trash moves a repository's folder away, if there is one.
func (r *Remote) trash(name string) error {
	flat := strings.ReplaceAll(name, "/", "+")
	to := filepath.Join(r.opt.Dir, trashFolder, flat+"@"+strconv.FormatInt(r.opt.Now().UnixNano(), 10))
	for i := 0; ; i++ {
		target := to
		if i > 0 {
			target += "-" + strconv.Itoa(i)
		}
		if _, err := os.Lstat(target); err == nil {
			continue
		}
		if err := os.Rename(r.dir(name), target); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove repository %s: %w", name, err)
		}
		return nil
	}
}

// Branch is one branch and where it stands.
type Branch struct {
	Name    string    `json:"name"`
	SHA     string    `json:"sha"`
	Updated time.Time `json:"updated"`
	Default bool      `json:"default,omitempty"`
}

// Branches lists a repository's branches, latest change first.
func (r *Remote) Branches(ctx context.Context, name string) ([]Branch, error) {
	repo, err := r.Repository(ctx, name)
	if err != nil {
		return nil, err
	}
	var all []Branch
	err = r.each(ctx, ledger.Query{Table: tableRef, Owner: name, KeyPrefix: refKey(name, "refs/heads/")}, func(row ledger.Row) error {
		var c refChanged
		if err := json.Unmarshal(row.Body, &c); err != nil {
			return err
		}
		short := strings.TrimPrefix(c.Ref, "refs/heads/")
		all = append(all, Branch{Name: short, SHA: c.New, Updated: row.Time, Default: short == repo.DefaultBranch})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list branches of %s: %w", name, err)
	}
	return all, nil
}

// Commits lists at most limit commits that lead to a revision, newest first; limit is 50 if 0 and 1000 at most.
func (r *Remote) Commits(ctx context.Context, repo, revision string, limit int) ([]forge.LoggedCommit, error) {
	sha, err := r.Resolve(ctx, repo, revision)
	if err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = 50
	}
	return r.commits(ctx, repo, min(limit, 1000), sha)
}

// row reads one row's body; forge.ErrNotFound if there is none.
func (r *Remote) row(ctx context.Context, table, key string, v any) error {
	row, err := r.ledger.Row(ctx, table, key)
	if errors.Is(err, ledger.ErrNotFound) {
		return forge.ErrNotFound
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(row.Body, v)
}

// each calls fn for every row of a query, page by page.
func (r *Remote) each(ctx context.Context, q ledger.Query, fn func(ledger.Row) error) error {
	q.Limit = 500
	for {
		rows, err := r.ledger.List(ctx, q)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := fn(row); err != nil {
				return err
			}
		}
		if len(rows) < q.Limit {
			return nil
		}
		last := rows[len(rows)-1]
		q.After = &ledger.Cursor{Time: last.Time, Key: last.Key}
	}
}

// knownRefs are the refs of a repository as the ledger has them.
func (r *Remote) knownRefs(ctx context.Context, repo string) (map[string]string, error) {
	refs := map[string]string{}
	err := r.each(ctx, ledger.Query{Table: tableRef, Owner: repo}, func(row ledger.Row) error {
		var c refChanged
		if err := json.Unmarshal(row.Body, &c); err != nil {
			return err
		}
		refs[c.Ref] = c.New
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read refs of %s: %w", repo, err)
	}
	return refs, nil
}

// diskRefs are the refs of a repository as git has them, without those that the remote keeps for itself.
func (r *Remote) diskRefs(ctx context.Context, repo string) (map[string]string, error) {
	out, err := r.git.Read(ctx, r.dir(repo), "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags", "refs/notes")
	if err != nil {
		return nil, fmt.Errorf("read refs of %s: %w", repo, err)
	}
	refs := map[string]string{}
	for line := range strings.Lines(out) {
		if sha, ref, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
			refs[ref] = sha
		}
	}
	return refs, nil
}
