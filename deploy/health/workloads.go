package health

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/deploy"
)

func progressing(format string, args ...any) deploy.Health {
	return deploy.Health{Status: Progressing, Message: fmt.Sprintf(format, args...)}
}

func degraded(message string) deploy.Health {
	return deploy.Health{Status: Degraded, Message: message}
}

func deployment(d *appsv1.Deployment) deploy.Health {
	s := d.Status
	switch {
	case d.Spec.Paused:
		return deploy.Health{Status: Suspended, Message: "Deployment is paused"}
	case d.Generation > s.ObservedGeneration:
		return progressing("Waiting for rollout to finish: observed deployment generation less than desired generation")
	}
	for _, c := range s.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" {
			return degraded(fmt.Sprintf("Deployment %q exceeded its progress deadline", d.Name))
		}
	}
	switch {
	case d.Spec.Replicas != nil && s.UpdatedReplicas < *d.Spec.Replicas:
		return progressing("Waiting for rollout to finish: %d out of %d new replicas have been updated...", s.UpdatedReplicas, *d.Spec.Replicas)
	case s.Replicas > s.UpdatedReplicas:
		return progressing("Waiting for rollout to finish: %d old replicas are pending termination...", s.Replicas-s.UpdatedReplicas)
	case s.AvailableReplicas < s.UpdatedReplicas:
		return progressing("Waiting for rollout to finish: %d of %d updated replicas are available...", s.AvailableReplicas, s.UpdatedReplicas)
	}
	return deploy.Health{Status: Healthy}
}

func statefulSet(set *appsv1.StatefulSet) deploy.Health {
	s := set.Status
	switch {
	case s.ObservedGeneration == 0 || set.Generation > s.ObservedGeneration:
		return progressing("Waiting for statefulset spec update to be observed...")
	case set.Spec.Replicas != nil && s.ReadyReplicas < *set.Spec.Replicas:
		return progressing("Waiting for %d pods to be ready...", *set.Spec.Replicas-s.ReadyReplicas)
	}
	update := set.Spec.UpdateStrategy
	if update.Type == appsv1.RollingUpdateStatefulSetStrategyType && update.RollingUpdate != nil {
		if set.Spec.Replicas != nil && update.RollingUpdate.Partition != nil {
			if target := *set.Spec.Replicas - *update.RollingUpdate.Partition; s.UpdatedReplicas < target {
				return progressing("Waiting for partitioned roll out to finish: %d out of %d new pods have been updated...", s.UpdatedReplicas, target)
			}
		}
		return deploy.Health{Status: Healthy, Message: fmt.Sprintf("partitioned roll out complete: %d new pods have been updated...", s.UpdatedReplicas)}
	}
	if update.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return deploy.Health{Status: Healthy, Message: fmt.Sprintf("statefulset has %d ready pods", s.ReadyReplicas)}
	}
	if s.UpdateRevision != s.CurrentRevision {
		return progressing("waiting for statefulset rolling update to complete %d pods at revision %s...", s.UpdatedReplicas, s.UpdateRevision)
	}
	return deploy.Health{Status: Healthy, Message: fmt.Sprintf("statefulset rolling update complete %d pods at revision %s...", s.CurrentReplicas, s.CurrentRevision)}
}

func daemonSet(set *appsv1.DaemonSet) deploy.Health {
	s := set.Status
	switch {
	case set.Generation > s.ObservedGeneration:
		return progressing("Waiting for rollout to finish: observed daemon set generation less than desired generation")
	case set.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType:
		return deploy.Health{Status: Healthy, Message: fmt.Sprintf("daemon set %d out of %d new pods have been updated", s.UpdatedNumberScheduled, s.DesiredNumberScheduled)}
	case s.UpdatedNumberScheduled < s.DesiredNumberScheduled:
		return progressing("Waiting for daemon set %q rollout to finish: %d out of %d new pods have been updated...", set.Name, s.UpdatedNumberScheduled, s.DesiredNumberScheduled)
	case s.NumberAvailable < s.DesiredNumberScheduled:
		return progressing("Waiting for daemon set %q rollout to finish: %d of %d updated pods are available...", set.Name, s.NumberAvailable, s.DesiredNumberScheduled)
	}
	return deploy.Health{Status: Healthy}
}

func replicaSet(set *appsv1.ReplicaSet) deploy.Health {
	if set.Generation > set.Status.ObservedGeneration {
		return progressing("Waiting for rollout to finish: observed replica set generation less than desired generation")
	}
	for _, c := range set.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
			return degraded(c.Message)
		}
	}
	if set.Spec.Replicas != nil && set.Status.AvailableReplicas < *set.Spec.Replicas {
		return progressing("Waiting for rollout to finish: %d out of %d new replicas are available...", set.Status.AvailableReplicas, *set.Spec.Replicas)
	}
	return deploy.Health{Status: Healthy}
}

