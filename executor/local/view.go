package local

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
)

// Names of the two executors of this machine, as manifests choose them.
const (
	NameContainer = "container"
	NameHost      = "host"
)

// View is one of the two ways in which an [Executor] executes pods: from images, or on a private view of this
// machine's own files. Both share the state folder, the network and the claims; each reports its own attempts.
type View struct {
	*Executor
	host    bool
	reports *queue
}

var (
	_ executor.Executor = (*View)(nil)
	_ executor.Claims   = (*View)(nil)
	_ executor.Logs     = (*View)(nil)
	_ executor.Commands = (*View)(nil)
	_ executor.Volumes  = (*View)(nil)
)

// Container executes pods from images, each with a network of its own.
func (e *Executor) Container() *View { return e.container }

// Host executes pods on a private copy-on-write view of this machine, with this machine's network unless [Options.Apart].
func (e *Executor) Host() *View { return e.hostView }

// Named is the view as a registry has it.
func (v *View) Named() executor.Named {
	name := NameContainer
	if v.host {
		name = NameHost
	}
	return executor.Named{Name: name, Executor: v, Claims: v, Logs: v, Commands: v, Volumes: v, NeedsGrant: v.host}
}

// view is the one that an attempt belongs to.
func (e *Executor) view(host bool) *View {
	if host {
		return e.hostView
	}
	return e.container
}

// Start implements executor.Executor.
func (v *View) Start(ctx context.Context, p executor.Pod) error { return v.start(ctx, p, v.host) }

// Check implements executor.Executor.
func (v *View) Check(ctx context.Context, p executor.Pod) ([]executor.Problem, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return v.check(p, v.host), nil
}

// Reports implements executor.Executor.
func (v *View) Reports() <-chan executor.Report { return v.reports.out }

// Capabilities implements executor.Executor.
func (v *View) Capabilities(ctx context.Context) (executor.Capabilities, error) {
	if err := ctx.Err(); err != nil {
		return executor.Capabilities{}, err
	}
	c := executor.Capabilities{
		Can: map[executor.Ability]bool{executor.AbilityClaims: true, executor.AbilityCommands: true}, Why: map[executor.Ability]string{}, Fields: Fields(), Limits: []corev1.ResourceName{corev1.ResourceEphemeralStorage},
	}
	if v.cgroups.cpu.there() {
		c.Limits = append(c.Limits, corev1.ResourceCPU)
	}
	if v.cgroups.memory.there() {
		c.Limits = append(c.Limits, corev1.ResourceMemory)
	}
	if v.host {
		c.Why[executor.AbilityUserNamespaces] = "steps are users of this machine: use the container executor"
		c.Can[executor.AbilityHostView] = true
		c.Why[executor.AbilityImages] = "pods see this machine's own files: use the container executor"
		c.Why[executor.AbilityNetwork] = "pods share this machine's network: use the container executor"
		if v.apartByNetwork() {
			v.networkAbility(&c)
		}
		return c, nil
	}
	c.Why[executor.AbilityHostView] = "pods see the files of their image: use the host executor"
	c.Can[executor.AbilityImages] = v.o.Images != nil
	if v.o.Images == nil {
		c.Why[executor.AbilityImages] = "images are not available here: use the host executor"
	}
	if err := v.users.usable(); err != nil {
		c.Why[executor.AbilityUserNamespaces] = "root in a pod is root for the kernel on this machine: " + err.Error()
	} else {
		c.Can[executor.AbilityUserNamespaces] = true
	}
	v.networkAbility(&c)
	return c, nil
}

// networkAbility says whether pods have a network of their own.
func (v *View) networkAbility(c *executor.Capabilities) {
	err := v.network.usable()
	if c.Can[executor.AbilityNetwork] = err == nil; err != nil {
		c.Why[executor.AbilityNetwork] = err.Error() + ": set hostNetwork to share this machine's"
		return
	}
	delete(c.Why, executor.AbilityNetwork)
}

// List implements executor.Executor.
func (v *View) List(ctx context.Context) ([]executor.Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v.mu.Lock()
	var attempts []*attempt
	for _, a := range v.attempts {
		if a.host == v.host {
			attempts = append(attempts, a)
		}
	}
	v.mu.Unlock()
	list := make([]executor.Report, len(attempts))
	for i, a := range attempts {
		list[i] = a.latest()
	}
	return list, nil
}

// latest is where the attempt stands.
func (a *attempt) latest() executor.Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.final != nil:
		return *a.final
	case a.running:
		r := a.runningReport()
		r.StartedAt = a.startedAt
		return r
	}
	reason, message := "", ""
	switch {
	case a.idle:
		reason, message = executor.ReasonNotLaunched, notLaunched
	case a.scarce != "":
		reason, message = executor.ReasonScarce, a.scarce
	}
	r := a.report(executor.Pending, reason, message)
	r.StartedAt, r.FinishedAt = time.Time{}, time.Time{}
	return r
}
