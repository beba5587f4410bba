package local

import (
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/executor"
)

// toTree is treeOf of what can always be written.
func toTree(value any) map[string]any {
	tree, err := treeOf(value)
	if err != nil {
		return map[string]any{}
	}
	return tree
}

// treeOf turns a typed value into the form that unstructured objects have.
func treeOf(value any) (map[string]any, error) {
	raw, err := json.Marshal(value)
	u := &unstructured.Unstructured{}
	if err == nil {
		err = u.UnmarshalJSON([]byte(`{"apiVersion":"v1","kind":"X","x":` + string(raw) + `}`))
	}
	tree, _ := u.Object["x"].(map[string]any)
	return tree, err
}

// podStatus records the status of a pod that has not ended, in Kubernetes' shape.
func (t *Target) podStatus(p *pod) {
	spec := p.spec()
	old := spec.Status
	now := t.o.Now().UTC()
	s := corev1.PodStatus{Phase: corev1.PodPending, PodIP: p.ip, HostIP: t.o.IngressAddress, StartTime: old.StartTime}
	if p.running || old.Phase == corev1.PodRunning {
		s.Phase = corev1.PodRunning
	}
	if s.StartTime == nil {
		at := metav1.NewTime(p.Created)
		s.StartTime = &at
	}
	if p.ip != "" {
		s.PodIPs = []corev1.PodIP{{IP: p.ip}}
	}
	for _, c := range spec.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, t.containerStatus(p, c, old))
	}
	all := p.running
	for _, c := range spec.Spec.Containers {
		all = all && p.passed[c.Name]
	}
	ready := condition(corev1.PodReady, all, old, now)
	if all {
		p.readySince = ready.LastTransitionTime.Time
	} else {
		p.readySince = zeroTime
	}
	s.Conditions = []corev1.PodCondition{condition(corev1.PodScheduled, true, old, now), condition(corev1.PodInitialized, s.Phase == corev1.PodRunning, old, now),
		condition(corev1.ContainersReady, all, old, now), ready}
	p.State = string(s.Phase)
	if p.deleting() {
		p.State = "Deleting"
	}
	if wasReady(old) != all {
		t.poke()
	}
	t.setStatus(p.object, s, p.last)
}

func wasReady(s corev1.PodStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func named(list []corev1.ContainerStatus, name string) corev1.ContainerStatus {
	for _, c := range list {
		if c.Name == name {
			return c
		}
	}
	return corev1.ContainerStatus{Name: name}
}

func (t *Target) containerStatus(p *pod, c corev1.Container, old corev1.PodStatus) corev1.ContainerStatus {
	s := named(p.state, c.Name)
	before := named(old.ContainerStatuses, c.Name)
	s.Image, s.Ready, s.RestartCount = c.Image, p.passed[c.Name], int32(p.Attempt)
	if s.ImageID == "" {
		s.ImageID = before.ImageID
	}
	s.LastTerminationState = before.LastTerminationState
	switch {
	case p.waiting != nil:
		s.State = corev1.ContainerState{Waiting: p.waiting}
	case s.State == (corev1.ContainerState{}) && p.running:
		at := metav1.NewTime(p.startedAt)
		if before.State.Running != nil {
			at = before.State.Running.StartedAt
		}
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: at}
	case s.State == (corev1.ContainerState{}):
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	}
	started := s.State.Running != nil
	s.Started = &started
	return s
}

// endStatus is the status after an attempt has ended.
func (t *Target) endStatus(p *pod, r executor.Report, now time.Time, again bool) corev1.PodStatus {
	spec := p.spec()
	s := spec.Status
	s.Phase = corev1.PodPhase(p.State)
	s.Message = ""
	if !again && r.Phase != executor.Succeeded {
		s.Message = r.Message
	}
	s.PodIP, s.PodIPs = "", nil
	var containers []corev1.ContainerStatus
	for _, c := range spec.Spec.Containers {
		status := named(r.Containers, c.Name)
		status.Image, status.Ready, status.RestartCount = c.Image, false, int32(p.Attempt)
		end := status.State.Terminated
		if end == nil {
			end = &corev1.ContainerStateTerminated{Reason: string(r.Phase), Message: r.Message, ExitCode: 1,
				StartedAt: metav1.NewTime(r.StartedAt), FinishedAt: metav1.NewTime(now)}
			if r.ExitCode != nil {
				end.ExitCode = int32(*r.ExitCode)
			} else if r.Phase == executor.Succeeded {
				end.ExitCode = 0
			}
		}
		status.State = corev1.ContainerState{Terminated: end}
		if again {
			status.LastTerminationState = corev1.ContainerState{Terminated: end}
			status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
			if p.waiting != nil {
				status.State.Waiting = p.waiting
			}
		}
		containers = append(containers, status)
	}
	old := s
	s.ContainerStatuses = containers
	s.Conditions = []corev1.PodCondition{condition(corev1.PodScheduled, true, old, now), condition(corev1.PodInitialized, true, old, now),
		condition(corev1.ContainersReady, false, old, now), condition(corev1.PodReady, false, old, now)}
	return s
}
