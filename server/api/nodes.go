package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// Bounds of an answer about the steps of a run: what is beyond them is said, with where to go on.
const (
	usualNodes = 5000     // in one answer, unless the caller says
	mostNodes  = 10_000   // that a caller may ask for
	nodeBytes  = 16 << 20 // of the rows that one answer is made of
	nodeChunk  = 500      // read from the ledger at a time
)

// rowsPage is a part of the rows that belong to a run.
type rowsPage struct {
	rows []ledger.Row
	// seq is the sequence that all changes which are not among the rows come after.
	seq int64
	// next is where to go on in the order of the list; empty at the end. more is the same for those that changed after a
	// sequence, which go on from seq.
	next string
	more bool
}

// rowsRequest says which rows of a table are wanted: oldest first behind a place, or those that changed after a sequence.
type rowsRequest struct {
	table, owner, prefix string
	after                *ledger.Cursor
	since                int64
	limit                int
}

// rowsOf reads rows until there are enough of them, or enough bytes.
func (a *API) rowsOf(ctx context.Context, want rowsRequest) (p rowsPage, err error) {
	head, err := a.Ledger.Head(ctx) // what changes while the rows are read comes after this
	if err != nil {
		return p, err
	}
	p.seq = head.Seq
	q := ledger.Query{Table: want.table, Owner: want.owner, KeyPrefix: want.prefix, Oldest: true, After: want.after, ChangedAfter: want.since}
	for bytes := 0; ; {
		q.Limit = min(nodeChunk, want.limit-len(p.rows))
		rows, err := a.Ledger.List(ctx, q)
		if err != nil {
			return p, err
		}
		p.rows = append(p.rows, rows...)
		if len(rows) < q.Limit {
			return p, nil
		}
		for _, row := range rows {
			bytes += len(row.Body)
		}
		last := rows[len(rows)-1]
		if q.After = (&ledger.Cursor{Time: last.Time, Key: last.Key}); q.ChangedAfter > 0 {
			q.After, q.ChangedAfter = nil, last.Seq
		}
		if len(p.rows) < want.limit && bytes < nodeBytes {
			continue
		}
		if q.ChangedAfter > 0 {
			p.seq, p.more = last.Seq, true
		} else {
			p.next = cursor(last)
		}
		return p, nil
	}
}

// rowsWanted reads what a request says about a page: limit, after, since.
func rowsWanted(r *http.Request, table string) (want rowsRequest, err error) {
	want = rowsRequest{table: table, owner: runs.Key(r.PathValue("namespace"), r.PathValue("name"))}
	if want.limit, err = number(r, "limit", usualNodes); err != nil {
		return want, err
	}
	want.limit = min(max(want.limit, 1), mostNodes)
	q := r.URL.Query()
	if s := q.Get("after"); s != "" {
		want.after, err = parseCursor(s)
	}
	if s := q.Get("since"); s != "" && err == nil {
		if want.since, err = strconv.ParseInt(s, 10, 64); err != nil || want.since < 1 || want.after != nil {
			err = badRequest("since=%q is not a sequence, or there is after too: give one of them", s)
		}
	}
	return want, err
}

