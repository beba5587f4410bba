package events

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/failure"
)

func (r *room) plan(p hold.Planner, n int) (items []hold.Item) {
	r.t.Helper()
	for after := ""; ; {
		page, err := p.Plan(r.t.Context(), after, n)
		if err != nil {
			r.t.Fatal(err)
		}
		items = append(items, page.Items...)
		if after = page.Next; after == "" {
			return items
		}
	}
}

// Events that no sensor had seen are in the plan, and those that are left out are decided on by nobody: the sensors go on behind them.
func TestEventsThatAreLeftOut(t *testing.T) {
	r := newRoom(t, nil)
	r.declare(both)
	r.happens("a")
	if _, err := r.step(0); err != nil {
		t.Fatal(err)
	}
	events := r.Planners()[0]
	if items := r.plan(events, 2); len(items) > 0 {
		t.Errorf("all is decided, and planned is %v", items)
	}
	for range 3 {
		r.happens("b")
	}
	items := r.plan(events, 2)
	if len(items) != 3 || !strings.HasPrefix(items[0].ID, "event/") || !strings.Contains(items[0].What, "ports/in/b") {
		t.Fatalf("planned is %v", items)
	}
	if err := events.Leave(t.Context(), items[1].ID, "user:ada"); failure.KindOf(err) != failure.Conflict {
		t.Errorf("one in the middle: %v", err)
	}
	if err := (hold.Planners{events}).Leave(t.Context(), []string{items[0].ID}, "user:ada"); err != nil {
		t.Fatal(err)
	}
	if left := r.plan(events, 2); len(left) != 2 || left[0].ID != items[1].ID {
		t.Errorf("planned is %v", left)
	}
	if err := (hold.Planners{events}).Leave(t.Context(), []string{"event"}, "user:ada"); err != nil {
		t.Fatal(err)
	}
	after, err := r.cursor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.happens("c")
	if _, err := r.step(after); err != nil {
		t.Fatal(err)
	}
	want := []string{"ports/s waiting", " left-out", " left-out", " left-out", " no-dependency"}
	if diff := cmp.Diff(want, r.decisions()); diff != "" {
		t.Error(diff)
	}
	if err := events.Leave(t.Context(), items[0].ID, "user:ada"); failure.KindOf(err) != failure.NotFound {
		t.Errorf("nothing is left: %v", err)
	}
}

// A firing that is left out is dead, is never carried out, and fires no dead letter.
func TestFiringsThatAreLeftOut(t *testing.T) {
	r := newRoom(t, nil)
	letter := httpFiring("letter", "http://127.0.0.1:1")
	f, g := httpFiring("e1/ports/s/t/1", "http://127.0.0.1:1"), httpFiring("g", "http://127.0.0.1:1")
	f.DLQ = &letter
	r.write(f, g)
	firings := r.Planners()[1]
	items := r.plan(firings, 1)
	if len(items) != 2 || items[0].ID != "trigger/e1/ports/s/t/1" || items[1].What != "trigger g of sensor ports/s (http) is carried out" {
		t.Fatalf("planned is %v", items)
	}
	for range 2 {
		if err := firings.Leave(t.Context(), items[0].ID, "user:ada"); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.state(f.Key); !strings.HasPrefix(got, "dead 0 left out") {
		t.Errorf("the firing is %q", got)
	}
	if got := r.state(f.Key + "/dlq"); got != "none" {
		t.Errorf("its dead letter is %q", got)
	}
	if left := r.plan(firings, 9); len(left) != 1 || left[0].ID != "trigger/g" {
		t.Errorf("planned is %v", left)
	}
}
