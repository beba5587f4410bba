package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/failure"
)

// Kubernetes' waits.
const (
	defaultGrace  = 30 * time.Second
	firstBackoff  = 10 * time.Second
	maxBackoff    = 5 * time.Minute
	backoffForget = 10 * time.Minute
)

// pod is a pod's present attempt, as far as memory knows; the record has what must survive.
type pod struct {
	*object
	// begun is closed when the executor answered Start; nil if it was not asked yet.
	begun chan struct{}
	// known says that the executor has the attempt on record.
	known   bool
	running bool
	// failures counts how often in a row the present attempt was begun and nothing ran; hurried says that it was begun
	// again at once.
	failures int
	hurried  bool
	// asked says that it waits for a place, unclaimed that it waits for a claim.
	asked, unclaimed bool
	// stopping says that the attempt was asked to end, to be restarted.
	stopping  bool
	leaving   bool
	ip        string
	startedAt time.Time
	state     []corev1.ContainerStatus
	waiting   *corev1.ContainerStateWaiting
	probes    context.CancelFunc
	// parting is what went wrong with the hooks of a pod that goes.
	parting string
	// passed are the containers that serve: without a readiness probe as soon as they run.
	passed     map[string]bool
	readySince time.Time
	mounted    mounted
}

// subject is for whom the pod is. A record of an old ledger knows its Application only.
func (p *pod) subject() podpolicy.Subject {
	if p.For.Kind == podpolicy.Nobody && p.Application != "" {
		return podpolicy.Subject{Kind: podpolicy.Application, Name: p.Application}
	}
	return p.For
}

func (p *pod) spec() *corev1.Pod { return typedOf[corev1.Pod](p.object) }

func (p *pod) ready() bool { return p.running && !p.readySince.IsZero() && !p.deleting() }

func (p *pod) grace() time.Duration {
	if s := p.spec().Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return defaultGrace
}

func (t *Target) podsOf(owner *object) []*pod {
	var found []*pod
	for _, o := range t.children(owner, "Pod") {
		if p := t.pods[o.UID]; p != nil {
			found = append(found, p)
		}
	}
	return found
}

// isAvailable: ready for minReadySeconds.
func (t *Target) isAvailable(p *pod, minReady int32) bool {
	if !p.ready() {
		return false
	}
	due := p.readySince.Add(time.Duration(minReady) * time.Second)
	if minReady > 0 && t.o.Now().Before(due) {
		t.at(due)
		return false
	}
	return true
}

// adopt takes over a pod from the ledger: what was ready is taken to be until a probe says otherwise.
func (t *Target) adopt(p *pod) {
	if p.Ended || p.deleting() {
		return
	}
	status := p.spec().Status
	p.ip = status.PodIP
	for _, c := range status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.ip != "" {
			p.running, p.readySince = true, c.LastTransitionTime.Time
			p.passed = map[string]bool{}
			for _, container := range p.spec().Spec.Containers {
				p.passed[container.Name] = true
			}
			p.state = status.ContainerStatuses
		}
	}
	switch {
	case !p.RestartAt.IsZero():
	case p.mayRun():
		t.launch(p)
		p.mounted = mounted{} // if it runs already, nobody knows what it was told
	default:
		t.begin(p)
	}
}

// launch starts the present attempt, which has a place, or attaches to it. t.mu is held.
func (t *Target) launch(p *pod) {
	order, err := t.order(p)
	if err == nil {
		err = t.walls.failed
	}
	p.mounted = mounted{shown: t.mounts(p)}
	if err != nil {
		t.cannotStart(p, err)
		return
	}
	begun := make(chan struct{})
	p.begun = begun
	t.spawn(func(ctx context.Context) {
		t.o.Fault("pod-start")
		err := t.o.Executor.Start(ctx, order)
		t.o.Fault("pod-started")
		t.mu.Lock()
		defer t.mu.Unlock()
		defer close(begun)
		if order.ID.Attempt != p.Attempt {
			return
		}
		if err != nil {
			if ctx.Err() == nil {
				p.begun = nil
				t.cannotStart(p, err)
				t.poke()
			}
			return
		}
		p.known = true
	})
}

