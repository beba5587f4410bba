package local

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tiphys/tiphys/deploy"
)

const (
	hashLabel          = "pod-template-hash"
	revisionAnnotation = "deployment.kubernetes.io/revision"
	// Kubernetes' defaults.
	defaultProgressDeadline = 600 * time.Second
	defaultHistory          = 10
)

var zeroTime time.Time

// templateHash names a pod template; equal templates have equal ReplicaSets.
func templateHash(template corev1.PodTemplateSpec) string {
	raw, err := json.Marshal(template)
	if err != nil {
		return "0"
	}
	h := fnv.New64a()
	_, _ = h.Write(raw)
	return strconv.FormatUint(h.Sum64()&0xffffffffff, 36)
}

// set is a ReplicaSet of a Deployment with what counts about it.
type set struct {
	*object
	spec      *appsv1.ReplicaSet
	revision  int64
	replicas  int32 // wanted
	available int32
	ready     int32
	existing  int32 // pods that are not on their way out
}

// is reports whether a ReplicaSet is that of a template. One of before the defaults were kept has another label, and the same template now that it was
// completed.
func (s *set) is(hash string) bool {
	if s.live.GetLabels()[hashLabel] == hash {
		return true
	}
	template := s.spec.Spec.Template.DeepCopy()
	delete(template.Labels, hashLabel)
	return templateHash(*template) == hash
}

func (t *Target) sets(d *object) []*set {
	var found []*set
	for _, o := range t.children(d, "ReplicaSet") {
		if o.deleting() {
			continue
		}
		s := &set{object: o, spec: typedOf[appsv1.ReplicaSet](o)}
		s.revision, _ = strconv.ParseInt(o.live.GetAnnotations()[revisionAnnotation], 10, 64)
		s.replicas = count(s.spec.Spec.Replicas)
		for _, p := range t.podsOf(o) {
			if p.deleting() || p.Ended {
				continue
			}
			s.existing++
			if p.ready() {
				s.ready++
				if t.isAvailable(p, s.spec.Spec.MinReadySeconds) {
					s.available++
				}
			}
		}
		found = append(found, s)
	}
	slices.SortFunc(found, func(a, b *set) int {
		return cmp.Or(cmp.Compare(a.revision, b.revision), a.Created.Compare(b.Created))
	})
	return found
}

