package hold

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
)

// MergeRequests are those of the repositories that are kept here.
type MergeRequests interface {
	// ListMRs lists those of a repository, or of all, in a state.
	ListMRs(ctx context.Context, repo, state string) ([]forge.MergeRequest, error)
	EditMR(ctx context.Context, actor forge.Actor, repo string, number int, e forge.MREdit) (forge.MergeRequest, error)
}

// Merges plans the merge requests that are merged as soon as they can be.
type Merges struct{ Requests MergeRequests }

// Kind implements [Planner].
func (Merges) Kind() string { return "mr" }

// Plan implements [Planner], all on one page.
func (p Merges) Plan(ctx context.Context, _ string, _ int) (Page, error) {
	var page Page
	open, err := p.Requests.ListMRs(ctx, "", "open")
	for _, m := range open {
		if m.AutoMerge {
			page.Items = append(page.Items, Item{ID: fmt.Sprintf("mr/%s/%d", m.Repo, m.Number), Since: m.Created,
				What: "it is merged if its statuses allow it, as was asked for"})
		}
	}
	return page, err
}

// Leave implements [Planner]: the merge request is not merged by itself any more.
func (p Merges) Leave(ctx context.Context, id, actor string) error {
	rest := strings.TrimPrefix(id, "mr/")
	i := strings.LastIndexByte(rest, '/')
	number, err := strconv.Atoi(rest[i+1:])
	if i < 0 || err != nil {
		return failure.Invalidf("%q: write it as mr/REPOSITORY/NUMBER", id)
	}
	no := false
	_, err = p.Requests.EditMR(ctx, forge.Actor{Name: actor, Verified: !strings.HasSuffix(actor, "(unverified)")}, rest[:i], number, forge.MREdit{AutoMerge: &no})
	return err
}
