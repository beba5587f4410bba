package local

import (
	"maps"
	"slices"
	"strings"
	"time"

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
	t.wall() // before anything begins that it is about
	t.repeat()
	t.admit()
	t.collect()
	for _, kind := range t.movers() {
		for _, o := range t.ofKind(kind.name) {
			if !o.deleting() {
				kind.move(o)
			}
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
	for _, o := range t.ofKind("PodDisruptionBudget") {
		t.disruptionBudget(o)
	}
	for _, o := range t.ofKind("Namespace") {
		phase := "Active"
		if o.deleting() {
			phase = "Terminating"
		}
		t.setStatus(o, map[string]any{"phase": phase}, o.last)
	}
}

// mover moves objects of a kind on.
type mover struct {
	name string
	move func(*object)
}

// movers are the kinds that make others, or wait for something, before those that they make.
func (t *Target) movers() []mover {
	return []mover{{"PersistentVolumeClaim", t.bind}, {"Deployment", t.deployment}, {"StatefulSet", t.statefulSet}, {"DaemonSet", t.daemonSet}, {"CronJob", t.cronJob}, {"Job", t.job}, {"ReplicaSet", t.replicaSet}, {"ReplicationController", t.replicaSet}}
}

// dismiss begins the deletion of objects; what cannot be recorded is decided again a little later. t.mu is held.
func (t *Target) dismiss(cause int64, objects ...*object) {
	for _, o := range objects {
		if err := t.markDeleted(t.ctx, o, cause); err != nil {
			t.again(recording, err, time.Second)
			return
		}
		t.poke()
	}
}

// recording is what is in trouble while objects cannot be put on record.
const recording = "record objects"

// again has something that failed tried again after a while, and shows that until it succeeds. t.mu is held.
func (t *Target) again(what string, err error, after time.Duration) {
	if t.ctx.Err() != nil {
		return
	}
	t.wrong(what, err)
	t.at(t.o.Now().Add(after))
}

// wrong shows that something does not succeed, until troubles.Over is called with the same name. The log says it once.
func (t *Target) wrong(what string, err error) {
	if t.troubles.Note(what, err) {
		t.o.Log.Error("the target cannot do something; it is tried again", "what", what, "error", err)
	}
}

// untroubled takes back what was said of an object that is gone.
func (t *Target) untroubled(o *object) {
	for _, what := range []string{"write the status of ", "make a ReplicaSet of ", "make a pod of ", "give an address to ", "serve ", "refresh the volumes of ",
		"make the volume of ", "keep the template of ", "make a claim of ", "read the schedule of ", "make a job of ", "read the selector of "} {
		t.troubles.Over(what + o.Key.String())
	}
}

// Trouble says for people what does not succeed and is tried again; empty for nothing.
func (t *Target) Trouble() string { return t.troubles.Text() }

func (t *Target) ofKind(kind string) []*object { return t.objects.kind(kind) }

// collect carries deletions on: children first, then the object itself. Pods end in their own time.
func (t *Target) collect() {
	for _, o := range t.objects.ordered(t.objects.leaving) {
		switch {
		case o.Key.Group != "":
		case o.Key.Kind == "Pod":
			continue
		case o.Key.Kind == "PersistentVolumeClaim":
			t.drop(o)
			continue
		}
		within := t.objects.within(o)
		t.dismiss(o.last, slices.DeleteFunc(slices.Clone(within), (*object).deleting)...)
		if len(within) == 0 && t.log(change{kind: deploy.KindObjectDeleted, o: o, cause: o.last}) {
			t.poke()
		}
	}
}
