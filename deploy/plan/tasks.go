// Package plan decides what a sync does next. It is pure: it takes what is desired, what is live, the options, the
// operation so far and the time, and returns actions and the operation's new state. It follows Argo CD's sync
// (argo-cd 3.6, gitops-engine/pkg/sync): phases, waves, hooks, prune order. It deviates where that is a known pain:
// every operation and every hook has a deadline, and the newest commit supersedes a running sync.
package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

// Argo CD's annotations on objects.
const (
	annotationHook     = "argocd.argoproj.io/hook"
	annotationPolicy   = "argocd.argoproj.io/hook-delete-policy"
	annotationWave     = "argocd.argoproj.io/sync-wave"
	annotationOptions  = "argocd.argoproj.io/sync-options"
	annotationApproved = "argocd.argoproj.io/deletion-approved"
	annotationCompare  = "argocd.argoproj.io/compare-options"
)

// Phase of a sync.
type Phase string

// The phases, in order. SyncFail runs only when another phase failed; PreDelete and PostDelete are of the deletion of an Application.
const (
	PreSync    Phase = "PreSync"
	Sync       Phase = "Sync"
	PostSync   Phase = "PostSync"
	SyncFail   Phase = "SyncFail"
	PreDelete  Phase = "PreDelete"
	PostDelete Phase = "PostDelete"
)

var phases = []Phase{PreSync, Sync, PostSync, SyncFail, PreDelete, PostDelete}

// skip, in place of a phase, has an object left as it is.
const skip = "Skip"

// Hook delete policies.
const (
	beforeHookCreation = "BeforeHookCreation"
	hookSucceeded      = "HookSucceeded"
	hookFailed         = "HookFailed"
)

var deletePolicies = []string{beforeHookCreation, hookSucceeded, hookFailed}

// Task is one thing to do in a sync: apply an object, prune one, or run a hook.
type Task struct {
	Phase Phase
	Wave  int
	Key   deploy.Key
	// Object is what to apply; nil for a prune.
	Object   *unstructured.Unstructured
	Prune    bool
	Hook     bool
	Policies []string
	Options  ObjectOptions
}

// ID names the task within its operation.
func (t Task) ID() string {
	if t.Prune {
		return "prune " + t.Key.String()
	}
	return string(t.Phase) + " " + t.Key.String()
}

// kindOrder is Argo CD's order of kinds within a wave; unknown kinds come last.
var kindOrder = []string{"Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "PodSecurityPolicy", "PodDisruptionBudget",
	"ServiceAccount", "Secret", "SecretList", "ConfigMap", "StorageClass", "PersistentVolume", "PersistentVolumeClaim",
	"CustomResourceDefinition", "ClusterRole", "ClusterRoleList", "ClusterRoleBinding", "ClusterRoleBindingList", "Role",
	"RoleList", "RoleBinding", "RoleBindingList", "Service", "DaemonSet", "Pod", "ReplicationController", "ReplicaSet",
	"Deployment", "HorizontalPodAutoscaler", "StatefulSet", "Job", "CronJob", "IngressClass", "Ingress", "APIService"}

func kindRank(kind string) int {
	if i := slices.Index(kindOrder, kind); i >= 0 {
		return i
	}
	return len(kindOrder)
}

// Helm's hooks and their delete policies in the words of Argo CD.
var (
	helmHooks = map[string]Phase{"pre-install": PreSync, "pre-upgrade": PreSync, "post-install": PostSync, "post-upgrade": PostSync,
		"pre-delete": PreDelete, "post-delete": PostDelete}
	helmPolicies = map[string]string{"before-hook-creation": beforeHookCreation, "hook-succeeded": hookSucceeded, "hook-failed": hookFailed}
)

// hooksOf gives the phases that an object is a hook in, and whether it is a hook at all. What is to be skipped is none.
func hooksOf(o *unstructured.Unstructured) (in []Phase, hook bool) {
	text, helm := o.GetAnnotations()[annotationHook], o.GetAnnotations()["helm.sh/hook"]
	var named []Phase
	switch {
	case text != "":
		if skipped(o) {
			return nil, false
		}
		for _, word := range words(text) {
			named = append(named, Phase(word))
		}
	case helm == "" || helm == "crd-install":
		return nil, false
	default:
		for _, word := range words(helm) {
			named = append(named, helmHooks[word])
		}
	}
	for _, phase := range named {
		if slices.Contains(phases, phase) && !slices.Contains(in, phase) {
			in = append(in, phase)
		}
	}
	return in, true
}

