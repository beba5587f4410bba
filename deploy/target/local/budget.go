package local

import (
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// disruptionBudget says how many of a PodDisruptionBudget's pods could go. Nothing here evicts a pod that nobody asked to have replaced, so that it
// holds nobody back. t.mu is held.
func (t *Target) disruptionBudget(o *object) {
	b := typedOf[policyv1.PodDisruptionBudget](o)
	selector := labels.Nothing()
	if b.Spec.Selector != nil {
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(b.Spec.Selector); err != nil {
			return // it was refused
		}
	}
	status := policyv1.PodDisruptionBudgetStatus{ObservedGeneration: o.live.GetGeneration()}
	found := 0
	scales := map[string]int32{} // of what owns the pods, by uid
	for _, p := range t.pods {
		if p.Key.Namespace != o.Key.Namespace || p.Ended || p.deleting() || !selector.Matches(labels.Set(p.live.GetLabels())) {
			continue
		}
		found++
		if p.ready() {
			status.CurrentHealthy++
		}
		uid, replicas := t.scaleOf(p)
		scales[uid] = replicas
	}
	wanted := 0
	for _, n := range scales {
		wanted += int(n)
	}
	expected, least := found, 0
	switch {
	case b.Spec.MaxUnavailable != nil:
		expected = wanted
		n, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MaxUnavailable, expected, true)
		if err != nil {
			return // it was refused
		}
		least = max(expected-n, 0)
	case b.Spec.MinAvailable != nil:
		if b.Spec.MinAvailable.Type == intstr.String {
			expected = wanted
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MinAvailable, expected, true)
		if err != nil {
			return
		}
		least = n
	}
	status.ExpectedPods, status.DesiredHealthy = int32(expected), int32(least)
	if expected > 0 {
		status.DisruptionsAllowed = max(status.CurrentHealthy-status.DesiredHealthy, 0)
	}
	status.Conditions = []metav1.Condition{disruptionAllowed(b, status, t.o.Now().UTC())}
	t.setStatus(o, status, o.last)
}

// scaleOf is what has a pod at its scale, by its uid, and how many pods that wants.
func (t *Target) scaleOf(p *pod) (string, int32) {
	at := p.object
	for range maxDepth {
		ref := metav1.GetControllerOf(at.live)
		if ref == nil || t.objects.byUID[string(ref.UID)] == nil {
			break
		}
		at = t.objects.byUID[string(ref.UID)]
	}
	if at == p.object || at.Key.Kind == "DaemonSet" {
		return at.UID, 1
	}
	return at.UID, count(typedOf[scaled](at).Spec.Replicas)
}

// scaled is what has a number of replicas.
type scaled struct {
	Spec struct {
		Replicas *int32 `json:"replicas"`
	} `json:"spec"`
}

func disruptionAllowed(b *policyv1.PodDisruptionBudget, s policyv1.PodDisruptionBudgetStatus, now time.Time) metav1.Condition {
	c := metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason,
		ObservedGeneration: s.ObservedGeneration, LastTransitionTime: metav1.NewTime(now)}
	if s.DisruptionsAllowed > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	for _, old := range b.Status.Conditions {
		if old.Type == c.Type && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return c
}
