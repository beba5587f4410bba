package stepclaims

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/workflow"
)

// record is an empty ledger with the rows of events and runs.
func record(t *testing.T) ledger.Ledger {
	t.Helper()
	l, err := sqlite.Open(t.Context(), sqlite.Options{
		Path: filepath.Join(t.TempDir(), "l.db"), Synchronous: sqlite.Off, Projections: []ledger.Projection{event.Rows{}, workflow.Projection{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestRightsOfACondition: a run of several events has no more rights than the least of them, also where the firing was tried again.
func TestRightsOfACondition(t *testing.T) {
	l := record(t)
	push := &event.Git{Kind: "push", Ref: "refs/heads/main"}
	merge := &event.Git{Kind: "pull_request", PR: &event.PullRequest{Number: 1, Fork: true}}
	for i, c := range []struct {
		name   string
		events []*event.Git
		want   bool
	}{
		{"pushes", []*event.Git{push, push}, false},
		{"a merge request first", []*event.Git{merge, push}, true},
		{"no repository at all", []*event.Git{nil, push}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := fmt.Sprint("default/r", i)
			fired := event.Fired{Key: run, Events: map[string]int64{}}
			var cause ledger.Ref
			add := func(kind, subject string, body any) {
				t.Helper()
				err := l.Write(t.Context(), ledger.On(subject), func(tx ledger.Tx) error {
					e, err := tx.Append(ledger.Draft{Actor: "system", Kind: kind, Subject: subject, Cause: cause, Body: body})
					cause = e
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			for n, g := range c.events {
				cause = ledger.Ref{}
				add(event.KindReceived, "event/x", event.Received{Event: event.Event{ID: fmt.Sprint(run, n), Git: g}})
				fired.Events[fmt.Sprint(n)] = cause.Seq()
			}
			add(event.KindFired, "event/x", fired)
			add(event.KindFailed, "firing/"+run, event.Settled{Key: run})
			add(workflow.KindSubmitted, "run/"+run, nil)
			got, err := withMergeRequest(t.Context(), l, run)
			if err != nil || got != c.want {
				t.Errorf("%t %v, want %t", got, err, c.want)
			}
		})
	}
}
