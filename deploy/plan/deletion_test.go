package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/deploy/plan"
)

// part takes a deletion to its end, or to where it waits for somebody.
func part(w *world, in plan.Input) (plan.Operation, string) {
	in.Operation, in.Now = plan.Begin("0123456789abcdef", start), start
	for range 200 {
		in.Live = w.live()
		s := plan.NextDeletion(in)
		in.Operation = s.Operation
		if s.Operation.Done() || s.Stuck != "" {
			return s.Operation, s.Stuck
		}
		w.carryOut(&in, s)
	}
	in.Operation.Phase = "never ended"
	return in.Operation, ""
}

// The order is that of argo-cd 3.6: docs/user-guide/sync-waves.md (PreDelete and PostDelete Hooks), docs/user-guide/app_deletion.md, and
// controller/appcontroller.go, finalizeApplicationDeletion, which leaves definitions of kinds and what is protected. That namespaces go last is ours.
func TestDeletion(t *testing.T) {
	list := func(o ...*unstructured.Unstructured) []*unstructured.Unstructured { return o }
	leaving := thing("ConfigMap", "a")
	leaving.SetDeletionTimestamp(&metav1.Time{Time: start.Add(-time.Hour)})
	child := thing("ConfigMap", "child")
	child.SetOwnerReferences([]metav1.OwnerReference{{Kind: "X"}})
	pre, post := thing("Job", "pre", "hook=PreDelete"), thing("Job", "post", "hook=PostDelete")
	for name, c := range map[string]struct {
		hooks, live    []*unstructured.Unstructured
		options        plan.Options
		made           deploy.Key
		keep           bool
		failing, stuck string
		log, held      string
		phase          string
	}{
		"without hooks": {live: list(thing("ConfigMap", "a"), thing("Deployment", "d"), child), log: "-d -a", phase: plan.Succeeded},
		"the last wave first": {live: list(thing("Deployment", "w0"), thing("ConfigMap", "w1", "sync-wave=1"), thing("ConfigMap", "first", "sync-wave=-1")),
			log: "-w1 -w0 -first", phase: plan.Succeeded},
		"hooks around":            {hooks: list(post, pre, thing("Job", "s", "hook=PreSync")), live: list(thing("ConfigMap", "a")), log: "+pre -pre -a +post ~post", phase: plan.Succeeded},
		"hooks of earlier phases": {hooks: list(pre), live: list(thing("Job", "s", "hook=PreSync")), log: "+pre -pre -s", phase: plan.Succeeded},
		"hooks in waves": {hooks: list(thing("Job", "b", "hook=PostDelete", "sync-wave=2", "hook-delete-policy=HookSucceeded"), thing("Job", "z", "hook=PostDelete", "sync-wave=1", "hook-delete-policy=HookSucceeded")),
			log: "+z -z +b -b", phase: plan.Succeeded},
		"Helm's hooks": {hooks: list(noted("Job", "h", "helm.sh/hook=pre-delete", "helm.sh/hook-delete-policy=hook-succeeded"), noted("Job", "i", "helm.sh/hook=post-delete,post-install", "helm.sh/hook-delete-policy=hook-succeeded")),
			live: list(thing("ConfigMap", "a")), log: "+h -h -a +i -i", phase: plan.Succeeded},
		"one hook of both phases":   {hooks: list(thing("Job", "h", "hook=PreDelete,PostDelete", "hook-delete-policy=HookSucceeded")), live: list(thing("ConfigMap", "a")), log: "+h -h -a +h -h", phase: plan.Succeeded},
		"what an old hook left":     {hooks: list(pre), live: list(pre), log: "-pre +pre -pre", phase: plan.Succeeded},
		"a PreDelete hook fails":    {hooks: list(pre, post), live: list(thing("ConfigMap", "a")), failing: "pre", log: "+pre", phase: plan.Failed},
		"a PostDelete hook fails":   {hooks: list(post), live: list(thing("ConfigMap", "a")), failing: "post", log: "-a +post", phase: plan.Failed},
		"a failed hook is removed":  {hooks: list(thing("Job", "pre", "hook=PreDelete", "hook-delete-policy=HookFailed")), failing: "pre", log: "+pre -pre", phase: plan.Failed},
		"a hook that never ends":    {hooks: list(pre), live: list(thing("ConfigMap", "a")), stuck: "pre", log: "+pre", phase: plan.Failed},
		"Delete=false":              {live: list(thing("ConfigMap", "a"), thing("ConfigMap", "k", "sync-options=Delete=false")), log: "~k -a", phase: plan.Succeeded},
		"Delete=false in a preview": {live: list(thing("ConfigMap", "k", "sync-options=Delete=false")), options: plan.Options{Preview: true}, log: "-k", phase: plan.Succeeded},
		"Helm keeps it":             {live: list(noted("ConfigMap", "k", "helm.sh/resource-policy=keep")), log: "~k", phase: plan.Succeeded},
		"Delete=false of the Application": {live: list(thing("ConfigMap", "a"), thing("ConfigMap", "b", "sync-options=Delete=true")),
			options: plan.Options{}.WithSyncOptions([]string{"Delete=false"}), log: "~a ~b", phase: plan.Succeeded},
		"Delete=true of a manifest with leave": {live: list(thing("ConfigMap", "a"), thing("ConfigMap", "b", "sync-options=Delete=true")),
			options: plan.Options{Manifest: plan.Manifest{Delete: true}}.WithSyncOptions([]string{"Delete=false"}), log: "~a -b", phase: plan.Succeeded},
		"Delete=confirm": {hooks: list(pre), live: list(thing("ConfigMap", "a"), thing("ConfigMap", "k", "sync-options=Delete=confirm")), held: "ConfigMap k", phase: plan.Running},
		"Delete=confirm of the Application, approved by a manifest": {live: list(thing("ConfigMap", "k", "deletion-approved=2026-01-01T00:00:00Z")),
			options: plan.Options{}.WithSyncOptions([]string{"Delete=confirm"}), held: "ConfigMap k", phase: plan.Running},
		"Delete=confirm, confirmed":   {live: list(thing("ConfigMap", "k", "sync-options=Delete=confirm")), options: plan.Options{Confirmed: true}, log: "-k", phase: plan.Succeeded},
		"Delete=confirm, protected":   {live: list(thing("ConfigMap", "k", "sync-options=Delete=confirm")), options: plan.Options{NoDelete: true}, log: "~k", phase: plan.Succeeded},
		"definitions of kinds stay":   {live: list(object("{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: crd}}")), log: "~crd", phase: plan.Succeeded},
		"namespaces go last":          {hooks: list(post), live: list(thing("Namespace", "ns", "sync-wave=9"), thing("ConfigMap", "a")), log: "-a +post -ns ~post", phase: plan.Succeeded},
		"one that nobody wrote stays": {live: list(thing("Namespace", "ns"), thing("ConfigMap", "a")), made: deploy.Key{Kind: "Namespace", Name: "ns"}, log: "~ns -a", phase: plan.Succeeded},
		"but not a preview's": {live: list(thing("Namespace", "ns"), thing("ConfigMap", "a")), made: deploy.Key{Kind: "Namespace", Name: "ns"}, options: plan.Options{Preview: true},
			log: "-a -ns", phase: plan.Succeeded},
		"what does not go is told": {live: list(leaving), held: "ConfigMap a", phase: plan.Running},
		"hooks alone":              {hooks: list(pre, post), live: list(thing("ConfigMap", "a")), keep: true, log: "+pre +post", phase: plan.Succeeded},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{objects: map[deploy.Key]*unstructured.Unstructured{}, failing: map[string]bool{c.failing: true}, stuck: map[string]bool{c.stuck: true}}
			for _, o := range c.live {
				w.objects[deploy.KeyOf(o)] = o
			}
			op, held := part(w, plan.Input{Desired: c.hooks, Options: c.options, Made: c.made, KeepObjects: c.keep})
			if diff := cmp.Diff(c.log, strings.Join(w.log, " ")); diff != "" || op.Phase != c.phase || !strings.Contains(held, c.held) || (held == "") != (c.held == "") {
				t.Errorf("%s (%s, %q), want %s\n%s", op.Phase, op.Message, held, c.phase, diff)
			}
		})
	}
}

