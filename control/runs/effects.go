package runs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

// effectBody is what the outbox keeps of an effect.
type effectBody struct {
	Run    string          `json:"run"`
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
)

func effectKey(run string, e workflow.Effect) string { return run + "/" + e.EffectKey() }

// enqueue puts an effect in the outbox, or settles it at once where the ledger itself is the world: locks, timers and
// memoised results. It returns the locks that were granted.
func (c *Controller) enqueue(limits lock.Limits, tx ledger.Tx, r *live, root ledger.Ref, e workflow.Effect) ([]grant, error) {
	switch e := e.(type) {
	case workflow.SetTimer:
		return nil, enqueueJSON(tx, r.key, queueTimers, effectKey(r.key, e), effectBody{Run: r.key, Type: e.Key}, e.At, 0)
	case workflow.CancelTimer:
		return nil, tx.Cancel(queueTimers, effectKey(r.key, e))
	case workflow.Acquire:
		return c.acquire(limits, tx, root, e)
	case workflow.Release:
		return c.release(limits, tx, root, e)
	case workflow.PutMemo:
		return nil, memoize(tx, r.key, root, e)
	}
	typ, err := typeOf(e)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode effect %s: %w", e.EffectKey(), err)
	}
	return nil, enqueueJSON(tx, r.key, queueEffects, effectKey(r.key, e), effectBody{Run: r.key, Type: typ, Effect: raw}, tx.Now(), lease)
}

func enqueueJSON(tx ledger.Tx, run, queue, key string, v any, due time.Time, lease time.Duration) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode work %s: %w", key, err)
	}
	if err := tx.Enqueue(ledger.Work{Subject: subject(run), Queue: queue, Key: key, Due: due, Lease: lease, Body: raw}); err != nil {
		return fmt.Errorf("enqueue %s: %w", key, err)
	}
	return nil
}

func typeOf(e workflow.Effect) (string, error) {
	switch e.(type) {
	case workflow.StartPod:
		return typeStart, nil
	case workflow.StopPod:
		return typeStop, nil
	case workflow.Need:
		return typeNeed, nil
	case workflow.Request:
		return typeRequest, nil
	}
	return "", fmt.Errorf("unknown effect %T", e)
}

// decodeEffect is the inverse of what enqueue wrote.
func decodeEffect(b effectBody) (workflow.Effect, error) {
	switch b.Type {
	case typeStart:
		return decodeAs[workflow.StartPod](b.Effect)
	case typeStop:
		return decodeAs[workflow.StopPod](b.Effect)
	case typeNeed:
		return decodeAs[workflow.Need](b.Effect)
	case typeRequest:
		return decodeAs[workflow.Request](b.Effect)
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

// perform has an effect carried out after its decision is durable. The caller holds r.mu.
func (c *Controller) perform(r *live, e workflow.Effect) {
	key := r.key
	switch e := e.(type) {
	case workflow.StartPod:
		pod, err := c.pod(r.state, e)
		refused := r.state.Run().Annotations[AnnotationHostRefused]
		c.later(func(ctx context.Context) {
			if err == nil && refused != "" {
				err = c.refusedHost(ctx, pod.Executor, refused)
			}
			c.start(ctx, key, e, pod, err)
		})
	case workflow.StopPod:
		id := executor.ID{Owner: r.state.Run().UID, Node: e.Node, Attempt: e.Attempt}
		c.later(func(ctx context.Context) { c.stop(ctx, key, e, id) })
	case workflow.Need:
		c.later(func(ctx context.Context) { c.need(ctx, key, e) })
	case workflow.Request:
		c.later(func(ctx context.Context) { c.request(ctx, key, e) })
	}
}

// pod builds the executor's pod for a node: what the engine says, and what only the server knows.
func (c *Controller) pod(s *workflow.State, e workflow.StartPod) (executor.Pod, error) {
	pod, err := workflow.Pod(s, e.Node, e.Attempt)
	if err != nil {
		return pod, err
	}
	run := s.Run()
	pod.ID = executor.ID{Owner: run.UID, Node: e.Node, Attempt: e.Attempt}
	if pod.Env == nil {
		pod.Env = map[string]string{}
	}
	for k, v := range c.o.Env {
		pod.Env[k] = v
	}
	if c.o.Token != nil {
		pod.Token = c.o.Token(run, pod.ID)
	}
	pod.Executor, err = c.executorOf(run, pod)
	return pod, err
}

// executorOf is the name of the executor that a pod asks for; empty for the server's default.
func (c *Controller) executorOf(run workflow.Run, pod executor.Pod) (string, error) {
	want := first(pod.Pod.Annotations[AnnotationExecutor], run.Annotations[AnnotationExecutor])
	if _, err := c.o.Executors.Named(want); err != nil {
		return "", fmt.Errorf("annotation %s: %w", AnnotationExecutor, err)
	}
	return want, nil
}

// start starts a pod, or reports why it cannot be started.
func (c *Controller) start(ctx context.Context, key string, e workflow.StartPod, pod executor.Pod, err error) {
	if err == nil {
		err = c.resolve(ctx, &pod)
	}
	if err == nil {
		err = c.claim(ctx, pod)
	}
	if err == nil {
		c.o.Fault("shim-launch")
		err = c.o.Executors.Start(ctx, pod)
	}
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		c.settle(ctx, key, effectKey(key, e))
		return
	}
	c.report(ctx, key, executor.Report{
		ID: pod.ID, Phase: executor.Error, Reason: executor.ReasonStart, Message: err.Error(),
		StartedAt: c.o.Now().UTC(), FinishedAt: c.o.Now().UTC(),
	}, workKey{queueEffects, effectKey(key, e)})
}

// claim has the claims made that belong to the run.
func (c *Controller) claim(ctx context.Context, pod executor.Pod) error {
	if len(pod.Claims) == 0 {
		return nil
	}
	named, err := c.o.Executors.Named(pod.Executor)
	if err != nil {
		return err
	}
	if named.Claims == nil {
		return fmt.Errorf("executor %s has no persistent volumes", named.Name)
	}
	for _, claim := range pod.Claims {
		if err := named.Claims.CreateClaim(ctx, claim); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) stop(ctx context.Context, key string, e workflow.StopPod, id executor.ID) {
	if err := c.o.Executors.Stop(ctx, id, e.Grace); err != nil {
		c.o.Log.Error("stop pod", "run", key, "node", e.Node, "error", err)
		return // it stays in the outbox and is tried again
	}
	c.settle(ctx, key, effectKey(key, e))
}

// settle takes a finished effect out of the outbox. If that is lost the effect is repeated, which is harmless.
func (c *Controller) settle(ctx context.Context, run, key string) {
	err := c.o.Ledger.Write(ctx, ledger.On(subject(run)), func(tx ledger.Tx) error { return tx.Cancel(queueEffects, key) })
	if err != nil && ctx.Err() == nil {
		c.o.Log.Error("settle effect", "key", key, "error", err)
	}
}
