package builtin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/ledger"
)

// Reconcile compares every repository with the ledger, records the changes that are missing there, finishes
// what a crash interrupted, and takes in bare repositories that were put into the folder. A repository that
// fails does not keep the others from being compared.
func (r *Remote) Reconcile(ctx context.Context) error {
	errs := []error{r.adopt(ctx)}
	repos, err := r.Repositories(ctx)
	if err != nil {
		return err
	}
	for _, repo := range repos {
		if err := r.reconcileOne(ctx, repo); err != nil {
			errs = append(errs, fmt.Errorf("reconcile repository %s: %w", repo.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Remote) reconcileOne(ctx context.Context, repo forge.Repository) error {
	if err := r.initBare(ctx, r.dir(repo.Name), repo.DefaultBranch); err != nil {
		return err
	}
	if err := r.setHead(ctx, repo); err != nil {
		return err
	}
	if err := r.settle(ctx, repo.Name, "", nil); err != nil {
		return err
	}
	if err := r.abandonDead(ctx, repo.Name); err != nil {
		return err
	}
	open, err := r.ListMRs(ctx, repo.Name, stateOpen)
	if err != nil {
		return err
	}
	heads := map[int]string{}
	for _, m := range open {
		heads[m.Number] = m.HeadSHA
	}
	if err := r.keepHeads(ctx, repo.Name, heads); err != nil {
		return err
	}
	for _, m := range open {
		if m.AutoMerge {
			r.tryAutoMerge(ctx, m)
		}
	}
	return nil
}

// abandonDead gives up the pushes in progress that no request of this process carries.
func (r *Remote) abandonDead(ctx context.Context, repo string) error {
	pushes, err := r.openPushes(ctx, repo)
	if err != nil {
		return err
	}
	for _, p := range pushes {
		r.mu.Lock()
		_, live := r.live[p.ID]
		r.mu.Unlock()
		if live {
			continue
		}
		if err := r.abandonIfOpen(ctx, p, "the server stopped before git changed the ref"); err != nil {
			return err
		}
	}
	return nil
}

// abandonIfOpen gives a push up under the repository's lock, unless it was confirmed meanwhile.
func (r *Remote) abandonIfOpen(ctx context.Context, p Push, reason string) error {
	unlock, err := r.lock(ctx, p.Repo)
	if err != nil {
		return err
	}
	defer unlock()
	row, err := r.ledger.Row(ctx, tablePush, p.ID)
	if err != nil || row.State != stateIntended {
		return err
	}
	return r.abandon(ctx, p, reason)
}

// adopt records repositories that are on disk and not in the ledger, and puts away those that are deleted there.
func (r *Remote) adopt(ctx context.Context) error {
	names, err := r.foldersOnDisk()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.adoptOne(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *Remote) adoptOne(ctx context.Context, name string) error {
	unlock, err := r.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	var repo forge.Repository
	err = r.row(ctx, tableRepository, name, &repo)
	switch {
	case err == nil && repo.Deleted:
		return r.trash(name)
	case !errors.Is(err, forge.ErrNotFound):
		return err
	}
	branch := "main"
	if out, err := r.git.Read(ctx, r.dir(name), "symbolic-ref", "--short", "HEAD"); err == nil {
		if b := strings.TrimSpace(out); checkBranch(b) == nil {
			branch = b
		}
	}
	err = r.ledger.Write(ctx, ledger.On("repo/"+name), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: "system", Kind: kindRepoCreated, Subject: "repo/" + name,
			Body: forge.Repository{Name: name, DefaultBranch: branch, Created: r.now()}})
		return err
	})
	if err != nil {
		return fmt.Errorf("take in repository %s: %w", name, err)
	}
	return nil
}

// foldersOnDisk lists name.git and owner/name.git.
func (r *Remote) foldersOnDisk() ([]string, error) {
	var names []string
	for _, pattern := range []string{"*.git", "*/*.git"} {
		found, err := filepath.Glob(filepath.Join(globQuote(r.opt.Dir), pattern))
		if err != nil {
			return nil, fmt.Errorf("list repositories: %w", err)
		}
		for _, dir := range found {
			rel, err := filepath.Rel(r.opt.Dir, strings.TrimSuffix(dir, ".git"))
			if err != nil || CheckName(filepath.ToSlash(rel)) != nil {
				continue
			}
			if info, err := os.Lstat(filepath.Join(dir, "HEAD")); err == nil && info.Mode().IsRegular() {
				names = append(names, filepath.ToSlash(rel))
			}
		}
	}
	return names, nil
}

func globQuote(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// Maintain packs the repositories that need it. Nothing is pruned: an event may be replayed, and a deployment
// rolled back, to a commit that no branch has any more.
func (r *Remote) Maintain(ctx context.Context) error {
	repos, err := r.Repositories(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, repo := range repos {
		_, err := r.git.Read(ctx, r.dir(repo.Name), "-c", "gc.auto=6700", "-c", "gc.pruneExpire=never", "-c", "gc.reflogExpire=never", "gc", "--auto", "--quiet")
		if err != nil {
			errs = append(errs, fmt.Errorf("pack repository %s: %w", repo.Name, err))
		}
	}
	return errors.Join(errs...)
}
