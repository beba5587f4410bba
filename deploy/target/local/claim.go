package local

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/executor"
)

// A PersistentVolumeClaim stands for a volume of the executor that has the claim's uid in its name. So no other claim, whatever its name and
// whoever declares it, is ever given what was in it.

// reclaimAnnotation is on a PersistentVolumeClaim, or on a template of claims, and says whether the volume goes with it: Delete (the default)
// or Retain.
const reclaimAnnotation = "tiphys.dev/reclaim-policy"

// reclaimNote keeps the policy that a claim has since it was made, as a PersistentVolume does in Kubernetes.
const reclaimNote = notePrefix + "reclaim-policy"

// defaultClass is on the StorageClass of claims that name none.
const defaultClass = "storageclass.kubernetes.io/is-default-class"

// maxClaimName bounds the names of claims, in bytes.
const maxClaimName = 200

func claimKey(namespace, name string) deploy.Key {
	return deploy.Key{Kind: "PersistentVolumeClaim", Namespace: namespace, Name: name}
}

// volume is what the executor has for a claim.
func (o *object) volume() executor.Claim {
	return executor.Claim{Namespace: o.Key.Namespace, Name: "pvc-" + o.UID, Owner: OwnerPrefix + o.UID, Spec: typedOf[corev1.PersistentVolumeClaim](o).Spec}
}

func (c *checker) claim(p *corev1.PersistentVolumeClaim) {
	if c.t.o.Claims == nil && !c.alone {
		c.say(true, "kind", "PersistentVolumeClaim: pods have no durable volumes here")
	}
	c.claimSpec("spec", c.key.Name, p.Annotations, &p.Spec)
}

// claimSpec refuses what a folder of this machine cannot be.
func (c *checker) claimSpec(path, name string, notes map[string]string, s *corev1.PersistentVolumeClaimSpec) {
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 || len(name) > maxClaimName {
		c.say(true, "metadata.name", "%q is no name of a claim: up to %d small letters, digits, '-' and '.'", name, maxClaimName)
	}
	if size := s.Resources.Requests[corev1.ResourceStorage]; size.Sign() <= 0 {
		c.say(true, path+".resources.requests.storage", "say how much storage is wanted")
	}
	if len(s.AccessModes) == 0 {
		c.say(true, path+".accessModes", "say how it is mounted, ReadWriteOnce for instance")
	}
	for _, f := range []struct {
		set         bool
		field, what string
	}{
		{s.VolumeName != "", "volumeName", "there are no PersistentVolumes on this machine: leave it out, and a new folder is made"},
		{s.Selector != nil, "selector", "there are no PersistentVolumes on this machine: leave it out, and a new folder is made"},
		{s.DataSource != nil, "dataSource", "a volume begins empty on this machine: leave it out"},
		{s.DataSourceRef != nil, "dataSourceRef", "a volume begins empty on this machine: leave it out"},
		{s.VolumeMode != nil && *s.VolumeMode == corev1.PersistentVolumeBlock, "volumeMode", "a volume is a folder on this machine, and no block device"},
		{s.StorageClassName != nil && *s.StorageClassName == "", "storageClassName", "without a class it asks for a PersistentVolume that somebody made: leave it out, and a folder is made"},
	} {
		if f.set {
			c.say(true, path+"."+f.field, "%s", f.what)
		}
	}
	policy := notes[reclaimAnnotation]
	switch {
	case policy != "" && policy != string(corev1.PersistentVolumeReclaimDelete) && policy != string(corev1.PersistentVolumeReclaimRetain):
		c.say(true, "metadata.annotations", "%s is Delete or Retain", reclaimAnnotation)
	case policy == string(corev1.PersistentVolumeReclaimRetain) && c.who.MergeRequest != 0:
		c.say(false, "metadata.annotations", "%s has no effect in a preview: its volumes go with it", reclaimAnnotation)
	}
	if s.VolumeAttributesClassName != nil {
		c.say(false, path+".volumeAttributesClassName", "volumeAttributesClassName has no effect here")
	}
}

