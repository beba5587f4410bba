package cron

import (
	"testing"
	"time"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/expression"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// Zone rules: Berlin left out 02:00-03:00 on 2024-03-31 and had it twice on 2024-10-27.
func TestNext(t *testing.T) {
	for _, c := range []struct{ schedule, zone, after, want string }{
		{"*/5 * * * *", "", "2024-07-15T12:01:00Z", "2024-07-15T12:05:00Z"},
		{"0 9 * * 1", "Europe/Berlin", "2024-07-15T12:00:00Z", "2024-07-22T07:00:00Z"},
		{"@daily", "", "2024-07-15T12:00:00Z", "2024-07-16T00:00:00Z"},
		{"@every 90m", "", "2024-07-15T12:00:00Z", "2024-07-15T13:30:00Z"},
		{"CRON_TZ=Asia/Tokyo 0 9 * * *", "", "2024-07-15T12:00:00Z", "2024-07-16T00:00:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2024-03-30T12:00:00Z", "2024-04-01T00:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2024-10-27T00:00:00Z", "2024-10-27T00:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"},
		{"0 0 30 2 *", "", "2024-07-15T12:00:00Z", ""},
	} {
		s, err := Parse(c.schedule, c.zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Next(at(t, c.after)); !got.Equal(at(t, c.want)) {
			t.Errorf("%s in %q after %s: got %s, want %s", c.schedule, c.zone, c.after, got, c.want)
		}
	}
	for _, bad := range [][2]string{{"* * *", ""}, {"", ""}, {"x", ""}, {"* * * * *", "Mars/Base"}, {"TZ=", ""}, {"61 * * * *", ""}} {
		if _, err := Parse(bad[0], bad[1]); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// With startingDeadlineSeconds the latest time within it is made up for, as in Argo (workflow/cron/operator.go); without, one that is late
// by at most half the period and five minutes.
func TestDue(t *testing.T) {
	deadline := func(n int64) *int64 { return &n }
	hours := []string{"0 * * * *", "0 */2 * * *"}
	for _, c := range []struct {
		name, last, since, now string
		schedules              []string
		deadline               *int64
		want                   string
		missed                 int
		lastMissed             string
	}{
		{"the latest only", "2024-07-15T09:00:00Z", "", "2024-07-15T12:10:00Z", hours, deadline(3600), "2024-07-15T12:00:00Z", 2, "2024-07-15T11:00:00Z"},
		{"outside the deadline", "2024-07-15T09:00:00Z", "", "2024-07-15T12:10:00Z", hours, deadline(300), "", 3, "2024-07-15T12:00:00Z"},
		{"exactly at its start", "2024-07-15T09:00:00Z", "", "2024-07-15T12:10:00Z", hours, deadline(600), "2024-07-15T12:00:00Z", 2, "2024-07-15T11:00:00Z"},
		{"nothing passed", "2024-07-15T12:00:00Z", "", "2024-07-15T12:10:00Z", hours, deadline(3600), "", 0, ""},
		{"never declared", "", "", "2024-07-15T12:10:00Z", hours, deadline(3600), "", 0, ""},
		{"now itself", "2024-07-15T11:00:00Z", "", "2024-07-15T12:00:00Z", hours, nil, "2024-07-15T12:00:00Z", 0, ""},
		{"a busy server", "2024-07-15T11:00:00Z", "", "2024-07-15T12:05:00Z", hours, nil, "2024-07-15T12:00:00Z", 0, ""},
		{"too late for five minutes", "2024-07-15T11:00:00Z", "", "2024-07-15T12:05:01Z", hours, nil, "", 1, "2024-07-15T12:00:00Z"},
		{"half a minute of each", "2024-07-15T12:00:00Z", "", "2024-07-15T12:03:30Z", []string{"* * * * *"}, nil, "2024-07-15T12:03:00Z", 2, "2024-07-15T12:02:00Z"},
		{"more than half a minute", "2024-07-15T12:00:00Z", "", "2024-07-15T12:03:31Z", []string{"* * * * *"}, nil, "", 3, "2024-07-15T12:03:00Z"},
		{"a deadline of nothing is none", "2024-07-15T11:00:00Z", "", "2024-07-15T12:00:05Z", hours, deadline(0), "2024-07-15T12:00:00Z", 0, ""},
		{"suspended until after it", "2024-07-15T11:00:00Z", "2024-07-15T12:01:00Z", "2024-07-15T12:01:05Z", hours, nil, "", 1, "2024-07-15T12:00:00Z"},
		{"years ago", "2014-07-15T11:00:00Z", "", "2024-07-15T12:00:05Z", []string{"* * * * *"}, nil, "2024-07-15T12:00:00Z", maxSlots + 24*60 - 1, "2024-07-15T11:59:00Z"},
	} {
		s, err := ParseAll(manifest.CronWorkflowSpec{Schedules: c.schedules})
		if err != nil {
			t.Fatal(err)
		}
		d := s.Due(at(t, c.last), at(t, c.since), at(t, c.now), c.deadline)
		if !d.Slot.Equal(at(t, c.want)) || d.Missed != c.missed || !d.Last.Equal(at(t, c.lastMissed)) {
			t.Errorf("%s: got %+v", c.name, d)
		}
		if !d.Slot.IsZero() && d.Late != at(t, c.now).Sub(d.Slot) {
			t.Errorf("%s: late by %s", c.name, d.Late)
		}
	}
}

func TestConcurrency(t *testing.T) {
	for _, c := range []struct {
		policy string
		active int
		want   Action
	}{{"", 3, Start}, {"Allow", 1, Start}, {"Forbid", 0, Start}, {"Forbid", 1, Skip}, {"Replace", 0, Start}, {"Replace", 2, Replace}} {
		if got, err := Concurrency(c.policy, c.active); got != c.want || err != nil {
			t.Errorf("%s with %d: %s, %v", c.policy, c.active, got, err)
		}
	}
	if _, err := Concurrency("Never", 0); err == nil {
		t.Error("an unknown policy is taken")
	}
}

func TestWhenAndStop(t *testing.T) {
	now := at(t, "2024-07-15T12:00:00Z")
	e := expression.New()
	// The first is from Argo's example cron-when.
	const when = "{{= cronworkflow.lastScheduledTime == nil || (now() - cronworkflow.lastScheduledTime).Seconds() > 360 }}"
	for _, c := range []struct {
		last time.Time
		want bool
	}{{time.Time{}, true}, {now.Add(-time.Minute), false}, {now.Add(-time.Hour), true}} {
		if got, err := When(e, when, Facts{LastScheduled: c.last}, now); got != c.want || err != nil {
			t.Errorf("last %s: %v, %v", c.last, got, err)
		}
	}
	if ok, err := When(e, "", Facts{}, now); !ok || err != nil {
		t.Error(err)
	}
	if ok, err := When(e, "'{{cronworkflow.name}}' == 'c'", Facts{Name: "c"}, now); !ok || err != nil {
		t.Error(ok, err)
	}
	for code, want := range map[string]bool{"cronworkflow.failed >= 3": true, "failed > 3": false, "cronworkflow.succeeded > 0": false} {
		if got, err := Stop(e, &manifest.StopStrategy{Expression: code}, Facts{Failed: 3}, now); got != want || err != nil {
			t.Errorf("%s: %v, %v", code, got, err)
		}
	}
	if stop, err := Stop(e, nil, Facts{}, now); stop || err != nil {
		t.Error(err)
	}
	if _, err := When(e, "1 + 1", Facts{}, now); err == nil {
		t.Error("a number is taken for a condition")
	}
}
