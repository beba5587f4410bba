package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// What somebody sends who may not write to the repository is decided on when somebody who may has approved the commit: by the comment
// /ok-to-test, or here. An approval is for one commit; a push waits for a new one.

// outcomeUnapproved is the outcome of an event that waits for an approval.
const outcomeUnapproved = "unapproved"

// okToTest is the comment that approves; the commit may follow.
const okToTest = "/ok-to-test"

// standing is what is known of an event's approval.
type standing struct {
	// reason says why the event waits; empty if it does not.
	reason string
	// held is recorded with the decisions of an event that waits; nil for one that says nothing new.
	held *event.Approval
	// approves is the commit that the event, a comment, approves; empty for none.
	approves string
}

// approval finds out whether an event waits for an approval, or is one.
func (c *Controller) approval(ctx context.Context, e event.Event) (standing, error) {
	own, proved := forge.Proved(e)
	g := e.Git
	if own || !proved || g == nil || g.PR == nil || g.Action == "merge" || forge.Writes(*g.PR) {
		return standing{}, nil
	}
	now, state, err := c.approved(ctx, event.ApprovalKey(*g))
	if err != nil {
		return standing{}, err
	}
	if g.Kind == "comment" && g.Action == "create" && g.Comment != nil && forge.Trusted(g.Comment.Association) {
		if words := strings.Fields(g.Comment.Body); len(words) > 0 && words[0] == okToTest && state == event.StateWaiting &&
			(len(words) == 1 || len(words[1]) >= 7 && strings.HasPrefix(now.SHA, words[1])) {
			return standing{reason: "the comment approves commit " + now.SHA, approves: now.SHA}, nil
		}
	}
	if state == event.StateApproved && (g.PR.HeadSHA == "" || g.PR.HeadSHA == now.SHA) {
		return standing{}, nil
	}
	out := standing{reason: fmt.Sprintf("%s, who opened merge request %d of %s, may not write to the repository: somebody who may has to approve commit %.10s, "+
		"by the comment %s there or tiphys approve %s", first(g.PR.Author, "somebody"), g.PR.Number, g.Repo.FullName, first(g.PR.HeadSHA, now.SHA), okToTest, e.ID)}
	if g.PR.HeadSHA != "" {
		out.held = &event.Approval{Key: event.ApprovalKey(*g), SHA: g.PR.HeadSHA, Author: g.PR.Author, Event: e.ID}
	}
	return out, nil
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// approved reads where a merge request stands; the state is empty where nothing of it waited yet.
func (c *Controller) approved(ctx context.Context, key string) (event.Approval, string, error) {
	var a event.Approval
	row, err := c.o.Ledger.Row(ctx, event.TableApproval, key)
	if errors.Is(err, ledger.ErrNotFound) {
		return a, "", nil
	}
	if err == nil {
		err = json.Unmarshal(row.Body, &a)
	}
	if err != nil {
		return a, "", fmt.Errorf("read the approval of %s: %w", key, err)
	}
	return a, row.State, nil
}

// Approve lets a merge request run whose author may not write to the repository, at the commit of an event that waits, and has that
// event decided on. The newest commit alone can be approved. It gives the event that is decided on.
func (c *Controller) Approve(ctx context.Context, id, actor string) (event.Event, error) {
	e, err := c.Event(ctx, id)
	if err != nil {
		return e, err
	}
	if e.Git == nil || e.Git.PR == nil {
		return e, failure.Invalidf("event %s is not about a merge request", id)
	}
	now, state, err := c.approved(ctx, event.ApprovalKey(*e.Git))
	switch {
	case err != nil:
		return e, err
	case state == "":
		return e, failure.Errorf(failure.Conflict, "nothing of merge request %d of %s waits for an approval", e.Git.PR.Number, e.Git.Repo.FullName)
	case now.SHA != e.Git.PR.HeadSHA:
		return e, failure.Errorf(failure.Conflict, "the merge request has moved to commit %.10s: look at it, and approve event %s", now.SHA, now.Event)
	}
	return c.approve(ctx, now, actor)
}

// approve records an approval, and has the event decided on that waits for it.
func (c *Controller) approve(ctx context.Context, a event.Approval, actor string) (event.Event, error) {
	e, err := c.Event(ctx, a.Event)
	if err != nil {
		return e, err
	}
	a.By = actor
	err = c.o.Ledger.Write(ctx, ledger.On(event.Subject(e)), func(tx ledger.Tx) error {
		row, err := tx.Get(event.TableApproval, a.Key)
		var now event.Approval
		if err == nil {
			err = json.Unmarshal(row.Body, &now)
		}
		if err == nil && now.SHA != a.SHA {
			err = failure.Errorf(failure.Conflict, "the merge request has moved to commit %.10s meanwhile", now.SHA)
		}
		if err == nil {
			_, err = tx.Append(ledger.Draft{Actor: actor, Kind: event.KindApproved, Subject: event.Subject(e), Cause: ledger.At(e.Seq), Body: a})
		}
		return err
	})
	if err != nil {
		return e, fmt.Errorf("approve commit %s: %w", a.SHA, err)
	}
	return c.Replay(ctx, a.Event, actor)
}
