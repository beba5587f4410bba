package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

// lockTable is the state of the one owner of all locks. A request may be for several locks, so all are decided on in one place.
type lockTable struct{ *lock.Table }

// lockWish is what a run wants of its locks: a workflow.Acquire or workflow.Release. It is in the outbox under its holder's name, so
// that only the newest wish of a holder is there. Without an effect it asks to look whether somebody can go on.
type lockWish struct {
	from   place
	effect workflow.Effect
}

// lockSubject is of the partition in which all locks are.
const lockSubject = "lock/all"

const (
	// lockBatch is how many wishes share a commit at most.
	lockBatch = 256
	// lockTimeout bounds a batch of wishes: while the ledger cannot be written they keep their order by waiting.
	lockTimeout = 24 * time.Hour
	// lockTries is how often a wish is tried that fails for another reason than a full disk. It is then set aside, and left
	// in the outbox until its lease ends.
	lockTries = 6
	// wakeEvery is how often limits that somebody waits for are read again.
	wakeEvery = 5 * time.Second
)

// wish hands a wish to the owner of the locks. Its mailbox has room for all, so nobody waits here.
func (c *Controller) wish(w lockWish) {
	_ = c.locks.Send(context.Background(), struct{}{}, w, func(err error) {
		if err != nil && !stopping(err) {
			// It stays in the outbox, and is taken up when its lease has ended.
			c.troubles.note(lockTrouble(holderOf(w.effect)), fmt.Sprintf("locks cannot be taken or given back for %s: %s", w.from.run, err), c.o.Now(), false)
		}
	})
}

// wakeLocks lets those go on whose limit was raised.
func (c *Controller) wakeLocks(ctx context.Context) {
	c.wish(lockWish{})
	for sleep(ctx, wakeEvery) {
		c.wish(lockWish{})
	}
}

// loadLocks reads who holds and waits, and then takes up the wishes that an earlier process recorded and did not carry out: before
// any newer one.
func (c *Controller) loadLocks(ctx context.Context, _ struct{}) (*lockTable, error) {
	t := &lockTable{}
	err := c.readLocks(ctx, t)
	if err == nil {
		err = c.leftWishes(ctx, t)
	}
	return t, err
}

func (c *Controller) readLocks(ctx context.Context, t *lockTable) error {
	table := lock.NewTable()
	for row, err := range ledger.Each(ctx, c.o.Ledger, ledger.Query{Table: lock.TableHolder}) {
		if err != nil {
			return fmt.Errorf("read holders of locks: %w", err)
		}
		h, err := lock.FromRow(row)
		if err != nil {
			// Which locks it holds is in its entries, too. Without knowing that none can be given to anybody.
			if h, err = c.recordedHolder(ctx, row); err != nil {
				return err
			}
		}
		table.Restore(h, row.Seq)
	}
	t.Table = table
	return nil
}

// troubleLocks concerns all locks, lockTrouble those of one holder.
const troubleLocks = "locks"

func lockTrouble(holder string) string { return "lock/" + holder }

func holderOf(e workflow.Effect) string {
	switch e := e.(type) {
	case workflow.Acquire:
		return e.Holder
	case workflow.Release:
		return e.Holder
	}
	return ""
}

// recordedHolder reads from its entries what the row of a holder does not tell.
func (c *Controller) recordedHolder(ctx context.Context, row ledger.Row) (lock.Holder, error) {
	es, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{Subject: lock.Subject(row.Key), Kinds: []string{lock.KindRequested}, Newest: true, Limit: 1})
	if err != nil {
		return lock.Holder{}, err
	}
	if len(es) == 0 {
		return lock.Holder{}, fmt.Errorf("the row of %s, which has or wants locks, cannot be read, and its request is not in the ledger", row.Key)
	}
	h, err := lock.FromRow(ledger.Row{Key: row.Key, Body: es[0].Body})
	h.Held = h.Held || row.State == "held"
	return h, err
}

