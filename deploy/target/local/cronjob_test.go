package local_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/deploy/health"
)

// The rules are those of concepts/workloads/controllers/cron-jobs of Kubernetes, but for times that are late: these follow the rule of CronWorkflows
// (workflow/cron).

// report runs an image each hour.
func report(image string, more ...string) string {
	return fmt.Sprintf(`apiVersion: batch/v1
kind: CronJob
metadata: {name: report, namespace: prod}
spec:
  schedule: "0 * * * *"
  jobTemplate:
    metadata: {labels: {team: a}, annotations: {note: b}}
    spec:
      backoffLimit: 0
      template: {spec: {restartPolicy: Never, containers: [{name: c, image: "%s"}]}}
  %s`, image, strings.Join(more, "\n  "))
}

// clocked is a machine whose time the test moves, from the hour.
func clocked(t *testing.T) *machine {
	m := newMachine(t)
	m.clock.Store(time.Date(2026, 3, 1, 8, 30, 0, 0, time.UTC).UnixNano())
	m.reopen()
	return m
}

// at moves the time and has the target look.
func (m *machine) at(clock string) {
	m.t.Helper()
	when, err := time.Parse("2006-01-02 15:04:05", clock)
	if err != nil {
		m.t.Fatal(err)
	}
	m.clock.Store(when.UnixNano())
	m.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: clock, namespace: prod}, data: {at: '" + clock + "'}}")
}

