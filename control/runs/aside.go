package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// The kinds of entries by which a run says that it, or something of it, cannot go on by itself. They are of the run's subject, and are
// no part of its state.
const (
	// KindSetAside says that work of the outbox could not be done as it is: it is out of the outbox, and in the entry.
	KindSetAside = "work.aside"
	// KindStalled says that the entries of a run cannot be replayed, KindResumed that they can be again.
	KindStalled = "replay.failed"
	KindResumed = "replay.resumed"
)

// The conditions that go with them.
const (
	ConditionSetAside = "WorkSetAside"
	ConditionStalled  = "Stalled"
)

// asideBody bounds what is kept of the body of work that was set aside, in bytes.
const asideBody = 4 << 10

// asideEntry is the body of the entries above; of KindStalled and KindResumed it has the reason only.
type asideEntry struct {
	Queue  string `json:"queue,omitempty"`
	Key    string `json:"key,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Body is the beginning of what was in the outbox.
	Body string `json:"body,omitempty"`
}

// stalledError says that a run's entries cannot be replayed: trying again changes nothing.
type stalledError struct{ err error }

func (e *stalledError) Error() string { return e.err.Error() }
func (e *stalledError) Unwrap() error { return e.err }

// runOfWork is the run that an item of the outbox is for.
func runOfWork(w ledger.Work) string {
	if run, ok := strings.CutPrefix(w.Subject, "run/"); ok {
		return run
	}
	return runOf(w.Key)
}

// setAside takes work that cannot be done as it is out of the outbox, and says so on its run. An attempt whose start cannot be read is
// one that the executor does not know: it is lost, and the engine decides what comes of it.
func (c *Controller) setAside(w ledger.Work, reason error) {
	run := runOfWork(w)
	body := asideEntry{Queue: w.Queue, Key: w.Key, Reason: reason.Error(), Body: string(w.Body[:min(len(w.Body), asideBody)])}
	c.recordAside(run, w.ID, body)
}

// recordAside writes down what was set aside, once. item is its number in the outbox, 0 if it was not there.
func (c *Controller) recordAside(run string, item int64, body asideEntry) {
	send(c, c.asks, "aside/"+run, &errand{what: "set work of run " + run + " aside", do: func(ctx context.Context) error {
		err := c.o.Ledger.Write(ctx, ledger.On(subject(run)), func(tx ledger.Tx) error {
			draft := ledger.Draft{Actor: system, Kind: KindSetAside, Subject: subject(run), Body: body}
			if item != 0 {
				draft.Unique = fmt.Sprintf("aside/%s/%d/%s", body.Queue, item, body.Key)
			}
			_, err := tx.Append(draft)
			return err
		})
		if errors.Is(err, ledger.ErrExists) {
			err = nil // an earlier process died before it took the work out
		}
		if err == nil && item != 0 {
			err = c.o.Ledger.Outbox().Done(ctx, item) // it may be another partition's
		}
		if err == nil {
			c.troubles.put(fmt.Sprintf("run %s, %s: %s", run, body.Key, body.Reason))
		}
		return err
	}})
}

// useless notes what a run's engine refused to hear of: it is told once, on the run.
func (c *Controller) useless(run string, m *message, reason error) {
	c.recordAside(run, 0, asideEntry{Key: fmt.Sprintf("%T", m.command), Reason: reason.Error()})
}

// runTrouble is the key of a run's trouble.
func runTrouble(run string) string { return "run/" + run }

// stalled shows that a run's entries cannot be replayed, the first time that it is seen.
func (c *Controller) stalled(run string, reason error) {
	if !c.troubles.note(runTrouble(run), fmt.Sprintf("run %s cannot be taken up: %s", run, reason), c.o.Now(), false) {
		return
	}
	c.markStalled(run, KindStalled, reason.Error())
}

// replayed takes that back.
func (c *Controller) replayed(run string) {
	if c.troubles.over(runTrouble(run)) {
		c.markStalled(run, KindResumed, "")
	}
}

// markStalled changes the condition of a run, unless it is so already.
func (c *Controller) markStalled(run, kind, reason string) {
	send(c, c.asks, "stalled/"+run, &errand{what: "show that run " + run + " is stalled", do: func(ctx context.Context) error {
		return c.o.Ledger.Write(ctx, ledger.On(subject(run)), func(tx ledger.Tx) error {
			row, err := tx.Get(tableRun, run)
			if errors.Is(err, ledger.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			if isStalled(row) == (kind == KindStalled) {
				return nil
			}
			_, err = tx.Append(ledger.Draft{Actor: system, Kind: kind, Subject: subject(run), Body: asideEntry{Reason: reason}})
			return err
		})
	}})
}

// isStalled reads a run's row. One that cannot be read has no conditions.
func isStalled(row ledger.Row) bool {
	_, ok := stalledReason(row)
	return ok
}

func stalledReason(row ledger.Row) (string, bool) {
	var run struct {
		Conditions []workflow.Condition `json:"conditions"`
	}
	if json.Unmarshal(row.Body, &run) != nil {
		return "", false
	}
	for _, c := range run.Conditions {
		if c.Type == ConditionStalled && c.Status == "True" {
			return c.Message, true
		}
	}
	return "", false
}

// applyAside changes the conditions of a run's row; a run that is gone, or whose row cannot be read, has none.
func applyAside(e ledger.Entry, rows ledger.Rows) error {
	var body asideEntry
	if !e.Pruned {
		if err := json.Unmarshal(e.Body, &body); err != nil {
			return fmt.Errorf("decode %s of %s: %w", e.Kind, e.Subject, err)
		}
	}
	row, err := rows.Get(tableRun, strings.TrimPrefix(e.Subject, "run/"))
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var run workflow.Run
	if json.Unmarshal(row.Body, &run) != nil {
		return nil //nolint:nilerr // its entries are what counts
	}
	set := workflow.Condition{Type: ConditionStalled, Status: "True", Message: "it cannot be taken up: " + body.Reason}
	if e.Kind == KindSetAside {
		set = workflow.Condition{Type: ConditionSetAside, Status: "True", Message: body.Key + ": " + body.Reason}
	}
	var kept []workflow.Condition
	for _, c := range run.Conditions {
		if c.Type != set.Type {
			kept = append(kept, c)
		}
	}
	if e.Kind != KindResumed {
		kept = append(kept, set)
	}
	run.Conditions = kept
	if row.Body, err = json.Marshal(run); err != nil {
		return fmt.Errorf("write row of run %s: %w", row.Key, err)
	}
	return rows.Put(row)
}
