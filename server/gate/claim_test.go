package gate_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/server/gate"
)

// The admin token is nobody's own: its holders are who they say they are, which is shown as unverified. Without a token nobody is let in, on
// loopback neither, whatever they say.
func TestActors(t *testing.T) {
	const token = "0123456789abcdef"
	g, err := gate.New(gate.Options{Token: secret.New(token)})
	if err != nil {
		t.Fatal(err)
	}
	basic := func(user string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+token)) }
	for _, c := range []struct {
		what, authorization, claim string
		want                       string
		claimed                    bool
	}{
		{what: "nobody says who", authorization: "Bearer " + token, want: "user:admin"},
		{what: "a claim", authorization: "Bearer " + token, claim: "Ada Lovelace", want: "user:Ada Lovelace (unverified)", claimed: true},
		{what: "no user in the URL", authorization: basic(""), want: "user:admin"},
		{what: "a user in the URL", authorization: basic("ada"), want: "user:ada (unverified)", claimed: true},
		{what: "the token's own name", authorization: basic("admin"), want: "user:admin"},
		{what: "a claim that would look proved", authorization: "Bearer " + token, claim: "ada\u2028 (unverified)", want: "user:ada (unverified)", claimed: true},
		{what: "a claim of many lines", authorization: "Bearer " + token, claim: " a\tb\x01c ", want: "user:a b c (unverified)", claimed: true},
		{what: "a long claim", authorization: "Bearer " + token, claim: strings.Repeat("é", 80), want: "user:" + strings.Repeat("é", 50) + " (unverified)", claimed: true},
	} {
		req := httptest.NewRequest(http.MethodPost, "http://localhost/", nil)
		req.Header.Set("Authorization", c.authorization)
		req.Header.Set(gate.ClaimHeader, c.claim)
		id, err := g.Enter(req, access.DoorAPI)
		if err != nil || id.String() != c.want || id.Claimed != c.claimed || id.Verified == c.claimed {
			t.Errorf("%s: %q (claimed %t, verified %t), %v; want %q", c.what, id.String(), id.Claimed, id.Verified, err, c.want)
		}
	}
	for what, h := range map[string]http.Header{
		"a claim": {gate.ClaimHeader: {"admin"}}, "nothing": {}, "a user without a password": {"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"))}},
		"another token": {"Authorization": {"Bearer 0123456789abcdeF"}}, "an empty one": {"Authorization": {"Bearer "}},
	} {
		req := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
		req.Header, req.RemoteAddr = h, "127.0.0.1:4711"
		if id, err := g.Enter(req, access.DoorAPI); err == nil {
			t.Errorf("%s: %s was let in", what, id)
		}
	}
}