// leftWishes carries out wishes from the outbox that nobody has.
func (c *Controller) leftWishes(ctx context.Context, t *lockTable) error {
	for {
		works, err := c.o.Ledger.Outbox().Claim(ctx, queueLocks, lockBatch, lease)
		if err != nil || len(works) == 0 {
			return err
		}
		wishes := make([]lockWish, 0, len(works))
		for _, w := range works {
			var b effectBody
			err := json.Unmarshal(w.Body, &b)
			var e workflow.Effect
			if err == nil {
				e, err = decodeEffect(b)
			}
			if err != nil {
				c.setAside(w, fmt.Errorf("a wish for locks cannot be read: %w", err))
				continue
			}
			wishes = append(wishes, lockWish{from: place{run: b.Run, uid: b.UID}, effect: e})
		}
		if err := c.decideLocks(ctx, t, wishes); err != nil {
			return err
		}
	}
}

// handleLocks decides on wishes. What cannot be written is tried again here, so that no wish overtakes another.
func (c *Controller) handleLocks(ctx context.Context, _ struct{}, t *lockTable, batch []lockWish) []error {
	for failed := 1; ; failed++ {
		err := c.takeWishes(ctx, t, batch)
		if err == nil {
			if failed > 1 {
				c.troubles.over(troubleLocks)
			}
			return nil
		}
		// Several are tried one by one first: the fault may be one's own.
		if len(batch) > 1 || ctx.Err() != nil || failed >= lockTries && !errors.Is(err, ledger.ErrNoSpace) {
			c.troubles.over(troubleLocks)
			return all(err, len(batch))
		}
		c.troubles.note(troubleLocks, fmt.Sprintf("locks wait for the ledger, tried %d times: %s", failed, err), c.o.Now(), true)
		if !sleep(ctx, waitAfter(failed)) {
			return all(context.Cause(ctx), 1)
		}
		if err := c.readLocks(ctx, t); err != nil {
			return all(err, 1)
		}
	}
}

// takeWishes decides on wishes; one that only asks to look has those taken up that were set aside.
func (c *Controller) takeWishes(ctx context.Context, t *lockTable, batch []lockWish) error {
	for _, w := range batch {
		if w.effect == nil {
			if err := c.leftWishes(ctx, t); err != nil {
				return err
			}
			break
		}
	}
	return c.decideLocks(ctx, t, batch)
}

// lockDecision is what is recorded, and who is told.
type lockDecision struct {
	entries []lock.Entry
	causes  []ledger.Ref // of the entries
	told    []toldAnswer
	settles []workKey
}

// toldAnswer is an answer on its way to a run.
type toldAnswer struct {
	lock.Answer
	key string // in the outbox
}

// decideLocks takes wishes through the table and records what follows; then the runs are told.
func (c *Controller) decideLocks(ctx context.Context, t *lockTable, wishes []lockWish) error {
	var d lockDecision
	limits := c.limits(ctx)
	for _, w := range wishes {
		var entries []lock.Entry
		var answers []lock.Answer
		switch e := w.effect.(type) {
		case workflow.Acquire:
			var answer lock.Answer
			entries, answer = t.Acquire(e, limits)
			answers = []lock.Answer{answer}
			d.settles = append(d.settles, workKey{queueLocks, e.Holder})
		case workflow.Release:
			entries, answers = t.Release(e.Holder, limits)
			d.settles = append(d.settles, workKey{queueLocks, e.Holder})
		case nil:
			entries, answers = t.Wake(t.Waiting(), limits)
		}
		d.entries = append(d.entries, entries...)
		for range entries {
			d.causes = append(d.causes, w.from.root)
		}
		for _, a := range answers {
			// A run may ask for the same locks again before it has this answer: each answer has a key of its own.
			d.told = append(d.told, toldAnswer{a, runOf(a.Holder) + "/got/" + a.Key + "/" + newUID()})
		}
	}
	if len(d.entries)+len(d.told)+len(d.settles) == 0 {
		return nil
	}
	if err := c.o.Ledger.Write(ctx, ledger.On(lockSubject), func(tx ledger.Tx) error { return d.write(tx) }); err != nil {
		return err
	}
	for _, s := range d.settles {
		c.troubles.over(lockTrouble(s.key))
	}
	for _, a := range d.told {
		c.deliver(runOf(a.Holder), answerOf(a.Answer).got(c.meta(system)), nil, workKey{queueEffects, a.key})
	}
	return nil
}

