package crons

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/access/podpolicy"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/lock"
)

const minutely = `
apiVersion: argoproj.io/v1alpha1
kind: CronWorkflow
metadata: {name: lamp, namespace: default}
spec:
  schedules: ["* * * * *"]
  workflowSpec:
    entrypoint: main
    templates:
    - {name: main, container: {image: any, command: ["true"]}}
`

// A server that is busy for some seconds drops nothing, and one that was away says what it missed. The right value is that of
// Argo's timer, which fires late (workflow/cron/operator.go).
func TestSlotsOfAServerThatComesLate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	c, l := lamp(t, &now)
	look := func(at string) {
		t.Helper()
		now = clock(t, at)
		list, err := c.list(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatalf("%d schedules: %v", len(list), err)
		}
		if err := c.look(t.Context(), list[0], now); err != nil {
			t.Fatal(err)
		}
	}
	look("2026-03-01T12:00:50Z") // nothing is due
	look("2026-03-01T12:01:00Z")
	look("2026-03-01T12:01:01Z") // was taken
	look("2026-03-01T12:02:05Z") // busy for five seconds
	look("2026-03-01T12:08:20Z") // away for six minutes
	look("2026-03-01T12:10:45Z") // and too late for the last one
	want := []Slot{
		{Outcome: "submitted", Time: minute(1), Run: "default/lamp-1772366460"},
		{Outcome: "submitted", Time: minute(2), Run: "default/lamp-1772366520", LateSeconds: 5, Reason: "started 5s late: the server was away or busy"},
		{Outcome: "missed", Time: minute(7), Missed: 5, Reason: "5 times from 2026-03-01T12:03:00Z on passed while the server was away or busy"},
		{Outcome: "submitted", Time: minute(8), Run: "default/lamp-1772366880", LateSeconds: 20, Reason: "started 20s late: the server was away or busy"},
		{Outcome: "missed", Time: minute(10), Missed: 2, Reason: "2 times from 2026-03-01T12:09:00Z on passed while the server was away or busy"},
	}
	for i := range want {
		want[i].Cron = "default/lamp"
	}
	if diff := cmp.Diff(want, slots(t, l)); diff != "" {
		t.Error(diff)
	}
}

// A clock that was set back must not keep a schedule still until it has caught up. Each slot is started once, whatever the clock does.
func TestClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	c, l := lamp(t, &now)
	look := func(at string) {
		t.Helper()
		now = clock(t, at)
		if next := c.round(t.Context()); !next.After(now) || next.Sub(now) > time.Minute {
			t.Errorf("at %s the next look is at %s", at, next)
		}
	}
	look("2026-03-01T12:00:50Z")
	look("2026-03-01T12:01:00Z")
	look("2026-03-01T12:02:00Z")
	look("2026-03-01T12:00:55Z") // back by a minute: nothing is due
	look("2026-03-01T12:01:00Z") // was taken
	look("2026-03-01T12:02:00Z") // was taken
	look("2026-03-01T12:03:00Z")
	look("2027-03-01T12:03:30Z") // a year ahead
	look("2026-03-01T12:03:50Z") // and right again
	look("2026-03-01T12:04:00Z")
	look("2026-03-01T12:05:00Z")
	var started []int
	for _, s := range slots(t, l) {
		if s.Outcome == "submitted" && s.Time.Year() == 2026 {
			started = append(started, s.Time.Minute())
		}
	}
	if diff := cmp.Diff([]int{1, 2, 3, 4, 5}, started); diff != "" {
		t.Error(diff)
	}
	if h := c.Health(); h.State != "" {
		t.Errorf("%+v", h)
	}
}

// What is damaged of a schedule's past does not keep it from its future, and a ledger that does not answer is asked again soon.
func TestDamagedPast(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC)
	c, l := lamp(t, &now)
	now = clock(t, "2026-03-01T12:01:00Z")
	c.round(t.Context())
	path := l.(*sqlite.Ledger).Path()
	for _, table := range []string{"run", "cron"} {
		damage(t, path, table)
	}
	now = clock(t, "2026-03-01T12:02:00Z")
	c.round(t.Context())
	if all := slots(t, l); len(all) != 2 || all[1].Outcome != "submitted" || !all[1].Time.Equal(minute(2)) {
		t.Errorf("the slots are %+v", all)
	}
	if _, err := c.List(t.Context()); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if next := c.round(ended); next.Sub(now) > time.Minute {
		t.Errorf("after an error the next look is only at %s", next)
	}
}

// damage makes the rows of a table unreadable.
func damage(t *testing.T, path, table string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	done, err := db.Exec(`UPDATE projected SET body = '{' WHERE kind = ?`, table)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := done.RowsAffected(); n == 0 {
		t.Fatalf("there is no row of %s", table)
	}
}

// lamp is a controller with one schedule, and time that the test moves.
func lamp(t *testing.T, now *time.Time) (*Controller, ledger.Ledger) {
	t.Helper()
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Synchronous: sqlite.Off, Now: func() time.Time { return *now },
		Projections: []ledger.Projection{workflow.Projection{}, lock.Projection{}, runs.Projection{}, definitions.Projection{}, Projection{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	defs := definitions.New(l, nil, nil)
	objects, diags := manifest.Decode("cron.yaml", []byte(minutely))
	if manifest.Failed(diags) {
		t.Fatal(diags)
	}
	if _, err := defs.Apply(t.Context(), "user:ada", "api", objects); err != nil {
		t.Fatal(err)
	}
	executors := executor.NewRegistry(podpolicy.New(), scripted.New(scripted.Options{}).Named())
	t.Cleanup(func() { _ = executors.Close() })
	c := New(Options{Ledger: l, Definitions: defs, Now: func() time.Time { return *now }, Log: slog.New(slog.DiscardHandler),
		Runs: runs.New(runs.Options{Ledger: l, Executors: executors, Objects: defs, Now: func() time.Time { return *now }})})
	return c, l
}

func clock(t *testing.T, at string) time.Time {
	t.Helper()
	now, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

func minute(n int) time.Time { return time.Date(2026, 3, 1, 12, n, 0, 0, time.UTC) }

func slots(t *testing.T, l ledger.Ledger) (out []Slot) {
	t.Helper()
	entries, err := l.Entries(context.Background(), ledger.EntryQuery{Kinds: []string{KindSlot}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var s Slot
		if err := json.Unmarshal(e.Body, &s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}
