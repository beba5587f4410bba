package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/control/audit"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
)

func (a *API) listEntries(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after, err := number(r, "after", 0)
	if err != nil {
		fail(w, err)
		return
	}
	limit, err := number(r, "limit", 100)
	if err != nil {
		fail(w, err)
		return
	}
	es, err := a.Ledger.Entries(r.Context(), ledger.EntryQuery{
		After: int64(after), SubjectPrefix: q.Get("subject"), Kinds: q["kind"], Newest: q.Get("newest") == "1", Limit: min(max(limit, 1), 1000),
	})
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, map[string]any{"items": es})
}

// trailLimit bounds how much of what an entry led to is shown.
const trailLimit = 500

func (a *API) trail(w http.ResponseWriter, r *http.Request) {
	seq, err := a.find(r.Context(), r.URL.Query().Get("of"), r.URL.Query().Get("seq"))
	if err != nil {
		fail(w, err)
		return
	}
	t, err := ledger.ReadTrail(r.Context(), a.Ledger, seq, trailLimit)
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, t)
}

// find turns what a person names into an entry: the latest about a subject.
func (a *API) find(ctx context.Context, of, seq string) (int64, error) {
	if seq != "" {
		n, err := strconv.ParseInt(seq, 10, 64)
		if err != nil {
			return 0, badRequest("seq=%q is not a number", seq)
		}
		return n, nil
	}
	if of == "" {
		return 0, badRequest("say of what: of=run/default/NAME, or seq=N")
	}
	if seq, err := a.named(ctx, of); seq != 0 || err != nil {
		return seq, err
	}
	for _, subject := range subjects(of) {
		for _, q := range []ledger.EntryQuery{{Subject: subject, Newest: true, Limit: 1}, {SubjectPrefix: subject, Newest: true, Limit: 1}} {
			es, err := a.Ledger.Entries(ctx, q)
			if err != nil {
				return 0, err
			}
			if len(es) > 0 {
				return es[0].Seq, nil
			}
		}
	}
	return 0, missing(ledger.ErrNotFound, "write it as run/default/NAME, app/default/NAME, pod/NAMESPACE/NAME, event/ID, mr/REPO/1, commit/SHA or image/NAME@DIGEST", "%s in the ledger", of)
}

// subjects are the ledger's subjects that a person's words may mean, the likeliest first.
func subjects(of string) []string {
	kind, rest, _ := strings.Cut(of, "/")
	out := []string{of}
	switch kind {
	case "app":
		out = append(out, "application/"+rest)
	case "pod":
		out = append(out, "object//Pod:"+rest)
	}
	return out
}

// named finds what is looked up by a name that is not the subject's: events, commits, and pods without namespace.
func (a *API) named(ctx context.Context, of string) (int64, error) {
	kind, name, _ := strings.Cut(of, "/")
	switch {
	case kind == "event":
		row, err := a.Ledger.Row(ctx, event.TableEvent, name)
		if errors.Is(err, ledger.ErrNotFound) {
			return 0, nil
		}
		var e event.EventRow
		if err == nil {
			err = json.Unmarshal(row.Body, &e)
		}
		return e.Seq, err
	case kind == "commit":
		rows, err := a.Ledger.List(ctx, ledger.Query{Table: event.TableEvent, Labels: map[string]string{"commit": name}, Oldest: true, Limit: 1})
		var e event.EventRow
		if err == nil && len(rows) == 1 {
			err = json.Unmarshal(rows[0].Body, &e)
		}
		return e.Seq, err
	case kind == "release" && strings.Count(name, "/") == 2:
		return a.releaseNumbered(ctx, name)
	case kind == "pod" && !strings.Contains(name, "/"):
		rows, err := a.Ledger.List(ctx, ledger.Query{Table: deploy.TableObject, Labels: map[string]string{"kind": "Pod"}, Limit: 1000})
		for _, row := range rows {
			if strings.HasSuffix(row.Key, "/"+name) {
				return row.Seq, nil
			}
		}
		return 0, err
	}
	return 0, nil
}

// releaseNumbered finds the release that NAMESPACE/NAME/NUMBER names, if it is of one repository only.
func (a *API) releaseNumbered(ctx context.Context, name string) (int64, error) {
	i := strings.LastIndexByte(name, '/')
	number, err := strconv.ParseInt(name[i+1:], 10, 64)
	if err != nil {
		return 0, nil // it is no number, so that it names no release
	}
	var found []ledger.Row
	for row, err := range ledger.Each(ctx, a.Ledger, ledger.Query{Table: deploy.TableRelease, Owner: name[:i]}) {
		if err != nil {
			return 0, err
		}
		if strings.HasSuffix(row.Key, fmt.Sprintf("/%09d", number)) {
			found = append(found, row)
		}
	}
	switch len(found) {
	case 0:
		return 0, nil
	case 1:
		return found[0].Seq, nil
	}
	return 0, badRequest("%d repositories have a release %s: name it by its number in the ledger, such as %d", len(found), name, found[0].Seq)
}

func (a *API) ledgerHead(w http.ResponseWriter, r *http.Request) {
	key, err := ledger.LoadKey(a.Keys)
	if err != nil {
		fail(w, err)
		return
	}
	head, err := a.Ledger.Head(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	signed, err := ledger.SignHead(ledger.HeadOf(head), key)
	answer(w, signed, err)
}

// verifyWait is how long a request for a verification may wait for its end.
const verifyWait = 5 * time.Second

// ledgerVerify has the ledger verified. It answers with the state after a moment: a short verification has ended by then.
func (a *API) ledgerVerify(w http.ResponseWriter, r *http.Request) {
	var body audit.Request
	if err := decode(r, &body); err != nil {
		fail(w, err)
		return
	}
	if err := a.Audit.Ask(body); err != nil {
		fail(w, err)
		return
	}
	a.ledgerVerified(w, r)
}

// ledgerVerified answers with the state of the verification that runs or ran last, at its end or after a moment.
func (a *API) ledgerVerified(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), verifyWait)
	defer cancel()
	reply(w, a.Audit.Wait(ctx))
}
