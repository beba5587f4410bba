package local

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/workflow/cron"
)

const (
	// scheduledAnnotation is on a CronJob's Job and says for when it is.
	scheduledAnnotation = "batch.kubernetes.io/cronjob-scheduled-timestamp"
	// sinceNote keeps what a CronJob's schedule is and since when, passedNote the last time that was missed.
	sinceNote  = notePrefix + "schedule"
	passedNote = notePrefix + "passed"
	// Kubernetes' defaults.
	defaultSucceeded = 3
	defaultFailed    = 1
)

// schedule reads a CronJob's schedule as Kubernetes does: the time zone is a field of its own. Without one it is UTC here.
func schedule(spec *batchv1.CronJobSpec) (cron.Schedules, error) {
	zone := ""
	if spec.TimeZone != nil {
		if zone = *spec.TimeZone; zone == "" || strings.EqualFold(zone, "local") {
			return nil, fmt.Errorf("timeZone %q is no time zone: use an IANA name such as Europe/Berlin", zone)
		}
	}
	if strings.Contains(spec.Schedule, "TZ") {
		return nil, errors.New("the time zone of a CronJob is said by spec.timeZone, and not in its schedule")
	}
	s, err := cron.Parse(spec.Schedule, zone)
	if err != nil {
		return nil, err
	}
	return cron.Schedules{s}, nil
}

// cronJob makes the Job that is due, forgets old ones, and asks to be woken for the next.
func (t *Target) cronJob(o *object) {
	c := typedOf[batchv1.CronJob](o)
	what := "read the schedule of " + o.Key.String()
	schedules, err := schedule(&c.Spec)
	if err != nil {
		t.wrong(what, err)
		return
	}
	t.troubles.Over(what)
	var active, succeeded, failed []*object
	status := batchv1.CronJobStatus{LastScheduleTime: c.Status.LastScheduleTime, LastSuccessfulTime: c.Status.LastSuccessfulTime}
	for _, child := range t.children(o, "Job") {
		j := typedOf[batchv1.Job](child)
		switch {
		case child.deleting():
		case !jobDone(j):
			active = append(active, child)
			status.Active = append(status.Active, corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: child.Key.Namespace, Name: child.Key.Name, UID: metaUID(child.UID)})
		case j.Status.CompletionTime != nil:
			succeeded = append(succeeded, child)
			if status.LastSuccessfulTime == nil || status.LastSuccessfulTime.Before(j.Status.CompletionTime) {
				status.LastSuccessfulTime = j.Status.CompletionTime
			}
		default:
			failed = append(failed, child)
		}
	}
	t.setStatus(o, status, o.last)
	t.forgetJobs(succeeded, c.Spec.SuccessfulJobsHistoryLimit, defaultSucceeded)
	t.forgetJobs(failed, c.Spec.FailedJobsHistoryLimit, defaultFailed)
	since, known := t.since(o, &c.Spec)
	if !known || c.Spec.Suspend != nil && *c.Spec.Suspend {
		return
	}
	now := t.o.Now()
	t.due(o, schedules.Due(t.decided(o, c), since, now, c.Spec.StartingDeadlineSeconds), active, status)
	if next := schedules.Next(now); !next.IsZero() {
		t.at(next)
	}
}

// since says since when the schedule is as it is. False says that it could not be recorded.
func (t *Target) since(o *object, spec *batchv1.CronJobSpec) (time.Time, bool) {
	zone, suspended := "", spec.Suspend != nil && *spec.Suspend
	if spec.TimeZone != nil {
		zone = *spec.TimeZone
	}
	is := fmt.Sprintf(" %t %q %q", suspended, zone, spec.Schedule)
	note := o.live.GetAnnotations()[sinceNote]
	if text, same := strings.CutSuffix(note, is); same {
		at, err := time.Parse(time.RFC3339Nano, text)
		return at, err == nil
	}
	at := t.o.Now().UTC()
	if note == "" {
		at = o.Created
	}
	return at, t.note(o, sinceNote, at.Format(time.RFC3339Nano)+is, o.last)
}