// IsHook reports whether an object is a hook, which is no part of the application's state.
func IsHook(o *unstructured.Unstructured) bool {
	_, hook := hooksOf(o)
	return hook
}

// Managed reports whether an object is compared and judged: it is no hook, and not to be skipped.
func Managed(o *unstructured.Unstructured) bool { return !IsHook(o) && !skipped(o) }

// skipped reports whether an object is to be left as it is.
func skipped(o *unstructured.Unstructured) bool {
	return slices.Contains(words(o.GetAnnotations()[annotationHook]), skip)
}

func words(list string) []string {
	var found []string
	for _, word := range strings.Split(list, ",") {
		if word = strings.TrimSpace(word); word != "" {
			found = append(found, word)
		}
	}
	return found
}

func waveOf(o *unstructured.Unstructured) int {
	for _, key := range []string{annotationWave, "helm.sh/hook-weight"} {
		if wave, err := strconv.Atoi(o.GetAnnotations()[key]); err == nil {
			return wave
		}
	}
	return 0
}

// policiesOf are the delete policies of a hook: its own, else Helm's, else the default.
func policiesOf(o *unstructured.Unstructured) []string {
	var found []string
	for _, word := range words(o.GetAnnotations()[annotationPolicy]) {
		if slices.Contains(deletePolicies, word) {
			found = append(found, word)
		}
	}
	for _, word := range words(o.GetAnnotations()["helm.sh/hook-delete-policy"]) {
		if policy, known := helmPolicies[word]; known && o.GetAnnotations()[annotationPolicy] == "" {
			found = append(found, policy)
		}
	}
	if len(found) == 0 {
		return []string{beforeHookCreation}
	}
	return found
}

// Tasks lists what a sync from live to desired consists of, in order. Objects that something else owns (a
// ReplicaSet's Pods) are never pruned: they go with their owner.
func Tasks(in Input) []Task {
	var tasks []Task
	wanted := map[deploy.Key]bool{}
	for _, o := range in.Desired {
		wanted[deploy.KeyOf(o)] = true
		hooked, hook := hooksOf(o)
		switch {
		case !hook && in.selected(o) && !skipped(o):
			tasks = append(tasks, Task{Phase: Sync, Wave: waveOf(o), Key: deploy.KeyOf(o), Object: o, Options: OptionsOf(o, in.Options)})
		case hook && len(in.Options.Resources) == 0: // a selective sync runs no hooks
			hooks := hookTasks(o, hooked, in, PreSync, Sync, PostSync, SyncFail)
			for _, t := range hooks {
				wanted[t.Key] = true
			}
			tasks = append(tasks, hooks...)
		}
	}
	namespacesFirst(tasks)
	tasks = append(tasks, prunes(in, wanted, tasks)...)
	slices.SortStableFunc(tasks, compareTasks)
	return tasks
}

