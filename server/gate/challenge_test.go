package gate_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/server/gate"
)

// A browser answers a Basic challenge with a window of its own (RFC 7617), in front of the login form; git needs one.
func TestChallenge(t *testing.T) {
	g, err := gate.New(gate.Options{Token: secret.New("0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	h := g.Wrap(gate.Route{Access: gate.User, Handle: func(http.ResponseWriter, *http.Request) {}})
	for path, want := range map[string]string{"/api/v1/runs": "Bearer", "/git/x": "Basic"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil))
		if got := w.Header().Get("WWW-Authenticate"); w.Code != http.StatusUnauthorized || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %d %q, want a challenge for %s", path, w.Code, got, want)
		}
	}
}
