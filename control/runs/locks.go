package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

// grant is an answer to a run that asked for locks. It is in the outbox in the transaction that decided it.
type grant struct {
	run string
	key string // in the outbox
	got workflow.Got
}

// acquire asks for locks within the transaction of the decision that wants them.
func (c *Controller) acquire(limits lock.Limits, tx ledger.Tx, root ledger.Ref, e workflow.Acquire) ([]grant, error) {
	got := workflow.Got{Key: e.Key}
	var err error
	got.Granted, got.Waiting, err = lock.Acquire(lock.In(tx, system, root), e, limits)
	if err != nil {
		got.Error = err.Error()
	}
	g, err := c.answer(tx, e.Holder, got)
	return []grant{g}, err
}

// release gives locks back and answers those whose turn it is now.
func (c *Controller) release(limits lock.Limits, tx ledger.Tx, root ledger.Ref, e workflow.Release) ([]grant, error) {
	next, err := lock.Release(lock.In(tx, system, root), e.Holder, limits)
	if err != nil {
		return nil, fmt.Errorf("release the locks of %s: %w", e.Holder, err)
	}
	out := make([]grant, 0, len(next))
	for _, n := range next {
		g, err := c.answer(tx, n.Holder, workflow.Got{Key: n.Key, Granted: true})
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, nil
}

// lockAnswer is a Got in the outbox.
type lockAnswer struct {
	Key     string `json:"key"`
	Granted bool   `json:"granted,omitempty"`
	Waiting string `json:"waiting,omitempty"`
	Error   string `json:"error,omitempty"`
}

func (c *Controller) answer(tx ledger.Tx, holder string, got workflow.Got) (grant, error) {
	run := runOf(holder)
	raw, err := json.Marshal(lockAnswer{Key: got.Key, Granted: got.Granted, Waiting: got.Waiting, Error: got.Error})
	if err != nil {
		return grant{}, fmt.Errorf("encode answer to %s: %w", holder, err)
	}
	// A run may ask for the same locks again before it has this answer: each answer has a key of its own.
	g := grant{run: run, key: run + "/got/" + got.Key + "/" + newUID(), got: got}
	return g, enqueueJSON(tx, run, queueEffects, g.key, effectBody{Run: run, Type: typeGot, Effect: raw}, tx.Now(), lease)
}

// tell gives runs their answers after the commit.
func (c *Controller) tell(grants []grant) {
	for _, g := range grants {
		c.later(func(ctx context.Context) {
			g.got.Meta = c.meta(system)
			c.command(ctx, g.run, g.got, workKey{queueEffects, g.key})
		})
	}
}

// runOf gives the run's key of a lock's holder: namespace/run or namespace/run/node.
func runOf(holder string) string {
	parts := strings.SplitN(holder, "/", 3)
	if len(parts) < 2 {
		return holder
	}
	return parts[0] + "/" + parts[1]
}

// limitTries bounds how often a decision is tried again with limits that it turned out to need.
const limitTries = 1000

// limits are the limits of semaphores as they were read before a transaction.
type limits struct {
	known map[string]limitOf // by name
	// missing is one that the transaction asked for and that was not read.
	missing *workflow.Lock
}

type limitOf struct {
	n   int
	err error
}

// unknownLimitError says that a transaction needs a limit that was not read before it.
type unknownLimitError struct{ lock workflow.Lock }

func (e *unknownLimitError) Error() string {
	return "the limit of semaphore " + e.lock.Name + " is not known yet"
}

func (s *limits) of(l workflow.Lock) (int, error) {
	found, ok := s.known[l.Name]
	if !ok {
		s.missing = &l
		return 0, &unknownLimitError{l}
	}
	return found.n, found.err
}

// limit reads a semaphore's limit from its ConfigMap as it is now.
func (c *Controller) limit(ctx context.Context, l workflow.Lock) (int, error) {
	raw, err := c.o.Objects.Object(ctx, l.Ref)
	if err != nil {
		return 0, fmt.Errorf("semaphore %s: read ConfigMap %s/%s: %w", l.Name, l.Ref.Namespace, l.Ref.Name, err)
	}
	var cm corev1.ConfigMap
	if err := json.Unmarshal(raw, &cm); err != nil {
		return 0, fmt.Errorf("semaphore %s: decode ConfigMap: %w", l.Name, err)
	}
	text, ok := cm.Data[l.Key]
	if !ok {
		return 0, fmt.Errorf("semaphore %s: ConfigMap %s/%s has no key %q", l.Name, l.Ref.Namespace, l.Ref.Name, l.Key)
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("semaphore %s: %q is not a limit (a whole number from 1)", l.Name, text)
	}
	return n, nil
}