// nodesOf gives nodes as an answer shows them: short, or whole.
func nodesOf(rows []ledger.Row, short bool) (any, error) {
	if !short {
		return runs.DecodeNodes(rows)
	}
	out := make([]briefNode, len(rows))
	for i, row := range rows {
		var err error
		if out[i], err = brief(row); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// listNodes answers with a page of a run's nodes, or with those that changed after a sequence.
func (a *API) listNodes(w http.ResponseWriter, r *http.Request) {
	want, err := rowsWanted(r, "node")
	if err == nil {
		_, err = a.runRow(r)
	}
	if err != nil {
		fail(w, err)
		return
	}
	p, err := a.rowsOf(r.Context(), want)
	if err != nil {
		fail(w, err)
		return
	}
	items, err := nodesOf(p.rows, r.URL.Query().Get("brief") == "1")
	answer(w, pageAnswer{Items: items, Next: p.next, More: p.more, Seq: p.seq}, err)
}

// pageAnswer is a page with the place from which a live stream goes on.
type pageAnswer struct {
	Items any    `json:"items"`
	Next  string `json:"next,omitempty"`
	More  bool   `json:"more,omitempty"`
	Seq   int64  `json:"seq"`
}

// listAttempts answers with a page of the earlier attempts at a run's nodes, or at one node.
func (a *API) listAttempts(w http.ResponseWriter, r *http.Request) {
	want, err := rowsWanted(r, "attempt")
	if err == nil {
		_, err = a.runRow(r)
	}
	if err != nil {
		fail(w, err)
		return
	}
	if node := r.URL.Query().Get("node"); node != "" {
		want.prefix = want.owner + "/" + node + "/"
	}
	p, err := a.rowsOf(r.Context(), want)
	answer(w, pageAnswer{Items: bodies(p.rows), Next: p.next, More: p.more, Seq: p.seq}, err)
}

// getNode answers with all about one node: what went in and came out, and the earlier attempts at it.
func (a *API) getNode(w http.ResponseWriter, r *http.Request) {
	run, err := a.runRow(r)
	if err != nil {
		fail(w, err)
		return
	}
	row, err := a.Ledger.Row(r.Context(), "node", run.Key+"/"+r.PathValue("node"))
	if err != nil {
		fail(w, missing(err, "tiphys get run "+r.PathValue("name")+" shows its steps", "step %s of run %s", r.PathValue("node"), run.Key))
		return
	}
	p, err := a.rowsOf(r.Context(), rowsRequest{table: "attempt", owner: run.Key, prefix: row.Key + "/", limit: usualAttempts})
	answer(w, map[string]any{"node": row.Body, "attempts": bodies(p.rows), "next": p.next, "seq": row.Seq}, err)
}

// usualAttempts is how many attempts an answer about a run or a node has; the rest has a list of its own.
const usualAttempts = 1000

func (a *API) runRow(r *http.Request) (ledger.Row, error) {
	ns, name := r.PathValue("namespace"), r.PathValue("name")
	row, err := a.Ledger.Row(r.Context(), "run", runs.Key(ns, name))
	return row, missingRun(err, ns, name)
}

// runAnswer is a run with its nodes, or with the first of them and where to go on.
type runAnswer struct {
	Run       json.RawMessage   `json:"run"`
	Nodes     any               `json:"nodes"`
	Next      string            `json:"next,omitempty"`
	Truncated bool              `json:"truncated,omitempty"`
	Attempts  []json.RawMessage `json:"attempts,omitempty"`
	// AttemptsNext is where the list of attempts goes on.
	AttemptsNext string `json:"attemptsNext,omitempty"`
	Seq          int64  `json:"seq"`
}

func (a *API) getRun(w http.ResponseWriter, r *http.Request) {
	want, err := rowsWanted(r, "node")
	if err == nil && (want.after != nil || want.since > 0) {
		err = badRequest("after and since are for the list of nodes: add /nodes to the path")
	}
	if err != nil {
		fail(w, err)
		return
	}
	p, err := a.rowsOf(r.Context(), want)
	if err != nil {
		fail(w, err)
		return
	}
	// The run is read after its nodes' sequence, so that it is not older than they are.
	row, err := a.runRow(r)
	if err != nil {
		fail(w, err)
		return
	}
	out := runAnswer{Run: row.Body, Next: p.next, Truncated: p.next != "", Seq: p.seq}
	if r.URL.Query().Get("brief") == "1" {
		out.Nodes, err = nodesOf(p.rows, true)
		answer(w, out, err)
		return
	}
	nodes, err := runs.DecodeNodes(p.rows)
	if err != nil {
		fail(w, err)
		return
	}
	if out.Nodes = nodes; !out.Truncated {
		out.Nodes = workflow.Link(nodes) // what follows what is known once all are there
	}
	attempts, err := a.rowsOf(r.Context(), rowsRequest{table: "attempt", owner: row.Key, limit: usualAttempts})
	out.Attempts, out.AttemptsNext = bodies(attempts.rows), attempts.next
	answer(w, out, err)
}
