package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/workflow"
)

func (a *API) listDefinitions(w http.ResponseWriter, r *http.Request) {
	q := ledger.Query{Table: "definition"}
	if kind := r.URL.Query().Get("kind"); kind != "" {
		q.KeyPrefix = kind + "/"
		if ns := r.URL.Query().Get("namespace"); ns != "" {
			q.KeyPrefix += ns + "/"
		}
	}
	if err := page(r, &q); err != nil {
		fail(w, err)
		return
	}
	rows, err := a.Ledger.List(r.Context(), q)
	if err != nil {
		fail(w, err)
		return
	}
	items := []definitions.Definition{}
	next := ""
	for _, row := range rows {
		var d definitions.Definition
		if err := json.Unmarshal(row.Body, &d); err != nil {
			fail(w, fmt.Errorf("decode definition: %w", err))
			return
		}
		d.Object, d.Sealed, d.Seq = nil, nil, row.Seq
		items = append(items, d)
	}
	if len(rows) == q.Limit {
		next = cursor(rows[len(rows)-1])
	}
	reply(w, map[string]any{"items": items, "next": next})
}

func (a *API) getDefinition(w http.ResponseWriter, r *http.Request) {
	d, err := a.Definitions.Get(r.Context(), r.PathValue("kind"), r.PathValue("namespace"), r.PathValue("name"))
	if err == nil && d.Kind == "Secret" {
		d.Object, err = masked(d.Object)
	}
	if err != nil {
		fail(w, missing(err, "tiphys get "+r.PathValue("kind")+" shows those that there are", "%s %s in namespace %s", r.PathValue("kind"), r.PathValue("name"), r.PathValue("namespace")))
		return
	}
	reply(w, d)
}

// masked replaces every value of a Secret.
func masked(raw json.RawMessage) (json.RawMessage, error) {
	var o map[string]any
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("decode secret: %w", err)
	}
	for _, field := range []string{"data", "stringData"} {
		if m, ok := o[field].(map[string]any); ok {
			for k := range m {
				m[k] = secret.Mask
			}
		}
	}
	if meta, ok := o["metadata"].(map[string]any); ok {
		delete(meta, "annotations") // the last-applied annotation holds the values once more
	}
	return json.Marshal(o)
}

func (a *API) applyDefinitions(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, err)
		return
	}
	name := r.URL.Query().Get("file")
	if name == "" {
		name = "manifest"
	}
	objects, diags := manifest.Decode(name, data)
	if err := manifest.FirstError(diags); err != nil {
		fail(w, &workflow.InvalidError{Diagnostics: diags})
		return
	}
	ch, err := a.Definitions.Apply(r.Context(), gate.From(r.Context()).String(), definitions.OriginAPI, objects)
	if manifest.Failed(ch.Diagnostics) {
		err = &workflow.InvalidError{Diagnostics: ch.Diagnostics}
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]any{"set": ch.Set, "unchanged": ch.Unchanged, "diagnostics": append(diags, ch.Diagnostics...)})
}

func (a *API) deleteDefinition(w http.ResponseWriter, r *http.Request) {
	err := a.Definitions.Delete(r.Context(), gate.From(r.Context()).String(), definitions.OriginAPI,
		r.PathValue("kind"), r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, struct{}{})
}
