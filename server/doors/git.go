// Package doors has the doors of the protocols that identify their callers themselves, Git and the registry: each asks the gate who it
// is and the policy what he may.
package doors

import (
	"net/http"
	"strings"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/server/gate"
)

// Git is the door of the repositories that are kept here.
type Git struct {
	Gate   *gate.Gate
	Policy access.Policy
	// Guarded says that callers prove who they are. Otherwise the user in the URL, or else the commits, are taken at their word
	// and shown as unverified.
	Guarded bool
}

var _ forge.Callers = Git{}

// Caller implements [forge.Callers].
func (g Git) Caller(r *http.Request) (forge.Caller, error) {
	id, err := g.Gate.Identify(r)
	if err != nil {
		return forge.Caller{}, err
	}
	verb := access.Get
	if strings.HasSuffix(r.URL.Path, "/git-receive-pack") || r.URL.Query().Get("service") == "git-receive-pack" {
		verb = access.Update
	}
	repo, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/git/"), ".git/")
	if err := g.Policy.Can(id, verb, access.Repository, "", repo); err != nil {
		return forge.Caller{}, err
	}
	c := forge.Caller{
		Creates:     g.Policy.Can(id, access.Create, access.Repository, "", repo) == nil,
		Administers: g.Policy.Can(id, access.Override, access.Repository, "", repo) == nil,
	}
	user, _, _ := r.BasicAuth()
	switch {
	case user != "":
		c.Name = "user:" + user
	case g.Guarded:
		c.Name = id.Actor
	}
	c.Verified = g.Guarded
	return c, nil
}
