package runs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/admission"
	"github.com/tiphys/tiphys/workflow"
)

// nodeKey names a node of a run: its starts and stops keep their order.
type nodeKey struct{ run, node string }

// starting is a start that is under way: it waits for a place, or for the executor.
type starting struct {
	run string
	id  executor.ID
	// waits says that it has no place yet, seen that showWaiting has seen it, shown that its node says so.
	waits, seen, shown bool
	// idle says that the executor has the attempt on record, of an earlier process that did not come to launch it.
	idle bool
	// over is kept until the attempts on record were compared with those of the executor.
	over bool
}

// begin has a pod started as soon as there is a place for it. A start that is under way is not begun again.
func (c *Controller) begin(run string, id executor.ID, e workflow.StartPod) {
	key := effectKey(run, e)
	c.mu.Lock()
	if s := c.starts[key]; s != nil && !s.over {
		c.mu.Unlock()
		return
	}
	s := &starting{run: run, id: id, waits: true}
	c.starts[key] = s
	c.mu.Unlock()
	c.o.Places.Ask(id, func() {
		c.mu.Lock()
		s.waits = false
		c.mu.Unlock()
		c.dispatch(run, id, e)
	})
}

func (c *Controller) dispatch(run string, id executor.ID, e workflow.StartPod) {
	failed := 0
	send(c, c.pods, nodeKey{run, e.Node}, &errand{what: "start " + effectKey(run, e), do: func(ctx context.Context) error {
		err := c.start(ctx, run, id, e)
		if err != nil {
			if failed++; failed > 1 {
				c.show(run, id, fmt.Sprintf("Waiting to be started, tried %d times: %s", failed, err))
			}
		}
		return err
	}})
}

// begun notes that a start is no longer under way.
func (c *Controller) begun(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.starts[key]; s != nil && !c.checked {
		s.over, s.waits = true, false
	} else {
		delete(c.starts, key)
	}
}

// underway reports whether a start is.
func (c *Controller) underway(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.starts[key]
	return s != nil && !s.over
}

// onRecord reports whether a start is of an attempt that the executor has on record, and that was not given a place yet.
func (c *Controller) onRecord(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.starts[key]
	return s != nil && s.idle && s.waits
}

// noteIdle says that the executor has the attempt of a start on record.
func (c *Controller) noteIdle(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.starts[key]; s != nil {
		s.idle = true
	}
}

// wanted is what a run says of an attempt when it is to be started.
type wanted struct {
	want workflow.Want
	pod  executor.Pod
	run  workflow.Run
	err  error
}

// start starts a pod that its run still wants, or reports why it cannot be started. An error means that it is tried again.
func (c *Controller) start(ctx context.Context, run string, id executor.ID, e workflow.StartPod) error {
	key := effectKey(run, e)
	w, err := view(ctx, c, run, func(r *live) wanted {
		w := wanted{want: r.state.Wants(e.Node, e.Attempt)}
		if w.want == workflow.Wanted {
			w.pod, w.err = c.pod(r.state, e)
			w.run = r.state.Run()
			w.run.Labels = maps.Clone(w.run.Labels) // it is read when others may change the run
		}
		return w
	})
	switch {
	case errors.Is(err, ErrNotFound):
		w.want = workflow.Over
	case err != nil:
		return err
	}
	if w.want != workflow.Wanted {
		return c.notStarted(ctx, run, id, e, w.want)
	}
	err = w.err
	if err == nil && c.o.Tokens != nil {
		if w.pod.Token, err = c.o.Tokens.Token(ctx, w.run, id); err != nil {
			return err
		}
	}
	if err == nil {
		err = c.launch(ctx, &w.pod)
	}
	switch {
	case err == nil:
		c.settle(run, workKey{queueEffects, key})
		c.begun(key)
		return nil
	case executor.Scarce(err), ctx.Err() != nil:
		return err
	}
	c.o.Places.Leave(id)
	c.begun(key)
	now := c.o.Now().UTC()
	c.report(run, executor.Report{ID: id, Phase: executor.Error, Reason: executor.ReasonStart, Message: err.Error(), StartedAt: now, FinishedAt: now},
		nil, workKey{queueEffects, key})
	return nil
}

func (c *Controller) launch(ctx context.Context, pod *executor.Pod) error {
	// The executors' door asks the same, but nothing is read or made for a pod that it refuses.
	problems, err := c.o.Executors.Judge(ctx, *pod)
	if err == nil {
		err = executor.Refused(problems)
	}
	if err != nil {
		return err
	}
	if err := c.resolve(ctx, pod); err != nil {
		return err
	}
	if len(pod.Claims) > 0 {
		c.claims.RLock()
		defer c.claims.RUnlock()
		if err := c.provide(ctx, *pod); err != nil {
			return err
		}
	}
	c.o.Fault("shim-launch")
	return c.o.Executors.Start(ctx, *pod)
}

