package local

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tiphys/tiphys/deploy"
)

// Labels of a StatefulSet's pods.
const (
	podNameLabel  = "statefulset.kubernetes.io/pod-name"
	podIndexLabel = "apps.kubernetes.io/pod-index"
)

// stateful is a StatefulSet as it is looked at once.
type stateful struct {
	*object
	spec appsv1.StatefulSetSpec
	// first is the first ordinal, replicas are how many there shall be, partition is the ordinal below which the pods keep the old template.
	first, replicas, partition int
	// members are its pods by ordinal, those that leave included.
	members map[int]*pod
	// present is the revision of its template, old that of pods below the partition.
	present, old *revision
	// ordered says that a pod waits for those before it.
	ordered, rolling bool
	// taken is a name that it needs and another object has.
	taken string
}

func (t *Target) stateful(o *object) (*stateful, []*revision) {
	typed := typedOf[appsv1.StatefulSet](o)
	s := &stateful{object: o, spec: typed.Spec, replicas: int(count(typed.Spec.Replicas)), members: map[int]*pod{},
		ordered: typed.Spec.PodManagementPolicy != appsv1.ParallelPodManagement, rolling: typed.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType}
	if typed.Spec.Ordinals != nil {
		s.first = int(typed.Spec.Ordinals.Start)
	}
	s.partition = s.first
	if r := typed.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil && s.rolling {
		s.partition += int(*r.Partition)
	}
	for _, p := range t.podsOf(o) {
		if n, ok := ordinal(o.Key.Name, p.Key.Name); ok {
			s.members[n] = p
		}
	}
	revisions := t.revisions(o, typed.Spec.Template)
	if len(revisions) == 0 {
		return nil, nil
	}
	s.present = revisions[len(revisions)-1]
	s.old = s.present
	for _, r := range revisions {
		if r.Key.Name == typed.Status.CurrentRevision {
			s.old = r
		}
	}
	return s, revisions
}

// ordinal is the number at the end of a pod's name.
func ordinal(set, pod string) (int, bool) {
	text, is := strings.CutPrefix(pod, set+"-")
	n, err := strconv.Atoi(text)
	return n, is && err == nil && n >= 0 && strconv.Itoa(n) == text
}

// within says that an ordinal is among those that there shall be.
func (s *stateful) within(n int) bool { return n >= s.first && n < s.first+s.replicas }

// revisionOf is the revision that a new pod gets: below the partition the old one.
func (s *stateful) revisionOf(n int) *revision {
	if s.rolling && n < s.partition {
		return s.old
	}
	return s.present
}

// outdated says that a rolling update is to replace a pod.
func (s *stateful) outdated(n int, p *pod) bool {
	return s.rolling && n >= s.partition && p.live.GetLabels()[revisionLabel] != s.present.Key.Name
}

// statefulSet moves a StatefulSet on by as much as its order allows now: those that are missing, in order, then those that are too many, from the
// highest, then those with an old template, from the highest.
func (t *Target) statefulSet(o *object) {
	s, revisions := t.stateful(o)
	if s == nil {
		return
	}
	t.keepClaims(s)
	if t.fill(s) && t.shrink(s) {
		t.update(s)
	}
	t.statefulStatus(s)
	t.forgetRevisions(revisions, s.spec.RevisionHistoryLimit, func(r *revision) bool {
		if r == s.present || r == s.old {
			return true
		}
		for _, p := range s.members {
			if p.live.GetLabels()[revisionLabel] == r.Key.Name {
				return true
			}
		}
		return false
	})
}

// keepClaims brings the claims of pods that there are in line with the policy, and lets those go whose pod went for good.
func (t *Target) keepClaims(s *stateful) {
	for _, c := range t.children(s.object, "PersistentVolumeClaim") {
		t.keep(s, c)
	}
}

// fill makes the pods that are missing. In order it goes no further than the first that is not available; true says that all are.
func (t *Target) fill(s *stateful) bool {
	for n := s.first; n < s.first+s.replicas; n++ {
		there := t.memberClaims(s, n)
		p := s.members[n]
		available := false
		switch {
		case p == nil && there:
			t.newMember(s, n)
		case p == nil || p.deleting():
		case p.Ended:
			t.dismiss(p.last, p.object)
		case t.isAvailable(p, s.spec.MinReadySeconds):
			available = true
		case s.ordered && s.outdated(n, p):
			// It serves nobody and would keep the update from ever reaching it.
			t.dismiss(s.last, p.object)
		}
		if !available && s.ordered {
			return false
		}
	}
	return true
}

