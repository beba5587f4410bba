package calendar_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/source"
	"github.com/tiphys/tiphys/event/source/calendar"
	"github.com/tiphys/tiphys/event/source/sourcetest"
	"github.com/tiphys/tiphys/ledger"
)

const head = "apiVersion: argoproj.io/v1alpha1\nkind: EventSource\nmetadata: {name: in, namespace: ports}\nspec:\n  calendar:\n"

// hours is a world in which every hour is a thing. A tick is acknowledged when the calendar waits for the one after it.
type hours struct{ clock *sourcetest.Clock }

func (h hours) at(n int) time.Time { return sourcetest.Start().Add(time.Duration(n) * time.Hour) }

func (h hours) Happen(ctx context.Context, n int) {
	if next := h.clock.Sleepers(ctx, 1); next.After(h.at(n)) {
		h.clock.Move(next) // the calendar tries again
	} else {
		h.clock.Move(h.at(n))
	}
	h.clock.Sleepers(ctx, 1)
}

func (h hours) Acknowledged(n int) bool {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	return h.clock.Sleepers(done, 1).Equal(h.at(n + 1))
}

func TestConformance(t *testing.T) {
	sourcetest.Run(t, sourcetest.Fixture{
		Kind: calendar.Kind{},
		Good: head + "    e: {schedule: \"0 * * * *\"}\n",
		Bad: map[string]string{
			"6:8": head + "    e: {interval: 1h, exclusionDates: [\"RRULE:FREQ=DAILY\"]}\n",
		},
		Outside: func(_ *testing.T, _ source.Source, clock *sourcetest.Clock) sourcetest.Outside { return hours{clock} },
	})
}

// past is a history and a sink: the world in which a calendar was at work before.
type past struct {
	last   string
	events chan event.Event
}

func (p past) Last(context.Context, string, string, string) (event.Event, error) {
	if p.last == "" {
		return event.Event{}, fmt.Errorf("last event: %w", ledger.ErrNotFound)
	}
	return event.Event{Delivery: "calendar/" + p.last}, nil
}

func (p past) Deliver(_ context.Context, e event.Event) (source.Receipt, error) {
	p.events <- e
	return source.Receipt{Seq: 1, ID: e.ID}, nil
}

// The ticks between the last that was recorded and the start are made up for, as far back as the definition says and no further. The
// 15th is excluded; Amsterdam's noon is 10:00 UTC in summer.
func TestCatchUp(t *testing.T) {
	const noon = `{schedule: "0 12 * * *", timezone: Europe/Amsterdam, exclusionDates: ["EXDATE:20260915"]`
	for name, c := range map[string]struct {
		rest, last string
		want       []string
	}{
		"all":      {`, persistence: {catchup: {enabled: true, maxDuration: 900h}}}`, "2026-09-11T10:00:00Z", []string{"09-12", "09-13", "09-14", "09-16"}},
		"bounded":  {`, persistence: {catchup: {enabled: true, maxDuration: 60h}}}`, "2026-09-01T10:00:00Z", []string{"09-14", "09-16"}},
		"none":     {`}`, "2026-09-11T10:00:00Z", []string{"09-17"}},
		"off":      {`, persistence: {catchup: {maxDuration: 60h}}}`, "2026-09-11T10:00:00Z", []string{"09-17"}},
		"is new":   {`, persistence: {catchup: {enabled: true, maxDuration: 900h}}}`, "", []string{"09-17"}},
		"is ahead": {`, persistence: {catchup: {enabled: true, maxDuration: 900h}}}`, "2026-12-11T10:00:00Z", []string{"09-17"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			clock := sourcetest.NewClock(time.Date(2026, 9, 16, 12, 0, 0, 0, time.UTC))
			p := past{c.last, make(chan event.Event, 100)}
			e, _ := sourcetest.Load(t, calendar.Kind{}, head+"    e: "+noon+c.rest+"\n")
			s, err := calendar.Kind{}.Open(e.Definition, source.Tools{Sink: p, History: p, Clock: clock, NewID: func() string { return "id" }})
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = s.Run(ctx) }()
			if c.want[0] == "09-17" {
				clock.Move(clock.Sleepers(ctx, 1))
			}
			clock.Sleepers(ctx, 1)
			close(p.events)
			var got []string
			for e := range p.events {
				got = append(got, e.Delivery[len("calendar/2026-"):len("calendar/2026-09-16")])
			}
			if diff := cmp.Diff(c.want, got); diff != "" || !slices.IsSorted(got) {
				t.Error(diff)
			}
			cancel()
		})
	}
}
