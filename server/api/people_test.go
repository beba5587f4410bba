package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
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

// What is one's own is one's own to make, see and revoke; of others' administrators alone decide, and others' tokens are not there for who may not
// see them. A token that only looks makes no token.
func TestTokensOfOneself(t *testing.T) {
	l, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "l.db"), Synchronous: sqlite.Off, Projections: []ledger.Projection{people.Projection{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	store := people.New(l, 0, time.Now)
	a := &API{Policy: access.BuiltIn(), Ledger: l, People: store}
	who := map[string]access.Identity{
		"admin": access.Administrator(""), "ada": {Person: "ada", Actor: "user:ada", Verified: true, Role: access.Developer},
		"vic":    {Person: "vic", Actor: "user:vic", Verified: true, Bindings: []access.Binding{{Role: access.Viewer, Namespace: "shop"}}},
		"looker": {Person: "ada", Actor: "user:ada", Verified: true, Role: access.Developer, Only: []access.Scope{access.ScopeRead}, ReadOnly: true},
		"nobody": {Actor: "robot:metrics", Role: access.Viewer},
	}
	mux := http.NewServeMux()
	for _, r := range a.Routes() {
		mux.HandleFunc(r.Pattern, func(w http.ResponseWriter, req *http.Request) {
			if err := r.Ask.Of(a.Policy, gate.From(req.Context()), req); err != nil {
				gate.Fail(w, err)
				return
			}
			r.Handle(w, req)
		})
	}
	ask := func(name, method, path, body string) (int, string) {
		t.Helper()
		req := httptest.NewRequest(method, "/api/v1/"+path, strings.NewReader(body))
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, req.WithContext(access.With(req.Context(), who[name])))
		return w.Code, w.Body.String()
	}
	for _, name := range []string{"ada", "vic"} {
		if code, text := ask("admin", "POST", "users", fmt.Sprintf(`{"name": %q, "roles": ["viewer"]}`, name)); code != http.StatusOK {
			t.Fatal(code, text)
		}
	}
	made := map[string]struct{ ID, Token string }{}
	for _, name := range []string{"ada", "vic", "admin"} {
		code, text := ask(name, "POST", "tokens", `{"scopes": ["git"], "life": "1h"}`)
		one := made[name]
		if err := json.Unmarshal([]byte(text), &one); code != http.StatusOK || err != nil || one.Token == "" {
			t.Fatal(code, text, err)
		}
		made[name] = one
	}
	for _, c := range []struct {
		who, method, path, body string
		want                    int
	}{
		{"ada", "POST", "tokens", `{"user": "vic", "scopes": ["git"]}`, 403},
		{"admin", "POST", "tokens", `{"user": "vic", "scopes": ["git"]}`, 200},
		{"admin", "POST", "tokens", `{"user": "eve", "scopes": ["git"]}`, 404},
		{"ada", "POST", "tokens", `{}`, 400},
		{"ada", "POST", "tokens", `{"scopes": ["root"]}`, 400},
		{"ada", "POST", "tokens", `{"scopes": ["git"], "life": "-1h"}`, 400},
		{"looker", "POST", "tokens", `{"scopes": ["all"]}`, 403},
		{"looker", "POST", "login-codes", `{}`, 403},
		{"nobody", "POST", "tokens", `{"scopes": ["all"]}`, 403},
		{"nobody", "POST", "login-codes", `{}`, 403},
		{"ada", "POST", "login-codes", `{}`, 200},
		{"ada", "POST", "login-codes", `{"user": "vic"}`, 403},
		{"ada", "POST", "login-codes", `{"user": "admin"}`, 403},
		{"admin", "POST", "login-codes", `{"user": "vic"}`, 200},
		{"ada", "GET", "tokens?user=vic", "", 403},
		{"ada", "GET", "tokens?user=*", "", 403},
		{"admin", "GET", "tokens?user=*", "", 200},
		{"ada", "DELETE", "tokens/" + made["vic"].ID, "", 404},
		{"ada", "DELETE", "tokens/" + made["admin"].ID, "", 404},
		{"looker", "DELETE", "tokens/" + made["ada"].ID, "", 403},
		{"ada", "DELETE", "tokens/" + made["ada"].ID, "", 200},
		{"admin", "DELETE", "tokens/" + made["vic"].ID, "", 200},
		{"ada", "PUT", "users/ada", `{"roles": ["admin"]}`, 403},
		{"ada", "GET", "users", "", 403},
		{"vic", "POST", "users", `{"name": "eve", "roles": ["admin"]}`, 403},
		{"admin", "PUT", "users/ada", `{"roles": []}`, 400},
		{"admin", "PUT", "users/ada", `{}`, 400},
		{"admin", "PUT", "users/ada", `{"roles": ["developer@shop", "viewer"]}`, 200},
		{"admin", "DELETE", "users/ada", "", 200},
	} {
		if code, text := ask(c.who, c.method, c.path, c.body); code != c.want {
			t.Errorf("%s: %s %s %s: %d %s, want %d", c.who, c.method, c.path, c.body, code, text, c.want)
		}
	}
	if _, text := ask("vic", "GET", "tokens", ""); strings.Contains(text, made["admin"].ID) || strings.Contains(text, "hash") {
		t.Errorf("vic sees %s", text)
	}
}