// decided is the last time that was decided on: for which a Job was made, or which was missed; at first when the CronJob was made.
func (t *Target) decided(o *object, c *batchv1.CronJob) time.Time {
	last := o.Created
	if at := c.Status.LastScheduleTime; at != nil && at.After(last) {
		last = at.Time
	}
	if at, err := time.Parse(time.RFC3339, o.live.GetAnnotations()[passedNote]); err == nil && at.After(last) {
		last = at
	}
	return last
}

// due makes the Job of the time that is due, as the concurrency policy says.
func (t *Target) due(o *object, d cron.Due, active []*object, status batchv1.CronJobStatus) {
	if d.Slot.IsZero() {
		if d.Missed > 0 {
			t.note(o, passedNote, d.Last.UTC().Format(time.RFC3339), o.last)
		}
		return
	}
	c := typedOf[batchv1.CronJob](o)
	action, err := cron.Concurrency(string(c.Spec.ConcurrencyPolicy), len(active))
	switch {
	case err != nil || action == cron.Skip: // it is looked at again when the one before has ended
		return
	case action == cron.Replace:
		t.dismiss(o.last, active...)
		status.Active = nil
	}
	j := t.scheduled(o, c, d.Slot)
	slot := metav1.NewTime(d.Slot)
	status.LastScheduleTime = &slot
	status.Active = append(status.Active, corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: j.Key.Namespace, Name: j.Key.Name, UID: metaUID(j.UID)})
	changes := []change{{kind: deploy.KindObjectCreated, o: j, cause: o.last}, {kind: deploy.KindObjectChanged, o: o, cause: o.last}}
	what := "make a job of " + o.Key.String()
	if there := t.objects.byKey[j.Key]; there != nil {
		if !metav1.IsControlledBy(there.live, o.live) { // a schedule of less than a minute has one Job in a minute, as in Kubernetes
			t.wrong(what, fmt.Errorf("a Job %s is there already: delete it, or give the CronJob another name", j.Key.Name))
		}
		t.note(o, passedNote, d.Slot.UTC().Format(time.RFC3339), o.last)
		return
	}
	o.live.Object["status"] = toTree(status)
	if t.log(changes...) { // both at once: no time has two
		t.troubles.Over(what)
		t.poke()
	}
}

// scheduled is the Job for a time. Its name says which.
func (t *Target) scheduled(o *object, c *batchv1.CronJob, slot time.Time) *object {
	j := t.child(o, "batch/v1", "Job", fmt.Sprintf("%s-%d", o.Key.Name, slot.Unix()/60), map[string]any{"spec": toTree(c.Spec.JobTemplate.Spec)})
	j.live.SetLabels(c.Spec.JobTemplate.Labels)
	notes := maps.Clone(c.Spec.JobTemplate.Annotations)
	if notes == nil {
		notes = map[string]string{}
	}
	zone := time.UTC
	if c.Spec.TimeZone != nil {
		if known, err := time.LoadLocation(*c.Spec.TimeZone); err == nil {
			zone = known
		}
	}
	maps.DeleteFunc(notes, func(name, _ string) bool { return strings.HasPrefix(name, notePrefix) })
	notes[scheduledAnnotation] = slot.In(zone).Format(time.RFC3339)
	j.live.SetAnnotations(notes)
	return j
}

// forgetJobs deletes the oldest that have ended beyond the limit.
func (t *Target) forgetJobs(ended []*object, limit *int32, standard int) {
	slices.SortFunc(ended, func(a, b *object) int { return a.Created.Compare(b.Created) })
	for i := range beyond(len(ended), limit, standard) {
		t.dismiss(ended[i].last, ended[i])
	}
}

func (c *checker) cronJob(j *batchv1.CronJob) {
	if _, err := schedule(&j.Spec); err != nil {
		c.say(true, "spec.schedule", "%v", err)
	}
	if _, err := cron.Concurrency(string(j.Spec.ConcurrencyPolicy), 0); err != nil {
		c.say(true, "spec.concurrencyPolicy", "%v", err)
	}
	c.job("spec.jobTemplate.spec", &j.Spec.JobTemplate.Spec)
}
