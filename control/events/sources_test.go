package events_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/event"
)

// A change to one definition starts anew only what it concerns: the one event of a hundred EventSources that it changes.
func TestAChangeStartsOnlyWhatItConcerns(t *testing.T) {
	h := newHouse(t)
	source := func(i int, second string) string {
		return fmt.Sprintf("---\napiVersion: argoproj.io/v1alpha1\nkind: EventSource\nmetadata: {name: s%03d, namespace: ports}\n"+
			"spec:\n  webhook: {a: {}, b: {metadata: {x: %q}}}\n  calendar: {c: {interval: 24h}}\n", i, second)
	}
	var text strings.Builder
	for i := range 100 {
		text.WriteString(source(i, "before"))
	}
	h.apply(text.String())
	h.open()
	h.start()
	starts := func() map[string]int {
		all := map[string]int{}
		for _, s := range h.room.Sources() {
			all[s.Source+" "+s.Event] = s.Starts
			if s.State != "running" {
				t.Errorf("%s of %s is %s: %s", s.Event, s.Source, s.State, s.Problem)
			}
		}
		return all
	}
	before := starts()
	h.apply(source(42, "after"))
	h.push("main", "d1", "old")
	h.decided(1) // the change was seen: it was recorded before the push
	for key, n := range starts() {
		want := before[key]
		if key == "ports/s042 b" {
			want++
		}
		if n != want {
			t.Errorf("%s was started %d times, want %d", key, n, want)
		}
	}
	if len(before) != 301 {
		t.Errorf("%d events, want 301", len(before))
	}
	if err := h.defs.Delete(t.Context(), "user:ada", "api", "EventSource", "ports", "s042"); err != nil {
		t.Fatal(err)
	}
	h.push("main", "d2", "old")
	h.decided(2)
	if n := len(starts()); n != 298 {
		t.Errorf("%d events are left, want 298", n)
	}
}

// What is wrong with a definition is shown, and a push says that the source goes on as it was.
func TestConditionsAreShown(t *testing.T) {
	h := newHouse(t)
	h.start()
	h.apply(strings.Split(lab, "---\n")[0] + "  webhook: {w: {maxPayloadSize: \"{{x}}\"}}\n")
	h.apply(strings.Split(lab, "---\n")[1] + "  replicas: \"{{x}}\"\n")
	if code, _ := h.push("main", "d1", "old"); code != http.StatusOK {
		t.Fatalf("the source answers %d", code)
	}
	h.decided(1)
	check := func(what string) {
		t.Helper()
		var got []string
		for _, c := range h.room.Conditions() {
			if c.Problem == "" || c.Digest == "" {
				t.Errorf("%s: %+v", what, c)
			}
			got = append(got, c.Definition)
		}
		if fmt.Sprint(got) != "[EventSource/ports/lab Sensor/ports/main]" {
			t.Errorf("%s: conditions of %v", what, got)
		}
	}
	check("after the change")
	h.stop()
	h.open()
	h.start()
	check("after a restart")
	if code, _ := h.push("main", "d2", "old"); code != http.StatusOK {
		t.Fatalf("after a restart the source answers %d", code)
	}
	if got := h.decided(2); !strings.HasSuffix(got[1], ": main fired release filtered") {
		t.Errorf("after a restart the sensors decided %q", got)
	}
	states, err := h.room.Waiting(t.Context())
	if err != nil || len(states) != 2 || states[0].Sensor != "ports/main" || states[0].Problem == "" || states[1].Problem != "" {
		t.Errorf("sensors %+v, %v", states, err)
	}
	h.apply(lab)
	h.push("main", "d3", "old")
	h.decided(3)
	if c := h.room.Conditions(); len(c) != 0 {
		t.Errorf("they are good again, and the conditions are %+v", c)
	}
}

// What a source's filter leaves out is an event with a decision like any other, of which no sensor is asked. A replay asks them: the filter was of the source.
func TestFilteredByItsSource(t *testing.T) {
	h := newHouse(t)
	h.start()
	e := event.Event{ID: "left-out", Type: "gitlab", Namespace: "ports", Source: "lab", Subject: "push", Data: []byte(`{"git":{"branch":"main"}}`), Filtered: "the event source's filter is not true for this event: false"}
	receipt, err := h.room.Deliver(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h.decided(1), fmt.Sprintf("%d:  filtered", receipt.Seq); got[0] != want {
		t.Errorf("%q, want %q", got[0], want)
	}
	again, err := h.room.Replay(t.Context(), "left-out", "user:ada")
	if err != nil || again.Filtered != "" {
		t.Fatalf("%+v %v", again, err)
	}
	if got := h.decided(2); !strings.Contains(got[1], "main ") {
		t.Errorf("no sensor was asked of the replay: %q", got[1])
	}
}
