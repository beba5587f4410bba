package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// board is a forge that comments are written on.
type board struct {
	said []string
	err  error
}

func (b *board) Answer(ctx context.Context, g event.Git, marker, body string) error {
	if b.err != nil {
		return b.err
	}
	b.said = append(b.said, fmt.Sprintf("%s!%d %s by %s: %s", g.Repo.FullName, g.PR.Number, marker, forge.ByOf(ctx).Actor, body))
	return nil
}

// listens is a sensor that is told of everything that the hub sends.
const listens = `apiVersion: argoproj.io/v1alpha1
kind: Sensor
metadata: {name: s, namespace: ports}
spec:
  dependencies: [{name: a, eventSourceName: hub, eventName: requests}]
  triggers: [{template: {name: say, log: {}}}]
`

// The commits of the merge request, and a time from which the forge counts.
var (
	firstCommit, secondCommit = strings.Repeat("1", 40), strings.Repeat("2", 40)
	dawn                      = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
)

// sends records what the hub sends of a merge request, and has it decided on.
func (r *room) sends(all ...event.Git) {
	r.t.Helper()
	for _, g := range all {
		g.Forge, g.Repo.FullName = "github", "fleet/harbour"
		g.PR.Number, g.PR.Author, g.PR.AuthorTrust = 4, "mallory", "none"
		e := event.Event{ID: r.newID(), Type: "github", Namespace: "ports", Source: "hub", Subject: "requests", Time: r.now, Git: &g, Verified: "hmac"}
		if _, _, err := r.Record(r.t.Context(), e, 0); err != nil {
			r.t.Fatal(err)
		}
	}
	after, err := r.cursor(r.t.Context())
	if err == nil {
		_, err = r.step(after)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func pushed(sha string, at time.Time) event.Git {
	return event.Git{Kind: "pull_request", Action: "sync", PR: &event.PullRequest{HeadSHA: sha, Fork: true, SourceRepo: "mallory/harbour", Updated: at}}
}

func says(body string, at time.Time) event.Git {
	return event.Git{Kind: "comment", Action: "create", PR: &event.PullRequest{},
		Comment: &event.Comment{ID: "9", Body: body, Author: "ada", Association: "MEMBER", Created: at}}
}

// ran gives the commits that were decided on by the sensor and not held.
func (r *room) ran() (commits []string) {
	r.t.Helper()
	entries, err := r.o.Ledger.Entries(r.t.Context(), ledger.EntryQuery{Kinds: []string{event.KindFired}, Limit: 100})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, entry := range entries {
		fired, err := ledger.Read[event.Fired](entry)
		if err != nil {
			r.t.Fatal(err)
		}
		e, err := r.Event(r.t.Context(), fired.EventID)
		if err != nil {
			r.t.Fatal(err)
		}
		commits = append(commits, e.Git.PR.HeadSHA[:1])
	}
	return commits
}

// heeds acts on the comments, and decides on what they approve.
func (r *room) heeds() {
	r.t.Helper()
	if _, err := r.heedSome(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	after, err := r.cursor(r.t.Context())
	if err == nil {
		_, err = r.step(after)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// A comment approves the commit that was there when it was written, by the clock of the forge, and says on the merge request when it approves
// none. Once it approved whatever waited when it was decided on.
func TestACommentApprovesWhatItsWriterSaw(t *testing.T) {
	minute := func(n int) time.Time { return dawn.Add(time.Duration(n) * time.Minute) }
	for name, c := range map[string]struct {
		sent   []event.Git
		ran    string
		answer string
	}{
		"seen":                            {[]event.Git{pushed(firstCommit, minute(1)), says("/ok-to-test", minute(2))}, "1", ""},
		"pushed after it":                 {[]event.Git{pushed(firstCommit, minute(1)), pushed(secondCommit, minute(3)), says("/ok-to-test", minute(2))}, "", "pushed after it"},
		"pushed right before it":          {[]event.Git{pushed(firstCommit, minute(1)), pushed(secondCommit, minute(2)), says("/ok-to-test", minute(2).Add(29*time.Second))}, "", "less than 30s before"},
		"half a minute before":            {[]event.Git{pushed(firstCommit, minute(1)), pushed(secondCommit, minute(2)), says("/ok-to-test", minute(2).Add(30*time.Second))}, "2", ""},
		"named":                           {[]event.Git{pushed(firstCommit, minute(1)), pushed(secondCommit, minute(2)), says("/ok-to-test 2222222", minute(2))}, "2", ""},
		"another named":                   {[]event.Git{pushed(firstCommit, minute(1)), pushed(secondCommit, minute(2)), says("/ok-to-test 1111111", minute(5))}, "", "another commit"},
		"six digits":                      {[]event.Git{pushed(firstCommit, minute(1)), says("/ok-to-test 111111", minute(5))}, "", "another commit"},
		"no time of the push":             {[]event.Git{pushed(firstCommit, time.Time{}), says("/ok-to-test", minute(5))}, "", "does not say"},
		"no time of the comment":          {[]event.Git{pushed(firstCommit, minute(1)), says("/ok-to-test", time.Time{})}, "", "does not say"},
		"told of the push late":           {[]event.Git{pushed(secondCommit, minute(3)), pushed(firstCommit, minute(1)), says("/ok-to-test 1111111", minute(5))}, "", "another commit"},
		"edited since":                    {[]event.Git{pushed(firstCommit, minute(1)), pushed(firstCommit, minute(9)), says("/ok-to-test", minute(2))}, "1", ""},
		"back to a commit that was there": {[]event.Git{pushed(firstCommit, minute(1)), pushed(secondCommit, minute(2)), pushed(firstCommit, minute(6)), says("/ok-to-test", minute(5))}, "", "pushed after it"},
		"nothing waits":                   {[]event.Git{says("/ok-to-test", minute(2))}, "", ""},
		"not the first word":              {[]event.Git{pushed(firstCommit, minute(1)), says("write /ok-to-test", minute(5))}, "", ""},
	} {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " at once ", together), func(t *testing.T) {
				r, forge := newRoom(t, nil), &board{}
				r.o.Answers = forge
				r.declare(listens)
				if together {
					r.sends(c.sent...)
				} else {
					for _, g := range c.sent {
						r.sends(g)
					}
				}
				r.heeds()
				r.heeds()
				if got := strings.Join(r.ran(), ""); got != c.ran {
					t.Errorf("what ran is %q, want %q", got, c.ran)
				}
				if got := strings.Join(forge.said, "\n"); (got == "") != (c.answer == "") || !strings.Contains(got, c.answer) {
					t.Errorf("the answer is %q, want %q", got, c.answer)
				}
			})
		}
	}
}

// The merge request moved between the comment's decision and its approval: nothing is approved.
func TestAPushBetweenCommentAndApproval(t *testing.T) {
	r, forge := newRoom(t, nil), &board{}
	r.o.Answers = forge
	r.declare(listens)
	r.sends(pushed(firstCommit, dawn), says("/ok-to-test", dawn.Add(time.Minute)))
	r.sends(pushed(secondCommit, dawn.Add(2*time.Minute)))
	r.heeds()
	if ran := r.ran(); len(ran) > 0 || len(forge.said) != 1 || !strings.Contains(forge.said[0], "moved to another commit") {
		t.Errorf("%v ran, and it says %v", ran, forge.said)
	}
}

// What cannot be recorded or told now is tried again, and shown meanwhile; once it was written to a log and forgotten.
func TestAnApprovalThatCannotBeRecordedIsTriedAgain(t *testing.T) {
	r, forge := newRoom(t, nil), &board{err: errors.New("the disk is full")}
	r.o.Answers = forge
	r.declare(listens)
	r.sends(pushed(firstCommit, dawn), says("/ok-to-test", dawn))
	_, err := r.heedSome(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Fatal(err)
	}
	r.health.fails(workApprove, err, r.now) // as heed does
	if n, err := r.heedSome(t.Context()); n != 0 || err != nil {
		t.Fatal("it is tried again at once", n, err)
	}
	if reason, _ := r.health.worst(); !strings.Contains(reason, "the disk is full") {
		t.Errorf("health says %q while it waits", reason)
	}
	forge.err = nil
	r.now = r.now.Add(wordAgain)
	r.heeds()
	if len(forge.said) != 1 {
		t.Errorf("it says %v", forge.said)
	}
	r.heeds()
	if reason, _ := r.health.worst(); reason != "" {
		t.Errorf("health says %q", reason)
	}
}

// A forge that is not declared, or whose declaration cannot be used, cannot be told. The decision says the same.
func TestAForgeThatCannotBeTold(t *testing.T) {
	for _, err := range []error{forge.ErrNotFound, failure.Stalledf("mend the declaration")} {
		r := newRoom(t, nil)
		r.o.Answers = &board{err: err}
		r.declare(listens)
		r.sends(pushed(firstCommit, dawn), says("/ok-to-test", dawn))
		if _, err := r.heedSome(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// An approval and the event that is decided on again are one: a process that ends between them would leave a commit that is approved and
// never runs.
func TestAnApprovalIsPlanned(t *testing.T) {
	r := newRoom(t, nil)
	r.declare(listens)
	r.sends(pushed(firstCommit, dawn), says("/ok-to-test", dawn.Add(time.Minute)))
	items := r.plan(words{r.Controller}, 2)
	if len(items) != 1 || !strings.Contains(items[0].What, "approves commit 1111111111") {
		t.Fatalf("planned is %v", items)
	}
	if err := (words{r.Controller}).Leave(t.Context(), items[0].ID, "user:ada"); err != nil {
		t.Fatal(err)
	}
	r.heeds()
	if diff := cmp.Diff([]string(nil), r.ran()); diff != "" {
		t.Error(diff)
	}
}
