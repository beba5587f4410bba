package posts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// queue is the outbox queue of posts; its keys are the places that they are for.
const queue = "forge"

// Times of sending.
const (
	// oneTry bounds one request to a forge, round all requests to one forge between two looks at the outbox.
	oneTry = 20 * time.Second
	round  = time.Minute
	// lease is longer than a round, so that nobody else takes up what is being sent.
	lease = 3 * time.Minute
	// The waits after a failure grow from first to longest; a forge that says how long to wait is believed up to most.
	first   = 5 * time.Second
	longest = 10 * time.Minute
	most    = 2 * time.Hour
	// giveUp is how long a post is tried to be sent.
	giveUp = 24 * time.Hour
	// look is how often the outbox is looked at where nothing else is known.
	look = 30 * time.Second
)

// batch is how many posts are taken up at a time.
const batch = 64

// Name implements control.Service.
func (c *Controller) Name() string { return "posts" }

// Start implements control.Service.
func (c *Controller) Start(context.Context) error { return nil }

// Health implements control.Service: it waits while a forge does not take what it is told.
func (c *Controller) Health() control.Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.waits)) {
		return control.Health{State: control.Waiting, Reason: fmt.Sprintf("forge %s: %s", name, c.waits[name].reason)}
	}
	return control.Health{}
}

// Run implements control.Service: it sends what is due until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		changed := c.o.Ledger.Changed()
		next, err := c.send(ctx)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return err // the group shows it and starts again after a wait
		}
		d := look
		if !next.IsZero() {
			d = min(d, max(next.Sub(c.o.Now()), time.Millisecond))
		}
		t := time.NewTimer(d)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
	return nil //nolint:nilerr // its end was asked for
}

// due is a post with its item of the outbox.
type due struct {
	work ledger.Work
	post Post
}

// send sends what is due, in order for each forge and side by side for several, and tells when the next is.
func (c *Controller) send(ctx context.Context) (time.Time, error) {
	works, err := c.o.Ledger.Outbox().Claim(ctx, queue, batch, lease)
	if err != nil {
		return time.Time{}, fmt.Errorf("take up posts: %w", err)
	}
	of := map[string][]due{}
	for _, w := range works {
		var p Post
		if err := json.Unmarshal(w.Body, &p); err != nil {
			if err := c.drop(ctx, w, err); err != nil {
				return time.Time{}, err
			}
			continue
		}
		of[p.Instance] = append(of[p.Instance], due{w, p})
	}
	errs := make(chan error, len(of))
	var wg sync.WaitGroup
	for name, list := range of {
		wg.Go(func() { errs <- c.sendTo(ctx, name, list) })
	}
	wg.Wait()
	close(errs)
	for one := range errs {
		err = errors.Join(err, one)
	}
	if err != nil {
		return time.Time{}, err
	}
	return c.o.Ledger.Outbox().Next(ctx, queue)
}

// sendTo tells one forge, until it does not answer as it should: the rest then waits. The error is the ledger's.
func (c *Controller) sendTo(ctx context.Context, name string, list []due) error {
	ctx, cancel := context.WithTimeout(ctx, round)
	defer cancel()
	for _, d := range list {
		if until, paused := c.paused(name); paused {
			if err := c.o.Ledger.Outbox().Retry(ctx, d.work.ID, until); err != nil {
				return err
			}
			continue
		}
		if err := c.one(ctx, d.work, d.post); err != nil {
			return err
		}
	}
	return nil
}