func count(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// bounds are maxSurge and maxUnavailable in pods, resolved as Kubernetes does: surge rounds up, unavailable down, and
// both 0 means one unavailable.
func bounds(d *appsv1.Deployment) (surge, unavailable int32) {
	replicas := int(count(d.Spec.Replicas))
	quarter := intstr.FromString("25%")
	up, down := &quarter, &quarter
	if r := d.Spec.Strategy.RollingUpdate; r != nil {
		if r.MaxSurge != nil {
			up = r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			down = r.MaxUnavailable
		}
	}
	s, err1 := intstr.GetScaledValueFromIntOrPercent(up, replicas, true)
	u, err2 := intstr.GetScaledValueFromIntOrPercent(down, replicas, false)
	if err1 != nil || err2 != nil || (s <= 0 && u <= 0) {
		return 0, 1
	}
	return int32(s), int32(u)
}

// deployment moves a rollout on by as much as its strategy allows now.
func (t *Target) deployment(o *object) {
	d := typedOf[appsv1.Deployment](o)
	sets := t.sets(o)
	hash := templateHash(d.Spec.Template)
	var fresh *set
	var old []*set
	for _, s := range sets {
		if s.is(hash) {
			fresh = s
		} else {
			old = append(old, s)
		}
	}
	if d.Spec.Paused {
		t.scalePaused(d, sets)
		return
	}
	if fresh == nil {
		if fresh = t.newSet(o, d, hash, sets); fresh == nil {
			return
		}
	} else if len(old) > 0 && old[len(old)-1].revision > fresh.revision {
		t.annotate(fresh.object, strconv.FormatInt(old[len(old)-1].revision+1, 10), o.last)
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		t.recreate(d, fresh, old)
	} else {
		t.roll(d, fresh, old)
	}
	t.forgetSets(d, old)
}

// newSet makes the ReplicaSet of a new template, without pods yet.
func (t *Target) newSet(o *object, d *appsv1.Deployment, hash string, sets []*set) *set {
	revision := int64(1)
	if n := len(sets); n > 0 {
		revision = sets[n-1].revision + 1
	}
	template := d.Spec.Template.DeepCopy()
	labels := map[string]string{hashLabel: hash}
	for key, value := range template.Labels {
		labels[key] = value
	}
	template.Labels = labels
	zero := int32(0)
	spec, err := treeOf(appsv1.ReplicaSetSpec{Replicas: &zero, MinReadySeconds: d.Spec.MinReadySeconds,
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: *template})
	what := "make a ReplicaSet of " + o.Key.String()
	if err != nil {
		t.wrong(what, err)
		return nil
	}
	t.troubles.Over(what)
	rs := t.child(o, "apps/v1", "ReplicaSet", o.Key.Name+"-"+hash, map[string]any{"spec": spec})
	rs.live.SetLabels(labels)
	rs.live.SetAnnotations(map[string]string{revisionAnnotation: strconv.FormatInt(revision, 10)})
	if t.objects.byKey[rs.Key] != nil {
		return nil // One of the same name is on its way out.
	}
	if !t.log(change{kind: deploy.KindObjectCreated, o: rs, cause: o.last}) {
		return nil
	}
	t.annotate(o, strconv.FormatInt(revision, 10), rs.last)
	return &set{object: rs, spec: typedOf[appsv1.ReplicaSet](rs), revision: revision}
}

func (t *Target) annotate(o *object, revision string, cause int64) {
	notes := o.live.GetAnnotations()
	if notes == nil {
		notes = map[string]string{}
	}
	if notes[revisionAnnotation] == revision {
		return
	}
	notes[revisionAnnotation] = revision
	o.live.SetAnnotations(notes)
	t.log(change{kind: deploy.KindObjectChanged, o: o, cause: cause})
	t.poke()
}

// scale sets a ReplicaSet's wish.
func (t *Target) scale(s *set, replicas int32, cause int64) {
	replicas = max(replicas, 0)
	if replicas == s.replicas {
		return
	}
	if err := unstructured.SetNestedField(s.live.Object, int64(replicas), "spec", "replicas"); err != nil {
		return
	}
	s.live.SetGeneration(s.live.GetGeneration() + 1)
	if t.log(change{kind: deploy.KindObjectChanged, o: s.object, cause: cause}) {
		s.replicas = replicas
		t.poke()
	}
}

// scalePaused keeps the number of pods without changing which.
func (t *Target) scalePaused(d *appsv1.Deployment, sets []*set) {
	for i := len(sets) - 1; i >= 0; i-- {
		if sets[i].replicas > 0 {
			rest := int32(0)
			for j := range sets {
				if j != i {
					rest += sets[j].replicas
				}
			}
			t.scale(sets[i], count(d.Spec.Replicas)-rest, sets[i].last)
			return
		}
	}
}

func (t *Target) recreate(d *appsv1.Deployment, fresh *set, old []*set) {
	gone := true
	for _, s := range old {
		t.scale(s, 0, fresh.last)
		gone = gone && len(t.podsOf(s.object)) == 0
	}
	if gone {
		t.scale(fresh, count(d.Spec.Replicas), fresh.last)
	}
}

// roll is Kubernetes' rolling update: never more than replicas+surge wanted, never fewer than replicas-unavailable
// available.
func (t *Target) roll(d *appsv1.Deployment, fresh *set, old []*set) {
	replicas := count(d.Spec.Replicas)
	surge, unavailable := bounds(d)
	total, available := fresh.replicas, fresh.available
	for _, s := range old {
		total += s.replicas
		available += s.available
	}
	switch {
	case fresh.replicas > replicas:
		t.scale(fresh, replicas, fresh.last)
	case fresh.replicas < replicas && total < replicas+surge:
		t.scale(fresh, fresh.replicas+min(replicas-fresh.replicas, replicas+surge-total), fresh.last)
	}
	least := replicas - unavailable
	// Pods that serve nobody go first, as long as the new ones that do not serve yet are paid for.
	spare := total - least - max(fresh.replicas-fresh.available, 0)
	for _, s := range old {
		idle := min(s.replicas-s.available, spare)
		if idle > 0 {
			spare -= idle
			t.scale(s, s.replicas-idle, fresh.last)
		}
	}
	spare = available - least
	for _, s := range old {
		if n := min(s.available, s.replicas, spare); n > 0 {
			spare -= n
			t.scale(s, s.replicas-n, fresh.last)
		}
	}
}

// beyond is how many of n are too many for a limit, which is the standard one where none is named.
func beyond(n int, limit *int32, standard int) int {
	if limit != nil {
		standard = max(int(*limit), 0)
	}
	return max(n-standard, 0)
}

// forgetSets deletes the oldest empty ReplicaSets beyond the history limit.
func (t *Target) forgetSets(d *appsv1.Deployment, old []*set) {
	for i := range beyond(len(old), d.Spec.RevisionHistoryLimit, defaultHistory) {
		if old[i].replicas == 0 && len(t.podsOf(old[i].object)) == 0 {
			t.dismiss(old[i].last, old[i].object)
		}
	}
}

// replicaSet makes or removes pods until there are as many as wanted.
func (t *Target) replicaSet(o *object) {
	s := typedOf[appsv1.ReplicaSet](o)
	var active []*pod
	for _, p := range t.podsOf(o) {
		if !p.deleting() && !p.Ended {
			active = append(active, p)
		}
	}
	wanted := int(count(s.Spec.Replicas))
	for i := len(active); i < wanted; i++ {
		t.newPod(o, o.Key.Name+"-"+random(3)[:5], s.Spec.Template)
	}
	// The least useful first: not ready, then the youngest.
	slices.SortFunc(active, func(a, b *pod) int {
		rank := func(p *pod) int {
			if p.ready() {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), b.Created.Compare(a.Created), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	for i := 0; i < len(active)-wanted; i++ {
		t.dismiss(o.last, active[i].object)
	}
	status := appsv1.ReplicaSetStatus{ObservedGeneration: o.live.GetGeneration()}
	for _, p := range t.podsOf(o) {
		if p.deleting() || p.Ended {
			continue
		}
		status.Replicas++
		status.FullyLabeledReplicas++
		if p.ready() {
			status.ReadyReplicas++
			if t.isAvailable(p, s.Spec.MinReadySeconds) {
				status.AvailableReplicas++
			}
		}
	}
	before := s.Status
	t.setStatus(o, status, o.last)
	if before.AvailableReplicas != status.AvailableReplicas {
		t.poke()
	}
}

// newPod makes a pod from a template and has it started.
func (t *Target) newPod(owner *object, name string, template corev1.PodTemplateSpec) {
	spec, err := treeOf(template.Spec)
	what := "make a pod of " + owner.Key.String()
	if err != nil {
		t.wrong(what, err)
		return
	}
	t.troubles.Over(what)
	o := t.child(owner, "v1", "Pod", name, map[string]any{"spec": spec})
	o.live.SetLabels(template.Labels)
	o.live.SetAnnotations(template.Annotations)
	o.State = string(corev1.PodPending)
	if t.log(change{kind: deploy.KindObjectCreated, o: o, cause: owner.last}) {
		t.adopt(t.pods[o.UID])
	}
}

// deploymentStatus is the status in Kubernetes' shape; kubectl and health read the same fields.
func (t *Target) deploymentStatus(o *object) {
	if o.deleting() {
		return
	}
	d := typedOf[appsv1.Deployment](o)
	hash := templateHash(d.Spec.Template)
	status := appsv1.DeploymentStatus{ObservedGeneration: o.live.GetGeneration()}
	for _, s := range t.sets(o) {
		status.Replicas += s.existing
		status.ReadyReplicas += s.ready
		status.AvailableReplicas += s.available
		if s.is(hash) {
			status.UpdatedReplicas += s.existing
		}
	}
	wanted := count(d.Spec.Replicas)
	status.UnavailableReplicas = max(wanted-status.AvailableReplicas, 0)
	_, unavailable := bounds(d)
	now := t.o.Now().UTC()
	available := appsv1.DeploymentCondition{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse,
		Reason: "MinimumReplicasUnavailable", Message: "Deployment does not have minimum availability."}
	if status.AvailableReplicas >= wanted-unavailable {
		available.Status, available.Reason, available.Message = corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability."
	}
	status.Conditions = append(status.Conditions, settle(d, available, now), t.progress(o, d, status, now))
	t.setStatus(o, status, o.last)
}

// settle keeps a condition's times while it does not change.
func settle(d *appsv1.Deployment, c appsv1.DeploymentCondition, now time.Time) appsv1.DeploymentCondition {
	for _, old := range d.Status.Conditions {
		if old.Type == c.Type && old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message {
			return old
		}
	}
	c.LastTransitionTime, c.LastUpdateTime = metav1.NewTime(now), metav1.NewTime(now)
	return c
}

// progress is the condition Progressing. Its message counts, so that its time is when something last moved.
func (t *Target) progress(o *object, d *appsv1.Deployment, s appsv1.DeploymentStatus, now time.Time) appsv1.DeploymentCondition {
	c := appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue}
	wanted := count(d.Spec.Replicas)
	if d.Spec.Paused {
		c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "DeploymentPaused", "Deployment is paused"
		return settle(d, c, now)
	}
	if s.UpdatedReplicas == wanted && s.Replicas == wanted && s.AvailableReplicas == wanted {
		c.Reason, c.Message = "NewReplicaSetAvailable", fmt.Sprintf("Generation %d has successfully progressed.", o.live.GetGeneration())
		return settle(d, c, now)
	}
	deadline := defaultProgressDeadline
	if d.Spec.ProgressDeadlineSeconds != nil {
		deadline = time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
	}
	c.Reason = "ReplicaSetUpdated"
	c.Message = fmt.Sprintf("Generation %d is progressing: %d updated, %d available, %d old.", o.live.GetGeneration(),
		s.UpdatedReplicas, s.AvailableReplicas, s.Replicas-s.UpdatedReplicas)
	late := appsv1.DeploymentCondition{Type: c.Type, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded",
		Message: fmt.Sprintf("Generation %d has not progressed for %s.", o.live.GetGeneration(), deadline)}
	for _, old := range d.Status.Conditions {
		if old.Type != c.Type {
			continue
		}
		if old.Reason == late.Reason && old.Message == late.Message {
			return old
		}
		if old.Reason == c.Reason && old.Message == c.Message {
			if due := old.LastTransitionTime.Add(deadline); now.Before(due) {
				t.at(due)
				return old
			}
			return settle(d, late, now)
		}
	}
	t.at(now.Add(deadline))
	return settle(d, c, now)
}
