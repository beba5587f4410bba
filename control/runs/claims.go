package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// Pushed keeps what pods push that share no disk with the server; executor/pushed does. Methods may be repeated.
type Pushed interface {
	// Settle forgets the outputs that an attempt pushed: they are on record.
	Settle(ctx context.Context, id executor.ID) error
	// Forget forgets all that the attempts of an owner pushed.
	Forget(ctx context.Context, owner string) error
}

// forget is the effect of a run that was taken out of lists: what was its own outside of the ledger goes, too.
type forget struct {
	Owner  string                `json:"owner"`
	Claims workflow.DeleteClaims `json:"claims"`
}

// EffectKey implements workflow.Effect.
func (forget) EffectKey() string { return "forget" }

// forgetting reads what goes with a run: the uid and the claims of its first entry. A run without one has nothing.
func (c *Controller) forgetting(ctx context.Context, key string) (forget, error) {
	es, err := c.o.Ledger.Entries(ctx, ledger.EntryQuery{Subject: subject(key), Kinds: []string{workflow.KindSubmitted}, Newest: true, Limit: 1})
	if err != nil || len(es) == 0 || es[0].Pruned {
		return forget{}, err
	}
	claims, err := workflow.ClaimsOf(es[0].Body)
	if err != nil {
		return forget{}, fmt.Errorf("read what run %s was submitted as: %w", key, err)
	}
	return forget{Owner: claims.Owner, Claims: claims}, nil
}

// queueClaims has claims to be deleted that were declared by themselves.
const queueClaims = "claim"

// EnqueueClaim has a claim deleted whose declaration goes in the same transaction.
func EnqueueClaim(tx ledger.Tx, namespace, name string) error {
	raw, err := json.Marshal(workflow.DeleteClaims{Namespace: namespace, Names: []string{name}})
	if err != nil {
		return fmt.Errorf("encode deletion of claim %s/%s: %w", namespace, name, err)
	}
	return enqueueJSON(tx, ledger.Work{Queue: queueClaims, Key: Key(namespace, name), Due: tx.Now()}, effectBody{Type: typeClaims, Effect: raw})
}

// CancelClaim takes that back, for a claim that is declared again.
func CancelClaim(tx ledger.Tx, namespace, name string) error {
	return tx.Cancel(queueClaims, Key(namespace, name))
}

// declared deletes claims whose declarations are gone, until ctx ends.
func (c *Controller) declared(ctx context.Context) {
	c.drainQueue(ctx, queueClaims, func(w ledger.Work, b effectBody) {
		e, err := decodeAs[workflow.DeleteClaims](b.Effect)
		claims, ok := e.(workflow.DeleteClaims)
		if err != nil || !ok || len(claims.Names) != 1 {
			c.setAside(w, errors.Join(err, errors.New("it does not say which claim is to be deleted")))
			return
		}
		c.once("claim "+w.Key, func(ctx context.Context) error {
			_, err := c.o.Objects.Object(ctx, workflow.Ref{Kind: "PersistentVolumeClaim", Namespace: claims.Namespace, Name: claims.Names[0]})
			if errors.Is(err, ErrNoObject) {
				err = c.deleteClaims(ctx, claims)
			}
			if err != nil {
				return err
			}
			return c.o.Ledger.Outbox().Done(ctx, w.ID)
		})
	})
}

// once has something done until it succeeds, unless that is under way: what waits for a pod to end may come from the outbox again.
func (c *Controller) once(what string, do func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.underWay[what] {
		return
	}
	c.underWay[what] = true
	send(c, c.asks, what, &errand{what: "delete " + what, do: func(ctx context.Context) error {
		err := do(ctx)
		if err == nil {
			c.mu.Lock()
			delete(c.underWay, what)
			c.mu.Unlock()
		}
		return err
	}})
}

// collect deletes the claims of a run that has ended. One that was begun again meanwhile keeps them until it ends again.
func (c *Controller) collect(run string, e workflow.DeleteClaims) {
	c.once("claims of run "+run, func(ctx context.Context) error {
		// No pod is given a claim while it is looked whether one may need it.
		c.claims.Lock()
		defer c.claims.Unlock()
		again, err := view(ctx, c, run, func(r *live) bool { return r.state.Run().UID == e.Owner && !r.state.Done() })
		if err == nil && !again || errors.Is(err, ErrNotFound) {
			err = c.deleteClaims(ctx, e)
		}
		if err == nil {
			c.settle(run, workKey{queueEffects, effectKey(run, e)})
		}
		return err
	})
}

// forget deletes what a run that was deleted leaves.
func (c *Controller) forget(run string, e forget) {
	c.once("what run "+run+" ("+e.Owner+") left", func(ctx context.Context) error {
		err := c.deleteClaims(ctx, e.Claims)
		if err == nil && c.o.Pushed != nil && e.Owner != "" {
			err = c.o.Pushed.Forget(ctx, e.Owner)
		}
		if err == nil {
			c.settle(run, workKey{queueEffects, effectKey(run, e)})
		}
		return err
	})
}

// deleteClaims deletes claims wherever they are, if they are still their owner's.
func (c *Controller) deleteClaims(ctx context.Context, e workflow.DeleteClaims) error {
	for _, name := range c.o.Executors.Names() {
		named, err := c.o.Executors.Named(name)
		if err != nil {
			return err
		}
		if named.Claims == nil {
			continue
		}
		for _, claim := range e.Names {
			if err := deleteClaim(ctx, named.Claims, e.Namespace, claim, e.Owner); err != nil {
				return err
			}
		}
	}
	return nil
}

func deleteClaim(ctx context.Context, claims executor.Claims, namespace, name, owner string) error {
	found, err := claims.FindClaim(ctx, namespace, name)
	if errors.Is(err, executor.ErrNotFound) || err == nil && found.Owner != owner {
		return nil // it was never made, or it is somebody else's
	}
	if err != nil {
		return err
	}
	return claims.DeleteClaim(ctx, namespace, name)
}
