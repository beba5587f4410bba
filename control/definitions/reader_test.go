package definitions_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// book is a ledger with the definitions in it.
type book struct {
	*testing.T
	ledger *sqlite.Ledger
	store  *definitions.Store
}

func open(t *testing.T) *book {
	t.Helper()
	l, err := sqlite.Open(t.Context(), sqlite.Options{
		Path: filepath.Join(t.TempDir(), "l.db"), Projections: []ledger.Projection{definitions.Projection{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	box, err := secret.NewBox(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &book{T: t, ledger: l, store: definitions.New(l, box, nil)}
}

// declare takes manifests without judging them, as a server of an earlier version did.
func (b *book) declare(text string) {
	b.Helper()
	objects, diags := manifest.Decode("m.yaml", []byte(text))
	if err := manifest.FirstError(diags); err != nil {
		b.Fatal(err)
	}
	if _, err := b.store.Apply(b.Context(), "user:ada", definitions.OriginAPI, objects); err != nil {
		b.Fatal(err)
	}
}

// write appends an entry as it is.
func (b *book) write(d ledger.Draft) {
	b.Helper()
	err := b.ledger.Write(b.Context(), ledger.Anyone(d.Subject), func(tx ledger.Tx) error {
		_, err := tx.Append(d)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

const twoSources = `apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: good}
spec: {webhook: {one: {endpoint: /a, maxPayloadSize: 5}}}
---
apiVersion: argoproj.io/v1alpha1
kind: EventSource
metadata: {name: bad}
spec: {webhook: {one: {endpoint: /b, maxPayloadSize: "{{x}}"}}}
`

// TestOneBadRowConcernsItself: a list with one definition that cannot be decoded gives the others, and the bad one as
// such, with what is wrong, where, and what to do.
func TestOneBadRowConcernsItself(t *testing.T) {
	b := open(t)
	b.declare(twoSources)
	all, err := definitions.All[manifest.EventSource](t.Context(), b.store, "")
	if err != nil || len(all) != 2 {
		t.Fatalf("%d %v", len(all), err)
	}
	bad, good := all[0], all[1] // of one entry of the ledger each, in the order of their keys
	if good.State != definitions.Present || *good.Value.Spec.Webhook["one"].MaxPayloadSize != 5 || good.Value.Namespace != "default" || good.Problem != nil {
		t.Errorf("the good one is %s: %+v", good.State, good.Value)
	}
	if bad.State != definitions.Unreadable || failure.KindOf(bad.Problem) != failure.Stalled {
		t.Errorf("the bad one is %s: %v", bad.State, bad.Problem)
	}
	want := `EventSource/default/bad cannot be read: .spec.webhook.one.maxPayloadSize: expected whole number, got string "{{x}}" (declared at m.yaml:6:1)`
	if bad.Problem.Error() != want || !strings.Contains(failure.HintOf(bad.Problem), "declare it again") {
		t.Errorf("%q, hint %q; want %q", bad.Problem, failure.HintOf(bad.Problem), want)
	}
	places := failure.PlacesOf(bad.Problem)
	if len(places) != 1 || places[0].Path != "spec.webhook.one.maxPayloadSize" || places[0].Line != 6 || places[0].File != "m.yaml" {
		t.Errorf("places %+v", places)
	}
	if c := bad.Conditions(); len(c) != 1 || c[0].Type != definitions.ConditionUnreadable || c[0].Message != want || c[0].Hint == "" {
		t.Errorf("conditions %+v", c)
	}
	if c := good.Conditions(); len(c) != 0 {
		t.Errorf("the good one has conditions: %+v", c)
	}
}

// TestStates: what is declared, what was never, what was deleted, and what cannot be opened.
func TestStates(t *testing.T) {
	b := open(t)
	b.declare("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n")
	b.declare("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gone}\n")
	if err := b.store.Delete(t.Context(), "user:ada", definitions.OriginAPI, "ConfigMap", "default", "gone"); err != nil {
		t.Fatal(err)
	}
	b.declare("apiVersion: v1\nkind: Secret\nmetadata: {name: mine}\nstringData: {a: b}\n")
	// Sealed by another key, as after a restored backup without its keys.
	b.write(ledger.Draft{Actor: "user:ada", Kind: "definition.set", Subject: "definition/Secret/default/foreign", Body: definitions.Definition{
		Kind: "Secret", Namespace: "default", Name: "foreign", Origin: definitions.OriginAPI, Sealed: []byte("not ours"),
	}})
	for _, c := range []struct {
		kind, name string
		want       definitions.State
	}{
		{"ConfigMap", "c", definitions.Present}, {"ConfigMap", "gone", definitions.Absent}, {"ConfigMap", "never", definitions.Absent},
		{"Secret", "mine", definitions.Present}, {"Secret", "foreign", definitions.Unreadable},
	} {
		d, state, err := b.store.Look(t.Context(), c.kind, "default", c.name)
		if err != nil || state != c.want {
			t.Errorf("%s %s is %s, %v; want %s", c.kind, c.name, state, err, c.want)
		}
		if broken := len(d.Conditions()) > 0; state != definitions.Absent && broken != (c.want == definitions.Unreadable) {
			t.Errorf("%s %s: conditions %+v", c.kind, c.name, d.Conditions())
		}
	}
	if _, err := b.store.Get(t.Context(), "Secret", "default", "foreign"); !errors.Is(err, secret.ErrSealed) && failure.KindOf(err) != failure.Stalled {
		t.Errorf("get of what cannot be opened: %v", err)
	}
	if _, err := b.store.Get(t.Context(), "ConfigMap", "default", "gone"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("get of what is gone: %v", err)
	}
	if list, err := b.store.List(t.Context(), "Secret", ""); err != nil || len(list) != 2 {
		t.Errorf("%d secrets, %v: one that cannot be opened hides the others", len(list), err)
	}
	// To declare it again mends it.
	b.declare("apiVersion: v1\nkind: Secret\nmetadata: {name: foreign}\nstringData: {a: c}\n")
	if _, state, err := b.store.Look(t.Context(), "Secret", "default", "foreign"); err != nil || state != definitions.Present {
		t.Errorf("declared again it is %s, %v", state, err)
	}
}

// forgetful hides the rows of definitions: what is left when a projection lost them.
type forgetful struct{ ledger.Ledger }

func (f forgetful) Row(ctx context.Context, table, key string) (ledger.Row, error) {
	if table == "definition" {
		return ledger.Row{}, ledger.ErrNotFound
	}
	return f.Ledger.Row(ctx, table, key)
}

// TestOnlyAnEntryDeletes: that a row is missing is no deletion.
func TestOnlyAnEntryDeletes(t *testing.T) {
	b := open(t)
	b.declare("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
	broken := definitions.New(forgetful{b.ledger}, nil, nil)
	d, state, err := broken.Look(t.Context(), "ConfigMap", "default", "c")
	if err != nil || state != definitions.Unreadable || len(d.Conditions()) != 1 || !strings.Contains(d.Conditions()[0].Message, "its row is missing") {
		t.Errorf("%s %v %+v", state, err, d.Conditions())
	}
	// An error of reading says nothing about the definition.
	if err := b.ledger.Close(); err != nil {
		t.Fatal(err)
	}
	if _, state, err := b.store.Look(t.Context(), "ConfigMap", "default", "c"); err == nil || state == definitions.Absent {
		t.Errorf("a closed ledger says %s, %v", state, err)
	}
}

func TestChanges(t *testing.T) {
	b := open(t)
	head, err := b.ledger.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.declare(twoSources)
	b.write(ledger.Draft{Actor: "user:bob", Kind: "run.submitted", Subject: "run/default/r", Body: struct{}{}})
	b.declare("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
	if err := b.store.Delete(t.Context(), "user:bob", definitions.OriginAPI, "EventSource", "default", "bad"); err != nil {
		t.Fatal(err)
	}
	news, next, err := b.store.Await(t.Context(), head.Seq, "EventSource")
	if err != nil {
		t.Fatal(err)
	}
	for i := range news {
		news[i].Seq = 0
	}
	want := []definitions.News{
		{Kind: "EventSource", Namespace: "default", Name: "bad", Actor: "user:ada"},
		{Kind: "EventSource", Namespace: "default", Name: "good", Actor: "user:ada"},
		{Kind: "EventSource", Namespace: "default", Name: "bad", Actor: "user:bob", Deleted: true},
	}
	if diff := cmp.Diff(want, news); diff != "" {
		t.Error(diff)
	}
	if more, _, err := b.store.Changes(t.Context(), next); err != nil || len(more) != 0 {
		t.Errorf("more changes: %v %v", more, err)
	}
	// Whoever waits hears of the next one.
	heard := make(chan []definitions.News, 1)
	go func() {
		news, _, _ := b.store.Await(t.Context(), next, "ConfigMap")
		heard <- news
	}()
	b.declare("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n")
	if got := <-heard; len(got) != 1 || got[0].Name != "c" {
		t.Errorf("heard %v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.store.Await(ctx, next+1000); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting ended with %v", err)
	}
}

// TestDecodedOnce: the decoded form follows the definition's changes.
func TestDecodedOnce(t *testing.T) {
	b := open(t)
	for _, text := range []string{"one", "two"} {
		b.declare("apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: p}\nspec: {description: " + text + "}\n")
		for range 2 {
			p, err := definitions.Find[manifest.AppProject](t.Context(), b.store, "default", "p")
			if err != nil || p.State != definitions.Present || p.Value.Spec.Description != text {
				t.Fatalf("%s %v %q, want %q", p.State, err, p.Value.Spec.Description, text)
			}
		}
	}
	if p, err := definitions.Find[manifest.AppProject](t.Context(), b.store, "default", "q"); err != nil || p.State != definitions.Absent {
		t.Errorf("%s %v", p.State, err)
	}
	if raw, err := json.Marshal(definitions.Definition{}); err != nil || strings.Contains(string(raw), "memo") {
		t.Errorf("%s %v", raw, err)
	}
}
