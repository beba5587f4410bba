package posts

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// planner tells what forges are told once a restored server is released.
type planner struct{ c *Controller }

// Planner implements what a plan asks of posts.
func (c *Controller) Planner() hold.Planner { return planner{c} }

// Kind implements hold.Planner.
func (planner) Kind() string { return "post" }

// Plan implements hold.Planner.
func (p planner) Plan(ctx context.Context, after string, n int) (hold.Page, error) {
	return hold.Work(ctx, p.c.o.Ledger, queue, after, n, func(w ledger.Work) hold.Item {
		var one Post
		what := "a message that cannot be read"
		switch err := json.Unmarshal(w.Body, &one); {
		case err != nil:
		case one.Status != nil:
			what = fmt.Sprintf("forge %s is told the status %s of %s at %.12s: %s", one.Instance, one.Status.Context, one.Repo, one.SHA, one.Status.State)
		default:
			what = fmt.Sprintf("forge %s is told a comment on %s!%d", one.Instance, one.Repo, one.Number)
		}
		return hold.Item{ID: "post/" + w.Key, What: what, Since: one.Asked}
	})
}

// leavePage is how many items are looked through at a time for one.
const leavePage = 500

// Leave implements hold.Planner: the forge is not told.
func (p planner) Leave(ctx context.Context, id, _ string) error {
	key := strings.TrimPrefix(id, "post/")
	var after int64
	for {
		works, err := p.c.o.Ledger.Outbox().List(ctx, queue, after, leavePage)
		if err != nil {
			return err
		}
		for _, w := range works {
			after = w.ID
			if w.Key != key {
				continue
			}
			var one Post
			if err := json.Unmarshal(w.Body, &one); err != nil {
				return p.c.drop(ctx, w, err)
			}
			return p.c.settle(ctx, w, one, kindFailed, hold.Reason)
		}
		if len(works) < leavePage {
			return failure.NotFoundf("no forge is to be told %s", key)
		}
	}
}
