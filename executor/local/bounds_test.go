package local

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// TestOOMScore follows Kubernetes' table of classes (pkg/kubelet/qos/policy.go): 1000 for who asks for nothing, 3 to 999 by the share of memory
// for who asks, and here 2 instead of -997 for who has limits of everything.
func TestOOMScore(t *testing.T) {
	const machine = 8 << 30
	list := func(pairs ...string) corev1.ResourceList {
		l := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return l
	}
	for name, c := range map[string]struct {
		containers []corev1.ResourceRequirements
		want       int
	}{
		"nothing":             {[]corev1.ResourceRequirements{{}}, 1000},
		"a quarter":           {[]corev1.ResourceRequirements{{Requests: list("memory", "2Gi")}}, 750},
		"two quarters":        {[]corev1.ResourceRequirements{{Requests: list("memory", "2Gi")}, {Limits: list("memory", "2Gi")}}, 500},
		"a processor alone":   {[]corev1.ResourceRequirements{{Requests: list("cpu", "1")}}, 999},
		"more than there is":  {[]corev1.ResourceRequirements{{Requests: list("memory", "64Gi")}}, 3},
		"next to nothing":     {[]corev1.ResourceRequirements{{Requests: list("memory", "1Ki")}}, 999},
		"limits":              {[]corev1.ResourceRequirements{{Limits: list("cpu", "1", "memory", "1Gi")}}, 2},
		"equal requests":      {[]corev1.ResourceRequirements{{Limits: list("cpu", "1", "memory", "1Gi"), Requests: list("memory", "1024Mi")}}, 2},
		"smaller requests":    {[]corev1.ResourceRequirements{{Limits: list("cpu", "1", "memory", "4Gi"), Requests: list("memory", "2Gi")}}, 750},
		"limits of one alone": {[]corev1.ResourceRequirements{{Limits: list("cpu", "1", "memory", "2Gi")}, {}}, 750},
	} {
		spec := &corev1.PodSpec{}
		for _, r := range c.containers {
			spec.Containers = append(spec.Containers, corev1.Container{Resources: r})
		}
		if got := oomScore(spec, machine); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