// newMember makes the pod of an ordinal.
func (t *Target) newMember(s *stateful, n int) {
	r := s.revisionOf(n)
	name := fmt.Sprintf("%s-%d", s.Key.Name, n)
	if other := t.objects.byKey[deploy.Key{Kind: "Pod", Namespace: s.Key.Namespace, Name: name}]; other != nil {
		s.taken = "Pod " + name
		return
	}
	template := r.template.DeepCopy()
	template.Labels = maps.Clone(template.Labels)
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Labels[podNameLabel], template.Labels[podIndexLabel], template.Labels[revisionLabel] = name, strconv.Itoa(n), r.Key.Name
	template.Spec.Hostname, template.Spec.Subdomain = name, s.spec.ServiceName
	for _, c := range s.spec.VolumeClaimTemplates {
		template.Spec.Volumes = slices.DeleteFunc(template.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == c.Name })
		source := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: s.claimName(c.Name, n)}
		template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: source}})
	}
	t.newPod(s.object, name, *template)
	t.poke()
}

// shrink lets pods beyond the replicas go, from the highest, in order one after the other. True says that there is none.
func (t *Target) shrink(s *stateful) bool {
	done := true
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(s.members))) {
		if s.within(n) {
			continue
		}
		p := s.members[n]
		done = false
		if !p.deleting() {
			t.leave(s, n, p)
		}
		if s.ordered {
			return false
		}
	}
	return done
}

// update replaces pods with an old template from the highest, as many at the same time as maxUnavailable says: one, if it says nothing.
// A pod that is not available anyway is not counted when it is replaced.
func (t *Target) update(s *stateful) {
	if !s.rolling {
		return
	}
	unavailable := 0
	for n := s.first; n < s.first+s.replicas; n++ {
		if p := s.members[n]; p == nil || p.deleting() || !t.isAvailable(p, s.spec.MinReadySeconds) {
			unavailable++
		}
	}
	most := 1
	if r := s.spec.UpdateStrategy.RollingUpdate; r != nil && r.MaxUnavailable != nil {
		if n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, s.replicas, false); err == nil {
			most = max(n, 1)
		}
	}
	for n := s.first + s.replicas - 1; n >= max(s.partition, s.first); n-- {
		p := s.members[n]
		if p == nil || p.deleting() || !s.outdated(n, p) {
			continue
		}
		if t.isAvailable(p, s.spec.MinReadySeconds) {
			if unavailable >= most {
				return
			}
			unavailable++
		}
		t.dismiss(s.last, p.object)
	}
}

// statefulStatus is the status in Kubernetes' shape.
func (t *Target) statefulStatus(s *stateful) {
	zero := int32(0)
	status := appsv1.StatefulSetStatus{ObservedGeneration: s.live.GetGeneration(), CurrentRevision: s.old.Key.Name, UpdateRevision: s.present.Key.Name, CollisionCount: &zero}
	for _, p := range s.members {
		status.Replicas++
		if p.ready() {
			status.ReadyReplicas++
			if t.isAvailable(p, s.spec.MinReadySeconds) {
				status.AvailableReplicas++
			}
		}
		if p.deleting() {
			continue
		}
		switch revision := p.live.GetLabels()[revisionLabel]; {
		case revision == status.CurrentRevision && revision == status.UpdateRevision:
			status.CurrentReplicas++
			status.UpdatedReplicas++
		case revision == status.CurrentRevision:
			status.CurrentReplicas++
		case revision == status.UpdateRevision:
			status.UpdatedReplicas++
		}
	}
	wanted := int32(s.replicas)
	if s.rolling && status.UpdatedReplicas == wanted && status.ReadyReplicas == wanted && status.Replicas == wanted {
		status.CurrentReplicas, status.CurrentRevision = status.UpdatedReplicas, status.UpdateRevision
	}
	if s.taken != "" {
		status.Conditions = []appsv1.StatefulSetCondition{{Type: "FailedCreate", Status: corev1.ConditionTrue, Reason: "NameTaken",
			Message: s.taken + " is there already and is not of this StatefulSet: delete it, or choose another name"}}
	}
	t.setStatus(s.object, status, s.last)
}

// claimName is the name of the claim that a pod gets of a template.
func (s *stateful) claimName(template string, n int) string {
	return fmt.Sprintf("%s-%s-%d", template, s.Key.Name, n)
}

// memberClaims has the claims of an ordinal made, and says whether all are there.
func (t *Target) memberClaims(s *stateful, n int) bool {
	all := true
	for i := range s.spec.VolumeClaimTemplates {
		template := &s.spec.VolumeClaimTemplates[i]
		name := s.claimName(template.Name, n)
		old := t.objects.byKey[claimKey(s.Key.Namespace, name)]
		switch {
		case old == nil:
			all = t.newClaim(s, template, name) && all
		case old.deleting():
			all = false
		case old.Application != s.Application:
			s.taken = "PersistentVolumeClaim " + name
			all = false
		default:
			t.adoptClaim(s, old)
		}
	}
	return all
}

