package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// unfinished are the states of runs that have not ended.
var unfinished = []string{string(workflow.Pending), string(workflow.Running), ""}

// know reads which runs have not ended, so that reports find them.
func (c *Controller) know(ctx context.Context) error {
	for row, err := range ledger.Each(ctx, c.o.Ledger, ledger.Query{Table: tableRun, States: unfinished}) {
		if err != nil {
			return fmt.Errorf("list runs: %w", err)
		}
		var run struct {
			UID string `json:"uid"`
		}
		if err := json.Unmarshal(row.Body, &run); err != nil {
			// Its entries are what counts, and they have its uid: without it what its pods report would be nobody's.
			if run.UID, err = c.recordedUID(ctx, row.Key); err != nil {
				c.stalled(row.Key, err)
				continue
			}
		}
		if reason, ok := stalledReason(row); ok {
			c.troubles.note(runTrouble(row.Key), "run "+row.Key+": "+reason, c.o.Now(), false)
		}
		c.mu.Lock()
		c.uids[run.UID] = row.Key
		c.mu.Unlock()
	}
	return nil
}

// recordedUID reads a run's uid from its first entry.
func (c *Controller) recordedUID(ctx context.Context, key string) (string, error) {
	es, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{Subject: subject(key), Kinds: []string{workflow.KindSubmitted}, Newest: true, Limit: 1})
	if err != nil {
		return "", err
	}
	var run struct {
		UID string `json:"uid"`
	}
	if len(es) > 0 {
		err = json.Unmarshal(es[0].Body, &run)
	}
	if err == nil && run.UID == "" {
		err = errors.New("its row cannot be read, and its first entry has no uid")
	}
	return run.UID, err
}

// listTimeout is how long the executor may take to say which attempts it has, each time that it is asked.
const listTimeout = 30 * time.Second

// known asks the executor which attempts it has, until it says so; false means that ctx ended first. Those that run have places.
func (c *Controller) known(ctx context.Context) (map[executor.ID]bool, bool) {
	for failed := 1; ; failed++ {
		asked, cancel := context.WithTimeout(ctx, listTimeout)
		reports, err := c.o.Executors.List(asked)
		cancel()
		if err == nil {
			c.troubles.over(troubleList)
			return c.hold(reports), true
		}
		if ctx.Err() == nil {
			c.troubles.note(troubleList, fmt.Sprintf("the executor does not say which attempts it has, asked %d times: %s", failed, err), c.o.Now(), true)
		}
		if !sleep(ctx, waitAfter(failed)) {
			return nil, false
		}
	}
}

const troubleList = "the executor's list"

// hold gives those that run their places. One that has ended meanwhile has given its place back before it had one.
func (c *Controller) hold(reports []executor.Report) map[executor.ID]bool {
	known := make(map[executor.ID]bool, len(reports))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rep := range reports {
		known[rep.ID] = true
		if !rep.Phase.Done() && !c.ended[rep.ID] {
			c.o.Places.Hold(rep.ID)
		}
	}
	c.listed, c.ended = true, nil
	return known
}

// compare looks for every attempt that the ledger believes to be running among those that the executor knew. One that it did not
// know is lost infrastructure: its machine is another one, or the ledger was restored from a backup.
func (c *Controller) compare(ctx context.Context, known map[executor.ID]bool) {
	c.mu.Lock()
	keys := make([]string, 0, len(c.uids))
	for _, key := range c.uids {
		keys = append(keys, key)
	}
	c.mu.Unlock()
	c.compareRuns(ctx, keys, known, 0)
}

const troubleCompare = "compare with the executor"

// compareLater compares runs that could not be read, after a wait.
func (c *Controller) compareLater(ctx context.Context, keys []string, known map[executor.ID]bool, failed int) {
	failed++
	c.troubles.note(troubleCompare, fmt.Sprintf("%d runs cannot be read from the ledger, tried %d times, %s among them", len(keys), failed, keys[0]), c.o.Now(), true)
	if sleep(ctx, waitAfter(failed)) {
		c.compareRuns(ctx, keys, known, failed)
	}
}

