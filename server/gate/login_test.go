package gate_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/people"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
	"github.com/tiphys/tiphys/server/gate"
)

// peopled keeps people in a ledger of the test's own.
func peopled(t *testing.T, now func() time.Time) *people.Store {
	t.Helper()
	store, _ := recorded(t, now)
	return store
}

func recorded(t *testing.T, now func() time.Time) (*people.Store, ledger.Ledger) {
	t.Helper()
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Synchronous: sqlite.Off, Projections: []ledger.Projection{people.Projection{}}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return people.New(l, 0, now), l
}

// exchange sends a code as a page of the screens does.
func exchange(g *gate.Gate, address, code, from string, header ...string) *httptest.ResponseRecorder {
	body, _ := json.Marshal(map[string]string{"code": code})
	r := httptest.NewRequest(http.MethodPost, address+"/api/v1/login", strings.NewReader(string(body)))
	r.RemoteAddr = from
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	g.LogIn(w, r)
	return w
}

// loggedIn is the cookie of a browser at http://localhost:2746.
func loggedIn(t *testing.T, g *gate.Gate, store *people.Store, name string) *http.Cookie {
	t.Helper()
	code, _, err := store.Offer(t.Context(), "user:admin", name, "")
	if err != nil {
		t.Fatal(err)
	}
	w := exchange(g, "http://localhost:2746", code.Reveal(), "127.0.0.1:1")
	if w.Code != http.StatusNoContent || len(w.Result().Cookies()) != 1 {
		t.Fatalf("the login is answered %d %s", w.Code, w.Body)
	}
	return w.Result().Cookies()[0]
}

// The cookie is this host's alone where the browser speaks TLS, and in any case no script's and of no other site.
func TestCookie(t *testing.T) {
	store := peopled(t, time.Now)
	public, err := url.Parse("https://ci.example.org")
	if err != nil {
		t.Fatal(err)
	}
	g, err := gate.New(gate.Options{Policy: access.BuiltIn(), People: store, Public: public})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]struct {
		name   string
		secure bool
	}{
		"https://ci.example.org": {"__Host-tiphys", true}, "http://ci.example.org": {"__Host-tiphys", true}, // a proxy in front speaks TLS
		"http://localhost:2746": {"tiphys_session_2746", false}, "http://192.0.2.1": {"tiphys_session", false},
	} {
		code, _, err := store.Offer(t.Context(), "user:admin", people.Admin, "")
		if err != nil {
			t.Fatal(err)
		}
		w := exchange(g, address, code.Reveal(), "127.0.0.1:1")
		if len(w.Result().Cookies()) != 1 {
			t.Fatalf("%s: %d %s", address, w.Code, w.Body)
		}
		c := w.Result().Cookies()[0]
		if c.Name != want.name || c.Secure != want.secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
			t.Errorf("%s: %s", address, c)
		}
	}
}

// A login from another page is none: it would have a browser act as somebody else.
func TestLoginOfAnotherPage(t *testing.T) {
	store := peopled(t, time.Now)
	g, err := gate.New(gate.Options{Policy: access.BuiltIn(), People: store})
	if err != nil {
		t.Fatal(err)
	}
	code, _, err := store.Offer(t.Context(), "user:admin", people.Admin, "")
	if err != nil {
		t.Fatal(err)
	}
	if w := exchange(g, "http://localhost:2746", code.Reveal(), "127.0.0.1:1", "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("it is answered %d", w.Code)
	}
	if w := exchange(g, "http://localhost:2746", code.Reveal(), "127.0.0.1:1"); w.Code != http.StatusNoContent {
		t.Errorf("it used the code up: %d %s", w.Code, w.Body)
	}
}

// Logins that fail are limited, of one client and of all, and recorded so that a stranger does not fill the ledger. A login that succeeds costs
// nothing, and other clients go on.
func TestFailedLoginsAreLimited(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	store, record := recorded(t, func() time.Time { return now })
	g, err := gate.New(gate.Options{Policy: access.BuiltIn(), People: store, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	// Somebody has a /64 of IPv6 to themselves.
	codes := map[int]int{}
	for i := range 30 {
		codes[exchange(g, "http://localhost:2746", "admin.0123456789abcdef.wrong", fmt.Sprintf("[2001:db8::%x]:1", i)).Code]++
	}
	if codes[http.StatusUnauthorized] != 10 || codes[http.StatusTooManyRequests] != 20 {
		t.Errorf("30 attempts of one client are answered %v", codes)
	}
	loggedIn(t, g, store, people.Admin)
	now = now.Add(6 * time.Second)
	if w := exchange(g, "http://localhost:2746", "x", "[2001:db8::1]:1"); w.Code != http.StatusUnauthorized {
		t.Errorf("after a while it is answered %d", w.Code)
	}
	// From everywhere at once.
	codes = map[int]int{}
	for i := range 1000 {
		codes[exchange(g, "http://localhost:2746", "x", fmt.Sprintf("192.0.%d.%d:1", i/250, i%250)).Code]++
	}
	if codes[http.StatusUnauthorized] > 300 || codes[http.StatusTooManyRequests] < 700 {
		t.Errorf("1000 attempts of everybody are answered %v", codes)
	}
	now = now.Add(time.Minute)
	if err := store.RecordFailures(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := record.Entries(t.Context(), ledger.EntryQuery{Kinds: []string{people.KindFailed}})
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, e := range entries {
		f, err := ledger.Read[people.Failures](e)
		if err != nil {
			t.Fatal(err)
		}
		count += f.Count
	}
	if len(entries) != 2 || count < 300 || count > 320 {
		t.Errorf("%d entries tell of %d failures", len(entries), count)
	}
}
