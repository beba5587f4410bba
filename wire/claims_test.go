package wire

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/access/stepclaims"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// TestClaimsAreMadeAtSubmission: what a run may act for is recorded with it and follows from its event; labels of its manifest and its name
// add nothing. A git artifact reads what these claims allow.
func TestClaimsAreMadeAtSubmission(t *testing.T) {
	s := opened(t, Options{})
	for _, name := range []string{"harbour", "fort"} {
		if _, err := s.remote.CreateRepository(t.Context(), forge.Actor{Name: "user:ada"}, forge.Repository{Name: name, DefaultBranch: "main"}); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	got := func(g *event.Git, verified string) int64 {
		n++
		kind := "git"
		if g != nil && g.Forge != forge.TypeBuiltin || g == nil {
			kind = "webhook"
		}
		return received(t, s, event.Event{ID: string(rune('a' + n)), Type: kind, Namespace: "default", Source: "git", Subject: "x", Verified: verified, Git: g})
	}
	own := func(ref string, pr *event.PullRequest) *event.Git {
		return &event.Git{Forge: forge.TypeBuiltin, Repo: event.Repo{FullName: "harbour"}, Ref: ref, SHA: "c", PR: pr}
	}
	elsewhere := own("refs/heads/main", nil)
	elsewhere.Forge, elsewhere.Instance = "gitlab", "https://lab.example"
	labels := map[string]string{event.LabelRepo: "harbour", event.LabelCommit: "c", event.LabelBranch: "main"}
	for i, c := range []struct {
		what  string
		sub   runs.Submission
		want  claims.ActsFor
		reads string // the repositories that it reads
	}{
		{"by hand, labelled", runs.Submission{Labels: labels, Actor: "user:mallory"}, claims.ActsFor{}, "harbour fort"},
		{"the default branch", runs.Submission{Event: got(own("refs/heads/main", nil), "none"), Labels: map[string]string{event.LabelRepo: "fort"}},
			claims.ActsFor{Repo: "harbour", Ref: "refs/heads/main", Commit: "c", Protected: true}, "harbour fort"},
		{"another branch", runs.Submission{Event: got(own("refs/heads/try", nil), "none")}, claims.ActsFor{Repo: "harbour", Ref: "refs/heads/try", Commit: "c"}, "harbour"},
		{"a merge request of a fork", runs.Submission{Event: got(own("refs/heads/main", &event.PullRequest{Number: 4, HeadSHA: "d", SourceBranch: "main", Fork: true}), "none"), Labels: labels},
			claims.ActsFor{Repo: "harbour", Ref: "refs/heads/main", Commit: "d", MR: 4, Fork: true}, "harbour"},
		{"a namesake elsewhere", runs.Submission{Event: got(elsewhere, "token")},
			claims.ActsFor{Forge: forge.Undeclared("gitlab", "https://lab.example"), Repo: "harbour", Ref: "refs/heads/main", Commit: "c"}, ""},
		{"an unsigned webhook, labelled", runs.Submission{Event: got(nil, "none"), Labels: labels}, claims.ActsFor{Nobody: true}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.sub.Object = workflowOf(t, "claims-"+string(rune('a'+i)), "tiphys.dev/executor: container", "")
			run, err := s.machine.Runs.Submit(t.Context(), c.sub)
			if err != nil {
				t.Fatal(err)
			}
			row, err := s.ledger.Row(t.Context(), "run", run.Namespace+"/"+run.Name)
			if err != nil {
				t.Fatal(err)
			}
			var kept workflow.Run
			if err := json.Unmarshal(row.Body, &kept); err != nil || kept.ActsFor == nil {
				t.Fatalf("%v: nothing is recorded: %s", err, row.Body)
			}
			if diff := cmp.Diff(c.want, *kept.ActsFor); diff != "" {
				t.Error(diff)
			}
			entries, err := s.ledger.Entries(t.Context(), ledger.EntryQuery{Subject: "run/" + run.Namespace + "/" + run.Name, Kinds: []string{workflow.KindSubmitted}})
			if err != nil || len(entries) != 1 || !strings.Contains(string(entries[0].Body), `"claims"`) {
				t.Errorf("the entry does not say it: %v", err)
			}
			repositories := stepclaims.Repositories{Own: s.remote, Claims: s.claims()}
			ctx := artifact.WithCaller(t.Context(), artifact.Caller{Namespace: run.Namespace, Owner: run.UID, Node: run.Name + "-main-12345"})
			for _, name := range []string{"harbour", "fort"} {
				dir, ok, err := repositories.Folder(ctx, s.remote.URL(name))
				if may := strings.Contains(c.reads, name); may != (err == nil && ok && filepath.Base(dir) == name+".git") || !may && !failure.Is(err, failure.Refused) {
					t.Errorf("reads %s: %t %v, want %t", name, ok, err, may)
				}
			}
			if _, ok, err := repositories.Folder(ctx, "https://elsewhere.example/harbour.git"); ok || err != nil {
				t.Errorf("what is elsewhere is no matter of ours: %v", err)
			}
		})
	}
	stranger := artifact.WithCaller(t.Context(), artifact.Caller{Namespace: "default", Owner: "nobody", Node: "claims-a-main-1"})
	if _, _, err := (stepclaims.Repositories{Own: s.remote, Claims: s.claims()}).Folder(stranger, s.remote.URL("harbour")); !failure.Is(err, failure.Refused) {
		t.Errorf("a caller that is no run reads: %v", err)
	}
}