// provide has the claims made that belong to the run.
func (c *Controller) provide(ctx context.Context, pod executor.Pod) error {
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

// notStarted ends a start that nobody wants any more. What the executor has of it from an earlier process ends too.
func (c *Controller) notStarted(ctx context.Context, run string, id executor.ID, e workflow.StartPod, want workflow.Want) error {
	if err := c.o.Executors.Stop(ctx, id, 0); err != nil {
		return err
	}
	c.o.Places.Leave(id)
	key := effectKey(run, e)
	if want == workflow.Stopped {
		c.report(run, c.stoppedReport(id), nil, workKey{queueEffects, key})
	} else {
		c.settle(run, workKey{queueEffects, key})
	}
	c.begun(key)
	return nil
}

func (c *Controller) stoppedReport(id executor.ID) executor.Report {
	now := c.o.Now().UTC()
	return executor.Report{ID: id, Phase: executor.Failed, Reason: executor.ReasonStopped, Message: "stopped before it was started", FinishedAt: now}
}

// halt has a pod stopped, after what was asked of its node before. One that waits for a place never begins.
func (c *Controller) halt(run string, id executor.ID, e workflow.StopPod) {
	stop, start := effectKey(run, e), workflow.StartPod{Node: e.Node, Attempt: e.Attempt}
	if c.o.Places.Withdraw(id) && !c.onRecord(effectKey(run, start)) {
		c.begun(effectKey(run, start))
		c.report(run, c.stoppedReport(id), nil, workKey{queueEffects, effectKey(run, start)}, workKey{queueEffects, stop})
		return
	}
	send(c, c.pods, nodeKey{run, e.Node}, &errand{what: "stop " + stop, do: func(ctx context.Context) error {
		if err := c.o.Executors.Stop(ctx, id, e.Grace); err != nil {
			return err
		}
		if c.onRecord(effectKey(run, start)) { // its end is reported by the executor
			c.begun(effectKey(run, start))
			c.settle(run, workKey{queueEffects, effectKey(run, start)})
		} else if c.underway(effectKey(run, start)) { // it waits to be tried again: let it see that it is not wanted
			c.dispatch(run, id, start)
		}
		c.settle(run, workKey{queueEffects, stop})
		return nil
	}})
}

// report tells a run what became of a pod.
func (c *Controller) report(run string, rep executor.Report, then func(), settles ...workKey) {
	c.deliver(run, workflow.Report{Meta: c.meta(system), Report: rep}, then, settles...)
}

// show says on a node why its pod does not run yet.
func (c *Controller) show(run string, id executor.ID, message string) {
	c.report(run, executor.Report{ID: id, Phase: executor.Pending, Message: message}, nil)
}

// showEvery is how long a pod waits for a place until its node says so; short waits are not worth an entry.
const showEvery = time.Second

// showWaiting lets nodes say that their pods wait for a place.
func (c *Controller) showWaiting(ctx context.Context) {
	for sleep(ctx, showEvery) {
		places := c.o.Places.Count()
		if places.Waiting == 0 {
			continue
		}
		for _, s := range c.waiting() {
			c.show(s.run, s.id, placeMessage(places))
		}
	}
}

// placeMessage says why a step's pod has no place.
func placeMessage(c admission.Count) string {
	if c.Most < c.Limit && c.Live < c.Limit {
		return fmt.Sprintf("Waiting for a place: pods of steps have %d of %d, the others are kept for applications", c.Live-c.Applications, c.Limit)
	}
	return fmt.Sprintf("Waiting for a place: %d pods are live, which is the limit of this server", c.Limit)
}

// waiting gives those that have waited for a while and are not shown, which they are then.
func (c *Controller) waiting() []starting {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []starting
	for _, s := range c.starts {
		if !s.waits || s.shown {
			continue
		}
		if s.shown = s.seen; s.shown {
			out = append(out, *s)
		}
		s.seen = true
	}
	return out
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
	if !s.Claims().ActsFor().Class(run.UID).Shares() {
		readOthers(&pod)
	}
	pod.Executor, err = c.executorOf(run, pod)
	return pod, err
}

// readOthers lets a pod read volumes that its run shares with others, and not write them: what a protected ref reads only protected refs write.
func readOthers(pod *executor.Pod) {
	own := map[string]bool{}
	for _, claim := range pod.Claims {
		own[claim.Name] = true
	}
	spec, shared := &pod.Pod.Spec, map[string]bool{}
	for i := range spec.Volumes {
		if claim := spec.Volumes[i].PersistentVolumeClaim; claim != nil && !own[claim.ClaimName] {
			claim.ReadOnly, shared[spec.Volumes[i].Name] = true, true
		}
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			for j := range list[i].VolumeMounts {
				if shared[list[i].VolumeMounts[j].Name] {
					list[i].VolumeMounts[j].ReadOnly = true
				}
			}
		}
	}
}

// executorOf is the name of the executor that a pod asks for; empty for the server's default.
func (c *Controller) executorOf(run workflow.Run, pod executor.Pod) (string, error) {
	want := first(pod.Pod.Annotations[AnnotationExecutor], run.Annotations[AnnotationExecutor])
	if _, err := c.o.Executors.Named(want); err != nil {
		return "", fmt.Errorf("annotation %s: %w", AnnotationExecutor, err)
	}
	return want, nil
}
