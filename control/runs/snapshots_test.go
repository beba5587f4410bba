package runs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// wide is a run of so many steps, and a last one that waits for a person.
func wide(n int) string {
	return fmt.Sprintf(`
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: wide}
spec:
  entrypoint: main
  templates:
  - name: main
    steps:
    - - {name: sail, template: sail, withSequence: {count: %d}}
    - - {name: ask, template: ask}
  - {name: sail, container: {image: busybox, command: [sail]}}
  - {name: ask, suspend: {}}
`, n)
}

// reading is a ledger that counts the entries of runs that were read.
type reading struct {
	ledger.Ledger
	entries atomic.Int64
}

func (l *reading) Entries(ctx context.Context, q ledger.EntryQuery) ([]ledger.Entry, error) {
	es, err := l.Ledger.Entries(ctx, q)
	if strings.HasPrefix(q.Subject, "run/") {
		l.entries.Add(int64(len(es)))
	}
	return es, err
}

// status is what a run shows.
func (d *dock) status(name string) any {
	d.t.Helper()
	raw, err := d.runs.Status(d.t.Context(), "default", name)
	var shown any
	if err == nil {
		err = json.Unmarshal(raw, &shown)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return shown
}

// snapshot waits until the state of a run is kept as of an entry that is not before another.
func (d *dock) snapshot(subject string, from int64) ledger.Snapshot {
	d.t.Helper()
	var got ledger.Snapshot
	await(d.t, func() bool {
		var err error
		got, err = d.ledger.Snapshots().Load(d.t.Context(), subject)
		return err == nil && got.Seq >= from
	})
	return got
}

// A run with many entries goes on, after the server died in the middle of it and at its end, from what was kept and what came after.
func TestARunGoesOnFromWhatWasKept(t *testing.T) {
	t.Parallel()
	const every = 100
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.reopen(func(o *runs.Options) { o.Keep = every })
	d.submit(wide(300))
	subject := workflow.Subject("default", "wide")
	await(t, func() bool { return len(d.exec.Started()) >= 200 })
	d.snapshot(subject, 1)
	counted := &reading{Ledger: d.ledger}
	d.reopen(func(o *runs.Options) { o.Keep, o.Ledger = every, counted })
	d.until("all steps are done", func() bool { return d.nodePhase("wide", "ask") == workflow.Running })
	whole := d.status("wide")
	kept := d.snapshot(subject, 1)

	// The next server reads a part of the entries, and shows and does the same.
	all, err := d.ledger.Entries(t.Context(), ledger.EntryQuery{Subject: subject, Limit: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	counted = &reading{Ledger: d.ledger}
	d.reopen(func(o *runs.Options) { o.Keep, o.Ledger = every, counted })
	if diff := cmp.Diff(whole, d.status("wide")); diff != "" {
		t.Errorf("from what was kept (-before +after):\n%s", diff)
	}
	bound := int64(len(all))/4 + every + 100 // a batch may go beyond what is due
	if n := counted.entries.Load(); n > bound {
		t.Errorf("%d of %d entries were read, want at most %d", n, len(all), bound)
	}
	if kept.Seq > all[len(all)-1].Seq {
		t.Errorf("kept as of entry %d of %d", kept.Seq, all[len(all)-1].Seq)
	}
	if err := d.runs.Control(t.Context(), "default", "wide", workflow.Control{Verb: workflow.Resume}); err != nil {
		t.Fatal(err)
	}
	d.until("the run's end", func() bool { return d.phase("wide") == workflow.Succeeded })

	// It is the same as one that is replayed from its start.
	whole = d.status("wide")
	if err := d.ledger.Snapshots().Drop(t.Context(), subject); err != nil {
		t.Fatal(err)
	}
	counted = &reading{Ledger: d.ledger}
	d.reopen(func(o *runs.Options) { o.Keep, o.Ledger = -1, counted })
	if diff := cmp.Diff(whole, d.status("wide")); diff != "" {
		t.Errorf("from the start (-kept +start):\n%s", diff)
	}
	if n := counted.entries.Load(); n <= int64(len(all)) {
		t.Errorf("%d entries were read, want all of more than %d", n, len(all))
	}
}

// What was kept in another form, or is damaged, or is not of this run counts for nothing: the run is replayed from its start.
func TestWhatCannotBeUsedIsReplayed(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Auto: true})
	defer d.close()
	d.reopen(func(o *runs.Options) { o.Keep = 10 })
	d.submit(wide(20))
	subject := workflow.Subject("default", "wide")
	await(t, func() bool { return d.nodePhase("wide", "ask") == workflow.Running })
	whole := d.status("wide")
	good := d.snapshot(subject, 1)
	head, err := d.ledger.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), good.Body...)
	damaged[len(damaged)/2] ^= 1
	for name, s := range map[string]ledger.Snapshot{
		"another form": {Version: good.Version + 1, Seq: good.Seq, Body: good.Body},
		"damaged":      {Version: good.Version, Seq: good.Seq, Body: damaged},
		"short":        {Version: good.Version, Seq: good.Seq, Body: good.Body[:10]},
		"empty":        {Version: good.Version, Seq: good.Seq, Body: []byte{}},
	} {
		d.crash()
		s.Subject, s.Seq = subject, head.Seq
		if err := d.ledger.Snapshots().Save(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		d.reopen(func(o *runs.Options) { o.Keep = -1 })
		if diff := cmp.Diff(whole, d.status("wide")); diff != "" {
			t.Errorf("%s (-before +after):\n%s", name, diff)
		}
	}
}

// A run of the name of one that was deleted begins anew, and nothing of the deleted one stays.
func TestADeletedRunKeepsNoState(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Auto: true})
	defer d.close()
	d.reopen(func(o *runs.Options) { o.Keep = 10 })
	subject := workflow.Subject("default", "wide")
	for range 2 {
		d.submit(wide(20))
		await(t, func() bool { return d.nodePhase("wide", "ask") == workflow.Running })
		d.snapshot(subject, 1)
		if err := d.runs.Control(t.Context(), "default", "wide", workflow.Control{Verb: workflow.Terminate}); err != nil {
			t.Fatal(err)
		}
		await(t, func() bool { return d.phase("wide").Done() })
		if err := d.runs.Delete(t.Context(), "default", "wide", "user:ada"); err != nil {
			t.Fatal(err)
		}
		await(t, func() bool {
			_, err := d.ledger.Snapshots().Load(t.Context(), subject)
			return err != nil
		})
	}
}

// What was erased is not kept again: the state in memory, which still has it, is dropped.
func TestAnUnloadedRunIsReadAnew(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	counted := &reading{Ledger: d.ledger}
	d.reopen(func(o *runs.Options) { o.Keep, o.Ledger = -1, counted })
	d.submit(wide(3))
	d.status("wide")
	before := counted.entries.Load()
	for _, subject := range []string{"event/default/a/b", workflow.Subject("default", "wide")} {
		if n := counted.entries.Load(); n != before {
			t.Errorf("%d entries were read though the run is in memory", n-before)
		}
		if err := d.runs.Unload(t.Context(), subject); err != nil {
			t.Errorf("unload %s: %v", subject, err)
		}
		if subject != workflow.Subject("default", "wide") {
			d.status("wide")
		}
	}
	d.status("wide")
	if counted.entries.Load() == before {
		t.Error("the run was not read anew")
	}
}
