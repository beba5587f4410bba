package hold_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *sqlite.Ledger {
	t.Helper()
	l, err := sqlite.Open(t.Context(), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func read(t *testing.T, l ledger.Reader) hold.State {
	t.Helper()
	s, err := hold.Read(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A server is held from its restore to its release, whoever asks and however often it was restored; each epoch is above the last,
// with a clock that ran backwards too.
func TestHeldUntilReleased(t *testing.T) {
	l := open(t)
	if s := read(t, l); s.Held || s.Epoch != 0 {
		t.Errorf("a new server: %+v", s)
	}
	last := int64(0)
	for n, now := range []time.Time{noon, noon.Add(-time.Hour), noon.Add(time.Hour)} {
		s, err := hold.Raise(t.Context(), l, hold.Restored{Backup: fmt.Sprint(n)}, "user:ada", now)
		if err != nil || !s.Held || s.Epoch <= last || s.Restored.Backup != fmt.Sprint(n) {
			t.Fatalf("restored: %+v, %v", s, err)
		}
		last = s.Epoch
		if n == 1 {
			continue // restored once more before it was released
		}
		h := hold.New(l, read(t, l))
		if err := h.Refuse(); !errors.Is(err, hold.ErrHeld) || failure.HintOf(err) == "" {
			t.Errorf("held: %v", err)
		}
		if after, ok := failure.After(h.Refuse()); !ok || after <= 0 {
			t.Error("who is refused is not told when to come again")
		}
		if s, err := h.Release(t.Context(), "user:ada", []string{"run"}); err != nil || s.Held {
			t.Fatalf("released: %+v, %v", s, err)
		}
		if err := errors.Join(h.Refuse(), h.Wait(t.Context())); err != nil {
			t.Errorf("released: %v", err)
		}
		if _, err := h.Release(t.Context(), "user:ada", nil); failure.KindOf(err) != failure.Conflict {
			t.Errorf("released twice: %v", err)
		}
		if s := read(t, l); s.Held || s.Epoch != last {
			t.Errorf("released: %+v", s)
		}
	}
}

// A release whose answer got lost is on record: who asks again is not told that it failed.
func TestReleaseIsOnRecordOnce(t *testing.T) {
	l := open(t)
	s, err := hold.Raise(t.Context(), l, hold.Restored{}, "user:ada", noon)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // two processes that read the same state
		if _, err := hold.New(l, s).Release(t.Context(), "user:ada", nil); err != nil {
			t.Error(err)
		}
	}
	es, err := l.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{hold.KindReleased}})
	if err != nil || len(es) != 1 {
		t.Errorf("%d entries, %v", len(es), err)
	}
}

// worker is a service that tells what is done with it.
type worker struct{ did chan string }

func (worker) Name() string                  { return "worker" }
func (w worker) Start(context.Context) error { w.did <- "start"; return nil }
func (w worker) Run(ctx context.Context) error {
	w.did <- "run"
	<-ctx.Done()
	return nil
}
func (worker) Health() control.Health { return control.Health{Reason: "its own"} }

func TestServicesWaitForTheRelease(t *testing.T) {
	l := open(t)
	s, err := hold.Raise(t.Context(), l, hold.Restored{Made: noon}, "user:ada", noon)
	if err != nil {
		t.Fatal(err)
	}
	h := hold.New(l, s)
	w := worker{make(chan string, 4)}
	g := control.NewGroup(control.GroupOptions{}, h.Service(w))
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	if got := g.Status()[0]; got.Health.State != control.Waiting || !strings.Contains(got.Health.Reason, "held since") || !got.Health.Well() {
		t.Errorf("held: %s", got)
	}
	if len(w.did) > 0 {
		t.Errorf("held, and it did %s", <-w.did)
	}
	if _, err := h.Release(t.Context(), "user:ada", nil); err != nil {
		t.Fatal(err)
	}
	if err := h.Begun(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := []string{<-w.did, <-w.did}; !cmp.Equal(got, []string{"start", "run"}) {
		t.Errorf("released, and it did %v", got)
	}
	if err := h.Refuse(); err != nil {
		t.Errorf("it has begun: %v", err)
	}
	if got := g.Status()[0]; got.Health.Reason != "its own" {
		t.Errorf("released: %s", got)
	}
}

// What is sent between the release and the start of what receives it is refused still: it would find nobody.
func TestRefusedUntilAllHaveBegun(t *testing.T) {
	l := open(t)
	s, err := hold.Raise(t.Context(), l, hold.Restored{}, "user:ada", noon)
	if err != nil {
		t.Fatal(err)
	}
	h := hold.New(l, s)
	w := worker{make(chan string, 4)}
	late := h.Service(w)
	if _, err := h.Release(t.Context(), "user:ada", nil); err != nil {
		t.Fatal(err)
	}
	if err := h.Refuse(); !errors.Is(err, hold.ErrHeld) {
		t.Errorf("nothing has begun: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- late.Run(ctx) }()
	if err := h.Begun(t.Context()); err != nil || h.Refuse() != nil {
		t.Errorf("all have begun: %v, %v", err, h.Refuse())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A server that is not held starts its services as ever.
func TestServicesStartAtOnce(t *testing.T) {
	w := worker{make(chan string, 4)}
	s := hold.New(open(t), hold.State{}).Service(w)
	if err := s.Start(t.Context()); err != nil || <-w.did != "start" {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	if got := <-w.did; got != "run" {
		t.Errorf("it did %s", got)
	}
	cancel()
	if err := <-ended; err != nil || len(w.did) > 0 {
		t.Errorf("%v, %d", err, len(w.did))
	}
}

// queue is a room with numbered items.
type queue struct {
	kind string
	left map[string]bool
	log  *[]string
}

func (q queue) Kind() string { return q.kind }

func (q queue) Plan(_ context.Context, after string, n int) (hold.Page, error) {
	var page hold.Page
	for i := range 250 {
		id := fmt.Sprintf("%s/%03d", q.kind, i)
		if id <= after || q.left[id] {
			continue
		}
		if len(page.Items) == n {
			page.Next = page.Items[n-1].ID
			break
		}
		page.Items = append(page.Items, hold.Item{ID: id})
	}
	return page, nil
}

func (q queue) Leave(_ context.Context, id, _ string) error {
	q.left[id] = true
	*q.log = append(*q.log, q.kind)
	return nil
}

func TestLeavingOut(t *testing.T) {
	var log []string
	a, b := queue{"event", map[string]bool{}, &log}, queue{"run", map[string]bool{}, &log}
	p := hold.Planners{a, b}
	if err := p.Leave(t.Context(), []string{"run", "walk/1"}, "user:ada"); failure.KindOf(err) != failure.Invalid || len(log) > 0 {
		t.Errorf("what there is not: %v, and left %d", err, len(log))
	}
	if err := p.Leave(t.Context(), []string{"run", "event/007"}, "user:ada"); err != nil {
		t.Fatal(err)
	}
	if len(b.left) != 250 || len(a.left) != 1 || !a.left["event/007"] || log[0] != "event" {
		t.Errorf("left %d runs and %d events, first an item of %s", len(b.left), len(a.left), log[0])
	}
	if page, err := p.Plan(t.Context(), "run", "", 100); err != nil || page.Items == nil || len(page.Items) > 0 {
		t.Errorf("%+v, %v", page, err)
	}
	if _, err := p.Plan(t.Context(), "walk", "", 100); failure.KindOf(err) != failure.Invalid {
		t.Errorf("%v", err)
	}
}