func (c *checker) storageClass(s *storagev1.StorageClass) {
	if p := s.ReclaimPolicy; p != nil && *p != corev1.PersistentVolumeReclaimDelete && *p != corev1.PersistentVolumeReclaimRetain {
		c.say(true, "reclaimPolicy", "%s: a class has Delete or Retain", *p)
	}
	if len(s.MountOptions) > 0 {
		c.say(false, "mountOptions", "mountOptions has no effect here: a volume is a folder of this machine")
	}
}

// fixedClaim: a claim may grow, and nothing else of it changes. It is not made anew either, which would throw away what is in it.
func fixedClaim(old *corev1.PersistentVolumeClaim, u *unstructured.Unstructured) error {
	next, err := decoded[corev1.PersistentVolumeClaim](u)
	if err != nil {
		return err
	}
	was := old.Spec.DeepCopy()
	had, has := was.Resources.Requests[corev1.ResourceStorage], next.Spec.Resources.Requests[corev1.ResourceStorage]
	was.Resources, was.VolumeAttributesClassName = next.Spec.Resources, next.Spec.VolumeAttributesClassName
	switch {
	case !equality.Semantic.DeepEqual(*was, next.Spec):
		return errors.New("of a PersistentVolumeClaim only resources.requests.storage can be changed: use another name, or delete it first, with what is in it")
	case has.Cmp(had) < 0:
		return fmt.Errorf("a PersistentVolumeClaim does not shrink: it has %s, and %s is less", had.String(), has.String())
	}
	return nil
}

// reclaims notes on a new claim whether its volume goes with it: by its annotation, or by its class. A preview's always goes. t.mu is held.
func (t *Target) reclaims(o *object, notes map[string]string) {
	if o.Key.Group != "" || o.Key.Kind != "PersistentVolumeClaim" || o.For.MergeRequest != 0 {
		return
	}
	policy := corev1.PersistentVolumeReclaimPolicy(notes[reclaimAnnotation])
	if policy == "" {
		policy = t.classPolicy(o)
	}
	if policy == corev1.PersistentVolumeReclaimRetain {
		notes[reclaimNote] = string(policy)
	}
}

// classPolicy is the policy of a claim's StorageClass; Delete where there is none of that name. That of a preview says nothing of others' claims.
func (t *Target) classPolicy(claim *object) corev1.PersistentVolumeReclaimPolicy {
	wanted, _, _ := unstructured.NestedString(claim.live.Object, "spec", "storageClassName")
	for _, o := range t.ofKind("StorageClass") {
		if o.deleting() || o.For.MergeRequest != 0 {
			continue
		}
		if o.Key.Name == wanted || wanted == "" && o.live.GetAnnotations()[defaultClass] == "true" {
			if p := typedOf[storagev1.StorageClass](o).ReclaimPolicy; p != nil {
				return *p
			}
		}
	}
	return corev1.PersistentVolumeReclaimDelete
}

// bind has a claim's volume made, and says so. t.mu is held.
func (t *Target) bind(o *object) {
	c := typedOf[corev1.PersistentVolumeClaim](o)
	status := corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, AccessModes: c.Spec.AccessModes}
	if size, there := c.Spec.Resources.Requests[corev1.ResourceStorage]; there {
		status.Capacity = corev1.ResourceList{corev1.ResourceStorage: size}
	}
	if c.Status.Phase != corev1.ClaimBound {
		what := "make the volume of " + o.Key.String()
		if err := t.o.Claims.CreateClaim(t.ctx, o.volume()); err != nil {
			t.again(what, err, networkRetry)
			status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
		} else {
			t.troubles.Over(what)
			t.poke() // pods may wait for it
		}
	}
	t.setStatus(o, status, o.last)
}

// drop has a claim go that is being deleted: first, when no pod uses it any more, its volume, then its record. t.mu is held.
func (t *Target) drop(o *object) {
	if t.dropping[o.UID] || slices.ContainsFunc(t.usersOf(o), (*pod).mayHave) {
		return
	}
	if o.live.GetAnnotations()[reclaimNote] == string(corev1.PersistentVolumeReclaimRetain) {
		v := o.volume()
		t.dropped(o, fmt.Sprintf("its volume is kept: claims/%s/%s of the executor's volumes", v.Namespace, v.Name))
		return
	}
	t.dropping[o.UID] = true
	v := o.volume()
	t.spawn(func(ctx context.Context) {
		gone := t.insist(ctx, "remove the volume of "+o.Key.String(), func() error { return t.o.Claims.DeleteClaim(ctx, v.Namespace, v.Name) })
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.dropping, o.UID)
		if gone {
			t.dropped(o, "")
		}
	})
}

