package runs_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor/scripted"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// put writes outgoing work as a damaged disk would leave it.
func (d *dock) put(subject string, w ledger.Work) {
	d.t.Helper()
	err := d.ledger.Write(d.t.Context(), ledger.On(subject), func(tx ledger.Tx) error {
		w.Due = tx.Now()
		return tx.Enqueue(w)
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// condition is the message of a run's condition; empty if it does not hold.
func (d *dock) condition(run, kind string) string {
	d.t.Helper()
	r, err := d.runs.Summary(context.Background(), "default", run)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, c := range r.Conditions {
		if c.Type == kind && c.Status == "True" {
			return c.Message
		}
	}
	return ""
}

func named(text, name string) string { return strings.ReplaceAll(text, "single", name) }

// What of the outbox cannot be read is taken out of it, shown on its run, and keeps no other from going on.
func TestWorkThatCannotBeReadIsSetAside(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.submit(named(single, "bad"))
	d.submit(named(single, "good"))
	await(t, func() bool { return len(d.exec.Started()) == 2 })
	d.crash()
	broken := json.RawMessage(`{"run": 5}`)
	strange := json.RawMessage(`{"run": "default/bad", "type": "dance", "effect": {}}`)
	got := json.RawMessage(`{"run": "default/bad", "type": "got", "effect": "what"}`)
	for queue, items := range map[string]map[string]json.RawMessage{
		"run":   {"default/bad/stop/bad/0": broken, "default/bad/need/x": strange, "default/bad/got/x/y": got},
		"timer": {"default/bad/timer/x": broken},
		"lock":  {"default/bad/node": broken, "default/bad": strange},
	} {
		for key, body := range items {
			subject := "run/default/bad"
			if queue == "lock" {
				subject = "lockholder/" + key
			}
			d.put(subject, ledger.Work{Queue: queue, Key: key, Body: body})
		}
	}
	d.open()
	aside := func() []ledger.Entry {
		es, err := d.ledger.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{"work.aside"}, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		return es
	}
	await(t, func() bool { return len(aside()) == 6 })
	for _, e := range aside() {
		if e.Subject != "run/default/bad" || !strings.Contains(string(e.Body), `"reason"`) {
			t.Errorf("%s: %s", e.Subject, e.Body)
		}
	}
	if m := d.condition("bad", "WorkSetAside"); m == "" {
		t.Error("the run does not show it")
	}
	if m := d.condition("good", "WorkSetAside"); m != "" {
		t.Errorf("another run shows %q", m)
	}
	if h := d.runs.Health(); h.State != control.Waiting || !strings.Contains(h.Reason, "set aside") || !strings.Contains(h.Reason, "default/bad") {
		t.Errorf("health: %+v", h)
	}
	d.until("both runs' end", func() bool { return d.phase("bad").Done() && d.phase("good").Done() })
	d.crash()
	d.open() // and is not found again
	d.submit(named(single, "later"))
	d.until("a later run's end", func() bool { return d.phase("later").Done() })
	if n := len(aside()); n != 6 {
		t.Errorf("%d pieces of work were set aside, want 6: %v", n, aside())
	}
}

// An attempt whose start cannot be read is lost: the engine opens another, and the run does not wait for ever.
func TestAStartThatCannotBeReadIsALostAttempt(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{})
	defer d.close()
	begun, left := make(chan struct{}), make(chan struct{})
	d.door.guard(func(ctx context.Context) error {
		close(begun)
		defer close(left)
		<-ctx.Done()
		return ctx.Err()
	})
	d.submit(named(single, "bad"))
	<-begun
	d.crash()
	<-left
	d.door.guard(func(context.Context) error { return nil })
	nodes, _, err := runs.Nodes(t.Context(), d.ledger, "default/bad", 0, 10)
	if err != nil || len(nodes) != 1 {
		t.Fatalf("%d nodes, %v", len(nodes), err)
	}
	d.put("run/default/bad", ledger.Work{Queue: "run", Key: "default/bad/start/" + nodes[0].ID + "/0", Body: json.RawMessage(`{"run": []}`)})
	d.open()
	d.until("the run's end", func() bool { return d.phase("bad").Done() })
	run, err := d.runs.Summary(t.Context(), "default", "bad")
	started := d.exec.Started()
	if err != nil || run.Phase != workflow.Succeeded || len(started) != 1 || started[0].ID.Attempt != 1 {
		t.Errorf("it is %s (%s), these were started: %v, %v", run.Phase, run.Message, started, err)
	}
}

// A run whose entries cannot be replayed says so, keeps no other from going on, keeps what its pods report unacknowledged, and can be
// deleted, which stops its pods.
func TestARunThatCannotBeTakenUp(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.submit(named(single, "bad"))
	d.submit(named(single, "good"))
	await(t, func() bool { return len(d.exec.Started()) == 2 })
	d.crash()
	err := d.ledger.Write(t.Context(), ledger.On("run/default/bad"), func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: "system", Kind: "node.started", Subject: "run/default/bad", Body: map[string]any{"id": "ghost"}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d.open()
	await(t, func() bool { return strings.Contains(d.condition("bad", "Stalled"), "ghost") })
	if h := d.runs.Health(); h.State != control.Waiting || !strings.Contains(h.Reason, "default/bad") {
		t.Errorf("health: %+v", h)
	}
	d.crash()
	d.open()
	await(t, func() bool { return strings.Contains(d.runs.Health().Reason, "default/bad") })
	stalled, err := d.ledger.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{"replay.failed"}, Limit: 10})
	if err != nil || len(stalled) != 1 {
		t.Errorf("it was said %d times, %v", len(stalled), err)
	}
	if _, err := d.runs.Status(t.Context(), "default", "bad"); err == nil {
		t.Error("its state was read")
	}
	if err := d.runs.Delete(t.Context(), "default", "bad", "user:ada"); err != nil {
		t.Fatal(err)
	}
	d.until("the other run's end", func() bool { return d.phase("good").Done() })
	await(t, func() bool {
		list, err := d.exec.List(t.Context())
		return err == nil && len(list) == 0
	})
	if h := d.runs.Health(); h.Reason != "" {
		t.Errorf("health afterwards: %+v", h)
	}
	d.submit(named(single, "bad")) // its name is free
	d.until("the end of another run of that name", func() bool { return d.phase("bad") == workflow.Succeeded })
}

// A row of a run that cannot be read hides none of the others, and the run goes on by its entries: what its pods report is still its own.
func TestARunWhoseRowCannotBeRead(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.submit(named(single, "bad"))
	d.submit(named(single, "good"))
	await(t, func() bool {
		return d.nodePhase("bad", "bad") == workflow.Running && d.nodePhase("good", "good") == workflow.Running
	})
	d.reopen(func(o *runs.Options) { o.Ledger = tornRows{d.ledger} })
	d.until("both runs' end", func() bool { return d.phaseOf("bad").Done() && d.phaseOf("good").Done() })
	if d.phaseOf("bad") != workflow.Succeeded || len(d.exec.Started()) != 2 {
		t.Errorf("it is %s after %d starts", d.phaseOf("bad"), len(d.exec.Started()))
	}
}

// tornRows is a ledger that gives the row of one run damaged when runs are listed.
type tornRows struct{ ledger.Ledger }

func (l tornRows) List(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	rows, err := l.Ledger.List(ctx, q)
	for i := range rows {
		if rows[i].Table == "run" && rows[i].Key == "default/bad" {
			rows[i].Body = json.RawMessage(`{"uid": tor`)
		}
	}
	return rows, err
}

// phaseOf reads the row itself.
func (d *dock) phaseOf(name string) workflow.Phase {
	d.t.Helper()
	row, err := d.ledger.Row(context.Background(), "run", "default/"+name)
	if err != nil {
		d.t.Fatal(err)
	}
	return workflow.Phase(row.State)
}

// An executor that does not say which attempts it has keeps nobody from what it reports; what it knows is compared when it speaks again.
func TestAnExecutorThatDoesNotList(t *testing.T) {
	t.Parallel()
	d := newDock(t, t.TempDir(), scripted.Options{Steps: map[string][]scripted.Step{"*": {{Duration: time.Hour}}}})
	defer d.close()
	d.submit(named(single, "known"))
	await(t, func() bool { return len(d.exec.Started()) == 1 })
	d.door.silent.Store(true)
	d.reopen(func(o *runs.Options) { o.Patience = time.Nanosecond })
	d.until("the end of a run that its pod reports", func() bool { return d.phase("known").Done() })
	await(t, func() bool {
		h := d.runs.Health()
		return h.State == control.Failing && strings.Contains(h.Reason, "the machine is away")
	})
	d.door.silent.Store(false)
	await(t, func() bool { return d.runs.Health().Well() })
	if n := d.runs.Size().Live; n != 0 {
		t.Errorf("%d places are taken by pods that have ended", n)
	}
}