func (c *Controller) compareRuns(ctx context.Context, keys []string, known map[executor.ID]bool, failed int) {
	var again []string
	for _, key := range keys {
		ids, err := view(ctx, c, key, func(r *live) []executor.ID { return r.state.Attempts() })
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, ErrNotFound) || errors.As(err, new(*stalledError)) {
				continue // it was shown when it was read
			}
			again = append(again, key)
			continue
		}
		c.compareRun(key, ids, known)
	}
	if len(again) > 0 {
		c.compareLater(ctx, again, known, failed)
		return
	}
	c.troubles.over(troubleCompare)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = true
	for key, s := range c.starts {
		if s.over {
			delete(c.starts, key)
		}
	}
}

func (c *Controller) compareRun(key string, ids []executor.ID, known map[executor.ID]bool) {
	for _, id := range ids {
		effect := effectKey(key, workflow.StartPod{Node: id.Node, Attempt: id.Attempt})
		c.mu.Lock()
		ours := c.starts[effect] != nil
		c.mu.Unlock()
		if !ours && !known[id] {
			c.report(key, executor.Report{ID: id, Phase: executor.Error, Reason: executor.ReasonLost, FinishedAt: c.o.Now().UTC(),
				Message: "the executor does not know this attempt: it was lost with its machine"}, nil)
		}
	}
}

// receive brings what the executor reports to the runs.
func (c *Controller) receive(ctx context.Context) {
	reports := c.o.Executors.Reports()
	for {
		select {
		case <-ctx.Done():
			return
		case rep, ok := <-reports:
			if !ok {
				return
			}
			c.received(ctx, rep)
		}
	}
}

// received takes one report. The executor repeats a final one until it is acknowledged, which is after its entry is recorded.
func (c *Controller) received(ctx context.Context, rep executor.Report) {
	c.mu.Lock()
	key, ok := c.uids[rep.ID.Owner]
	c.mu.Unlock()
	if rep.Phase.Done() {
		c.leave(rep.ID)
	}
	if !ok {
		// An application's pod, or one of a run that has ended.
		if taken := c.o.Orphans != nil && c.o.Orphans.Take(ctx, rep); !taken && rep.Phase.Done() {
			c.acknowledge("", rep.ID)
		}
		return
	}
	if rep.Reason == executor.ReasonNotLaunched {
		// An earlier process did not come to launch it, and only this one has the secrets that go with it.
		start := workflow.StartPod{Node: rep.ID.Node, Attempt: rep.ID.Attempt}
		c.begin(key, rep.ID, start)
		c.noteIdle(effectKey(key, start))
		return
	}
	var then func()
	if rep.Phase.Done() {
		then = func() {
			c.o.Fault("acknowledge")
			c.acknowledge(key, rep.ID)
		}
	} else {
		c.o.Places.Hold(rep.ID)
	}
	c.report(key, rep, then)
}

// leave gives the place of a pod that has ended back.
func (c *Controller) leave(id executor.ID) {
	c.mu.Lock()
	if !c.listed {
		c.ended[id] = true
	}
	c.mu.Unlock()
	c.o.Places.Leave(id)
}

// acknowledge tells the executor that the end of an attempt is on record.
func (c *Controller) acknowledge(run string, id executor.ID) {
	send(c, c.pods, nodeKey{run, id.Node}, &errand{what: "acknowledge " + run + " " + id.Node, do: func(ctx context.Context) error {
		// Before the acknowledgement, which ends the repetition of the report.
		if c.o.Pushed != nil {
			if err := c.o.Pushed.Settle(ctx, id); err != nil {
				return err
			}
		}
		return c.o.Executors.Acknowledge(ctx, id)
	}})
}

// idle is how long the loops wait when nothing is due; a commit wakes them earlier.
const idle = 30 * time.Second

// timers fires what is due.
func (c *Controller) timers(ctx context.Context) {
	c.drainQueue(ctx, queueTimers, func(w ledger.Work, b effectBody) {
		c.deliver(b.Run, workflow.Fired{Meta: c.meta(system), Key: b.Type}, nil, workKey{queueTimers, w.Key})
	})
}

