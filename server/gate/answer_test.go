package gate_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/server/gate"
)

// What breaks in the server is told in full to the log and to administrators. A step and a caller who is not known get a sentence and
// the number under which the log has the rest.
func TestWhatBrokeIsForTheLog(t *testing.T) {
	const token, inside = "0123456789abcdef", "/srv/tiphys/data/ledger.db"
	var log bytes.Buffer
	issuer := steptoken.NewIssuer([]byte("a key of thirty-two bytes, or so"), 0)
	g, err := gate.New(gate.Options{
		Token: secret.New(token), Policy: access.BuiltIn(), Steps: issuer, Attempts: until{new(atomic.Bool)},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	step, err := issuer.Issue(steptoken.Claims{Run: "default/r", UID: "u", Node: "n"})
	if err != nil {
		t.Fatal(err)
	}
	broke := fmt.Errorf("open %s: %w", inside, io.ErrUnexpectedEOF)
	ask := func(err error, authorization string) (string, int) {
		h := g.Wrap(gate.Route{Access: gate.Public, Handle: func(w http.ResponseWriter, _ *http.Request) { gate.Fail(w, err) }})
		r := httptest.NewRequest(http.MethodGet, "http://localhost/x", nil)
		if authorization != "" {
			r.Header.Set("Authorization", "Bearer "+authorization)
		}
		w := httptest.NewRecorder()
		log.Reset()
		h.ServeHTTP(w, r)
		var body struct{ Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		return body.Message, w.Code
	}
	number := regexp.MustCompile(`number ([0-9a-f]{12})`)
	for name, c := range map[string]struct {
		authorization string
		all           bool
	}{"nobody known": {"", false}, "a step": {step.Reveal(), false}, "the administrator": {token, true}} {
		for _, err := range []error{broke, failure.Mark(failure.Waiting, broke), failure.Mark(failure.NoSpace, broke)} {
			message, code := ask(err, c.authorization)
			if code != failure.HTTPStatus(err) || strings.Contains(message, inside) != c.all {
				t.Errorf("%s is answered %d: %s", name, code, message)
			}
			n := number.FindStringSubmatch(message)
			if n == nil || !strings.Contains(log.String(), n[1]) || !strings.Contains(log.String(), inside) {
				t.Errorf("%s: the answer %q leads nowhere in the log %q", name, message, log.String())
			}
		}
		if message, _ := ask(failure.NotFoundf("run a/b not found"), c.authorization); message != "run a/b not found" || log.Len() > 0 {
			t.Errorf("%s: what was asked wrongly is told as it is and is no matter of the log: %q, log %q", name, message, log.String())
		}
	}
}
