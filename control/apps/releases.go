package apps

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/promote"
	"github.com/tiphys/tiphys/ledger"
)

// chosen is what of releases should run, if the Application is annotated with any; repo is the URL of its own repository.
func (w *worker) chosen(ctx context.Context, repo string) (*wanted, error) {
	next := &wanted{cause: w.row.Definition}
	text := w.row.Annotations[promote.AnnotationRelease]
	if strings.TrimSpace(text) == "" {
		return next, nil
	}
	wishes, commit, err := promote.Wishes(cmp.Or(w.row.Pinned, text))
	if err != nil {
		return nil, invalid{err}
	}
	sources := make([]promote.Source, len(wishes))
	for i, wish := range wishes {
		if sources[i], err = w.line(ctx, wish, repo); err != nil {
			return nil, err
		}
	}
	choice, err := promote.Choose(w.row.Annotations, sources)
	if err != nil {
		return nil, invalid{err}
	}
	if choice.Waiting != "" {
		return nil, fmt.Errorf("%s", choice.Waiting)
	}
	r := choice.Release
	next.config = cmp.Or(r.Commit, commit)
	next.commit, next.release, next.branch, next.mr, next.actor = next.config, choice.Key, r.Branch, cmp.Or(r.MR, r.Merged), r.Actor
	next.images, next.sources, next.of, next.version = r.Images, r.Sources, choice.Of, choice.Key
	if len(wishes) == 1 && r.Number > 0 {
		next.version = fmt.Sprintf("%d", r.Number)
	}
	next.cause = max(choice.Newest, w.row.Definition)
	return next, nil
}

// line are the releases that a wish is for: of the Application's own repository, or of another that its project names.
func (w *worker) line(ctx context.Context, wish promote.Wish, repo string) (promote.Source, error) {
	s := promote.Source{Wish: wish}
	if wish.Repository != "" {
		if !promote.Permits(w.leaves.releases, wish.Repository) {
			return s, invalid{fmt.Errorf("releases of %s are not for this Application: name the repository in its AppProject (annotation %s)", wish.Repository, promote.AnnotationRepositories)}
		}
		if repo = wish.Repository; !strings.Contains(repo, "://") {
			repo = w.c.o.Forges.Own(repo)
		}
	}
	var err error
	if s.Releases, err = w.c.releases(ctx, w.row.Namespace, wish.Name, repo); err != nil {
		return s, err
	}
	if s.DefaultBranch, err = w.c.o.Repositories.DefaultBranch(ctx, repo); err != nil {
		return s, fmt.Errorf("find the default branch of %s: %w", repo, err)
	}
	return s, nil
}

// releases are those of a name that were made from the repository that a URL names; of any if it is a template still. A release of another
// repository, or of one of the same name on another forge, is not there: whoever may push to that would else decide what runs here.
func (c *Controller) releases(ctx context.Context, namespace, name, url string) ([]deploy.Release, error) {
	rows, err := all(ctx, c.o.Ledger, ledger.Query{Table: deploy.TableRelease, Owner: namespace + "/" + name})
	if err != nil {
		return nil, err
	}
	known := !strings.Contains(url, "{{") && url != ""
	same := map[[2]string]bool{} // by forge and repository
	releases := make([]deploy.Release, 0, len(rows))
	for _, row := range rows {
		var r deploy.Release
		if err := json.Unmarshal(row.Body, &r); err != nil {
			return nil, fmt.Errorf("read release %s: %w", row.Key, err)
		}
		of := [2]string{r.Forge, r.Repo}
		if _, asked := same[of]; known && !asked {
			if same[of], err = c.o.Forges.Is(ctx, url, r.Forge, r.Repo); err != nil {
				return nil, fmt.Errorf("find out whether release %s is of %s: %w", row.Key, url, err)
			}
		}
		if !known || same[of] {
			releases = append(releases, r)
		}
	}
	return releases, nil
}

// pinnedTo is what holds an Application at what it ran: releases of other repositories say nothing of the configuration, so that its commit
// is named as well.
func pinnedTo(to, commit string) string {
	wishes, at, err := promote.Wishes(to)
	if err != nil || at != "" || commit == "" || len(wishes) == 0 || promote.Own(wishes).Name != "" {
		return to
	}
	return promote.PinnedAt(to, commit)
}

// ran is the configuration commit that the Application last had with releases; empty if it never ran them.
func (w *worker) ran(ctx context.Context, to string) (string, error) {
	for row, err := range ledger.Each(ctx, w.c.o.Ledger, ledger.Query{Table: deploy.TableDeployment, Owner: w.key}) {
		if err != nil {
			return "", fmt.Errorf("read what %s ran: %w", w.key, err)
		}
		var d deploy.Deployment
		if err := json.Unmarshal(row.Body, &d); err != nil {
			return "", fmt.Errorf("read what %s ran: %w", w.key, err)
		}
		if d.Release == to {
			return d.Commit, nil
		}
	}
	return "", nil
}
