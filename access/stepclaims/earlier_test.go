package stepclaims

import (
	"testing"

	"github.com/tiphys/tiphys/access/claims"
	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// A run that takes the results of another one reads that one's artifacts, and those of the runs whose results that one took. It writes
// none of them, and nobody else reads them.
func TestARunReadsWhatTheRunBeforeItLeft(t *testing.T) {
	l := record(t)
	acts := claims.Record{Kind: "repository", Repository: "harbour", Ref: "refs/heads/main", Protected: true}
	submit := func(name string, earlier *workflow.Earlier) {
		t.Helper()
		body := map[string]any{"uid": "uid-" + name, "namespace": "default", "name": name, "workflow": map[string]any{}, "claims": acts, "earlier": earlier}
		subject := workflow.Subject("default", name)
		err := l.Write(t.Context(), ledger.Anyone(subject), func(tx ledger.Tx) error {
			_, err := tx.Append(ledger.Draft{Actor: "a", Kind: workflow.KindSubmitted, Subject: subject, Body: body})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	submit("first", nil)
	submit("second", &workflow.Earlier{Name: "first", UID: "uid-first"})
	submit("third", &workflow.Earlier{Name: "second", UID: "uid-second", Before: []string{"uid-first"}})
	submit("other", nil)
	guard := Artifacts{Reader{Ledger: l, Forges: none{}}}
	for _, c := range []struct {
		run, key string
		write    bool
		allowed  bool
	}{
		{"second", "first/first-main-1/x.tgz", false, true},
		{"third", "first/first-main-1/x.tgz", false, true},
		{"third", "second/second-main-1/x.tgz", false, true},
		{"second", "first/first-main-1/x.tgz", true, false},
		{"first", "second/second-main-1/x.tgz", false, false},
		{"other", "first/first-main-1/x.tgz", false, false},
		{"second", "third/third-main-1/x.tgz", false, false},
	} {
		ctx := artifact.WithCaller(t.Context(), artifact.Caller{Namespace: "default", Owner: "uid-" + c.run, Node: c.run + "-77"})
		if _, err := guard.Places(ctx, c.key, c.write); (err == nil) != c.allowed {
			t.Errorf("run %s, key %s, to write %t: %v", c.run, c.key, c.write, err)
		}
	}
}
