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
}

var _ forge.Callers = Git{}

// Caller implements [forge.Callers].
func (g Git) Caller(r *http.Request) (forge.Caller, error) {
	id, err := g.Gate.Enter(r, access.DoorGit)
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
	return forge.Caller{
		Actor:       forge.Actor{Name: id.Actor, Verified: id.Verified},
		Creates:     g.Policy.Can(id, access.Create, access.Repository, "", repo) == nil,
		Administers: g.Policy.Can(id, access.Override, access.Repository, "", repo) == nil,
	}, nil
}
