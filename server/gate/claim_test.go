package gate_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/server/gate"
)

// The actor is the authenticated user; without authentication it is the caller's claim, shown as unverified.
func TestActors(t *testing.T) {
	for _, c := range []struct {
		what, token string
		header      http.Header
		want        string
		claimed     bool
	}{
		{what: "nobody says who", want: "user:keeper (unverified)"},
		{what: "a claim", header: http.Header{gate.ClaimHeader: {"Ada Lovelace"}}, want: "user:Ada Lovelace (unverified)", claimed: true},
		{what: "a user in the URL", header: http.Header{"Authorization": {"Basic YWRhOg=="}}, want: "user:ada (unverified)", claimed: true},
		{what: "a claim that would look proved", header: http.Header{gate.ClaimHeader: {"ada\u2028 (unverified)"}}, want: "user:ada (unverified)", claimed: true},
		{what: "a claim of many lines", header: http.Header{gate.ClaimHeader: {" a\tb\x01c "}}, want: "user:a b c (unverified)", claimed: true},
		{what: "a long claim", header: http.Header{gate.ClaimHeader: {strings.Repeat("é", 80)}}, want: "user:" + strings.Repeat("é", 50) + " (unverified)", claimed: true},
		{what: "a token", token: "0123456789abcdef", header: http.Header{"Authorization": {"Bearer 0123456789abcdef"}}, want: "user:admin"},
		{what: "a token and a claim", token: "0123456789abcdef",
			header: http.Header{"Authorization": {"Bearer 0123456789abcdef"}, gate.ClaimHeader: {"ada"}}, want: "user:admin"},
	} {
		g, err := gate.New(gate.Options{Token: secret.New(c.token), LocalUser: "keeper"})
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest(http.MethodPost, "http://localhost/", nil)
		for k, v := range c.header {
			req.Header[http.CanonicalHeaderKey(k)] = v
		}
		id, err := g.Identify(req)
		if err != nil || id.String() != c.want || id.Claimed != c.claimed {
			t.Errorf("%s: %q (claimed %t), %v; want %q", c.what, id.String(), id.Claimed, err, c.want)
		}
	}
	// A claim lets nobody in.
	g, err := gate.New(gate.Options{Token: secret.New("0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, "http://localhost/", nil)
	req.Header.Set(gate.ClaimHeader, "admin")
	if id, err := g.Identify(req); err == nil {
		t.Errorf("%s was let in", id)
	}
}
