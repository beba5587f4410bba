package wire

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/event/forge/builtin"
	"github.com/tiphys/tiphys/failure"
)

// planners tell what the rooms do once a restored server is released. What makes others do something comes before them: a merge request
// that is not to be merged is an event, and what is left of a trigger is no run.
func (s *Server) planners() hold.Planners {
	list := hold.Planners{heldMerges{s.remote}}
	list = append(list, s.events.Planners()...)
	list = append(list, s.crons.Planner(), s.machine.Runs.Planner(), s.posts.Planner())
	return append(list, s.apps.Planners()...)
}

// heldMerges are the merge requests of the built-in remote that are merged as soon as they can be.
type heldMerges struct{ remote *builtin.Remote }

// Kind implements hold.Planner.
func (heldMerges) Kind() string { return "mr" }

// Plan implements hold.Planner, all on one page.
func (p heldMerges) Plan(ctx context.Context, _ string, _ int) (hold.Page, error) {
	var page hold.Page
	open, err := p.remote.ListMRs(ctx, "", "open")
	for _, m := range open {
		if m.AutoMerge {
			page.Items = append(page.Items, hold.Item{ID: fmt.Sprintf("mr/%s/%d", m.Repo, m.Number), Since: m.Created,
				What: "it is merged if its statuses allow it, as was asked for"})
		}
	}
	return page, err
}

// Leave implements hold.Planner: the merge request is not merged by itself any more.
func (p heldMerges) Leave(ctx context.Context, id, actor string) error {
	rest := strings.TrimPrefix(id, "mr/")
	i := strings.LastIndexByte(rest, '/')
	number, err := strconv.Atoi(rest[i+1:])
	if i < 0 || err != nil {
		return failure.Invalidf("%q: write it as mr/REPOSITORY/NUMBER", id)
	}
	no := false
	_, err = p.remote.EditMR(ctx, builtin.Actor{Name: actor, Verified: !strings.HasSuffix(actor, "(unverified)")}, rest[:i], number, builtin.MREdit{AutoMerge: &no})
	return err
}
