package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/server/gate"
)

// Eraser is a ledger that leaked bodies can be taken out of.
type Eraser interface {
	ledger.Eraser
	// Rebuild makes every row anew, without what was erased.
	Rebuild(ctx context.Context) error
}

// maxReason bounds why an entry is erased, in bytes.
const maxReason = 1000

// eraseEntry takes the body of an entry out of the record, and out of the rows that were made of it. That it was is an entry itself.
func (a *API) eraseEntry(w http.ResponseWriter, r *http.Request) {
	var body struct {
		// Reason is kept in its place.
		Reason string `json:"reason"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	seq, err := strconv.ParseInt(r.PathValue("seq"), 10, 64)
	if err != nil || seq < 1 {
		fail(w, badRequest("%q is not the sequence of an entry: a number from 1 on is wanted", r.PathValue("seq")))
		return
	}
	if body.Reason = strings.TrimSpace(body.Reason); body.Reason == "" || len(body.Reason) > maxReason {
		fail(w, badRequest("say why the entry is erased, in 1 to %d bytes: the reason is kept in its place", maxReason))
		return
	}
	entry, err := a.Ledger.Entry(r.Context(), seq)
	var erasure ledger.Entry
	if err == nil {
		erasure, err = a.Eraser.Erase(r.Context(), seq, gate.From(r.Context()).Actor, body.Reason)
	}
	if err == nil {
		err = a.Runs.Unload(r.Context(), entry.Subject)
	}
	if err == nil {
		err = a.Eraser.Rebuild(r.Context())
	}
	answer(w, erasure, err)
}
