package stepclaims

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/event/forge"
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

// received records an event and gives its sequence.
func received(t *testing.T, l ledger.Ledger, id string, g *event.Git, verified string) int64 {
	t.Helper()
	e := event.Event{ID: id, Type: "gitlab", Namespace: "default", Source: "s", Subject: "x", Verified: verified, Git: g}
	var made ledger.Ref
	err := l.Write(t.Context(), ledger.Anyone(event.Subject(e)), func(tx ledger.Tx) (err error) {
		made, err = tx.Append(ledger.Draft{Actor: "a", Kind: event.KindReceived, Subject: event.Subject(e), Body: event.Received{Event: e}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.Seq()
}

// none has no forge but the built-in remote, which is not asked here.
type none struct{}

func (none) Instance(context.Context, string) (forge.Instance, error) {
	return forge.Instance{}, forge.ErrNotFound
}

func (none) Sent(context.Context, string, string) (forge.Instance, error) {
	return forge.Instance{}, forge.ErrNotFound
}

// TestRightsOfACondition: a run of several events has no more rights than the least of them, whichever came last.
func TestRightsOfACondition(t *testing.T) {
	l := record(t)
	r := Reader{Ledger: l, Forges: none{}}
	lab := forge.Undeclared("gitlab", "https://lab.example")
	push := &event.Git{Forge: "gitlab", Instance: "https://lab.example", Kind: "push", Ref: "refs/heads/main", SHA: "c1", Repo: event.Repo{FullName: "shop", DefaultBranch: "main"}}
	merge := &event.Git{Forge: "gitlab", Instance: "https://lab.example", Kind: "pull_request", Repo: event.Repo{FullName: "shop"},
		PR: &event.PullRequest{Number: 1, Fork: true, SourceBranch: "try", HeadSHA: "c2"}}
	for i, c := range []struct {
		name     string
		git      []*event.Git
		verified []string
		want     claims.ActsFor
	}{
		{"pushes", []*event.Git{push, push}, []string{"token", "token"}, claims.ActsFor{Forge: lab, Repo: "shop", Ref: "refs/heads/main", Commit: "c1", Protected: true}},
		{"a merge request before a push", []*event.Git{merge, push}, []string{"token", "token"}, claims.ActsFor{Forge: lab, Repo: "shop", MR: claims.Several, Fork: true}},
		{"a merge request after a push", []*event.Git{push, merge}, []string{"token", "token"},
			claims.ActsFor{Forge: lab, Repo: "shop", Ref: "refs/heads/try", Commit: "c2", MR: 1, Fork: true}},
		{"a stranger's before a push", []*event.Git{nil, push}, []string{"none", "token"}, claims.ActsFor{Forge: lab, Repo: "shop", Commit: "c1", Nobody: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var seqs []int64
			for n, g := range c.git {
				seqs = append(seqs, received(t, l, fmt.Sprint(i, n), g, c.verified[n]))
			}
			got, err := r.Settle(t.Context(), claims.Made{Event: seqs[len(seqs)-1], Events: seqs})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.ActsFor()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLabelsClaimNothing: what a manifest says of itself does not count, neither for a run by hand nor for one that an older server submitted.
func TestLabelsClaimNothing(t *testing.T) {
	labels := map[string]string{event.LabelRepo: "harbour", event.LabelCommit: "c", event.LabelBranch: "main", event.LabelMR: "3"}
	for _, acts := range []*claims.ActsFor{nil, {}} {
		got, err := (Reader{Ledger: record(t)}).Of(t.Context(), workflow.Run{Namespace: "default", Name: "r", UID: "u", Labels: labels, ActsFor: acts})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(steptoken.Claims{Run: "default/r", UID: "u"}, got); diff != "" {
			t.Error(diff)
		}
	}
}
