package gate

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/keeper/clients"
)

// The session's cookie. The prefix has browsers take it from this very host alone, over TLS (RFC 6265bis, 4.1.3.2). Without TLS the name has the port,
// because cookies do not tell servers of one host apart.
const (
	secureCookie = "__Host-tiphys"
	plainCookie  = "tiphys_session"
)

var (
	errCode    = failure.WithHint(failure.New(failure.Unauthenticated, "this link is not good: it can be used once, within ten minutes"), "run tiphys login for another one")
	errSession = failure.WithHint(failure.New(failure.Unauthenticated, "you are not logged in, or not any more"), "run tiphys login, and open the link that it prints")
)

// LogIn answers POST /api/v1/login: the code of a login link for a session's cookie.
func (g *Gate) LogIn(w http.ResponseWriter, req *http.Request) {
	if !sameSite(req) {
		Fail(w, errOrigin)
		return
	}
	from := clientOf(req)
	if wait := g.tries.wait(g.now(), from); wait > 0 {
		FailWith(w, http.StatusTooManyRequests, failure.Later(wait, failure.New(failure.RetryAfter, "too many logins failed: wait a little")))
		return
	}
	var body struct {
		Code string `json:"code"`
	}
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		Fail(w, failure.New(failure.Invalid, `send {"code": "..."}`))
		return
	}
	text, until, err := g.people.LogIn(req.Context(), body.Code, from)
	if failure.Is(err, failure.Unauthenticated) {
		g.tries.miss(g.now(), from)
		if err := g.people.Fail(req.Context(), from); err != nil {
			Fail(w, err)
			return
		}
		challenge(w, req)
		err = errCode
	}
	if err != nil {
		Fail(w, err)
		return
	}
	http.SetCookie(w, g.cookie(req, text.Reveal(), until))
	w.WriteHeader(http.StatusNoContent)
}

// LogOut answers POST /api/v1/logout: the session of the cookie ends, and so does the cookie.
func (g *Gate) LogOut(w http.ResponseWriter, req *http.Request) {
	for _, c := range req.CookiesNamed(g.cookieName(req)) {
		if err := g.people.LogOut(req.Context(), c.Value); err != nil && !failure.Is(err, failure.Unauthenticated) {
			Fail(w, err)
			return
		}
	}
	c := g.cookie(req, "", time.Time{})
	c.MaxAge = -1
	http.SetCookie(w, c)
	w.WriteHeader(http.StatusNoContent)
}

func (g *Gate) cookie(req *http.Request, value string, until time.Time) *http.Cookie {
	return &http.Cookie{
		Name: g.cookieName(req), Value: value, Path: "/", Expires: until, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: g.overTLS(req),
	}
}

func (g *Gate) cookieName(req *http.Request) string {
	if g.overTLS(req) {
		return secureCookie
	}
	if _, port, err := net.SplitHostPort(req.Host); err == nil {
		return plainCookie + "_" + port
	}
	return plainCookie
}

// overTLS says whether the browser speaks TLS: to this server, or to a proxy under the public address.
func (g *Gate) overTLS(req *http.Request) bool {
	return req.TLS != nil || g.public != nil && g.public.Scheme == "https" && strings.EqualFold(req.Host, g.public.Host)
}

// bySession tells whose session the cookie is. A page of another origin cannot read what it asks for in a browser's name, but it could have
// something done: what changes something must come from a page of our own.
func (g *Gate) bySession(req *http.Request) (Identity, error) {
	cookies := req.CookiesNamed(g.cookieName(req))
	if len(cookies) == 0 || g.people == nil {
		return Identity{}, errNoToken
	}
	if !sameSite(req) || changes(req) && !g.fromOurPage(req) {
		return Identity{}, errOrigin
	}
	// An application beside us may add a cookie of this name to the request.
	for _, c := range cookies {
		id, err := g.people.BySession(req.Context(), c.Value)
		if err == nil || !failure.Is(err, failure.Unauthenticated) {
			return id, err
		}
	}
	return Identity{}, errSession
}

func changes(req *http.Request) bool {
	return req.Method != http.MethodGet && req.Method != http.MethodHead
}

// fromOurPage says whether a browser says that a page of this origin makes the request.
func (g *Gate) fromOurPage(req *http.Request) bool {
	if site := req.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	u, err := url.Parse(req.Header.Get("Origin"))
	if err != nil || u.Host == "" || !strings.EqualFold(u.Host, req.Host) {
		return false
	}
	return !g.overTLS(req) || u.Scheme == "https"
}

// clientOf is who sends a request, as the port counts clients; empty if that cannot be told.
func clientOf(req *http.Request) string {
	at, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return ""
	}
	client := clients.Of(at.Addr())
	if client.IsSingleIP() {
		return client.Addr().String()
	}
	return client.String()
}