func (t *Target) dropped(o *object, note string) {
	if t.log(change{kind: deploy.KindObjectDeleted, o: o, cause: o.last, note: note}) {
		t.poke()
	}
}

// usersOf are the pods that name a claim and have not ended for good.
func (t *Target) usersOf(o *object) []*pod {
	var found []*pod
	for _, p := range t.pods {
		if p.Key.Namespace == o.Key.Namespace && !p.Ended && slices.Contains(p.claims(), o.Key.Name) {
			found = append(found, p)
		}
	}
	return found
}

// claims are the names of the claims that a pod mounts.
func (p *pod) claims() []string {
	var names []string
	for _, v := range p.spec().Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		}
	}
	return names
}

// mayHave says that the executor may have an attempt of the pod.
func (p *pod) mayHave() bool { return p.begun != nil || p.known || p.running || p.mayRun() }

// reasonClaim is why a container waits whose pod has not got a claim that it mounts.
const reasonClaim = "WaitingForClaim"

// lacks says what a pod that begins has to wait for among its claims; empty for nothing. Only claims of its own Application are given to it.
// t.mu is held.
func (t *Target) lacks(p *pod) string {
	for _, name := range p.claims() {
		o := t.objects.byKey[claimKey(p.Key.Namespace, name)]
		switch {
		case o == nil:
			return fmt.Sprintf("persistentvolumeclaim %q not found: declare it among the objects of the application", name)
		case o.Application != p.Application:
			return fmt.Sprintf("persistentvolumeclaim %q belongs to the application %q: declare one of its own", name, o.Application)
		case o.deleting() && !p.mayRun():
			return fmt.Sprintf("persistentvolumeclaim %q is being deleted", name)
		}
		c := typedOf[corev1.PersistentVolumeClaim](o)
		if c.Status.Phase != corev1.ClaimBound {
			return fmt.Sprintf("persistentvolumeclaim %q has no volume yet", name)
		}
		if !slices.Contains(c.Spec.AccessModes, corev1.ReadWriteOncePod) {
			continue
		}
		for _, other := range t.usersOf(o) {
			if other != p && other.mayHave() {
				return fmt.Sprintf("persistentvolumeclaim %q is for one pod at a time (ReadWriteOncePod), and %s has it", name, other.Key.Name)
			}
		}
	}
	return ""
}

// waits has a pod wait for its claims, and reports whether it does. t.mu is held.
func (t *Target) waits(p *pod) bool {
	why := t.lacks(p)
	if p.unclaimed = why != ""; p.unclaimed {
		p.waiting = &corev1.ContainerStateWaiting{Reason: reasonClaim, Message: why}
	}
	return p.unclaimed
}

// mount gives a pod's order the volumes of its claims. t.mu is held.
func (t *Target) mount(p *pod, spec *corev1.Pod) []executor.Claim {
	var list []executor.Claim
	for i, v := range spec.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		name := v.PersistentVolumeClaim.ClaimName
		o := t.objects.byKey[claimKey(p.Key.Namespace, name)]
		if o == nil { // it is attached to, or waits
			continue
		}
		volume := o.volume()
		spec.Spec.Volumes[i].PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: volume.Name, ReadOnly: v.PersistentVolumeClaim.ReadOnly}
		if !slices.ContainsFunc(list, func(c executor.Claim) bool { return c.Name == volume.Name }) {
			list = append(list, volume)
		}
	}
	return list
}

// ownedBy is the reference of what an object owns.
func (o *object) ownedBy() metav1.OwnerReference {
	yes := true
	return metav1.OwnerReference{APIVersion: o.live.GetAPIVersion(), Kind: o.Key.Kind, Name: o.Key.Name, UID: metaUID(o.UID), Controller: &yes, BlockOwnerDeletion: &yes}
}
