package stepclaims

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// TestTokensEndWithTheirAttempt: a later attempt at the same node, another run of the same name and an end of either end a token.
func TestTokensEndWithTheirAttempt(t *testing.T) {
	l := record(t)
	put := func(table, key string, body any) {
		t.Helper()
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Write(t.Context(), ledger.Anyone("run/default/r"), func(tx ledger.Tx) error { return tx.Put(ledger.Row{Table: table, Key: key, Body: raw}) }); err != nil {
			t.Fatal(err)
		}
	}
	claims := steptoken.Claims{Run: "default/r", UID: "u", Node: "n", Attempt: 1}
	for _, c := range []struct {
		what string
		run  workflow.Run
		node workflow.Node
		want bool
	}{
		{"its attempt runs", workflow.Run{UID: "u", Phase: workflow.Running}, workflow.Node{Phase: workflow.Running, Attempt: 1}, true},
		{"a later attempt runs", workflow.Run{UID: "u", Phase: workflow.Running}, workflow.Node{Phase: workflow.Running, Attempt: 2}, false},
		{"another run of the name", workflow.Run{UID: "v", Phase: workflow.Running}, workflow.Node{Phase: workflow.Running, Attempt: 1}, false},
		{"the node has ended", workflow.Run{UID: "u", Phase: workflow.Running}, workflow.Node{Phase: workflow.Failed, Attempt: 1}, false},
		{"the run has ended", workflow.Run{UID: "u", Phase: workflow.Failed}, workflow.Node{Phase: workflow.Running, Attempt: 1}, false},
	} {
		put("run", "default/r", c.run)
		put("node", "default/r/n", c.node)
		if got, err := (Attempts{l}).Alive(t.Context(), claims); err != nil || got != c.want {
			t.Errorf("%s: alive %t, %v; want %t", c.what, got, err, c.want)
		}
	}
	if got, err := (Attempts{l}).Alive(t.Context(), steptoken.Claims{Run: "default/none", UID: "u"}); err != nil || got {
		t.Errorf("a run that there is not: %t, %v", got, err)
	}
}

// TestNobody: what nobody proved to come from a forge acts for nobody, with a repository or without one, and so does what was erased; a
// push to the built-in remote acts for its repository, and a calendar for who declared it.
func TestNobody(t *testing.T) {
	l := record(t)
	git := func(kind string) *event.Git {
		return &event.Git{Forge: kind, Instance: "https://lab.example", Repo: event.Repo{FullName: "shop"}, Ref: "refs/heads/main", SHA: "c"}
	}
	for i, c := range []struct {
		what string
		e    event.Event
		want steptoken.Claims
	}{
		{"an unsigned webhook", event.Event{Type: "webhook", Verified: "none"}, steptoken.Claims{Nobody: true}},
		{"a signed webhook", event.Event{Type: "webhook", Verified: "token"}, steptoken.Claims{}},
		{"a calendar", event.Event{Type: "calendar", Verified: "local"}, steptoken.Claims{}},
		{"an unsigned delivery", event.Event{Type: "gitlab", Verified: "none", Git: git("gitlab")},
			steptoken.Claims{Nobody: true, Forge: "of nobody, for the event was not proved to come from gitlab", Repo: "shop", Ref: "refs/heads/main", Commit: "c"}},
		{"one that says it is the built-in remote", event.Event{Type: "webhook", Verified: "none", Git: git("tiphys")},
			steptoken.Claims{Nobody: true, Forge: "of nobody, for the event was not proved to come from tiphys", Repo: "shop", Ref: "refs/heads/main", Commit: "c"}},
	} {
		c.e.ID, c.e.Namespace, c.e.Source, c.e.Subject = fmt.Sprint("e", i), "default", "s", "x"
		var made ledger.Ref
		err := l.Write(t.Context(), ledger.Anyone(event.Subject(c.e)), func(tx ledger.Tx) (err error) {
			made, err = tx.Append(ledger.Draft{Actor: "a", Kind: event.KindReceived, Subject: event.Subject(c.e), Body: event.Received{Event: c.e}})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		c.want.Run, c.want.UID = "default/r", "u"
		got, err := (Reader{Ledger: l}).Of(t.Context(), workflow.Run{Namespace: "default", Name: "r", UID: "u", Event: made.Seq()})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.what, diff)
		}
	}
	if got, err := (Reader{Ledger: l}).Of(t.Context(), workflow.Run{Namespace: "default", Name: "r", Event: 1000}); err != nil || !got.Nobody {
		t.Errorf("an event that is gone: %+v, %v", got, err)
	}
}