// cannotStart has the same attempt tried again: nothing of it ran. The waits are those of crashes.
func (t *Target) cannotStart(p *pod, err error) {
	t.o.Places.Leave(p.id())
	p.failures++
	wait := backoff(p.failures - 1)
	p.waiting = &corev1.ContainerStateWaiting{Reason: "CreateContainerError", Message: fmt.Sprintf("back-off %s starting the pod: %v", wait, err)}
	p.RestartAt = t.o.Now().Add(wait)
	t.at(p.RestartAt)
}

// backoff is the wait before a repetition: 10 s for the first, doubling to 5 min.
func backoff(before int) time.Duration {
	wait := firstBackoff
	for range min(max(before, 0), 10) {
		wait = min(wait*2, maxBackoff)
	}
	return wait
}

// notLaunched begins again what the executor has on record and did not launch: a server that went away in between is no
// fault of the pod's, so the first time at once. t.mu is held.
func (t *Target) notLaunched(p *pod, r executor.Report) {
	if begun := p.begun; begun != nil {
		select {
		case <-begun:
		default: // the executor speaks before it has answered
			t.spawn(func(ctx context.Context) {
				select {
				case <-begun:
				case <-ctx.Done():
					return
				}
				t.mu.Lock()
				defer t.mu.Unlock()
				if p.begun == begun && !p.running && !p.deleting() {
					t.notLaunched(p, r)
				}
			})
			return
		}
	}
	p.begun = nil
	if p.hurried {
		t.cannotStart(p, errors.New(r.Message))
	} else {
		p.hurried = true
		p.waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: r.Message}
		p.RestartAt = t.o.Now()
	}
	t.poke()
}

// order is the pod as the executor needs it.
func (t *Target) order(p *pod) (executor.Pod, error) {
	resolved, err := t.resolve(p)
	if err != nil {
		return executor.Pod{}, err
	}
	spec := p.spec().DeepCopy()
	spec.Status = corev1.PodStatus{}
	services, err := t.links(p.Key.Namespace)
	if err != nil {
		return executor.Pod{}, err
	}
	env := map[string]string{}
	for _, s := range services {
		spec.Spec.HostAliases = append(spec.Spec.HostAliases, corev1.HostAlias{IP: s.address.String(), Hostnames: s.names(true)})
		if spec.Spec.EnableServiceLinks == nil || *spec.Spec.EnableServiceLinks {
			s.variables(env)
		}
	}
	maps.Copy(env, t.o.Env)
	claims := t.mount(p, spec)
	return executor.Pod{ID: p.id(), For: p.subject(), Pod: *spec, Resolve: resolved, Claims: claims, Env: env}, nil
}

// step moves one pod on: begins what its claims are there for, and a restart that is due, and records its status.
func (t *Target) step(p *pod) {
	if p.Ended {
		return
	}
	if p.unclaimed && !t.waits(p) {
		p.waiting = nil
		t.begin(p)
	}
	if !p.RestartAt.IsZero() {
		if now := t.o.Now(); now.Before(p.RestartAt) {
			t.at(p.RestartAt)
		} else {
			p.RestartAt, p.waiting = zeroTime, nil
			t.begin(p)
		}
	}
	t.refresh(p)
	t.podStatus(p)
}

