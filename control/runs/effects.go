package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

// effectBody is what the outbox keeps of an effect.
type effectBody struct {
	Run string `json:"run"`
	// UID is the run's; older ledgers do not have it.
	UID    string          `json:"uid,omitempty"`
	Type   string          `json:"type"`
	Effect json.RawMessage `json:"effect"`
}

// The types of effects in the outbox.
const (
	typeStart   = "start"
	typeStop    = "stop"
	typeNeed    = "need"
	typeRequest = "request"
	typeGot     = "got"
	typeClaims  = "claims"
	typeForget  = "forget"
	typeAcquire = "acquire"
	typeRelease = "release"
)

// The outbox queues of runs.
const (
	queueEffects = "run"
	queueTimers  = "timer"
	queueLocks   = "lock"
)

// lease is how long an effect may take before another process may take it up.
const lease = 10 * time.Minute

func effectKey(run string, e workflow.Effect) string { return run + "/" + e.EffectKey() }

// place is where an effect comes from: a run's key, its uid, the entry that submitted it, and what the run acts for.
type place struct {
	run, uid string
	root     ledger.Ref
	acts     claims.ActsFor
}

// class says by whose claims the run writes what runs share.
func (p place) class() claims.Class { return p.acts.Class(p.uid) }

func (r *live) place() place {
	return place{r.key, r.state.Run().UID, ledger.At(r.root), r.state.Claims().ActsFor()}
}

// enqueue puts an effect in the outbox; a memoised result is recorded at once, so that whoever asks next finds it.
func enqueue(tx ledger.Tx, r place, e workflow.Effect) error {
	run, key := r.run, effectKey(r.run, e)
	switch e := e.(type) {
	case workflow.SetTimer:
		return enqueueJSON(tx, ledger.Work{Queue: queueTimers, Key: key, Due: e.At}, effectBody{Run: run, Type: e.Key})
	case workflow.CancelTimer:
		return tx.Cancel(queueTimers, key)
	case workflow.PutMemo:
		return memoize(tx, r, e)
	case workflow.Acquire:
		return enqueueEffect(tx, ledger.Work{Subject: lock.Subject(e.Holder), Queue: queueLocks, Key: e.Holder}, r, typeAcquire, e)
	case workflow.Release:
		return enqueueEffect(tx, ledger.Work{Subject: lock.Subject(e.Holder), Queue: queueLocks, Key: e.Holder}, r, typeRelease, e)
	case workflow.StartPod:
		return enqueueEffect(tx, ledger.Work{Queue: queueEffects, Key: key}, r, typeStart, e)
	case workflow.StopPod:
		return enqueueEffect(tx, ledger.Work{Queue: queueEffects, Key: key}, r, typeStop, e)
	case workflow.DeleteClaims:
		return enqueueEffect(tx, ledger.Work{Queue: queueEffects, Key: key}, r, typeClaims, e)
	case forget:
		return enqueueEffect(tx, ledger.Work{Queue: queueEffects, Key: key}, r, typeForget, e)
	case workflow.Need:
		return enqueueEffect(tx, ledger.Work{Queue: queueEffects, Key: key}, r, typeNeed, e)
	case workflow.Request:
		return enqueueEffect(tx, ledger.Work{Queue: queueEffects, Key: key}, r, typeRequest, e)
	}
	return fmt.Errorf("unknown effect %T", e)
}

// enqueueEffect puts an effect in the outbox that this process carries out right after the commit.
func enqueueEffect(tx ledger.Tx, w ledger.Work, r place, typ string, e workflow.Effect) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode effect %s: %w", e.EffectKey(), err)
	}
	w.Due, w.Lease = tx.Now(), lease
	return enqueueJSON(tx, w, effectBody{Run: r.run, UID: r.uid, Type: typ, Effect: raw})
}

func enqueueJSON(tx ledger.Tx, w ledger.Work, body effectBody) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode work %s: %w", w.Key, err)
	}
	w.Body = raw
	if err := tx.Enqueue(w); err != nil {
		return fmt.Errorf("enqueue %s: %w", w.Key, err)
	}
	return nil
}

// decodeEffect is the inverse of what enqueue wrote.
func decodeEffect(b effectBody) (workflow.Effect, error) {
	switch b.Type {
	case typeStart:
		return decodeAs[workflow.StartPod](b.Effect)
	case typeStop:
		return decodeAs[workflow.StopPod](b.Effect)
	case typeClaims:
		return decodeAs[workflow.DeleteClaims](b.Effect)
	case typeForget:
		return decodeAs[forget](b.Effect)
	case typeNeed:
		return decodeAs[workflow.Need](b.Effect)
	case typeRequest:
		return decodeAs[workflow.Request](b.Effect)
	case typeAcquire:
		return decodeAs[workflow.Acquire](b.Effect)
	case typeRelease:
		return decodeAs[workflow.Release](b.Effect)
	}
	return nil, fmt.Errorf("unknown effect type %q", b.Type)
}

func decodeAs[T workflow.Effect](raw json.RawMessage) (workflow.Effect, error) {
	var e T
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("decode effect: %w", err)
	}
	return e, nil
}

// perform has an effect carried out after its decision is durable, without waiting for it.
func (c *Controller) perform(r place, e workflow.Effect) {
	switch e := e.(type) {
	case workflow.StartPod:
		c.begin(r.run, executor.ID{Owner: r.uid, Node: e.Node, Attempt: e.Attempt}, e)
	case workflow.StopPod:
		c.halt(r.run, executor.ID{Owner: r.uid, Node: e.Node, Attempt: e.Attempt}, e)
	case workflow.DeleteClaims:
		c.collect(r.run, e)
	case forget:
		c.forget(r.run, e)
	case workflow.Need:
		c.ask(r.run, e, func(ctx context.Context) error { return c.need(ctx, r.run, e) })
	case workflow.Request:
		send(c, c.requests, requestKeyOf(r.run, e), &errand{what: effectKey(r.run, e), do: func(ctx context.Context) error { return c.request(ctx, r.run, e) }})
	case workflow.Acquire, workflow.Release:
		c.wish(lockWish{from: r, effect: e})
	}
}

// requestKey is one of the places that a run has for its requests: those of one place are made one after the other.
type requestKey struct {
	run   string
	place uint32
}

func requestKeyOf(run string, e workflow.Request) requestKey {
	h := fnv.New32a()
	_, _ = h.Write([]byte(e.EffectKey())) // never fails
	return requestKey{run, h.Sum32() % ownRequests}
}

// ask has a question carried out beside all others.
func (c *Controller) ask(run string, e workflow.Effect, do func(context.Context) error) {
	key := effectKey(run, e)
	send(c, c.asks, key, &errand{what: key, do: do})
}
