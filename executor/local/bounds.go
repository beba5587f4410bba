package local

import corev1 "k8s.io/api/core/v1"

// DefaultProcesses is how many processes and threads a pod may have unless the options say otherwise.
const DefaultProcesses = 4096

// leastProcesses is the least that the kernel takes for a PID namespace (RESERVED_PIDS).
const leastProcesses = 301

// Bounds of oom_score_adj of pods: all are killed before the server, whose value is 0.
const (
	oomGuaranteed = 2
	oomLeast      = 3
	oomBestEffort = 1000
)

// oomScore is the oom_score_adj of a pod, as Kubernetes gives it by class of service (pkg/kubelet/qos/policy.go); only a guaranteed pod is not
// killed after the server, but among the last before it. The more of the machine's memory a pod asks for, the later it is killed.
func oomScore(spec *corev1.PodSpec, machine int64) int {
	guaranteed, asks := true, false
	var requested int64
	for i := range spec.Containers {
		r := spec.Containers[i].Resources
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, limited := r.Limits[name]
			request, requests := r.Requests[name]
			asks = asks || limited || requests
			guaranteed = guaranteed && limited && (!requests || request.Cmp(limit) == 0)
			if name != corev1.ResourceMemory {
				continue
			}
			if !requests {
				request = limit // as Kubernetes' defaults have it
			}
			requested += request.Value()
		}
	}
	switch {
	case guaranteed && asks:
		return oomGuaranteed
	case !asks:
		return oomBestEffort
	case machine <= 0:
		return oomBestEffort - 1
	}
	share := 1000 * float64(requested) / float64(machine)
	return min(max(oomBestEffort-int(share), oomLeast), oomBestEffort-1)
}
