package crons

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/failure"
)

// The plan says what a schedule would do at once. A time that is left out is recorded as skipped, and the next one is taken.
func TestPlanOfSchedules(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	c, l := lamp(t, &now)
	plan := func(at string) []hold.Item {
		t.Helper()
		now = clock(t, at)
		page, err := c.Planner().Plan(t.Context(), "", 10)
		if err != nil || page.Next != "" {
			t.Fatal(page, err)
		}
		return page.Items
	}
	if items := plan("2026-03-01T12:00:50Z"); len(items) > 0 {
		t.Errorf("nothing is due, and planned is %v", items)
	}
	want := []hold.Item{{ID: "cron/default/lamp", Since: minute(3), What: "a run is started for 2026-03-01T12:03:00Z, and 2 earlier times are recorded as missed"}}
	if diff := cmp.Diff(want, plan("2026-03-01T12:03:05Z")); diff != "" {
		t.Error(diff)
	}
	if len(slots(t, l)) > 0 {
		t.Error("planning recorded something")
	}
	if err := c.Planner().Leave(t.Context(), "cron/default/lamp", "user:ada"); err != nil {
		t.Fatal(err)
	}
	if items := plan("2026-03-01T12:03:06Z"); len(items) > 0 {
		t.Errorf("it was left out, and planned is %v", items)
	}
	if err := c.Planner().Leave(t.Context(), "cron/default/lamp", "user:ada"); failure.KindOf(err) != failure.NotFound {
		t.Errorf("left out twice: %v", err)
	}
	now = clock(t, "2026-03-01T12:04:01Z")
	list, err := c.list(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if err := c.look(t.Context(), list[0], now); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range slots(t, l) {
		got = append(got, s.Time.Format("15:04 ")+s.Outcome)
	}
	if diff := cmp.Diff([]string{"12:02 missed", "12:03 skipped", "12:04 submitted"}, got); diff != "" {
		t.Error(diff)
	}
	want = []hold.Item{{ID: "cron/default/lamp", Since: minute(9), What: "nothing is started: 5 times up to 2026-03-01T12:09:00Z are recorded as missed"}}
	if diff := cmp.Diff(want, plan("2026-03-01T12:09:50Z")); diff != "" {
		t.Error(diff)
	}
}
