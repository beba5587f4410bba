package api

import (
	"net/http"

	"github.com/tiphys/tiphys/control/quarantine"
	"github.com/tiphys/tiphys/server/gate"
)

// quarantined lists what is left out because it ended the server.
func (a *API) quarantined(w http.ResponseWriter, _ *http.Request) {
	list := a.Quarantine.List()
	if list == nil {
		list = []quarantine.Quarantined{}
	}
	reply(w, struct {
		Items []quarantine.Quarantined `json:"items"`
	}{list})
}

// unquarantine has an item tried again (retry) or left for good (drop).
func (a *API) unquarantine(w http.ResponseWriter, r *http.Request) {
	var body struct {
		// Item is KIND/KEY.
		Item string `json:"item"`
	}
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	item, err := quarantine.ParseItem(body.Item)
	if err != nil {
		fail(w, err)
		return
	}
	do := map[string]func() error{
		"retry": func() error { return a.Quarantine.Retry(r.Context(), a.Rooms, item, gate.From(r.Context()).Actor) },
		"drop":  func() error { return a.Quarantine.Drop(r.Context(), a.Rooms, item, gate.From(r.Context()).Actor) },
	}[r.PathValue("verb")]
	if do == nil {
		fail(w, badRequest("nothing is done by %q: use retry or drop", r.PathValue("verb")))
		return
	}
	answer(w, item, do())
}
