package executortest

import (
	"context"
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/executor"
)

// What cannot be had has a reason, for whoever has to say what to do instead.
func capabilities(b *bench) {
	c, err := b.ex.Capabilities(b.context())
	if err != nil {
		b.Fatal(err)
	}
	for _, a := range []executor.Ability{
		executor.AbilityImages, executor.AbilityHostView, executor.AbilityNetwork, executor.AbilityUserNamespaces, executor.AbilityClaims, executor.AbilityCommands,
	} {
		if c.Can[a] == (c.Why[a] != "") {
			b.Errorf("%s: can %v, why %q", a, c.Can[a], c.Why[a])
		}
	}
	if c.Can[executor.AbilityHostView] != b.setup.HostView {
		b.Errorf("host view: %v", c.Can[executor.AbilityHostView])
	}
	if c.Can[executor.AbilityClaims] != (b.ex.Claims != nil) || c.Can[executor.AbilityCommands] != (b.ex.Commands != nil) {
		b.Errorf("claims %v, commands %v", c.Can[executor.AbilityClaims], c.Can[executor.AbilityCommands])
	}
	for _, limit := range c.Fields.Types {
		for _, field := range limit.Refused {
			if c.Fields.Refusals[field].Message == "" {
				b.Errorf("%s is refused, and nothing says why", field)
			}
		}
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.ex.Capabilities(over); !errors.Is(err, context.Canceled) {
		b.Errorf("asked by a caller that has gone: %v", err)
	}
	if _, err := b.ex.Check(over, b.pod("true")); !errors.Is(err, context.Canceled) {
		b.Errorf("checked for a caller that has gone: %v", err)
	}
}

// A pod that cannot be is refused with its field, by Check and by Start alike, and nothing of it is on record.
func refused(b *bench) {
	p := b.pod("true")
	p.Pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"example.org/oars": *quantity("2")}
	problems, err := b.ex.Check(b.context(), p)
	if err != nil {
		b.Fatal(err)
	}
	fatal := func(p executor.Problem) bool { return p.Fatal && strings.HasPrefix(p.Path, "spec.containers[0].") }
	if !slices.ContainsFunc(problems, fatal) {
		b.Errorf("problems: %+v", problems)
	}
	var refusal *executor.RefusedError
	if err := b.ex.Start(b.context(), p); !errors.As(err, &refusal) || len(refusal.Problems) == 0 || !fatal(refusal.Problems[0]) {
		b.Errorf("started: %v", err)
	}
	if list := b.list(); len(list) != 0 {
		b.Errorf("on record: %+v", list)
	}
	p.Pod.Spec.Containers[0].Resources.Limits = nil
	b.check(b.run(p), executor.Succeeded, 0, "")
}

// list gives what the executor knows.
func (b *bench) list() map[executor.ID]executor.Report {
	b.Helper()
	list, err := b.ex.List(b.context())
	if err != nil {
		b.Fatal(err)
	}
	known := map[executor.ID]executor.Report{}
	for _, r := range list {
		known[r.ID] = r
	}
	if len(known) != len(list) {
		b.Errorf("an attempt is listed twice: %+v", list)
	}
	return known
}

func listed(b *bench) {
	if known := b.list(); len(known) != 0 {
		b.Fatalf("at the beginning there is %+v", known)
	}
	long, short := b.pod("sleep 100"), b.pod("exit 3")
	b.start(long)
	b.start(short)
	b.running(long.ID)
	b.final(short.ID)
	known := b.list()
	if len(known) != 2 || known[long.ID].Phase != executor.Running || known[long.ID].StartedAt.IsZero() {
		b.Errorf("listed: %+v", known)
	}
	b.check(known[short.ID], executor.Failed, 3, "main: Error (exit code 3)")
	b.acknowledge(short.ID)
	if known := b.list(); len(known) != 1 || known[long.ID].Phase != executor.Running {
		b.Errorf("after the acknowledgement: %+v", known)
	}
	if err := b.ex.Stop(b.context(), long.ID, 0); err != nil {
		b.Fatal(err)
	}
	b.final(long.ID)
	b.acknowledge(long.ID)
	if known := b.list(); len(known) != 0 {
		b.Errorf("in the end there is %+v", known)
	}
}

// listedAfterRestart: who comes after knows what runs, what has ended and what is gone.
func listedAfterRestart(b *bench) {
	long := b.pod("sleep 100")
	b.start(long)
	b.running(long.ID)
	b.close()
	b.seen = map[executor.ID][]executor.Report{}
	b.open()
	b.start(long)
	b.running(long.ID)
	if known := b.list(); len(known) != 1 || known[long.ID].Phase != executor.Running {
		b.Errorf("listed: %+v", known)
	}
	if err := b.ex.Stop(b.context(), long.ID, 0); err != nil {
		b.Fatal(err)
	}
	b.final(long.ID)
	b.acknowledge(long.ID)
}

