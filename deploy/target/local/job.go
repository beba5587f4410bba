package local

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const defaultBackoffLimit = 6

// job runs pods until enough have succeeded, or more have failed than backoffLimit allows, or time is up.
func (t *Target) job(o *object) {
	j := typedOf[batchv1.Job](o)
	if jobDone(j) {
		t.expire(o, j)
		return
	}
	now := t.o.Now().UTC()
	s := j.Status
	s.Active, s.Succeeded, s.Failed = 0, 0, 0
	var active []*object
	restarts := int32(0)
	for _, p := range t.podsOf(o) {
		switch {
		case p.Ended && p.State == string(corev1.PodSucceeded):
			s.Succeeded++
		case p.Ended:
			s.Failed++
		case !p.deleting():
			s.Active++
			restarts += int32(p.Attempt)
			active = append(active, p.object)
		}
	}
	completions, parallel := count(j.Spec.Completions), count(j.Spec.Parallelism)
	limit := int32(defaultBackoffLimit)
	if j.Spec.BackoffLimit != nil {
		limit = *j.Spec.BackoffLimit
	}
	if s.StartTime == nil {
		at := metav1.NewTime(now)
		s.StartTime = &at
	}
	failure := ""
	switch {
	case s.Succeeded >= completions:
		s.CompletionTime = &metav1.Time{Time: now}
		s.Conditions = append(s.Conditions, jobCondition(batchv1.JobComplete, "", "", now))
	case s.Failed+restarts > limit:
		failure = "BackoffLimitExceeded"
	case j.Spec.Suspend != nil && *j.Spec.Suspend:
		t.dismiss(o.last, active...)
		s.Conditions = []batchv1.JobCondition{jobCondition(batchv1.JobSuspended, "JobSuspended", "Job suspended", now)}
		if len(j.Status.Conditions) == 1 && j.Status.Conditions[0].Type == batchv1.JobSuspended {
			s.Conditions = j.Status.Conditions
		}
	default:
		s.Conditions = nil
		failure = t.overdue(j, s, now)
		for i := s.Active; failure == "" && i < min(parallel, completions-s.Succeeded); i++ {
			t.newPod(o, fmt.Sprintf("%s-%s", o.Key.Name, random(3)[:5]), t.jobTemplate(o, j))
		}
	}
	if failure != "" {
		t.dismiss(o.last, active...)
		s.Conditions = append(s.Conditions, jobCondition(batchv1.JobFailed, failure, "Job has failed: "+failure, now))
	}
	t.setStatus(o, s, o.last)
}

func (t *Target) jobTemplate(o *object, j *batchv1.Job) corev1.PodTemplateSpec {
	template := j.Spec.Template.DeepCopy()
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Labels["batch.kubernetes.io/job-name"], template.Labels["job-name"] = o.Key.Name, o.Key.Name
	return *template
}

func (t *Target) overdue(j *batchv1.Job, s batchv1.JobStatus, now time.Time) string {
	if j.Spec.ActiveDeadlineSeconds == nil {
		return ""
	}
	due := s.StartTime.Add(time.Duration(*j.Spec.ActiveDeadlineSeconds) * time.Second)
	if now.Before(due) {
		t.at(due)
		return ""
	}
	return "DeadlineExceeded"
}

func jobCondition(kind batchv1.JobConditionType, reason, message string, now time.Time) batchv1.JobCondition {
	return batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message,
		LastTransitionTime: metav1.NewTime(now), LastProbeTime: metav1.NewTime(now)}
}

func jobDone(j *batchv1.Job) bool {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

// expire deletes a finished Job after its ttlSecondsAfterFinished.
func (t *Target) expire(o *object, j *batchv1.Job) {
	if j.Spec.TTLSecondsAfterFinished == nil {
		return
	}
	for _, c := range j.Status.Conditions {
		due := c.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second)
		if t.o.Now().Before(due) {
			t.at(due)
			return
		}
	}
	t.dismiss(o.last, o)
}
