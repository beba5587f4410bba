package front

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
)

// Cookie keeps a client with the pod that answered it first.
type Cookie struct {
	Name     string        `json:"name"`
	Path     string        `json:"path,omitempty"`
	MaxAge   int           `json:"maxAge,omitempty"` // seconds; 0 is until the browser ends
	SameSite http.SameSite `json:"sameSite,omitempty"`
	Secure   bool          `json:"secure,omitempty"`
	// Anew has a client whose pod failed belong to the next one from then on.
	Anew bool `json:"anew,omitempty"`
}

func (c *Cookie) set(value string) *http.Cookie {
	return &http.Cookie{Name: c.Name, Value: value, Path: c.Path, MaxAge: c.MaxAge, SameSite: c.SameSite, Secure: c.Secure, HttpOnly: true}
}

// sticky is what a cookie says of a pod: enough to know it again, and nothing of what it is called.
func sticky(backend string) string {
	sum := sha256.Sum256([]byte("pod " + backend))
	return hex.EncodeToString(sum[:16])
}

// remember takes the pod that a request's cookie names.
func (a *attempt) remember(r *http.Request) {
	if a.manner == nil || a.manner.Cookie == nil {
		return
	}
	if c, err := r.Cookie(a.manner.Cookie.Name); err == nil {
		a.stuck = c.Value
	}
}

// stays gives the endpoint of the pod that a client belongs to, if it has not failed.
func (a *attempt) stays(to route, failed map[string]bool) (endpoint, bool) {
	if a.stuck == "" {
		return endpoint{}, false
	}
	for _, e := range to.endpoints {
		if !failed[e.address] && sticky(e.name) == a.stuck {
			return e, true
		}
	}
	return endpoint{}, false
}