func pod(p *corev1.Pod) deploy.Health {
	if lasts(p) {
		if messages := stuck(p); len(messages) > 0 {
			return degraded(strings.Join(messages, ", "))
		}
	}
	switch p.Status.Phase {
	case corev1.PodPending:
		return progressing("%s", p.Status.Message)
	case corev1.PodSucceeded:
		return deploy.Health{Status: Healthy, Message: p.Status.Message}
	case corev1.PodFailed:
		return degraded(whyFailed(p))
	case corev1.PodRunning:
		return runningPod(p)
	}
	return deploy.Health{Status: Unknown, Message: p.Status.Message}
}

// lasts reports whether a pod is to run on. An API server fills the policy in; elsewhere it may be left out, and then
// means Always (core/v1 PodSpec). The annotation counts for all but hooks, which are over when they end.
func lasts(p *corev1.Pod) bool {
	switch p.Spec.RestartPolicy {
	case corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure:
		return p.Annotations[lastingAnnotation] == "true" && !isHook(p)
	default:
		return true
	}
}

// stuck gives the messages of containers that wait because something is wrong.
func stuck(p *corev1.Pod) []string {
	var messages []string
	for _, s := range p.Status.ContainerStatuses {
		w := s.State.Waiting
		if w != nil && (strings.HasPrefix(w.Reason, "Err") || strings.HasSuffix(w.Reason, "Error") || strings.HasSuffix(w.Reason, "BackOff")) {
			messages = append(messages, w.Message)
		}
	}
	return messages
}

func whyFailed(p *corev1.Pod) string {
	if p.Status.Message != "" {
		return p.Status.Message
	}
	for _, s := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
		t := s.State.Terminated
		if t == nil {
			continue
		}
		if t.Message != "" {
			return t.Message
		}
		if t.Reason == "OOMKilled" {
			return t.Reason
		}
		if t.ExitCode != 0 {
			return fmt.Sprintf("container %q failed with exit code %d", s.Name, t.ExitCode)
		}
	}
	return ""
}

func runningPod(p *corev1.Pod) deploy.Health {
	if !lasts(p) {
		return progressing("%s", p.Status.Message)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return deploy.Health{Status: Healthy, Message: p.Status.Message}
		}
	}
	for _, s := range p.Status.ContainerStatuses {
		if s.LastTerminationState.Terminated != nil {
			return degraded(p.Status.Message)
		}
	}
	return progressing("%s", p.Status.Message)
}

// job looks for what is worst first, in whatever order the conditions stand. One that was suspended and goes on again is
// under way; Argo CD calls it healthy.
func job(j *batchv1.Job) deploy.Health {
	is := func(kind batchv1.JobConditionType, holds func(corev1.ConditionStatus) bool) *batchv1.JobCondition {
		for i, c := range j.Status.Conditions {
			if c.Type == kind && holds(c.Status) {
				return &j.Status.Conditions[i]
			}
		}
		return nil
	}
	notFalse := func(s corev1.ConditionStatus) bool { return s != corev1.ConditionFalse }
	if c := is(batchv1.JobFailed, notFalse); c != nil {
		return degraded(c.Message)
	}
	if c := is(batchv1.JobSuspended, func(s corev1.ConditionStatus) bool { return s == corev1.ConditionTrue }); c != nil {
		return deploy.Health{Status: Suspended, Message: c.Message}
	}
	if c := is(batchv1.JobComplete, notFalse); c != nil {
		return deploy.Health{Status: Healthy, Message: c.Message}
	}
	return progressing("")
}

// cronJob follows the script that Argo CD ships for CronJobs: only an execution that ended without success after an
// earlier success is bad.
func cronJob(o *unstructured.Unstructured) (deploy.Health, error) {
	return typed(func(c *batchv1.CronJob) deploy.Health {
		s := c.Status
		_, begun := o.Object["status"]
		switch {
		case c.Spec.Suspend != nil && *c.Spec.Suspend:
			return deploy.Health{Status: Healthy, Message: "CronJob is Suspended"}
		case !begun:
			return progressing("Waiting for CronJob")
		case s.LastScheduleTime == nil:
			return deploy.Health{Status: Healthy, Message: "CronJob has not been scheduled yet"}
		case s.LastSuccessfulTime == nil:
			return deploy.Health{Status: Healthy, Message: "The CronJob never completed successfully. It may not be healthy"}
		case len(s.Active) > 0:
			return deploy.Health{Status: Healthy, Message: "The job is running. Its last execution may not have been successful"}
		case s.LastSuccessfulTime.Before(s.LastScheduleTime):
			return degraded("CronJob has not completed its last execution successfully")
		}
		return deploy.Health{Status: Healthy, Message: "CronJob has completed its last execution successfully"}
	})(o)
}
