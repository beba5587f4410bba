package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// argoLines writes a log as Argo's gateway streams it: an object a line.
func argoLines(w http.ResponseWriter, pod string, log io.Reader) {
	flush := http.NewResponseController(w)
	s := bufio.NewScanner(log)
	s.Buffer(make([]byte, 0, 64<<10), 1<<20)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for s.Scan() {
		line := map[string]any{"result": map[string]string{"content": s.Text(), "podName": pod}}
		if e.Encode(line) != nil {
			return
		}
		_ = flush.Flush()
	}
}

// argoWatch sends runs as they change, without their nodes.
func (a *API) argoWatch(w http.ResponseWriter, r *http.Request) {
	prefix := ""
	if ns := r.PathValue("namespace"); ns != "" && ns != "-" {
		prefix = ns + "/"
	}
	since, err := a.since(r)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	seen := map[string]bool{}
	for {
		changed := a.Ledger.Changed()
		rows, err := a.Ledger.List(r.Context(), ledger.Query{Table: "run", KeyPrefix: prefix, ChangedAfter: max(since, 1), Limit: streamBatch})
		if err != nil {
			return
		}
		for _, row := range rows {
			since = row.Seq
			if sendArgoEvent(w, row, seen) != nil {
				return
			}
		}
		_ = flush.Flush()
		if len(rows) == streamBatch {
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

func sendArgoEvent(w io.Writer, row ledger.Row, seen map[string]bool) error {
	var run workflow.Run
	if err := json.Unmarshal(row.Body, &run); err != nil {
		return fmt.Errorf("decode run: %w", err)
	}
	kind := "ADDED"
	if seen[row.Key] {
		kind = "MODIFIED"
	}
	seen[row.Key] = true
	raw, err := json.Marshal(map[string]any{"result": map[string]any{"type": kind, "object": argoWorkflow(run)}})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "data: %s\n\n", raw)
	return err
}
