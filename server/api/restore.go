package api

import (
	"context"
	"net/http"
	"time"

	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/server/gate"
)

// Bounds of a page of a plan.
const (
	planPage    = 100
	longestPlan = 500
)

// restorePlan tells whether the server is held after a restore and, for one kind of items, what would happen if it was released.
func (a *API) restorePlan(w http.ResponseWriter, r *http.Request) {
	out := struct {
		hold.State
		// Kinds are those that there is a plan of.
		Kinds []string `json:"kinds"`
		*hold.Page
	}{State: a.Hold.State(), Kinds: a.Planners.Kinds()}
	kind := r.URL.Query().Get("kind")
	if kind == "" || !out.Held {
		reply(w, out)
		return
	}
	n, err := number(r, "limit", planPage)
	if err == nil {
		var page hold.Page
		page, err = a.Planners.Plan(r.Context(), kind, r.URL.Query().Get("after"), min(max(n, 1), longestPlan))
		out.Page = &page
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, out)
}

// maxLeft is the most that one request leaves out; all of a kind count as one.
const maxLeft = 10_000

// beginning is how long the answer to a release waits for everything to begin.
const beginning = 10 * time.Second

// restoreRelease leaves out what is asked for and releases the server. It may be repeated after an error: the server is held until all of
// it is done.
func (a *API) restoreRelease(w http.ResponseWriter, r *http.Request) {
	var body struct {
		// Skip are items or kinds that are left out.
		Skip []string `json:"skip"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	if len(body.Skip) > maxLeft {
		fail(w, badRequest("%d things are to be left out, and at most %d can be with one request", len(body.Skip), maxLeft))
		return
	}
	actor := gate.From(r.Context()).Actor
	if !a.Hold.State().Held {
		_, err := a.Hold.Release(r.Context(), actor, nil)
		fail(w, err)
		return
	}
	if err := a.Planners.Leave(r.Context(), body.Skip, actor); err != nil {
		fail(w, err)
		return
	}
	state, err := a.Hold.Release(r.Context(), actor, body.Skip)
	if err == nil {
		// It is released whatever comes now: who asked is answered when everything has begun, or after a moment.
		ctx, cancel := context.WithTimeout(r.Context(), beginning)
		defer cancel()
		_ = a.Hold.Begun(ctx)
	}
	answer(w, state, err)
}
