package people_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/people"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// house is a ledger with people in it, and a clock that the test moves.
type house struct {
	*people.Store
	t      *testing.T
	ledger ledger.Ledger
	mu     sync.Mutex
	at     time.Time
}

func open(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, at: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Synchronous: sqlite.Off, Projections: []ledger.Projection{people.Projection{}}, Now: h.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	h.ledger, h.Store = l, people.New(l, 0, h.now)
	return h
}

func (h *house) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

func (h *house) add(name string, roles ...access.Binding) {
	h.t.Helper()
	if err := h.Add(h.t.Context(), "user:admin", people.Person{Name: name, Roles: roles}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) token(n people.NewToken) (string, people.Token) {
	h.t.Helper()
	text, made, err := h.CreateToken(h.t.Context(), "user:admin", n)
	if err != nil {
		h.t.Fatal(err)
	}
	return text.Reveal(), made
}

func (h *house) code(name string) string {
	h.t.Helper()
	code, _, err := h.Offer(h.t.Context(), "user:admin", name, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return code.Reveal()
}

func (h *house) logIn(name string) string {
	h.t.Helper()
	session, _, err := h.LogIn(h.t.Context(), h.code(name), "127.0.0.1")
	if err != nil {
		h.t.Fatal(err)
	}
	return session.Reveal()
}

// out fails unless a credential counts for nothing.
func (h *house) out(what string, err error) {
	h.t.Helper()
	if !failure.Is(err, failure.Unauthenticated) {
		h.t.Errorf("%s: %v", what, err)
	}
}

var developer = access.Binding{Role: access.Developer} //nolint:gochecknoglobals // a constant

// What a token is worth is its owner's, within its scopes, and what it proves is the owner's name, whatever its holder says they are called.
func TestTokens(t *testing.T) {
	h := open(t)
	h.add("ada", developer, access.Binding{Role: access.Admin, Namespace: "lab"})
	text, made := h.token(people.NewToken{User: "ada", Note: "laptop", Scopes: []access.Scope{access.ScopeGit}, Life: time.Hour})
	id, err := h.ByToken(t.Context(), text, "bob")
	want := access.Identity{
		Person: "ada", Actor: "user:ada", Verified: true, Role: access.Developer, Bindings: []access.Binding{{Role: access.Admin, Namespace: "lab"}}, Only: []access.Scope{access.ScopeGit},
	}
	if diff := cmp.Diff(want, id); diff != "" || err != nil {
		t.Error(err, diff)
	}
	// One that its secret does not prove, and what only looks like one.
	for _, wrong := range []string{text[:len(text)-1], text + "x", strings.Replace(text, made.ID, "0000000000000000", 1), "tpp_" + made.ID + ".", "tpp_" + made.ID, "", made.Hash, "tpp_" + made.ID + "." + made.Hash} {
		_, err := h.ByToken(t.Context(), wrong, "")
		h.out(wrong, err)
	}
	h.pass(time.Hour)
	_, err = h.ByToken(t.Context(), text, "")
	h.out("an expired token", err)

	text, made = h.token(people.NewToken{User: "ada", Scopes: []access.Scope{access.ScopeAll}})
	h.pass(10_000 * time.Hour)
	if _, err := h.ByToken(t.Context(), text, ""); err != nil {
		t.Errorf("a token without an end: %v", err)
	}
	if err := h.Revoke(t.Context(), "user:admin", made.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.ByToken(t.Context(), text, "")
	h.out("a revoked token", err)
	if err := h.Revoke(t.Context(), "user:admin", made.ID); !failure.Is(err, failure.NotFound) {
		t.Errorf("revoked twice: %v", err)
	}
}

// A code is good once, for ten minutes, and by its secret alone.
func TestLoginCodes(t *testing.T) {
	h := open(t)
	h.add("ada", developer)
	code := h.code("ada")
	for _, wrong := range []string{"", "ada", code[:len(code)-1], strings.Replace(code, "ada.", "admin.", 1), strings.Replace(code, "ada.", "../ada.", 1)} {
		_, _, err := h.LogIn(t.Context(), wrong, "")
		h.out(wrong, err)
	}
	session, until, err := h.LogIn(t.Context(), code, "192.0.2.1")
	if err != nil || !until.Equal(h.now().Add(people.SessionLife)) {
		t.Fatal(err, until)
	}
	_, _, err = h.LogIn(t.Context(), code, "")
	h.out("a code that was used", err)
	if id, err := h.BySession(t.Context(), session.Reveal()); err != nil || id.Actor != "user:ada" || !id.Verified || id.Role != access.Developer {
		t.Errorf("%+v, %v", id, err)
	}
	_, err = h.ByToken(t.Context(), session.Reveal(), "")
	h.out("a session as a token", err)
	late := h.code("ada")
	h.pass(people.OfferLife - time.Second)
	early := h.code("ada")
	h.pass(time.Second)
	_, _, err = h.LogIn(t.Context(), late, "")
	h.out("a code after ten minutes", err)
	if _, _, err := h.LogIn(t.Context(), early, ""); err != nil {
		t.Errorf("a code after a second: %v", err)
	}
	h.pass(people.SessionLife)
	_, err = h.BySession(t.Context(), session.Reveal())
	h.out("a session after its time", err)
}

// Of many that use one code at the same time one gets a session.
func TestACodeIsGoodOnce(t *testing.T) {
	h := open(t)
	h.add("ada", developer)
	code := h.code("ada")
	in := make(chan error, 20)
	for range cap(in) {
		go func() {
			_, _, err := h.LogIn(context.WithoutCancel(t.Context()), code, "")
			in <- err
		}()
	}
	won := 0
	for range cap(in) {
		if err := <-in; err == nil {
			won++
		} else {
			h.out("the second", err)
		}
	}
	if won != 1 {
		t.Errorf("%d got a session", won)
	}
}

// Whoever is disabled or gone has no credential that counts; a namesake has none of theirs.
func TestWithoutAUserNoCredential(t *testing.T) {
	h := open(t)
	h.add("ada", developer)
	text, _ := h.token(people.NewToken{User: "ada", Scopes: []access.Scope{access.ScopeAll}})
	session, code := h.logIn("ada"), h.code("ada")
	none := func(what string) {
		t.Helper()
		_, err := h.ByToken(t.Context(), text, "")
		h.out(what+": token", err)
		_, err = h.BySession(t.Context(), session)
		h.out(what+": session", err)
		_, _, err = h.LogIn(t.Context(), code, "")
		h.out(what+": code", err)
	}
	yes, no := true, false
	if err := h.Change(t.Context(), "user:admin", "ada", nil, &yes); err != nil {
		t.Fatal(err)
	}
	none("disabled")
	if _, _, err := h.Offer(t.Context(), "user:admin", "ada", ""); err == nil {
		t.Error("a code for somebody who is disabled")
	}
	if err := h.Change(t.Context(), "user:admin", "ada", []access.Binding{{Role: access.Viewer}}, &no); err != nil {
		t.Fatal(err)
	}
	if id, err := h.ByToken(t.Context(), text, ""); err != nil || id.Role != access.Viewer {
		t.Errorf("enabled with another role: %+v %v", id, err)
	}
	_, err := h.BySession(t.Context(), session)
	h.out("a session from before", err)
	if err := h.Remove(t.Context(), "user:admin", "ada"); err != nil {
		t.Fatal(err)
	}
	none("gone")
	h.add("ada", developer)
	none("a namesake")
	if all, err := h.Tokens(t.Context(), "ada"); err != nil || len(all) > 0 {
		t.Errorf("a namesake has %v %v", all, err)
	}
}

// What is named like the administrators, is no name, or has no role is refused; so is a login of a robot.
func TestWhoCanBeAdded(t *testing.T) {
	h := open(t)
	for _, p := range []people.Person{
		{Name: "admin", Roles: []access.Binding{developer}}, {Name: "", Roles: []access.Binding{developer}}, {Name: "Ada", Roles: []access.Binding{developer}},
		{Name: "../x", Roles: []access.Binding{developer}}, {Name: "a b", Roles: []access.Binding{developer}}, {Name: "x."}, {Name: "ada"},
		{Name: "ada", Roles: []access.Binding{{Role: "root"}}}, {Name: "ada", Roles: []access.Binding{developer, {Role: access.Admin}}},
		{Name: "ada", Roles: []access.Binding{{Role: access.Step}}},
	} {
		if err := h.Add(t.Context(), "user:admin", p); !failure.Is(err, failure.Invalid) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if err := h.Add(t.Context(), "user:admin", people.Person{Name: "ci@example.org", Robot: true, Roles: []access.Binding{developer}}); err != nil {
		t.Fatal(err)
	}
	if err := h.Add(t.Context(), "user:admin", people.Person{Name: "ci@example.org", Roles: []access.Binding{developer}}); !failure.Is(err, failure.Conflict) {
		t.Errorf("twice: %v", err)
	}
	if _, _, err := h.Offer(t.Context(), "user:admin", "ci@example.org", ""); err == nil {
		t.Error("a robot logs in")
	}
	text, _ := h.token(people.NewToken{User: "ci@example.org", Scopes: []access.Scope{access.ScopeRead}})
	if id, err := h.ByToken(t.Context(), text, ""); err != nil || id.Actor != "robot:ci@example.org" {
		t.Errorf("%+v %v", id, err)
	}
	for _, err := range []error{h.Remove(t.Context(), "user:ada", people.Admin), h.Change(t.Context(), "user:ada", people.Admin, []access.Binding{developer}, nil)} {
		if !failure.Is(err, failure.Conflict) {
			t.Errorf("the administrators are taken away: %v", err)
		}
	}
	if _, _, err := h.Offer(t.Context(), "user:admin", "nobody", ""); !failure.Is(err, failure.NotFound) {
		t.Errorf("a code for nobody: %v", err)
	}
}

// The admin token is nobody's own: what is made with it proves the role, and the name is the claim of whoever made it.
func TestWhatHangsOnTheAdminToken(t *testing.T) {
	h := open(t)
	code, _, err := h.Offer(t.Context(), "user:Ada (unverified)", people.Admin, "Ada")
	if err != nil {
		t.Fatal(err)
	}
	session, _, err := h.LogIn(t.Context(), code.Reveal(), "")
	if err != nil {
		t.Fatal(err)
	}
	id, err := h.BySession(t.Context(), session.Reveal())
	if diff := cmp.Diff(access.Identity{Person: people.Admin, Actor: "user:Ada", Claimed: true, Role: access.Admin}, id); diff != "" || err != nil {
		t.Error(err, diff)
	}
	text, _ := h.token(people.NewToken{User: people.Admin, Scopes: []access.Scope{access.ScopeGit}, As: "Ada"})
	for as, want := range map[string]string{"": "user:Ada (unverified)", "Bob": "user:Bob (unverified)"} {
		if id, err := h.ByToken(t.Context(), text, as); err != nil || id.String() != want {
			t.Errorf("%q: %s %v", as, id, err)
		}
	}
	if all, err := h.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("the administrators are listed: %v %v", all, err)
	}
}

// Sessions and codes end with a restore; they last over a restart, and logging out ends one.
func TestSessionsLast(t *testing.T) {
	h := open(t)
	h.add("ada", developer)
	one, two := h.logIn("ada"), h.logIn("ada")
	again := people.New(h.ledger, 0, h.now)
	for _, s := range []string{one, two} {
		if _, err := again.BySession(t.Context(), s); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	}
	if err := again.LogOut(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	_, err := h.BySession(t.Context(), one)
	h.out("after logging out", err)
	if _, err := h.BySession(t.Context(), two); err != nil {
		t.Errorf("the other one: %v", err)
	}
	restored := people.New(h.ledger, 7, h.now)
	_, err = restored.BySession(t.Context(), two)
	h.out("after a restore", err)
}

// No row grows for ever, nothing secret is in the record, and rows that are derived anew are the same.
func TestTheRecord(t *testing.T) {
	h := open(t)
	h.add("ada", developer)
	var secrets []string
	for range 40 {
		secrets = append(secrets, h.logIn("ada"), h.code("ada"))
	}
	text, _ := h.token(people.NewToken{User: "ada", Scopes: []access.Scope{access.ScopeAll}})
	secrets = append(secrets, text)
	row := func() ledger.Row {
		r, err := h.ledger.Row(t.Context(), people.TableUsers, "ada")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := row()
	if len(before.Body) > 10_000 {
		t.Errorf("the row has %d bytes", len(before.Body))
	}
	if err := h.ledger.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, row()); diff != "" {
		t.Error(diff)
	}
	if _, err := h.BySession(t.Context(), secrets[len(secrets)-3]); err != nil {
		t.Errorf("the newest session: %v", err)
	}
	_, err := h.BySession(t.Context(), secrets[0])
	h.out("the oldest of forty", err)
	entries, err := h.ledger.Entries(t.Context(), ledger.EntryQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		for _, s := range secrets {
			if strings.Contains(string(e.Body)+string(before.Body), s[strings.LastIndex(s, ".")+1:]) {
				t.Fatalf("entry %d (%s) has a secret", e.Seq, e.Kind)
			}
		}
	}
	for range 98 {
		h.token(people.NewToken{User: "ada", Scopes: []access.Scope{access.ScopeAll}})
	}
	h.token(people.NewToken{User: "ada", Scopes: []access.Scope{access.ScopeAll}})
	if _, _, err := h.CreateToken(t.Context(), "user:ada", people.NewToken{User: "ada", Scopes: []access.Scope{access.ScopeAll}}); !failure.Is(err, failure.Conflict) {
		t.Errorf("one token too many: %v", err)
	}
}
