package server

import (
	"net/http"
	"strings"

	"github.com/tiphys/tiphys/server/gate"
)

// HeldHeader says on every answer of a held server that it is, and since when.
const HeldHeader = "Tiphys-Held"

// whileHeld are the routes that change something and are open while the server is held after a restore: they release it, look, or say who may
// do so.
func whileHeld(r *http.Request) bool {
	switch r.URL.Path {
	case "/api/v1/restore", "/api/v1/login", "/api/v1/logout", "/api/v1/login-codes", "/api/v1/ledger/verify":
		return true
	}
	if strings.HasPrefix(r.URL.Path, "/api/v1/tokens") || strings.HasPrefix(r.URL.Path, "/api/v1/users") {
		return true
	}
	return strings.HasPrefix(r.URL.Path, "/git/") && strings.HasSuffix(r.URL.Path, "/git-upload-pack")
}

// acts reports whether a request changes something: what reads does so by GET and HEAD, but for deliveries, which may come by any method, and
// the question that a push begins with.
func acts(r *http.Request) bool {
	switch {
	case strings.HasPrefix(r.URL.Path, "/webhooks/"), r.URL.Query().Get("service") == "git-receive-pack":
		return true
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return false
	}
	return !whileHeld(r)
}

// holding refuses what changes something while the server is held. A delivery, a push or an image that was refused is sent again by who sends
// it: none of them was taken and is then lost.
func (p *Port) holding(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if reason := p.o.Hold.Reason(); reason != "" {
			w.Header().Set(HeldHeader, reason)
		}
		if acts(r) {
			if err := p.o.Hold.Refuse(); err != nil {
				gate.Fail(w, err)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}