// Whatever had been done when it was interrupted, a deletion that is decided again ends the same way, and runs no hook again that is on record.
func TestDeletionGoesOn(t *testing.T) {
	hooks := []*unstructured.Unstructured{thing("Job", "pre", "hook=PreDelete"), thing("Job", "post", "hook=PostDelete")}
	for stop := range 12 {
		w := &world{objects: map[deploy.Key]*unstructured.Unstructured{}, failing: map[string]bool{}, stuck: map[string]bool{}}
		for _, o := range []*unstructured.Unstructured{thing("ConfigMap", "a"), thing("ConfigMap", "k", "sync-options=Delete=false"), thing("Deployment", "d", "sync-wave=1")} {
			w.objects[deploy.KeyOf(o)] = o
		}
		recorded, done := plan.Begin("0123456789abcdef", start), 0
		for range 100 {
			s := plan.NextDeletion(plan.Input{Desired: hooks, Live: w.live(), Operation: recorded, Now: start})
			op := s.Operation
			if op.Done() {
				recorded = op
				break
			}
			died := false
			recorded = op // what was found out is on record before anything is done
			for _, a := range s.Actions {
				err := w.do(a)
				if done++; done == stop {
					died = true // before anything of it was on record
					break
				}
				op.Record(a, err, start)
			}
			if !died {
				recorded = op
			}
		}
		if recorded.Phase != plan.Succeeded || len(w.objects) != 0 {
			t.Fatalf("after %d: %s, left %v, %v", stop, recorded.Phase, w.objects, w.log)
		}
		if again := strings.Count(strings.Join(w.log, " "), "+"); again > 3 {
			t.Errorf("after %d hooks ran %d times: %v", stop, again, w.log)
		}
	}
}