// A stop may overtake the start that it belongs to: nothing of the pod runs then.
func stopBeforeStart(b *bench) {
	shared := b.TempDir()
	p := b.pod("echo ran > /shared/ran")
	mounted(&p, "/shared", shared)
	if err := b.ex.Stop(b.context(), p.ID, 0); err != nil {
		b.Fatal(err)
	}
	b.start(p)
	b.neverRan(p, shared)
	// It concerned that attempt and no other.
	p.ID.Attempt++
	b.check(b.run(p), executor.Succeeded, 0, "")
	// A stop of what is long over is no memory of anything.
	if err := b.ex.Stop(b.context(), p.ID, 0); err != nil {
		b.Fatal(err)
	}
	b.seen = map[executor.ID][]executor.Report{}
	b.start(p)
	b.check(b.final(p.ID), executor.Succeeded, 0, "")
}

// stopBeforeStartAndRestart: between the two the server may die.
func stopBeforeStartAndRestart(b *bench) {
	shared := b.TempDir()
	p := b.pod("echo ran > /shared/ran")
	mounted(&p, "/shared", shared)
	if err := b.ex.Stop(b.context(), p.ID, 0); err != nil {
		b.Fatal(err)
	}
	b.close()
	b.open()
	b.start(p)
	b.neverRan(p, shared)
}

func (b *bench) neverRan(p executor.Pod, shared string) {
	b.Helper()
	r := b.final(p.ID)
	if r.Phase != executor.Failed || r.Reason != executor.ReasonStopped || r.ExitCode != nil {
		b.Errorf("got %+v", r)
	}
	b.acknowledge(p.ID)
	if exists(shared, "ran") {
		b.Error("it ran")
	}
}

// Claims outlive pods, are found by whoever asks, belong to whom they were made for, and go when they are deleted.
func claims(b *bench) {
	if b.ex.Claims == nil {
		b.Skip("SKIPPED: there are no claims")
	}
	claim := executor.Claim{Namespace: "default", Name: "hold", Owner: "run-1"}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: *quantity("1Gi")}
	if _, err := b.ex.Claims.FindClaim(b.context(), "default", "hold"); !errors.Is(err, executor.ErrNotFound) {
		b.Errorf("before it was made: %v", err)
	}
	for range 2 {
		if err := b.ex.Claims.CreateClaim(b.context(), claim); err != nil {
			b.Fatal(err)
		}
	}
	other := claim
	other.Owner = "run-2"
	if err := b.ex.Claims.CreateClaim(b.context(), other); err == nil {
		b.Error("a claim was made for two")
	}
	found, err := b.ex.Claims.FindClaim(b.context(), "default", "hold")
	if err != nil || found.Owner != "run-1" || found.Spec.Resources.Requests.Storage().String() != "1Gi" {
		b.Errorf("found %+v, %v", found, err)
	}
	with := func(script string) executor.Pod {
		p := b.pod(script)
		p.Claims = []executor.Claim{claim}
		p.Pod.Spec.Volumes = []corev1.Volume{{Name: "hold", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "hold"},
		}}}
		p.Pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "hold", MountPath: "/hold"}}
		p.Outputs.Result = true
		return p
	}
	b.check(b.run(with("echo cargo > /hold/cargo")), executor.Succeeded, 0, "")
	reader := with("cat /hold/cargo")
	b.start(reader)
	if r := b.final(reader.ID); deref(r.Result) != "cargo" {
		b.Errorf("the next pod found %q", deref(r.Result))
	}
	var later *executor.TransientError
	if err := b.ex.Claims.DeleteClaim(b.context(), "default", "hold"); !errors.As(err, &later) {
		b.Errorf("deleted under a pod: %v", err)
	}
	b.acknowledge(reader.ID)
	for range 2 {
		if err := b.ex.Claims.DeleteClaim(b.context(), "default", "hold"); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := b.ex.Claims.FindClaim(b.context(), "default", "hold"); !errors.Is(err, executor.ErrNotFound) {
		b.Errorf("after it was deleted: %v", err)
	}
	if err := b.ex.Claims.CreateClaim(b.context(), other); err != nil {
		b.Errorf("a name that is free again: %v", err)
	}
	for _, bad := range []string{"../x", "", ".", "a/b", "UPPER"} {
		if err := b.ex.Claims.CreateClaim(b.context(), executor.Claim{Namespace: "default", Name: bad}); err == nil {
			b.Errorf("a claim was named %q", bad)
		}
		if err := b.ex.Claims.CreateClaim(b.context(), executor.Claim{Namespace: bad, Name: "hold"}); err == nil {
			b.Errorf("a namespace was named %q", bad)
		}
	}
}
