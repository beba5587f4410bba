package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// phases are those of a run.
var phases = []workflow.Phase{workflow.Pending, workflow.Running, workflow.Succeeded, workflow.Failed, workflow.Error}

func (a *API) listRuns(w http.ResponseWriter, r *http.Request) {
	q := ledger.Query{Table: "run", States: r.URL.Query()["state"]}
	for _, s := range q.States {
		if !slices.Contains(phases, workflow.Phase(s)) {
			fail(w, badRequest("state=%q is not the state of a run: use one of %v", s, phases))
			return
		}
	}
	if ns := r.URL.Query().Get("namespace"); ns != "" {
		q.KeyPrefix = ns + "/"
	}
	var err error
	if q.Labels, err = labels(r, "label"); err == nil {
		err = page(r, &q)
	}
	if err != nil {
		fail(w, err)
		return
	}
	rows, err := a.Ledger.List(r.Context(), q)
	if err != nil {
		fail(w, err)
		return
	}
	items, err := a.withReasons(r.Context(), rows)
	next := ""
	if len(rows) > 0 && len(rows) == q.Limit {
		next = cursor(rows[len(rows)-1])
	}
	answer(w, map[string]any{"items": items, "next": next}, err)
}

func bodies(rows []ledger.Row) []json.RawMessage {
	out := make([]json.RawMessage, len(rows))
	for i, row := range rows {
		out[i] = row.Body
	}
	return out
}

func (a *API) getManifest(w http.ResponseWriter, r *http.Request) {
	raw, err := a.Runs.Status(r.Context(), r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		fail(w, err)
		return
	}
	var wf map[string]any
	if err := json.Unmarshal(raw, &wf); err != nil {
		fail(w, fmt.Errorf("decode workflow: %w", err))
		return
	}
	delete(wf, "status")
	reply(w, wf)
}

// runLog streams a node's log as text.
func (a *API) runLog(w http.ResponseWriter, r *http.Request) {
	ns, name := r.PathValue("namespace"), r.PathValue("name")
	run, err := a.Runs.Summary(r.Context(), ns, name)
	if err != nil {
		fail(w, missingRun(err, ns, name))
		return
	}
	node, err := a.node(r, run, r.PathValue("node"))
	if err != nil {
		fail(w, err)
		return
	}
	q := r.URL.Query()
	from, err := number(r, "from", 0)
	if err != nil {
		fail(w, err)
		return
	}
	if s := q.Get("attempt"); s != "" {
		if node.Attempt, err = strconv.Atoi(s); err != nil {
			fail(w, badRequest("attempt=%q is not a number", s))
			return
		}
	}
	container := q.Get("container")
	if container == "" {
		container = "main"
	}
	o := executor.LogOptions{
		FromLine: from, Follow: q.Get("follow") == "1" || q.Get("follow") == "true", Timestamps: q.Get("timestamps") == "1",
	}
	log, err := a.Logs.Log(r.Context(), run, node, container, o)
	if err != nil {
		fail(w, err)
		return
	}
	defer log.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "sandbox")
	if at, ok := log.(interface{ First() uint64 }); ok {
		w.Header().Set(LogLine, strconv.FormatUint(at.First(), 10))
	}
	w.Header().Set(LogAttempt, strconv.Itoa(node.Attempt))
	w.Header().Set("Trailer", LogEnd+", "+LogNext)
	a.sendLog(w, r, log, func() string { return a.logEnd(r, run, node, o.Follow) })
}

// sendLog writes a log, whole or within bounds, and says in trailers how it ended.
func (a *API) sendLog(w http.ResponseWriter, r *http.Request, log io.Reader, end func() string) {
	if r.URL.Query().Get("whole") == "1" {
		if copyFlushing(w, log) == nil {
			w.Header().Set(LogEnd, end())
		}
		return
	}
	c := &cutter{w: w}
	if follow := r.URL.Query().Get("follow"); follow != "1" && follow != "true" {
		c.most = mostLog
	}
	if at, ok := log.(interface{ First() uint64 }); ok {
		c.from = at.First()
	}
	err := copyLog(w, c, log)
	w.Header().Set(LogNext, strconv.FormatUint(c.next(), 10))
	switch {
	case c.full:
		w.Header().Set(LogEnd, "cut")
	case err == nil:
		w.Header().Set(LogEnd, end())
	}
}

// Headers of a log: the attempt that it is of, the number of its first line, and, as trailers, what comes after ("yes" if
// that was all, "next" if there is another attempt, "cut" if the answer would be too long, nothing if the server only stopped
// sending) and the number of the line to go on from.
const (
	LogAttempt = "Tiphys-Log-Attempt"
	LogLine    = "Tiphys-Log-Line"
	LogEnd     = "Tiphys-Log-End"
	LogNext    = "Tiphys-Log-Next"
)

func (a *API) logEnd(r *http.Request, run workflow.Run, read workflow.Node, follow bool) string {
	now, err := a.node(r, run, read.ID)
	switch {
	case err != nil:
		return ""
	case now.Attempt > read.Attempt:
		return "next"
	case now.Phase.Done() || !follow:
		return "yes"
	}
	return ""
}

func (a *API) node(r *http.Request, run workflow.Run, id string) (workflow.Node, error) {
	var n workflow.Node
	row, err := a.Ledger.Row(r.Context(), "node", runs.Key(run.Namespace, run.Name)+"/"+id)
	if err != nil {
		return n, fmt.Errorf("node %s of run %s/%s: %w", id, run.Namespace, run.Name, err)
	}
	if err := json.Unmarshal(row.Body, &n); err != nil {
		return n, fmt.Errorf("decode node: %w", err)
	}
	return n, nil
}

// copyFlushing copies what comes as it comes.
func copyFlushing(w http.ResponseWriter, r io.Reader) error {
	flush := http.NewResponseController(w)
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
			_ = flush.Flush()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
