package local

import (
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tiphys/tiphys/deploy"
)

// reconcile brings what is closer to what is wished for, once. What it starts reports back and has it run again.
// t.mu is held.
func (t *Target) reconcile() {
	if t.ctx.Err() != nil {
		return
	}
	t.wake = zeroTime
	t.collect()
	for _, o := range t.ofKind("Deployment") {
		if !o.deleting() {
			t.deployment(o)
		}
	}
	for _, o := range t.ofKind("Job") {
		if !o.deleting() {
			t.job(o)
		}
	}
	for _, o := range t.ofKind("ReplicaSet") {
		if !o.deleting() {
			t.replicaSet(o)
		}
	}
	var leaving []*pod
	for _, p := range slices.SortedFunc(maps.Values(t.pods), func(a, b *pod) int { return strings.Compare(a.Key.Name, b.Key.Name) }) {
		if p.deleting() {
			leaving = append(leaving, p)
			continue
		}
		t.step(p)
	}
	t.publish()
	// Only now, when no proxy sends them anything new, are pods asked to go.
	for _, p := range leaving {
		t.terminate(p)
	}
	for _, o := range t.ofKind("Deployment") {
		t.deploymentStatus(o)
	}
	for _, o := range t.ofKind("Ingress") {
		t.setStatus(o, map[string]any{"loadBalancer": map[string]any{"ingress": []networkingv1.IngressLoadBalancerIngress{{IP: t.o.IngressAddress}}}}, o.last)
	}
	for _, o := range t.ofKind("Namespace") {
		phase := "Active"
		if o.deleting() {
			phase = "Terminating"
		}
		t.setStatus(o, map[string]any{"phase": phase}, o.last)
	}
}

func (t *Target) ofKind(kind string) []*object {
	var found []*object
	for _, o := range t.objects {
		if o.Key.Kind == kind {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(a, b *object) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return found
}

// collect carries deletions on: children first, then the object itself. Pods end in their own time.
func (t *Target) collect() {
	for _, o := range t.sorted() {
		if !o.deleting() || o.Key.Kind == "Pod" {
			continue
		}
		left := 0
		for _, other := range t.objects {
			mine := o.Key.Kind == "Namespace" && other.Key.Namespace == o.Key.Name
			for _, r := range other.live.GetOwnerReferences() {
				mine = mine || string(r.UID) == o.UID
			}
			if !mine || other == o {
				continue
			}
			left++
			if !other.deleting() {
				if err := t.markDeleted(t.ctx, other, o.last); err != nil {
					t.o.Log.Error("deletion could not be recorded; trying again", "object", other.Key.String(), "error", err)
				}
				t.poke()
			}
		}
		if left == 0 {
			if t.log(change{kind: deploy.KindObjectDeleted, o: o, cause: o.last}) {
				t.poke()
			}
		}
	}
}
