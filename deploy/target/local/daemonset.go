package local

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// node are this machine's labels, as a kubelet gives them to its node.
func node() map[string]string {
	name, _ := os.Hostname() // without it no selector of it matches
	return map[string]string{corev1.LabelHostname: strings.ToLower(name), corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH,
		"beta.kubernetes.io/os": runtime.GOOS, "beta.kubernetes.io/arch": runtime.GOARCH}
}

// elsewhere says why a pod would not run on this machine; empty if it would.
func elsewhere(spec *corev1.PodSpec) string {
	have := node()
	if spec.NodeName != "" && spec.NodeName != have[corev1.LabelHostname] {
		return fmt.Sprintf("it is for the node %s, and this machine is %s", spec.NodeName, have[corev1.LabelHostname])
	}
	for _, key := range slices.Sorted(maps.Keys(spec.NodeSelector)) {
		if have[key] != spec.NodeSelector[key] {
			return fmt.Sprintf("its nodeSelector asks for %s=%s, which this machine has not: it has %s", key, spec.NodeSelector[key], labels.Set(have))
		}
	}
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil || spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		if len(term.MatchExpressions)+len(term.MatchFields) > 0 && matchAll(term.MatchExpressions, have) &&
			matchAll(term.MatchFields, map[string]string{"metadata.name": have[corev1.LabelHostname]}) {
			return ""
		}
	}
	return fmt.Sprintf("its node affinity leaves this machine out, which has the labels %s", labels.Set(have))
}

// matchAll says that labels meet every requirement; one that cannot be understood is not met.
func matchAll(list []corev1.NodeSelectorRequirement, have map[string]string) bool {
	operators := map[corev1.NodeSelectorOperator]selection.Operator{
		corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn, corev1.NodeSelectorOpExists: selection.Exists,
		corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist, corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
	}
	for _, r := range list {
		wanted, err := labels.NewRequirement(r.Key, operators[r.Operator], r.Values)
		if err != nil || !wanted.Matches(labels.Set(have)) {
			return false
		}
	}
	return true
}

// daemons is a DaemonSet as it is looked at once, with its pods of the present template and of older ones, the oldest first.
type daemons struct {
	*object
	set     *appsv1.DaemonSet
	present *revision
	here    bool // a pod is to run on this machine
	fresh   []*pod
	old     []*pod
	leaving bool // one is on its way out
}

// daemonSet keeps one pod running, since there is one machine.
func (t *Target) daemonSet(o *object) {
	d := &daemons{object: o, set: typedOf[appsv1.DaemonSet](o)}
	revisions := t.revisions(o, d.set.Spec.Template)
	if len(revisions) == 0 {
		return
	}
	d.present = revisions[len(revisions)-1]
	d.here = elsewhere(&d.set.Spec.Template.Spec) == ""
	used := map[string]bool{d.present.hash: true}
	for _, p := range t.podsOf(o) {
		hash := p.live.GetLabels()[revisionLabel]
		used[hash] = true
		switch {
		case p.deleting():
			d.leaving = true
		case p.Ended:
			t.dismiss(p.last, p.object)
			d.leaving = true
		case hash == d.present.hash:
			d.fresh = append(d.fresh, p)
		default:
			d.old = append(d.old, p)
		}
	}
	byAge := func(a, b *pod) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Key.Name, b.Key.Name))
	}
	slices.SortFunc(d.fresh, byAge)
	slices.SortFunc(d.old, byAge)
	t.daemonStatus(d)
	t.moveDaemon(d)
	t.forgetRevisions(revisions, d.set.Spec.RevisionHistoryLimit, func(r *revision) bool { return used[r.hash] })
}

// moveDaemon makes the pod that is missing, and replaces one with an old template: first the old one goes, or, with a surge, first the new one comes.
func (t *Target) moveDaemon(d *daemons) {
	if !d.here {
		for _, p := range slices.Concat(d.fresh, d.old) {
			t.dismiss(d.last, p.object)
		}
		return
	}
	surge := surges(d.set)
	if len(d.fresh)+len(d.old) == 0 {
		if !d.leaving || surge {
			t.newDaemon(d)
		}
		return
	}
	for _, p := range slices.Concat(tail(d.fresh), tail(d.old)) {
		t.dismiss(d.last, p.object)
	}
	if len(d.old) == 0 || d.set.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
		return
	}
	old, serves := d.old[0], t.isAvailable(d.old[0], d.set.Spec.MinReadySeconds)
	switch {
	case len(d.fresh) == 0 && surge && serves:
		t.newDaemon(d)
	case len(d.fresh) == 0, !serves, t.isAvailable(d.fresh[0], d.set.Spec.MinReadySeconds):
		t.dismiss(d.last, old.object)
	}
}

func tail(list []*pod) []*pod { return list[min(1, len(list)):] }

// surges says that the new pod is made before the old one goes.
func surges(d *appsv1.DaemonSet) bool {
	r := d.Spec.UpdateStrategy.RollingUpdate
	if r == nil || r.MaxSurge == nil || d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
		return false
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxSurge, 1, true)
	return err == nil && n > 0
}

func (t *Target) newDaemon(d *daemons) {
	template := d.set.Spec.Template.DeepCopy()
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Labels[revisionLabel], template.Labels["pod-template-generation"] = d.present.hash, strconv.FormatInt(d.live.GetGeneration(), 10)
	t.newPod(d.object, d.Key.Name+"-"+random(3)[:5], *template)
	t.poke()
}

// daemonStatus is the status in Kubernetes' shape, where a node is counted by its oldest pod.
func (t *Target) daemonStatus(d *daemons) {
	zero := int32(0)
	status := appsv1.DaemonSetStatus{ObservedGeneration: d.live.GetGeneration(), CollisionCount: &zero}
	pods := slices.Concat(d.old, d.fresh)
	if !d.here {
		status.NumberMisscheduled = int32(min(len(pods), 1))
		t.setStatus(d.object, status, d.last)
		return
	}
	status.DesiredNumberScheduled = 1
	if len(pods) > 0 {
		status.CurrentNumberScheduled = 1
		status.UpdatedNumberScheduled = int32(min(len(d.fresh), 1-min(len(d.old), 1)))
		if pods[0].ready() {
			status.NumberReady = 1
		}
		if t.isAvailable(pods[0], d.set.Spec.MinReadySeconds) {
			status.NumberAvailable = 1
		}
	}
	status.NumberUnavailable = 1 - status.NumberAvailable
	t.setStatus(d.object, status, d.last)
}

func (c *checker) daemonSet(d *appsv1.DaemonSet) {
	template := d.Spec.Template.DeepCopy()
	if why := elsewhere(&template.Spec); why != "" {
		c.say(false, "spec.template.spec", "no pod runs: %s", why)
	}
	template.Spec.NodeSelector, template.Spec.Affinity, template.Spec.NodeName = nil, nil, ""
	c.template("spec.template", *template)
}