// report takes in what the executor says.
func (t *Target) report(r executor.Report) {
	uid, mine := strings.CutPrefix(r.ID.Owner, OwnerPrefix)
	if !mine {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.take(uid, r)
}

// repeat takes in again what could not be recorded. t.mu is held.
func (t *Target) repeat() {
	late := t.late
	t.late = nil
	for _, r := range late {
		t.take(strings.TrimPrefix(r.ID.Owner, OwnerPrefix), r)
	}
}

// take takes in a report of the pod with a uid. t.mu is held.
func (t *Target) take(uid string, r executor.Report) {
	p := t.pods[uid]
	if p == nil || r.ID.Attempt < p.Attempt || p.Ended {
		switch {
		case r.Phase.Done():
			t.acknowledge(r.ID)
		case r.Reason == executor.ReasonNotLaunched:
			t.forget(r.ID)
		}
		return
	}
	if r.ID.Attempt > p.Attempt {
		return
	}
	p.known = true
	if p.asked || p.unclaimed { // an earlier server had begun it
		p.asked, p.unclaimed, p.waiting = false, false, nil
		t.o.Places.Hold(r.ID)
		t.granted.take(r.ID)
	}
	if r.Phase.Done() {
		if !t.ended(p, r) {
			t.late = append(t.late, r)
		}
		return
	}
	if r.Reason == executor.ReasonNotLaunched && !p.running && !p.deleting() {
		t.notLaunched(p, r)
		return
	}
	if r.IP != "" {
		p.ip = r.IP
	}
	if len(r.Containers) > 0 {
		p.state = r.Containers
	}
	if r.Phase == executor.Running {
		p.failures, p.hurried, p.waiting = 0, false, nil
		if p.startedAt.IsZero() {
			p.startedAt = r.StartedAt
		}
		if !p.running || p.probes == nil {
			p.running = true
			t.watch(p)
		}
		t.restartBroken(p)
	}
	t.poke()
}

// restartBroken ends an attempt of which one container is gone while others run: the pod restarts as a whole.
func (t *Target) restartBroken(p *pod) {
	if p.spec().Spec.RestartPolicy == corev1.RestartPolicyNever {
		return
	}
	for _, c := range p.state {
		if c.State.Terminated != nil && (c.State.Terminated.ExitCode != 0 || restartsAlways(p)) {
			t.stop(p, "container "+c.Name+" ended")
			return
		}
	}
}

func restartsAlways(p *pod) bool {
	policy := p.spec().Spec.RestartPolicy
	return policy == "" || policy == corev1.RestartPolicyAlways
}

// stop ends the present attempt so that it is restarted. t.mu is held.
func (t *Target) stop(p *pod, why string) { t.stopWithin(p, why, p.grace()) }

// stopWithin does so with a grace period of its own. t.mu is held.
func (t *Target) stopWithin(p *pod, why string, grace time.Duration) {
	if p.stopping || p.deleting() {
		return
	}
	p.stopping = true
	t.unready(p)
	id := p.id()
	t.o.Log.Info("pod is restarted", "pod", p.Key.String(), "reason", why)
	t.spawn(func(ctx context.Context) {
		t.halt(ctx, id, grace)
	})
	t.poke()
}

func (t *Target) unready(p *pod) {
	p.passed, p.readySince = nil, zeroTime
	if p.probes != nil {
		p.probes()
		p.probes = nil
	}
}

// forget has an attempt that nobody wants end, which was never launched: its end is acknowledged when it is reported.
func (t *Target) forget(id executor.ID) {
	t.spawn(func(ctx context.Context) { t.halt(ctx, id, 0) })
}

// The waits between the tries to stop a pod.
const (
	firstHaltWait = time.Second
	maxHaltWait   = 30 * time.Second
)

// halt asks the executor to stop an attempt until it has taken that in. False says that the target was closed first.
func (t *Target) halt(ctx context.Context, id executor.ID, grace time.Duration) bool {
	return t.insist(ctx, "stop pod "+id.Node, func() error { return t.o.Executor.Stop(ctx, id, grace) })
}

// insist does something again and again, with growing waits, until it succeeds. False says that the target was closed first.
func (t *Target) insist(ctx context.Context, what string, do func() error) bool {
	defer t.troubles.Over(what)
	for wait := firstHaltWait; ; wait = min(2*wait, maxHaltWait) {
		err := do()
		if err == nil || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		t.wrong(what, err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

func (t *Target) acknowledge(id executor.ID) {
	t.spawn(func(ctx context.Context) {
		t.insist(ctx, "acknowledge the end of pod "+id.Node, func() error { return t.o.Executor.Acknowledge(ctx, id) })
	})
}

// ended records the end of an attempt, and whether another follows, and only then acknowledges it. False says that it could not be
// recorded and must be told again.
func (t *Target) ended(p *pod, r executor.Report) bool {
	t.o.Fault("pod-end")
	id := p.id()
	t.o.Places.Leave(id)
	t.unready(p)
	p.running, p.known, p.begun, p.stopping = false, false, nil, false
	p.failures, p.hurried = 0, false
	if p.deleting() {
		if !t.remove(p) {
			return false
		}
		t.acknowledge(id)
		return true
	}
	policy := p.spec().Spec.RestartPolicy
	again := policy == "" || policy == corev1.RestartPolicyAlways || (policy == corev1.RestartPolicyOnFailure && r.Phase != executor.Succeeded) ||
		r.Reason == executor.ReasonLost
	now := t.o.Now()
	if again {
		t.backOff(p, r, now)
	} else {
		p.Ended, p.State = true, string(corev1.PodSucceeded)
		if r.Phase != executor.Succeeded {
			p.State = string(corev1.PodFailed)
		}
	}
	p.live.Object["status"] = toTree(t.endStatus(p, r, now, again))
	if !t.log(change{kind: deploy.KindObjectChanged, o: p.object, cause: p.last}) {
		return false
	}
	p.ip, p.startedAt, p.state = "", zeroTime, nil
	t.acknowledge(id)
	t.poke()
	return true
}

// backOff decides when the next attempt begins: the first restart at once, then 10 s doubling to 5 min, as Kubernetes.
func (t *Target) backOff(p *pod, r executor.Report, now time.Time) {
	p.Attempt++
	if !r.StartedAt.IsZero() && r.FinishedAt.Sub(r.StartedAt) >= backoffForget {
		p.Crashes = 0
	}
	p.Crashes++
	p.RestartAt = now
	p.State = string(corev1.PodRunning)
	if p.Crashes == 1 && r.Phase != executor.Error || r.Reason == executor.ReasonLost {
		return
	}
	wait := backoff(p.Crashes - 2)
	p.RestartAt = now.Add(wait)
	p.waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: fmt.Sprintf("back-off %s restarting the pod: %s", wait, r.Message)}
	switch r.Reason {
	case executor.ReasonImage:
		p.waiting.Reason, p.waiting.Message = "ImagePullBackOff", r.Message
	case executor.ReasonStart:
		p.waiting.Reason, p.waiting.Message = "RunContainerError", r.Message
	}
}

// terminate drains a pod that is being deleted and has it stopped: preStop, the end of the requests that it is
// serving, SIGTERM, SIGKILL, all within its grace period. t.mu is held.
func (t *Target) terminate(p *pod) {
	if p.leaving {
		return
	}
	p.leaving = true
	begun, id := p.begun, p.id()
	serving := p.running
	if p.probes != nil {
		p.probes()
		p.probes = nil
	}
	if t.withdraw(p) || p.unclaimed {
		t.forget(id) // in case an earlier server had begun it
		if !p.single() {
			p.leaving = t.remove(p)
			return
		}
	}
	if p.Ended || (begun == nil && !p.known && !p.RestartAt.IsZero() && !p.single()) {
		p.leaving = t.remove(p)
		return
	}
	spec, grace := p.spec().DeepCopy(), p.grace()
	ip := p.ip
	t.spawn(func(life context.Context) {
		ctx, cancel := context.WithTimeout(life, grace+20*time.Second)
		defer cancel()
		if begun != nil {
			select {
			case <-begun:
			case <-ctx.Done():
			}
		}
		drain, stop := context.WithTimeout(ctx, grace)
		if serving {
			t.part(p, t.preStop(drain, id, spec, ip))
			t.o.Front.Drained(drain, p.UID)
		}
		if t.ctx.Err() != nil {
			stop()
			return // the next server drains it to the end: its requests go on
		}
		end, _ := drain.Deadline()
		stop()
		if !t.halt(life, id, max(time.Until(end), 2*time.Second)) {
			return
		}
		t.mu.Lock()
		known := p.known || begun == nil
		t.mu.Unlock()
		if p.single() {
			if !t.awaitEnd(life, p, id) {
				return
			}
		} else if known {
			// The final report removes the record. It never comes for a pod that the executor does not have.
			t.awaitGone(ctx, p)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.pods[p.UID] == p && t.ctx.Err() == nil {
			p.leaving = t.remove(p)
		}
	})
}

func (t *Target) awaitGone(ctx context.Context, p *pod) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		t.mu.Lock()
		gone := t.pods[p.UID] != p
		t.mu.Unlock()
		if gone {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// single says that a pod has a name of its own, under which no other may run before it has ended: a StatefulSet's.
func (p *pod) single() bool {
	owner := metav1.GetControllerOf(p.live)
	return owner != nil && owner.Kind == "StatefulSet"
}

// awaitEnd waits until the executor has nothing of a pod's attempt that lives, however long it takes. False says that the record is gone
// already, or that the target was closed.
func (t *Target) awaitEnd(ctx context.Context, p *pod, id executor.ID) bool {
	what := "see the end of pod " + id.Node + ", of which another has the name and volumes next"
	defer t.troubles.Over(what)
	for wait := firstEndWait; ; wait = min(2*wait, maxEndWait) {
		t.mu.Lock()
		there := t.pods[p.UID] == p
		t.mu.Unlock()
		if !there || ctx.Err() != nil {
			return false
		}
		list, err := t.o.Executor.List(ctx)
		switch {
		case err == nil && !slices.ContainsFunc(list, func(r executor.Report) bool { return r.ID == id && !r.Phase.Done() }):
			return true
		case err == nil && wait == maxEndWait:
			err = errors.New("it was told to end and goes on")
		}
		if err != nil {
			t.wrong(what, err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// The waits between the looks whether a pod has ended.
const (
	firstEndWait = 50 * time.Millisecond
	maxEndWait   = 5 * time.Second
)

func (t *Target) remove(p *pod) bool {
	if !t.log(change{kind: deploy.KindObjectDeleted, o: p.object, cause: p.last, note: p.parting}) {
		return false
	}
	t.o.Places.Leave(p.id())
	t.poke()
	return true
}

// part keeps what went wrong with a pod's hooks for the entry of its end. As in Kubernetes a hook that fails keeps no pod from going.
func (t *Target) part(p *pod, err error) {
	if err == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p.parting = failure.Clip(err.Error(), maxParting)
}

// maxParting bounds what is kept of the errors of a pod's hooks, in bytes.
const maxParting = 1 << 10

// preStop calls the hooks of a pod's containers, and says which failed.
func (t *Target) preStop(ctx context.Context, id executor.ID, spec *corev1.Pod, ip string) (failed error) {
	for _, c := range spec.Spec.Containers {
		if c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
			continue
		}
		h := c.Lifecycle.PreStop
		var err error
		switch {
		case h.Exec != nil:
			var code int
			if code, _, err = t.o.Commands.Exec(ctx, id, c.Name, h.Exec.Command); err == nil && code != 0 {
				err = fmt.Errorf("exit code %d", code)
			}
		case h.HTTPGet != nil:
			err = probeHTTP(ctx, ip, c, h.HTTPGet)
		case h.Sleep != nil:
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
			}
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			failed = errors.Join(failed, fmt.Errorf("preStop of container %s: %w", c.Name, err))
		}
	}
	return failed
}

func condition(kind corev1.PodConditionType, is bool, old corev1.PodStatus, now time.Time) corev1.PodCondition {
	status := corev1.ConditionFalse
	if is {
		status = corev1.ConditionTrue
	}
	for _, c := range old.Conditions {
		if c.Type == kind && c.Status == status {
			return c
		}
	}
	return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: metav1.NewTime(now)}
}
