package api

import (
	"net/http"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/server/gate"
)

// resubmit makes a run of what another was made of. That is a run of its own, so who asks needs the right to make one.
func (a *API) resubmit(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Parameters []string `json:"parameters"`
		Memoized   bool     `json:"memoized"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	params, err := pairs(body.Parameters)
	if err != nil {
		fail(w, err)
		return
	}
	ns, name, id := r.PathValue("namespace"), r.PathValue("name"), gate.From(r.Context())
	for _, verb := range []access.Verb{access.Get, access.Create} {
		if err := a.can(r, verb, access.Run, ns, name); err != nil {
			fail(w, err)
			return
		}
	}
	run, err := a.Runs.Resubmit(r.Context(), ns, name, runs.Resubmission{Parameters: params, Memoized: body.Memoized, Actor: id.String(), Role: id.RoleIn(ns)})
	if err != nil {
		fail(w, err)
		return
	}
	a.answerRun(w, r, run.Namespace, run.Name)
}