// one tells a forge one thing, and records what came of it.
func (c *Controller) one(ctx context.Context, w ledger.Work, p Post) error {
	err := c.tell(ctx, p)
	if err == nil {
		c.resume(p.Instance)
		return c.settle(ctx, w, p, kindSent, "")
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if final(err) {
		return c.settle(ctx, w, p, kindFailed, err.Error())
	}
	if c.o.Now().Sub(p.Asked) >= giveUp {
		return c.settle(ctx, w, p, kindFailed, fmt.Sprintf("given up after %s: %v", giveUp, err))
	}
	c.failed(p.Instance, err)
	return c.o.Ledger.Outbox().Retry(ctx, w.ID, c.o.Now().Add(waitAfter(err, w.Attempt)))
}

func (c *Controller) tell(ctx context.Context, p Post) error {
	ctx, cancel := context.WithTimeoutCause(ctx, oneTry, fmt.Errorf("the forge did not answer within %s", oneTry))
	defer cancel()
	in, err := c.o.Forges.Instance(ctx, p.Instance)
	if err != nil {
		return err
	}
	if p.Status != nil {
		err = in.Forge.SetStatus(ctx, p.Repo, p.SHA, *p.Status)
	} else {
		err = in.Forge.Comment(ctx, p.Repo, p.Number, p.Marker, p.Body)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return err
}

// final says that no repetition mends an error.
func final(err error) bool {
	if errors.Is(err, forge.ErrNotFound) {
		return true
	}
	switch failure.KindOf(err) {
	case failure.Invalid, failure.TooLarge, failure.NotFound, failure.Conflict:
		return true
	}
	return false
}

// waitAfter is how long to wait after an attempt that failed: as long as the forge says, or longer each time.
func waitAfter(err error, attempt int) time.Duration {
	if d, ok := failure.After(err); ok {
		return min(d, most)
	}
	d := first
	for range min(max(attempt, 1), 16) - 1 {
		d *= 2
	}
	return min(d, longest)
}

// settle records what became of a post. One that took its place meanwhile stays in the outbox.
func (c *Controller) settle(ctx context.Context, w ledger.Work, p Post, kind, reason string) error {
	key := p.Key()
	return c.o.Ledger.Write(ctx, ledger.On(subjectPrefix+key), func(tx ledger.Tx) error {
		now, err := rowOf(tx, key)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		_, err = tx.Append(ledger.Draft{Actor: "system", Kind: kind, Subject: subjectPrefix + key, Cause: w.Cause,
			Body: settled{Key: key, ID: p.ID, Attempts: w.Attempt, Error: reason}})
		if err != nil || now.ID != p.ID {
			return err
		}
		return tx.Cancel(queue, key)
	})
}

// drop takes an item that cannot be read from the outbox: nothing mends it.
func (c *Controller) drop(ctx context.Context, w ledger.Work, reason error) error {
	return c.o.Ledger.Write(ctx, ledger.On(subjectPrefix+w.Key), func(tx ledger.Tx) error {
		now, err := rowOf(tx, w.Key)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		_, err = tx.Append(ledger.Draft{Actor: "system", Kind: kindFailed, Subject: subjectPrefix + w.Key, Cause: w.Cause,
			Body: settled{Key: w.Key, ID: now.ID, Attempts: w.Attempt, Error: fmt.Sprintf("it cannot be read: %v", reason)}})
		if err != nil {
			return err
		}
		return tx.Cancel(queue, w.Key)
	})
}

// paused says until when a forge is left alone.
func (c *Controller) paused(name string) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.waits[name]
	return p.until, ok && p.until.After(c.o.Now())
}

// failed notes that a forge did not take something. One that says when to come again is left alone until then, and one that did not take two
// things in a row for a while: a single post that it cannot bear does not keep it from getting the others.
func (c *Controller) failed(name string, err error) {
	c.mu.Lock()
	before := c.waits[name]
	now := pause{fails: before.fails + 1, reason: err.Error()}
	if _, limited := failure.After(err); limited || now.fails > 1 {
		now.until = c.o.Now().Add(waitAfter(err, now.fails-1))
	}
	c.waits[name] = now
	c.mu.Unlock()
	if before.reason != now.reason {
		c.o.Log.Warn("a forge does not take what it is told; it is told again", "forge", name, "error", err)
	}
}

func (c *Controller) resume(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waits, name)
}
