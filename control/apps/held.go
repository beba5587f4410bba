package apps

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Planners tell what is deployed once a restored server is released.
func (c *Controller) Planners() []hold.Planner {
	return []hold.Planner{heldApplications{c}, heldSets{c}}
}

// heldApplications are all Applications: each is compared with what it should be, and its pods are started on a new machine.
type heldApplications struct{ c *Controller }

// Kind implements hold.Planner.
func (heldApplications) Kind() string { return "application" }

// Plan implements hold.Planner.
func (p heldApplications) Plan(ctx context.Context, after string, n int) (hold.Page, error) {
	return hold.Rows(ctx, p.c.o.Ledger, ledger.Query{Table: deploy.TableApplication}, after, n, func(row ledger.Row) (*hold.Item, error) {
		var a deploy.ApplicationRow
		if err := json.Unmarshal(row.Body, &a); err != nil {
			return nil, fmt.Errorf("decode application %s: %w", row.Key, err)
		}
		what, err := follows(a)
		return &hold.Item{ID: "application/" + row.Key, What: what, Since: row.Time}, err
	})
}

// follows says what becomes of an Application.
func follows(a deploy.ApplicationRow) (string, error) {
	runs := "what the record says of it is started"
	if at := deployed(a); at != "" {
		runs = fmt.Sprintf("what the record says of it (%.40s) is started", at)
	}
	var op plan.Operation
	if len(a.Operation) > 0 {
		if err := json.Unmarshal(a.Operation, &op); err != nil {
			return "", fmt.Errorf("read the sync of application %s: %w", a.Key(), err)
		}
	}
	switch {
	case a.Deleting:
		return "its removal goes on", nil
	case op.Phase == plan.Running:
		return runs + ", and the sync that was under way goes on", nil
	case a.Asked != nil || len(a.Requested) > 0:
		return runs + ", and the sync that was asked for begins", nil
	case a.Pinned != "":
		return fmt.Sprintf("%s, and it stays at %.40s", runs, a.Pinned), nil
	case a.Spec.SyncPolicy.IsAutomated():
		return runs + ", and it is synced if its source, or the newest release on record, is another", nil
	}
	return runs + ", and it is compared and not synced", nil
}

// deployed is the release or commit that an Application has; empty if it was never deployed.
func deployed(a deploy.ApplicationRow) string { return cmp.Or(a.Release, a.Revision) }

// Leave implements hold.Planner: the Application stays at what it has on record, as after a rollback to it, until somebody rolls it back to
// the newest. A sync that was under way or asked for has failed.
func (p heldApplications) Leave(ctx context.Context, id, actor string) error {
	key := strings.TrimPrefix(id, "application/")
	w, err := p.c.load(ctx, key)
	if err != nil {
		return err
	}
	op, err := w.operation()
	switch at := deployed(w.row); {
	case err != nil:
		return err
	case !w.known:
		return fmt.Errorf("%s: %w", key, ErrNotFound)
	case w.row.Deleting:
		return failure.Conflictf("application %s is being removed, which goes on", key)
	case at == "":
		return failure.Conflictf("application %s has nothing on record that it could stay at: release the server, and sync or delete it", key)
	case w.row.Pinned != "" && op.Phase != plan.Running && w.row.Asked == nil && len(w.row.Requested) == 0:
		return nil
	default:
		w.row.Pinned, w.row.Asked, w.row.Requested = pinnedTo(at, w.row.Revision), nil, nil
	}
	if op.Phase == plan.Running {
		op.Phase, op.Message, op.FinishedAt = plan.Failed, hold.Reason, p.c.o.Now().UTC()
		if err := w.setOperation(op); err != nil {
			return err
		}
	}
	return w.record(ctx, deploy.KindApplicationSet, 0, actor, nil)
}

// heldSets are the ApplicationSets.
type heldSets struct{ c *Controller }

// Kind implements hold.Planner.
func (heldSets) Kind() string { return "applicationset" }

// Plan implements hold.Planner.
func (p heldSets) Plan(ctx context.Context, after string, n int) (hold.Page, error) {
	return hold.Rows(ctx, p.c.o.Ledger, ledger.Query{Table: deploy.TableSet}, after, n, func(row ledger.Row) (*hold.Item, error) {
		return &hold.Item{ID: "applicationset/" + row.Key, Since: row.Time,
			What: "it is expanded: Applications are made and removed as its generators, such as open merge requests, then say"}, nil
	})
}

// Leave implements hold.Planner.
func (heldSets) Leave(context.Context, string, string) error {
	return failure.Conflictf("an ApplicationSet cannot be left out: what it makes follows from what its generators say")
}