// retries carries out effects whose lease has ended.
func (c *Controller) retries(ctx context.Context) { c.drainQueue(ctx, queueEffects, c.again) }

// leftovers carries out what an earlier process had decided and not done. Everything an effect does is idempotent by its key, so
// that repeating one that was done does nothing.
func (c *Controller) leftovers(ctx context.Context) error {
	for {
		n, err := c.claim(ctx, queueEffects, c.again)
		if err != nil || n == 0 {
			return err
		}
	}
}

// again carries out an effect from the outbox.
func (c *Controller) again(w ledger.Work, b effectBody) {
	item := workKey{queueEffects, w.Key}
	if b.Type == typeGot {
		var a lockAnswer
		if err := json.Unmarshal(b.Effect, &a); err != nil {
			c.setAside(w, fmt.Errorf("decode answer: %w", err))
			return
		}
		c.deliver(b.Run, a.got(c.meta(system)), nil, item)
		return
	}
	e, err := decodeEffect(b)
	if err != nil {
		c.setAside(w, err)
		return
	}
	if uid := first(b.UID, c.uidOf(b.Run)); uid != "" {
		c.perform(place{run: b.Run, uid: uid}, e)
		return
	}
	// An older ledger did not keep the uid: the run has it.
	send(c, c.asks, "again/"+w.Key, &errand{what: "take up " + w.Key, do: func(ctx context.Context) error {
		from, err := view(ctx, c, b.Run, (*live).place)
		if errors.Is(err, ErrNotFound) {
			c.settle(b.Run, item)
			return nil
		}
		if err == nil {
			c.perform(from, e)
		}
		return err
	}})
}

// uidOf finds the uid of a run that has not ended; empty if it has.
func (c *Controller) uidOf(run string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for uid, key := range c.uids {
		if key == run {
			return uid
		}
	}
	return ""
}

// drainQueue claims what is due in a queue until ctx ends, waking at each commit that may have brought work and
// at the time the next item falls due.
func (c *Controller) drainQueue(ctx context.Context, queue string, f func(ledger.Work, effectBody)) {
	failed := 0
	for ctx.Err() == nil {
		changed := c.o.Ledger.Changed()
		n, err := c.claim(ctx, queue, f)
		if err != nil {
			failed++
			if ctx.Err() == nil {
				c.troubles.note("claim/"+queue, fmt.Sprintf("work cannot be taken from the ledger (queue %s), tried %d times: %s", queue, failed, err), c.o.Now(), true)
			}
			if !sleep(ctx, waitAfter(failed)) {
				return
			}
			continue
		}
		if failed > 0 {
			failed = 0
			c.troubles.over("claim/" + queue)
		}
		if n > 0 {
			continue
		}
		next, err := c.o.Ledger.Outbox().Next(ctx, queue)
		wait := idle
		if err == nil && !next.IsZero() {
			wait = min(wait, max(next.Sub(c.o.Now()), time.Millisecond))
		}
		if !wake(ctx, changed, wait, queue == queueEffects) {
			return
		}
	}
}

// claimed is how many items are claimed at a time.
const claimed = 256

// claim does what is due in a queue and returns how much it was.
func (c *Controller) claim(ctx context.Context, queue string, f func(ledger.Work, effectBody)) (int, error) {
	works, err := c.o.Ledger.Outbox().Claim(ctx, queue, claimed, lease)
	if err != nil {
		return 0, err
	}
	for _, w := range works {
		var b effectBody
		if err := json.Unmarshal(w.Body, &b); err != nil {
			c.setAside(w, fmt.Errorf("decode work: %w", err))
			continue
		}
		f(w, b)
	}
	return len(works), nil
}

// wake waits for a commit or a time. Effects are carried out by who decided them, so that their queue is looked
// at only now and then.
func wake(ctx context.Context, changed <-chan struct{}, d time.Duration, lazy bool) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	if lazy {
		changed = nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-changed:
		return true
	case <-t.C:
		return true
	}
}
