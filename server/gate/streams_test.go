package gate_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/people"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/server/gate"
)

// until has every attempt alive until they have ended.
type until struct{ ended *atomic.Bool }

func (u until) Alive(context.Context, steptoken.Claims) (bool, error) { return !u.ended.Load(), nil }

// A stream ends with the right to it: when the session that opened it is over, the token is revoked, or the step has ended. Another's goes on.
func TestStreamsEndWithTheRight(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var ended atomic.Bool
	const token = "0123456789abcdef"
	issuer := steptoken.NewIssuer([]byte("a key of thirty-two bytes, or so"), 0)
	store := peopled(t, func() time.Time { return now })
	g, err := gate.New(gate.Options{
		People: store, Token: secret.New(token), Policy: access.BuiltIn(), Steps: issuer, Now: func() time.Time { return now },
		Attempts: until{&ended},
	})
	if err != nil {
		t.Fatal(err)
	}
	step, err := issuer.Issue(steptoken.Claims{Run: "default/r", UID: "u", Node: "n"})
	if err != nil {
		t.Fatal(err)
	}
	cookie := loggedIn(t, g, store, people.Admin)
	if err := store.Add(t.Context(), "user:admin", people.Person{Name: "ada", Roles: []access.Binding{{Role: access.Viewer}}}); err != nil {
		t.Fatal(err)
	}
	person, made, err := store.CreateToken(t.Context(), "user:admin", people.NewToken{User: "ada", Scopes: []access.Scope{access.ScopeRead}})
	if err != nil {
		t.Fatal(err)
	}

	type open struct {
		ctx    context.Context
		served chan struct{}
	}
	begin := func(name, value string) open {
		began, served := make(chan context.Context, 1), make(chan struct{})
		h := g.Wrap(gate.Route{
			Access: gate.UserOrStep, Endless: gate.Always, Ask: gate.Ask{Verb: access.Get, Kind: access.Artifact, Each: true},
			Handle: func(_ http.ResponseWriter, r *http.Request) {
				began <- r.Context()
				<-r.Context().Done()
			},
		})
		r := httptest.NewRequest(http.MethodGet, "http://localhost:2746/api/v1/stream", nil)
		r.Header.Set(name, value)
		go func() {
			defer close(served)
			h.ServeHTTP(httptest.NewRecorder(), r)
		}()
		select {
		case ctx := <-began:
			return open{ctx, served}
		case <-served:
			t.Fatal("the stream is refused")
		}
		return open{}
	}
	session, bearer, of := begin("Cookie", cookie.Name+"="+cookie.Value), begin("Authorization", "Bearer "+token), begin("Authorization", "Bearer "+step.Reveal())
	revoked := begin("Authorization", "Bearer "+person.Reveal())
	expect := func(what string, want ...bool) {
		t.Helper()
		g.Recheck(t.Context())
		for i, s := range []open{session, bearer, of, revoked} {
			if over := s.ctx.Err() != nil; over != want[i] {
				t.Errorf("%s: stream %d has ended %t, want %t", what, i, over, want[i])
			}
			if want[i] && !failure.Is(context.Cause(s.ctx), failure.Unauthenticated) {
				t.Errorf("%s: stream %d ended with %v", what, i, context.Cause(s.ctx))
			}
		}
	}
	expect("at first", false, false, false, false)
	ended.Store(true)
	expect("the step has ended", false, false, true, false)
	now = now.Add(13 * time.Hour)
	expect("the session is over", true, false, true, false)
	if err := store.Revoke(t.Context(), "user:admin", made.ID); err != nil {
		t.Fatal(err)
	}
	expect("the token is revoked", true, false, true, true)
	g.EndStreams()
	for _, s := range []open{session, bearer, of, revoked} {
		<-s.served
	}
}
