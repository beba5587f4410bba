package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/deploy"
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
	items := []declared{}
	open := a.open()
	next := ""
	for _, row := range rows {
		d := a.Definitions.Open(row)
		conditions, err := a.Definitions.Conditions(r.Context(), d)
		if err != nil {
			fail(w, err)
			return
		}
		one := declared{d, append(conditions, open[d.Kind+" "+d.Namespace+"/"+d.Name]...)}
		one.Object = nil
		items = append(items, one)
	}
	if len(rows) == q.Limit {
		next = cursor(rows[len(rows)-1])
	}
	reply(w, map[string]any{"items": items, "next": next})
}

// declared is a definition with what is to be said about it.
type declared struct {
	definitions.Definition
	Conditions []definitions.Condition `json:"conditions,omitempty"`
}

// ConditionUnauthenticated is the type of the condition of an EventSource that takes deliveries from anybody.
const ConditionUnauthenticated = "Unauthenticated"

// open are the conditions of the EventSources that take deliveries from anybody, by kind, namespace and name.
func (a *API) open() map[string][]definitions.Condition {
	all := map[string][]definitions.Condition{}
	if a.Events == nil {
		return all
	}
	for _, s := range a.Events.Sources() {
		if s.Unauthenticated {
			key := "EventSource " + s.Source
			all[key] = append(all[key], definitions.Condition{
				Type: ConditionUnauthenticated, Status: "True", Message: s.Event + " takes deliveries from anybody: what they start may run pods and nothing else", Hint: "give it a secret",
			})
		}
	}
	return all
}

// ofSet are the conditions of an ApplicationSet: what keeps it, or elements of it, from making Applications.
func (a *API) ofSet(ctx context.Context, key string) ([]definitions.Condition, error) {
	row, err := a.Ledger.Row(ctx, deploy.TableSet, key)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, nil // nobody has looked at it yet
	}
	var set deploy.SetRow
	if err == nil {
		err = json.Unmarshal(row.Body, &set)
	}
	if err != nil {
		return nil, fmt.Errorf("read ApplicationSet %s: %w", key, err)
	}
	var said []definitions.Condition
	for _, c := range set.Conditions {
		said = append(said, definitions.Condition{Type: c.Type, Status: "True", Message: c.Message})
	}
	return said, nil
}

func (a *API) getDefinition(w http.ResponseWriter, r *http.Request) {
	d, state, err := a.Definitions.Look(r.Context(), r.PathValue("kind"), r.PathValue("namespace"), r.PathValue("name"))
	if err == nil && state == definitions.Absent {
		err = ledger.ErrNotFound
	}
	var conditions []definitions.Condition
	if err == nil {
		conditions, err = a.Definitions.Conditions(r.Context(), d)
	}
	if err == nil && d.Kind == "ApplicationSet" {
		var said []definitions.Condition
		said, err = a.ofSet(r.Context(), d.Namespace+"/"+d.Name)
		conditions = append(conditions, said...)
	}
	if err == nil && d.Kind == "Secret" && len(d.Object) > 0 {
		d.Object, err = masked(d.Object)
	}
	if err != nil {
		fail(w, missing(err, "tiphys get "+r.PathValue("kind")+" shows those that there are", "%s %s in namespace %s", r.PathValue("kind"), r.PathValue("name"), r.PathValue("namespace")))
		return
	}
	reply(w, declared{d, append(conditions, a.open()[d.Kind+" "+d.Namespace+"/"+d.Name]...)})
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
	if err := a.mayDeclare(r.Context(), objects); err != nil {
		fail(w, err)
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

// mayDeclare asks about each object. Who may declare one for the first time may change it too: whether it is there is known
// only when it is written.
func (a *API) mayDeclare(ctx context.Context, objects []manifest.Object) error {
	for _, o := range objects {
		if err := a.Policy.Can(gate.From(ctx), access.Create, o.Kind, cmp.Or(o.Namespace, "default"), o.Name); err != nil {
			return err
		}
	}
	return nil
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
