package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

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

// seenAfter is how long a commit must have been there before a comment that names none: what was pushed right before it, whoever wrote
// it may not have seen.
const seenAfter = 30 * time.Second

// standing is what is known of an event's approval.
type standing struct {
	// reason says why the event waits; empty if it does not.
	reason string
	// held is recorded with the decisions of an event that waits; nil for one that says nothing new.
	held *event.Approval
	// word is what the event, a comment, asks for; nil if it is none that does.
	word *word
}

// approval finds out whether an event waits for an approval, or is one. held are the merge requests of events that were looked at before
// it and are not on record yet.
func (c *Controller) approval(ctx context.Context, e event.Event, held map[string]event.Approval) (standing, error) {
	own, proved := forge.Proved(e)
	g := e.Git
	if own || !proved || g == nil || g.PR == nil || g.Action == "merge" || forge.Writes(*g.PR) {
		return standing{}, nil
	}
	key := event.ApprovalKey(*g)
	now, known := held[key]
	state := event.StateWaiting
	if !known {
		var err error
		if now, state, err = c.approved(ctx, key); err != nil {
			return standing{}, err
		}
	}
	if asks(g) {
		return spoken(e, now, state), nil
	}
	if state == event.StateApproved && (g.PR.HeadSHA == "" || g.PR.HeadSHA == now.SHA) {
		return standing{}, nil
	}
	out := standing{reason: fmt.Sprintf("%s, who opened merge request %d of %s, may not write to the repository: somebody who may has to approve commit %.10s, "+
		"by the comment %s there or tiphys approve %s", first(g.PR.Author, "somebody"), g.PR.Number, g.Repo.FullName, first(g.PR.HeadSHA, now.SHA), okToTest, e.ID)}
	if g.PR.HeadSHA != "" {
		out.held = moved(e, now)
	}
	if out.held != nil {
		held[key] = *out.held
	}
	return out, nil
}

// moved is where a merge request stands after an event that has a commit; nil where the event is older than what is known. The time of a
// commit is the earliest at which the forge said it was the newest.
func moved(e event.Event, now event.Approval) *event.Approval {
	pr := e.Git.PR
	next := &event.Approval{
		Key: event.ApprovalKey(*e.Git), SHA: pr.HeadSHA, Author: pr.Author, Event: e.ID, Repo: e.Git.Repo.FullName, Number: pr.Number, Title: pr.Title, Pushed: pr.Updated,
	}
	switch {
	case pr.HeadSHA == now.SHA && !now.Pushed.IsZero() && (pr.Updated.IsZero() || now.Pushed.Before(pr.Updated)):
		next.Pushed = now.Pushed
	case pr.HeadSHA != now.SHA && !pr.Updated.IsZero() && pr.Updated.Before(now.Pushed):
		return nil
	}
	return next
}

// asks says whether an event is the comment that approves, by somebody who may write to the repository.
func asks(g *event.Git) bool {
	if g.Kind != "comment" || g.Action != "create" || g.Comment == nil || !forge.Trusted(g.Comment.Association) {
		return false
	}
	words := strings.Fields(g.Comment.Body)
	return len(words) > 0 && words[0] == okToTest
}

// minPrefix is how many digits of a commit name it.
const minPrefix = 7

// spoken judges the comment that approves. It is for the commit that it names, and else for the one that was there when it was written, as
// both times of the forge show.
func spoken(e event.Event, now event.Approval, state string) standing {
	switch {
	case state == "":
		return standing{reason: "nothing of the merge request waits for an approval"}
	case state == event.StateApproved:
		return standing{reason: "commit " + now.SHA + " is approved already"}
	}
	g := e.Git
	refuse := func(format string, args ...any) standing {
		why := fmt.Sprintf(format, args...)
		return standing{reason: "the comment approves nothing: " + why, word: &word{Event: e.ID, Answer: answerText(why, now.SHA)}}
	}
	if words := strings.Fields(g.Comment.Body); len(words) > 1 {
		if len(words[1]) < minPrefix || !strings.HasPrefix(now.SHA, words[1]) {
			return refuse("it names another commit than the one that waits")
		}
		return standing{reason: "the comment approves commit " + now.SHA, word: &word{Event: e.ID, Approves: now.SHA}}
	}
	switch {
	case g.PR.HeadSHA != "" && g.PR.HeadSHA != now.SHA:
		return refuse("it is on another commit than the one that waits")
	case now.Pushed.IsZero() || g.Comment.Created.IsZero():
		return refuse("the forge does not say which commit was there when it was written")
	case g.Comment.Created.Before(now.Pushed.Add(seenAfter)):
		return refuse("the commit that waits was pushed after it or less than %s before it, and may not have been seen", seenAfter)
	}
	return standing{reason: "the comment approves commit " + now.SHA, word: &word{Event: e.ID, Approves: now.SHA}}
}

// answerText is what a comment that approves nothing is answered. Nothing that a stranger wrote stands in it.
func answerText(why, sha string) string {
	return fmt.Sprintf("Not approved: %s. Look at commit %.10s, and if it may run write `%s %.10s`.", why, sha, okToTest, sha)
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

// approve records an approval and, as one with it, the event that is decided on again.
func (c *Controller) approve(ctx context.Context, a event.Approval, actor string) (event.Event, error) {
	e, err := c.Event(ctx, a.Event)
	if err != nil {
		return e, err
	}
	a.By = actor
	again := event.Replay(e, c.newID(), c.o.Now().UTC())
	again.Actor = actor
	draft, err := received(again, e.Seq)
	if err != nil {
		return e, err
	}
	var made ledger.Ref
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
		if err == nil {
			made, err = tx.Append(draft)
		}
		return err
	})
	if err != nil {
		return e, fmt.Errorf("approve commit %s: %w", a.SHA, err)
	}
	again.Seq = made.Seq()
	return again, nil
}
