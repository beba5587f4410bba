package events

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// Planners tell what the sensors decide on, and what is fired, once a restored server is released.
func (c *Controller) Planners() []hold.Planner {
	return []hold.Planner{undecided{c}, firings{c}, words{c}}
}

// undecided are the events that no sensor has decided on. The sensors go by the order of the ledger, so that they are left out together.
type undecided struct{ c *Controller }

// Kind implements hold.Planner.
func (undecided) Kind() string { return "event" }

// Plan implements hold.Planner. A place in it is the last entry of a page.
func (p undecided) Plan(ctx context.Context, after string, n int) (hold.Page, error) {
	var page hold.Page
	from, err := p.c.cursor(ctx)
	if err != nil {
		return page, err
	}
	if after != "" {
		if _, err := fmt.Sscan(after, &from); err != nil {
			return page, failure.Invalidf("%q is no place in a plan", after)
		}
	}
	entries, err := p.c.o.Ledger.Entries(ctx, ledger.EntryQuery{After: from, Kinds: []string{event.KindReceived}, Limit: n})
	if err != nil {
		return page, err
	}
	for _, e := range entries {
		id := fmt.Sprintf("entry-%d", e.Seq)
		if got, err := event.FromEntry(e); err == nil {
			id = got.ID
		}
		page.Items = append(page.Items, hold.Item{ID: "event/" + id, Since: e.Time,
			What: fmt.Sprintf("the sensors decide on it: an event of %s by %s, which they have not seen", strings.TrimPrefix(e.Subject, "event/"), e.Actor)})
	}
	if len(entries) == n {
		page.Next = fmt.Sprint(entries[len(entries)-1].Seq)
	}
	return page, nil
}

// outcomeLeft is the decision on an event that is left out.
const outcomeLeft = "left-out"

// Leave implements hold.Planner: the event, which must be the first that was not decided on, gets a decision by nobody.
func (p undecided) Leave(ctx context.Context, id, actor string) error {
	page, err := p.Plan(ctx, "", 1)
	if err != nil {
		return err
	}
	if len(page.Items) == 0 {
		return failure.NotFoundf("there is no event that was not decided on")
	}
	if page.Items[0].ID != id {
		return failure.Conflictf("the sensors decide in order: leave out all with %q, or first %s", p.Kind(), page.Items[0].ID)
	}
	after, err := p.c.cursor(ctx)
	if err != nil {
		return err
	}
	entries, err := p.c.o.Ledger.Entries(ctx, ledger.EntryQuery{After: after, Kinds: []string{event.KindReceived}, Limit: 1, Bare: true})
	if err != nil || len(entries) == 0 {
		return err
	}
	e := entries[0]
	body := event.Decided{EventID: strings.TrimPrefix(id, "event/"), Decisions: []event.Decision{{EventSeq: e.Seq, Outcome: outcomeLeft, Reason: hold.Reason}}}
	return p.c.o.Ledger.Write(ctx, ledger.On(e.Subject), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: actor, Kind: event.KindDecided, Subject: e.Subject, Cause: ledger.At(e.Seq), Body: body})
		return err
	})
}

// firings are the triggers that fired and were not carried out, or are to be tried again.
type firings struct{ c *Controller }

// Kind implements hold.Planner.
func (firings) Kind() string { return "trigger" }

// Plan implements hold.Planner.
func (p firings) Plan(ctx context.Context, after string, n int) (hold.Page, error) {
	return hold.Work(ctx, p.c.o.Ledger, queue, after, n, func(w ledger.Work) hold.Item {
		what := "a trigger that cannot be read"
		var f sensor.Firing
		if json.Unmarshal(w.Body, &f) == nil {
			what = fmt.Sprintf("trigger %s of sensor %s (%s) is carried out", f.Trigger, f.Sensor, cmp.Or(f.Type, "no type"))
		}
		return hold.Item{ID: "trigger/" + w.Key, What: what, Since: w.Due}
	})
}

// Leave implements hold.Planner: the firing is dead, without a dead letter. It can be sent again like any other.
func (p firings) Leave(ctx context.Context, id, actor string) error {
	key := strings.TrimPrefix(id, "trigger/")
	row, err := p.c.o.Ledger.Row(ctx, event.TableFiring, key)
	if errors.Is(err, ledger.ErrNotFound) || err == nil && row.State != "pending" {
		return p.c.write(ctx, key, func(tx ledger.Tx) error { return tx.Cancel(queue, key) })
	}
	if err != nil {
		return err
	}
	var before event.FiringRow
	if err := json.Unmarshal(row.Body, &before); err != nil {
		return fmt.Errorf("read firing %s: %w", key, err)
	}
	return p.c.write(ctx, key, func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: actor, Kind: event.KindFailed, Subject: "firing/" + key, Cause: ledger.At(row.Seq),
			Body: event.Settled{Key: key, Attempt: before.Attempts, Error: hold.Reason, Dead: true}})
		if err != nil {
			return err
		}
		return tx.Cancel(queue, key)
	})
}

// words are comments that approve a merge request, or have to be answered.
type words struct{ c *Controller }

// Kind implements hold.Planner.
func (words) Kind() string { return queueWords }

// Plan implements hold.Planner.
func (p words) Plan(ctx context.Context, after string, n int) (hold.Page, error) {
	return hold.Work(ctx, p.c.o.Ledger, queueWords, after, n, func(w ledger.Work) hold.Item {
		what := "a comment is answered"
		var one word
		if json.Unmarshal(w.Body, &one) == nil && one.Approves != "" {
			what = fmt.Sprintf("a comment approves commit %.10s, which then runs", one.Approves)
		}
		return hold.Item{ID: queueWords + "/" + w.Key, What: what, Since: w.Due}
	})
}

// Leave implements hold.Planner: nothing is approved by the comment, and nobody answers it.
func (p words) Leave(ctx context.Context, id, _ string) error {
	return p.c.heeded(ctx, ledger.Work{Key: strings.TrimPrefix(id, queueWords+"/")})
}