// jobs gives the Jobs that are not on their way out, and how they ended.
func (m *machine) jobs() map[string]string {
	m.t.Helper()
	all, err := m.List(m.t.Context(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	found := map[string]string{}
	for _, o := range all {
		if o.GetKind() == "Job" && o.GetDeletionTimestamp() == nil {
			h, _ := health.Of(o)
			found[o.GetName()] = h.Status
		}
	}
	return found
}

func slot(clock string) string {
	when, _ := time.Parse("2006-01-02 15:04", clock)
	return fmt.Sprintf("report-%d", when.Unix()/60)
}

func (m *machine) awaitJobs(what string, want map[string]string) {
	m.t.Helper()
	m.await(fmt.Sprint(what, want), func() bool { return maps.Equal(m.jobs(), want) })
}

func TestCronJob(t *testing.T) {
	m := clocked(t)
	m.apply(report("task"))
	m.at("2026-03-01 08:59:59")
	m.await("it is seen", func() bool { return m.get("CronJob", "report").GetAnnotations()["target.tiphys.dev/schedule"] != "" })
	if got := m.jobs(); len(got) != 0 {
		t.Errorf("before it is due: %v", got)
	}
	m.at("2026-03-01 09:00:00")
	nine := slot("2026-03-01 09:00")
	m.awaitJobs("it is made", map[string]string{nine: health.Healthy})
	job := m.get("Job", nine)
	if refs := job.GetOwnerReferences(); len(refs) != 1 || refs[0].Kind != "CronJob" || refs[0].Name != "report" || refs[0].Controller == nil || !*refs[0].Controller {
		t.Errorf("owners %v", refs)
	}
	if diff := cmp.Diff(map[string]string{"note": "b", "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-03-01T09:00:00Z"}, job.GetAnnotations()); diff != "" || job.GetLabels()["team"] != "a" {
		t.Error(diff, job.GetLabels())
	}
	m.await("its success is noted", func() bool { return field(m.get("CronJob", "report"), "status", "lastSuccessfulTime") != nil })
	if got := m.get("CronJob", "report"); field(got, "status", "lastScheduleTime") != "2026-03-01T09:00:00Z" || field(got, "status", "active") != nil {
		t.Errorf("%v", got.Object["status"])
	}
	for range 3 {
		m.reopen()
	}
	m.at("2026-03-01 09:30:00")
	m.awaitJobs("nothing twice", map[string]string{nine: health.Healthy})
	// A server that was away for a while: the latest counts, if it is not older than the deadline; without one half the period and five minutes at most.
	m.at("2026-03-01 12:20:00")
	m.await("it is missed", func() bool {
		return m.get("CronJob", "report").GetAnnotations()["target.tiphys.dev/passed"] == "2026-03-01T12:00:00Z"
	})
	m.apply(report("task", "startingDeadlineSeconds: 1800"))
	m.at("2026-03-01 15:20:00")
	m.awaitJobs("the latest is made up for", map[string]string{nine: health.Healthy, slot("2026-03-01 15:00"): health.Healthy})
	m.delete("batch", "CronJob", "report")
	m.await("its Jobs go with it", func() bool { return len(m.jobs()) == 0 && m.get("CronJob", "report") == nil })
}

func TestCronJobIsSuspended(t *testing.T) {
	m := clocked(t)
	m.apply(report("task", "suspend: true"))
	m.at("2026-03-01 09:00:00")
	m.await("it is seen", func() bool { return m.get("CronJob", "report").GetAnnotations()["target.tiphys.dev/schedule"] != "" })
	m.at("2026-03-01 09:01:00")
	m.apply(report("task"))
	m.at("2026-03-01 09:01:30")
	m.await("what was due meanwhile is not made up for", func() bool { return m.get("CronJob", "report").GetAnnotations()["target.tiphys.dev/passed"] != "" })
	m.at("2026-03-01 10:00:10")
	m.awaitJobs("the next is", map[string]string{slot("2026-03-01 10:00"): health.Healthy})
}

func TestCronJobConcurrency(t *testing.T) {
	for policy, want := range map[string][]string{
		"":        {"2026-03-01 09:00", "2026-03-01 10:00"},
		"Allow":   {"2026-03-01 09:00", "2026-03-01 10:00"},
		"Forbid":  {"2026-03-01 09:00"},
		"Replace": {"2026-03-01 10:00"},
	} {
		t.Run(policy, func(t *testing.T) {
			m := clocked(t)
			more := ""
			if policy != "" {
				more = "concurrencyPolicy: " + policy
			}
			m.apply(report("app:v1", more))
			m.at("2026-03-01 09:00:01")
			m.await("the first runs", func() bool { return len(m.executor.running()) == 1 })
			m.at("2026-03-01 10:00:01")
			jobs := map[string]string{}
			for _, s := range want {
				jobs[slot(s)] = health.Progressing
			}
			if policy == "Forbid" {
				m.at("2026-03-01 10:30:00")
				m.await("it is missed", func() bool { return m.get("CronJob", "report").GetAnnotations()["target.tiphys.dev/passed"] != "" })
			}
			m.awaitJobs("then there are", jobs)
			m.await("and run", func() bool {
				active, _ := field(m.get("CronJob", "report"), "status", "active").([]any)
				return len(m.executor.running()) == len(want) && len(active) == len(want)
			})
		})
	}
}

func TestCronJobHistory(t *testing.T) {
	m := clocked(t)
	m.apply(report("task", "successfulJobsHistoryLimit: 2"))
	for hour := 9; hour < 13; hour++ {
		m.at(fmt.Sprintf("2026-03-01 %02d:00:00", hour))
		m.await("it has ended", func() bool { return m.jobs()[slot(fmt.Sprintf("2026-03-01 %02d:00", hour))] == health.Healthy })
	}
	m.awaitJobs("the last two", map[string]string{slot("2026-03-01 11:00"): health.Healthy, slot("2026-03-01 12:00"): health.Healthy})
	m.apply(report("badtask", "successfulJobsHistoryLimit: 0"))
	for hour := 13; hour < 16; hour++ {
		m.at(fmt.Sprintf("2026-03-01 %02d:00:00", hour))
		m.await("it has failed", func() bool { return m.jobs()[slot(fmt.Sprintf("2026-03-01 %02d:00", hour))] == health.Degraded })
	}
	m.awaitJobs("the last failed one", map[string]string{slot("2026-03-01 15:00"): health.Degraded})
}

// TestCronJobZones: Berlin had no 02:30 on 2026-03-29.
func TestCronJobZones(t *testing.T) {
	m := clocked(t)
	m.apply(strings.Replace(report("task", "timeZone: Europe/Berlin"), "0 * * * *", "0 9 * * *", 1))
	m.at("2026-03-02 08:00:00")
	m.await("nine in Berlin", func() bool { return len(m.jobs()) == 1 })
	if got := m.get("Job", slices.Collect(maps.Keys(m.jobs()))[0]).GetAnnotations()["batch.kubernetes.io/cronjob-scheduled-timestamp"]; got != "2026-03-02T09:00:00+01:00" {
		t.Errorf("it is for %s", got)
	}
}

func TestCronJobIsRefused(t *testing.T) {
	m := newMachine(t)
	for what, document := range map[string]string{
		"a schedule of four fields": strings.Replace(report("task"), "0 * * * *", "0 * * *", 1),
		"a zone in the schedule":    strings.Replace(report("task"), "0 * * * *", "CRON_TZ=UTC 0 * * * *", 1),
		"no zone":                   report("task", "timeZone: Mars/Base"),
		"a local zone":              report("task", "timeZone: Local"),
		"an empty zone":             report("task", "timeZone: ''"),
		"an unknown policy":         report("task", "concurrencyPolicy: Never"),
		"a long name":               strings.Replace(report("task"), "name: report", "name: "+strings.Repeat("r", 53), 1),
		"a pod that starts again":   strings.Replace(report("task"), "restartPolicy: Never", "restartPolicy: Always", 1),
		"too many at once":          strings.Replace(report("task"), "backoffLimit: 0", "parallelism: 1000000", 1),
	} {
		if err := m.try(document, app1()); err == nil || strings.Contains(err.Error(), "not on this machine yet") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
