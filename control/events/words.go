package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Answers writes on the merge request that an event is about. The same marker replaces what was written before. An error that is
// [forge.ErrNotFound] says that no forge is declared for the event.
type Answers interface {
	Answer(ctx context.Context, g event.Git, marker, body string) error
}

// queueWords is the outbox queue of comments that approve, or that have to be answered. What is asked for is in it before the comment counts
// as decided on, so that an approval which cannot be recorded now is recorded later.
const queueWords = "approval"

// wordLease bounds one attempt, and wordAgain is how long after a failure the next one may begin.
const (
	wordLease = 30 * time.Second
	wordAgain = 5 * time.Second
)

// workApprove is the name under which Health shows that an approval cannot be recorded.
const workApprove = "record approvals"

// word is a comment that has a commit approved, or is answered. Its key in the outbox is the comment's event.
type word struct {
	// Event is the comment's.
	Event string `json:"event"`
	// Approves is the commit; empty for none.
	Approves string `json:"approves,omitempty"`
	// Answer is what is written on the merge request; empty for nothing.
	Answer string `json:"answer,omitempty"`
}

// enqueueWord has a comment acted on.
func enqueueWord(tx ledger.Tx, w *word, cause ledger.Ref) error {
	if w == nil {
		return nil
	}
	body, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("encode what comment %s asks for: %w", w.Event, err)
	}
	return tx.Enqueue(ledger.Work{Queue: queueWords, Key: w.Event, Due: tx.Now(), Cause: cause, Body: body})
}

// listen wakes heed.
func (c *Controller) listen() {
	select {
	case c.words <- struct{}{}:
	default:
	}
}

// heed acts on comments until ctx ends.
func (c *Controller) heed(ctx context.Context) {
	var rest time.Duration
	for ctx.Err() == nil {
		n, err := c.heedSome(ctx)
		if err != nil && ctx.Err() == nil {
			rest = c.pause(ctx, workApprove, err, rest)
			continue
		}
		rest = 0
		if n == 0 {
			wait(ctx, c.words, wordAgain)
		}
	}
}

// heedSome acts on the comments that are due, and tells how many were. One that fails is due again soon.
func (c *Controller) heedSome(ctx context.Context) (int, error) {
	works, err := c.o.Ledger.Outbox().Claim(ctx, queueWords, 8, wordLease)
	for _, w := range works {
		if failed := c.act(ctx, w); failed != nil {
			err = errors.Join(err, failed, c.o.Ledger.Outbox().Retry(ctx, w.ID, c.o.Now().Add(wordAgain)))
		}
	}
	if err != nil || len(works) > 0 {
		return len(works), err
	}
	next, err := c.o.Ledger.Outbox().Next(ctx, queueWords)
	if err == nil && next.IsZero() {
		c.health.fine(workApprove)
	}
	return 0, err
}

// act does what one comment asks for, and takes it out of the outbox. What can never be done is dropped: the decision on the comment says
// what it asked for, and the event that waits can be approved by hand.
func (c *Controller) act(ctx context.Context, item ledger.Work) error {
	var w word
	if err := json.Unmarshal(item.Body, &w); err != nil {
		c.o.Log.Warn("what a comment asks for cannot be read: approve the event that waits by hand", "event", item.Key, "error", err)
		return c.heeded(ctx, item)
	}
	e, err := c.Event(ctx, w.Event)
	if errors.Is(err, ledger.ErrNotFound) { // erased meanwhile
		return c.heeded(ctx, item)
	}
	if err == nil && w.Approves != "" {
		w.Answer, err = c.approveBy(ctx, e, w.Approves)
	}
	if err == nil && w.Answer != "" && c.o.Answers != nil {
		err = c.answer(ctx, e, w.Answer)
	}
	if err != nil {
		return fmt.Errorf("act on comment %s: %w", w.Event, err)
	}
	return c.heeded(ctx, item)
}

// approveBy records the approval that a comment is; the text says why there is nothing to approve any more.
func (c *Controller) approveBy(ctx context.Context, e event.Event, sha string) (string, error) {
	a, state, err := c.approved(ctx, event.ApprovalKey(*e.Git))
	switch {
	case err != nil:
		return "", err
	case a.SHA != sha:
		return answerText("the merge request has moved to another commit meanwhile", a.SHA), nil
	case state != event.StateWaiting:
		return "", nil // somebody else approved it, or this comment did before the process ended
	}
	_, err = c.approve(ctx, a, e.Git.Forge+":"+e.Git.Comment.Author)
	if failure.KindOf(err) == failure.Conflict {
		return answerText("the merge request has moved to another commit meanwhile", ""), nil
	}
	return "", err
}

// answer writes on the comment's merge request. A forge that is not declared, or cannot be told, is not: the decision says the same.
func (c *Controller) answer(ctx context.Context, e event.Event, text string) error {
	ctx = forge.WithBy(ctx, forge.By{Actor: "system", Verified: true, Cause: e.Seq})
	err := c.o.Answers.Answer(ctx, *e.Git, "ok-to-test/"+e.Git.Comment.ID, text)
	switch failure.KindOf(err) {
	case failure.NotFound:
		return nil
	case failure.Stalled, failure.Invalid:
		c.o.Log.Warn("a comment that approves nothing cannot be answered", "event", e.ID, "reason", err)
		return nil
	}
	return err
}

// heeded takes a comment out of the outbox.
func (c *Controller) heeded(ctx context.Context, item ledger.Work) error {
	return c.o.Ledger.Write(ctx, ledger.On("event"), func(tx ledger.Tx) error { return tx.Cancel(queueWords, item.Key) })
}