func (d *lockDecision) write(tx ledger.Tx) error {
	for i, e := range d.entries {
		_, err := tx.Append(ledger.Draft{Actor: system, Kind: e.Kind, Subject: lock.Subject(e.Body.Holder), Cause: d.causes[i], Body: e})
		if err != nil {
			return fmt.Errorf("record %s of %s: %w", e.Kind, e.Body.Holder, err)
		}
	}
	for _, a := range d.told {
		raw, err := json.Marshal(answerOf(a.Answer))
		if err != nil {
			return fmt.Errorf("encode answer to %s: %w", a.Holder, err)
		}
		w := ledger.Work{Subject: subject(runOf(a.Holder)), Queue: queueEffects, Key: a.key, Due: tx.Now(), Lease: lease}
		if err := enqueueJSON(tx, w, effectBody{Run: runOf(a.Holder), Type: typeGot, Effect: raw}); err != nil {
			return err
		}
	}
	for _, s := range d.settles {
		if err := tx.Cancel(s.queue, s.key); err != nil {
			return fmt.Errorf("settle %s: %w", s.key, err)
		}
	}
	return nil
}

// lockAnswer is a Got in the outbox.
type lockAnswer struct {
	Key     string `json:"key"`
	Granted bool   `json:"granted,omitempty"`
	Waiting string `json:"waiting,omitempty"`
	Error   string `json:"error,omitempty"`
}

func answerOf(a lock.Answer) lockAnswer {
	out := lockAnswer{Key: a.Key, Granted: a.Granted, Waiting: a.Waiting}
	if a.Err != nil {
		out.Error = a.Err.Error()
	}
	return out
}

func (a lockAnswer) got(m workflow.Meta) workflow.Got {
	return workflow.Got{Meta: m, Key: a.Key, Granted: a.Granted, Waiting: a.Waiting, Error: a.Error}
}

// runOf gives the run's key of a lock's holder: namespace/run or namespace/run/node.
func runOf(holder string) string {
	parts := strings.SplitN(holder, "/", 3)
	if len(parts) < 2 {
		return holder
	}
	return parts[0] + "/" + parts[1]
}

// limits reads semaphores' limits from their ConfigMaps as they are now, each once.
func (c *Controller) limits(ctx context.Context) lock.Limits {
	type answer struct {
		n   int
		err error
	}
	known := map[string]answer{}
	return func(l workflow.Lock) (int, error) {
		a, ok := known[l.Name]
		if !ok {
			a.n, a.err = c.limit(ctx, l)
			known[l.Name] = a
		}
		return a.n, a.err
	}
}

func (c *Controller) limit(ctx context.Context, l workflow.Lock) (int, error) {
	raw, err := c.o.Objects.Object(ctx, l.Ref)
	if err != nil {
		return 0, fmt.Errorf("semaphore %s: read ConfigMap %s/%s: %w", l.Name, l.Ref.Namespace, l.Ref.Name, err)
	}
	cm, err := manifest.ReadJSON[corev1.ConfigMap]("ConfigMap "+l.Ref.Name, raw)
	if err != nil {
		return 0, fmt.Errorf("semaphore %s: decode ConfigMap: %w", l.Name, err)
	}
	text, ok := cm.Value.Data[l.Key]
	if !ok {
		return 0, fmt.Errorf("semaphore %s: ConfigMap %s/%s has no key %q", l.Name, l.Ref.Namespace, l.Ref.Name, l.Key)
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("semaphore %s: %q is not a limit (a whole number from 1)", l.Name, text)
	}
	return n, nil
}
