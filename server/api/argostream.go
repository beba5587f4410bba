package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/tiphys/tiphys/control/runs"
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

// argoWatch sends runs as they change or are deleted, without their nodes.
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
		if since, err = a.sendArgoEvents(r.Context(), w, prefix, since, seen); err != nil {
			return
		}
		_ = flush.Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

// sendArgoEvents sends what happened to runs after since, and gives where to go on.
func (a *API) sendArgoEvents(ctx context.Context, w io.Writer, prefix string, since int64, seen map[string]bool) (int64, error) {
	head, err := a.Ledger.Head(ctx)
	if err != nil {
		return since, err
	}
	if err := a.sendArgoDeletions(ctx, w, prefix, since, seen); err != nil {
		return since, err
	}
	q := ledger.Query{Table: "run", KeyPrefix: prefix, ChangedAfter: max(since, 1), Limit: streamBatch}
	for {
		rows, err := a.Ledger.List(ctx, q)
		if err != nil {
			return since, err
		}
		for _, row := range rows {
			q.ChangedAfter = row.Seq
			if err := sendArgoEvent(w, row, seen); err != nil {
				return since, err
			}
		}
		if len(rows) < streamBatch {
			return max(since, head.Seq), nil // what came meanwhile comes again
		}
	}
}

func (a *API) sendArgoDeletions(ctx context.Context, w io.Writer, prefix string, since int64, seen map[string]bool) error {
	q := ledger.EntryQuery{After: max(since, 1), Kinds: []string{runs.KindDeleted}, Limit: streamBatch}
	for {
		gone, err := a.Ledger.Entries(ctx, q)
		if err != nil {
			return err
		}
		for _, e := range gone {
			q.After = e.Seq
			if e.Pruned {
				continue
			}
			tables, err := runs.Deleted(e)
			if err != nil {
				return err
			}
			for _, key := range tables["run"] {
				if !strings.HasPrefix(key, prefix) {
					continue
				}
				delete(seen, key)
				if err := sendArgoDeleted(w, key); err != nil {
					return err
				}
			}
		}
		if len(gone) < q.Limit {
			return nil
		}
	}
}

func sendArgoDeleted(w io.Writer, key string) error {
	namespace, name, _ := strings.Cut(key, "/")
	raw, err := json.Marshal(map[string]any{"result": map[string]any{"type": "DELETED", "object": map[string]any{
		"apiVersion": manifestVersion, "kind": "Workflow", "metadata": map[string]string{"name": name, "namespace": namespace},
	}}})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "data: %s\n\n", raw)
	return err
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
