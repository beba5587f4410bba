package wire

import (
	"fmt"
	"testing"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// TestArtifactsOfOthers: a step reads neither what another run keeps, nor the folder that it is in, by its name or by
// that of the folder around it.
func TestArtifactsOfOthers(t *testing.T) {
	s := opened(t, Options{})
	objects, _ := manifest.Decode("w.yaml", []byte(`apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: other}
spec:
  entrypoint: main
  suspend: true
  templates: [{name: main, container: {image: i, command: [x]}}]
`))
	if _, err := s.machine.Runs.Submit(t.Context(), runs.Submission{Object: objects[0], Actor: "user:ada"}); err != nil {
		t.Fatal(err)
	}
	ctx := artifact.WithCaller(t.Context(), artifact.Caller{Namespace: "default", Owner: "me"})
	for key, allowed := range map[string]bool{
		"other": false, "other/": false, "other/other-main-1/x.tgz": false, "steps": false, "steps/": false, "steps/them": false,
		"steps/them/x": false, "steps/me": true, "steps/me/x": true, "shared": true, "shared/x": true, "stepsons/x": true,
	} {
		if err := s.authorizeArtifact(ctx, key, false); (err == nil) != allowed {
			t.Errorf("key %s: %v, allowed should be %v", key, err, allowed)
		}
	}
}

// TestRightsOfACondition: a run of several events has no more rights than the least of them, also where the firing was tried again.
func TestRightsOfACondition(t *testing.T) {
	s := opened(t, Options{})
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
				err := s.machine.Ledger.Write(t.Context(), ledger.On(subject), func(tx ledger.Tx) error {
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
			got, err := withMergeRequest(t.Context(), s.machine.Ledger, run)
			if err != nil || got != c.want {
				t.Errorf("%t %v, want %t", got, err, c.want)
			}
		})
	}
}
