package api

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/people"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/server/gate"
)

// peopleRoutes are the lines of who may use the server.
func (a *API) peopleRoutes(get func(string, http.HandlerFunc) gate.Route, send func(string, string, int64, http.HandlerFunc) gate.Route) []gate.Route {
	return []gate.Route{
		get("/api/v1/users", a.listUsers),
		send("POST", "/api/v1/users", small, a.addUser),
		send("PUT", "/api/v1/users/{name}", small, a.changeUser),
		send("DELETE", "/api/v1/users/{name}", 0, a.removeUser),
		send("POST", "/api/v1/login-codes", small, a.offerLogin),
		get("/api/v1/tokens", a.listTokens),
		send("POST", "/api/v1/tokens", small, a.createToken),
		send("DELETE", "/api/v1/tokens/{id}", 0, a.revokeToken),
	}
}

// user is a person as the API shows them.
type user struct {
	Name     string    `json:"name"`
	Robot    bool      `json:"robot,omitempty"`
	Roles    []string  `json:"roles"`
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"createdAt"`
}

func (a *API) listUsers(w http.ResponseWriter, r *http.Request) {
	all, err := a.People.List(r.Context())
	items := []user{}
	for _, p := range all {
		u := user{Name: p.Name, Robot: p.Robot, Roles: []string{}, Disabled: p.Disabled, Created: p.Created}
		for _, b := range p.Roles {
			u.Roles = append(u.Roles, b.String())
		}
		items = append(items, u)
	}
	answer(w, map[string]any{"items": items}, err)
}

func (a *API) addUser(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name  string   `json:"name"`
		Robot bool     `json:"robot"`
		Roles []string `json:"roles"`
	}
	err := decode(r, &body)
	if err == nil {
		p := people.Person{Name: body.Name, Robot: body.Robot}
		if p.Roles, err = access.ParseBindings(body.Roles); err == nil {
			err = a.People.Add(r.Context(), gate.From(r.Context()).String(), p)
		}
	}
	answer(w, map[string]any{"name": body.Name}, err)
}

func (a *API) changeUser(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Roles    []string `json:"roles"`
		Disabled *bool    `json:"disabled"`
	}
	name := r.PathValue("name")
	err := decode(r, &body)
	if err == nil && body.Roles == nil && body.Disabled == nil {
		err = badRequest(`send {"roles": ["developer", ...]} or {"disabled": true}`)
	}
	if err == nil {
		var roles []access.Binding
		if roles, err = access.ParseBindings(body.Roles); err == nil {
			if body.Roles != nil && roles == nil {
				roles = []access.Binding{}
			}
			err = a.People.Change(r.Context(), gate.From(r.Context()).String(), name, roles, body.Disabled)
		}
	}
	answer(w, map[string]any{"name": name}, err)
}

func (a *API) removeUser(w http.ResponseWriter, r *http.Request) {
	err := a.People.Remove(r.Context(), gate.From(r.Context()).String(), r.PathValue("name"))
	answer(w, map[string]any{"name": r.PathValue("name")}, err)
}

// whose is the person that a request is about: the caller, or another, about whom the caller must be allowed to do it.
func (a *API) whose(ctx context.Context, verb access.Verb, name string) (string, error) {
	id := gate.From(ctx)
	if name = cmp.Or(name, id.Person); name == "" {
		return "", failure.Refusedf("%s is nobody who has tokens or logs in", id.Actor)
	}
	if name == id.Person {
		return name, nil
	}
	return name, a.Policy.Can(id, verb, access.User, "", name)
}

// claimed is what a holder of the admin token is called.
func claimed(id access.Identity) string {
	if !id.Claimed {
		return ""
	}
	return strings.TrimPrefix(id.Actor, "user:")
}

func (a *API) offerLogin(w http.ResponseWriter, r *http.Request) {
	var body struct {
		User string `json:"user"`
	}
	id := gate.From(r.Context())
	err := decode(r, &body)
	var name string
	if err == nil {
		name, err = a.whose(r.Context(), access.Update, body.User)
	}
	var code people.Text
	var until time.Time
	if err == nil {
		code, until, err = a.People.Offer(r.Context(), id.String(), name, claimed(id))
	}
	out := map[string]any{"user": name, "code": code.Reveal(), "until": until}
	if a.Public != "" {
		out["url"] = people.LoginURL(a.Public, code)
	}
	answer(w, out, err)
}

// token is a token as the API shows it.
type token struct {
	ID      string         `json:"id"`
	User    string         `json:"user"`
	Note    string         `json:"note,omitempty"`
	Scopes  []access.Scope `json:"scopes"`
	Created time.Time      `json:"createdAt"`
	Until   time.Time      `json:"until,omitzero"`
}

func shown(t people.Token) token {
	return token{ID: t.ID, User: t.User, Note: t.Note, Scopes: t.Scopes, Created: t.Created, Until: t.Until}
}

// everybody asks for the tokens of all.
const everybody = "*"

func (a *API) listTokens(w http.ResponseWriter, r *http.Request) {
	name, err := a.whose(r.Context(), access.Get, r.URL.Query().Get("user"))
	if err != nil {
		fail(w, err)
		return
	}
	if name == everybody {
		name = ""
	}
	all, err := a.People.Tokens(r.Context(), name)
	items := []token{}
	for _, t := range all {
		items = append(items, shown(t))
	}
	answer(w, map[string]any{"items": items}, err)
}

func (a *API) createToken(w http.ResponseWriter, r *http.Request) {
	var body struct {
		User   string         `json:"user"`
		Note   string         `json:"note"`
		Scopes []access.Scope `json:"scopes"`
		// Life is a duration; empty for ever.
		Life string `json:"life"`
	}
	id := gate.From(r.Context())
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	n := people.NewToken{Note: body.Note, Scopes: body.Scopes, As: claimed(id)}
	var err error
	if body.Life != "" {
		if n.Life, err = time.ParseDuration(body.Life); err != nil || n.Life <= 0 {
			fail(w, badRequest("life %q: use a duration such as 2160h", body.Life))
			return
		}
	}
	if n.User, err = a.whose(r.Context(), access.Update, body.User); err != nil {
		fail(w, err)
		return
	}
	text, made, err := a.People.CreateToken(r.Context(), id.String(), n)
	answer(w, struct {
		token
		Text string `json:"token"`
	}{shown(made), text.Reveal()}, err)
}

// revokeToken revokes a token. Somebody else's is not there for who may not see it.
func (a *API) revokeToken(w http.ResponseWriter, r *http.Request) {
	t, err := a.People.Token(r.Context(), r.PathValue("id"))
	if err == nil {
		if _, refused := a.whose(r.Context(), access.Delete, t.User); refused != nil {
			err = failure.NotFoundf("there is no token %s", r.PathValue("id"))
		}
	}
	if err == nil {
		err = a.People.Revoke(r.Context(), gate.From(r.Context()).String(), t.ID)
	}
	answer(w, map[string]any{"id": r.PathValue("id")}, err)
}