// newClaim makes a claim of a template.
func (t *Target) newClaim(s *stateful, template *corev1.PersistentVolumeClaim, name string) bool {
	what := "make a claim of " + s.Key.String()
	o := t.child(s.object, "v1", "PersistentVolumeClaim", name, map[string]any{"spec": toTree(template.Spec)})
	labels := maps.Clone(template.Labels)
	if s.spec.Selector != nil {
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, s.spec.Selector.MatchLabels)
	}
	notes := map[string]string{}
	for key, value := range template.Annotations {
		if !strings.HasPrefix(key, notePrefix) {
			notes[key] = value
		}
	}
	t.reclaims(o, notes)
	if reason := s.keeps(); reason != "" {
		notes[deploy.AnnotationKept] = reason
	}
	o.live.SetLabels(labels)
	o.live.SetAnnotations(notes)
	if err := o.encode(); err != nil {
		t.wrong(what, err)
		return false
	}
	t.troubles.Over(what)
	if !t.log(change{kind: deploy.KindObjectCreated, o: o, cause: s.last}) {
		return false
	}
	t.bind(o)
	return true
}

// keeps says why claims stay when the StatefulSet goes; empty if they go. Those of a preview go.
func (s *stateful) keeps() string {
	policy := s.spec.PersistentVolumeClaimRetentionPolicy
	if s.For.MergeRequest != 0 || policy != nil && policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		return ""
	}
	return "persistentVolumeClaimRetentionPolicy.whenDeleted is Retain"
}

// adoptClaim takes over a claim that a StatefulSet of the same name left. One that was declared by itself stays as it is.
func (t *Target) adoptClaim(s *stateful, c *object) {
	refs := c.live.GetOwnerReferences()
	if len(refs) != 1 || refs[0].Kind != "StatefulSet" || refs[0].Name != s.Key.Name || refs[0].UID == metaUID(s.UID) {
		return
	}
	c.live.SetOwnerReferences([]metav1.OwnerReference{s.ownedBy()})
	if t.log(change{kind: deploy.KindObjectChanged, o: c, cause: s.last}) {
		t.keep(s, c)
	}
}

// goesNote is on a claim that goes with a pod: the pod's uid.
const goesNote = notePrefix + "goes-with"

// leave lets a pod go that is one too many, and, if the policy says so, its claims with it.
func (t *Target) leave(s *stateful, n int, p *pod) {
	policy := s.spec.PersistentVolumeClaimRetentionPolicy
	if policy != nil && policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		for _, c := range t.children(s.object, "PersistentVolumeClaim") {
			if at, is := ordinal(claimPrefix(s, c), c.Key.Name); !is || at != n || c.deleting() {
				continue
			}
			if !t.note(c, goesNote, p.UID, s.last) {
				return
			}
		}
	}
	t.dismiss(s.last, p.object)
}

// claimPrefix is what stands before the ordinal in a claim's name; the claim's own name if it is of no template.
func claimPrefix(s *stateful, c *object) string {
	for _, template := range s.spec.VolumeClaimTemplates {
		if prefix := template.Name + "-" + s.Key.Name; strings.HasPrefix(c.Key.Name, prefix+"-") {
			if _, is := ordinal(prefix, c.Key.Name); is {
				return prefix
			}
		}
	}
	return c.Key.Name
}

// keep brings one of a StatefulSet's claims in line with its policy, and lets it go when the pod has gone with which it goes.
func (t *Target) keep(s *stateful, c *object) {
	if c.deleting() {
		return
	}
	if uid := c.live.GetAnnotations()[goesNote]; uid != "" && t.pods[uid] == nil {
		t.dismiss(s.last, c)
		return
	}
	t.note(c, deploy.AnnotationKept, s.keeps(), s.last)
}

// note sets one of the target's own annotations; empty removes it. False says that it could not be recorded.
func (t *Target) note(o *object, name, value string, cause int64) bool {
	notes := o.live.GetAnnotations()
	if notes[name] == value {
		return true
	}
	if notes == nil {
		notes = map[string]string{}
	}
	notes[name] = value
	if value == "" {
		delete(notes, name)
	}
	o.live.SetAnnotations(notes)
	return t.log(change{kind: deploy.KindObjectChanged, o: o, cause: cause})
}

func (c *checker) statefulSet(s *appsv1.StatefulSet) {
	c.replicas("spec.replicas", s.Spec.Replicas)
	if o := s.Spec.Ordinals; o != nil && (o.Start < 0 || o.Start > maxOrdinal) {
		c.say(true, "spec.ordinals.start", "from 0 to %d", maxOrdinal)
	}
	template := s.Spec.Template.DeepCopy()
	for i, claim := range s.Spec.VolumeClaimTemplates {
		path := fmt.Sprintf("spec.volumeClaimTemplates[%d]", i)
		if c.t.o.Claims == nil && !c.alone {
			c.say(true, path, "pods have no durable volumes here")
		}
		name := fmt.Sprintf("%s-%s-%d", claim.Name, c.key.Name, maxOrdinal)
		c.claimSpec(path+".spec", name, claim.Annotations, &claim.Spec)
		template.Spec.Volumes = slices.DeleteFunc(template.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == claim.Name })
		source := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: cmp.Or(name, "claim")}
		template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: claim.Name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: source}})
	}
	c.template("spec.template", *template)
}

// maxOrdinal bounds the ordinals of a StatefulSet's pods, so that their names stay names.
const maxOrdinal = 1_000_000