func compareTasks(a, b Task) int {
	rank := cmp.Compare(kindRank(a.Key.Kind), kindRank(b.Key.Kind))
	if a.Prune && b.Prune {
		rank = -rank
	}
	first := func(t Task) int {
		if t.Prune {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(slices.Index(phases, a.Phase), slices.Index(phases, b.Phase)),
		cmp.Compare(a.Wave, b.Wave),
		cmp.Compare(first(a), first(b)),
		rank,
		cmp.Compare(a.Key.Kind, b.Key.Kind),
		cmp.Compare(a.Key.Namespace, b.Key.Namespace),
		cmp.Compare(a.Key.Name, b.Key.Name),
	)
}

// hookTasks are those of a hook, in some of its phases.
func hookTasks(o *unstructured.Unstructured, hooked []Phase, in Input, among ...Phase) []Task {
	var tasks []Task
	for _, phase := range hooked {
		if !slices.Contains(among, phase) {
			continue
		}
		h := nameHook(o, phase, in.Operation.Revision, in.Operation.StartedAt)
		tasks = append(tasks, Task{Phase: phase, Wave: waveOf(o), Key: deploy.KeyOf(h), Object: h, Hook: true,
			Policies: policiesOf(o), Options: OptionsOf(o, in.Options)})
	}
	return tasks
}

// nameHook completes a hook's generateName as Argo CD does: <7 of the commit>-<phase>-<unix time of the sync>.
func nameHook(o *unstructured.Unstructured, phase Phase, revision string, at time.Time) *unstructured.Unstructured {
	o = o.DeepCopy()
	if o.GetName() == "" && o.GetGenerateName() != "" {
		commit, _, _ := strings.Cut(revision, "+")
		o.SetName(fmt.Sprintf("%s%s-%s-%d", o.GetGenerateName(), commit[:min(7, len(commit))], strings.ToLower(string(phase)), at.Unix()))
	}
	return o
}

// Named are objects as a target can check them: in place of a hook that has no name of its own yet, one for each of its phases, with the name that it
// has in a sync to revision at the given time.
func Named(objects []*unstructured.Unstructured, revision string, at time.Time) []*unstructured.Unstructured {
	named := make([]*unstructured.Unstructured, 0, len(objects))
	for _, o := range objects {
		in, hook := hooksOf(o)
		if !hook || o.GetName() != "" {
			named = append(named, o)
			continue
		}
		for _, phase := range in {
			named = append(named, nameHook(o, phase, revision, at))
		}
	}
	return named
}

// namespacesFirst moves a Namespace, or a CustomResourceDefinition, to the earliest phase and wave that needs it.
func namespacesFirst(tasks []Task) {
	for i := range tasks {
		definition := tasks[i].Key.Kind == "CustomResourceDefinition"
		if tasks[i].Key.Kind != "Namespace" && !definition {
			continue
		}
		for _, t := range tasks {
			needs := t.Key.Namespace == tasks[i].Key.Name && !definition
			if definition {
				kind, _, _ := unstructured.NestedString(tasks[i].Object.Object, "spec", "names", "kind")
				group, _, _ := unstructured.NestedString(tasks[i].Object.Object, "spec", "group")
				needs = t.Key.Kind == kind && t.Key.Group == group
			}
			if !needs || t.Phase == SyncFail || t.Prune {
				continue
			}
			before := slices.Index(phases, t.Phase) - slices.Index(phases, tasks[i].Phase)
			if before < 0 {
				tasks[i].Phase, tasks[i].Wave = t.Phase, t.Wave
			} else if before == 0 {
				tasks[i].Wave = min(tasks[i].Wave, t.Wave)
			}
		}
	}
}

// prunes lists the objects to prune. Their distinct waves are swapped symmetrically, so that what came last goes
// first; PruneLast moves one behind the last wave.
func prunes(in Input, wanted map[deploy.Key]bool, tasks []Task) []Task {
	var found []Task
	if in.Operation.Planned {
		for _, p := range in.Operation.Prunes {
			if !wanted[p.Key] {
				found = append(found, Task{Phase: Sync, Wave: p.Wave, Key: p.Key, Prune: true})
			}
		}
		return found
	}
	if !in.Options.Prune {
		return nil
	}
	for _, o := range in.Live {
		if wanted[deploy.KeyOf(o)] || !prunable(o) || !in.selected(o) {
			continue
		}
		options := OptionsOf(o, in.Options)
		// What the Application protects no manifest gives up.
		approved := in.Options.Confirmed || o.GetAnnotations()[annotationApproved] != "" && !in.Options.ConfirmPrune
		if options.NoPrune || options.ConfirmPrune && !approved {
			continue
		}
		found = append(found, Task{Phase: Sync, Wave: waveOf(o), Key: deploy.KeyOf(o), Prune: true, Options: options})
	}
	var waves []int
	for _, t := range found {
		if !slices.Contains(waves, t.Wave) {
			waves = append(waves, t.Wave)
		}
	}
	slices.Sort(waves)
	last := math.MinInt
	for _, t := range tasks {
		if t.Phase == Sync {
			last = max(last, t.Wave)
		}
	}
	for i, t := range found {
		found[i].Wave = waves[len(waves)-1-slices.Index(waves, t.Wave)]
		last = max(last, found[i].Wave)
	}
	for i, t := range found {
		if t.Options.PruneLast {
			found[i].Wave = last + 1
		}
	}
	return found
}

func prunable(o *unstructured.Unstructured) bool {
	return len(o.GetOwnerReferences()) == 0 && !IsHook(o)
}
