package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/tiphys/tiphys/server/feed"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/workflow"
)

// argoLines writes a log as Argo's gateway streams it: an object a line.
func argoLines(w http.ResponseWriter, pod string, log io.Reader) {
	flush := http.NewResponseController(w)
	in := bufio.NewReaderSize(log, mostLine)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for {
		text, err := readLine(in)
		if err != nil || e.Encode(map[string]any{"result": map[string]string{"content": text, "podName": pod}}) != nil {
			return
		}
		_ = flush.Flush()
	}
}

// argoWatch sends runs as they change or are deleted, without their nodes. Who takes them too slowly is cut off, as by a
// Kubernetes API server whose history is too short: it lists again, and watches from there.
func (a *API) argoWatch(w http.ResponseWriter, r *http.Request) {
	prefix := ""
	if ns := r.PathValue("namespace"); ns != "" && ns != "-" {
		prefix = ns + "/"
	}
	since, err := sinceOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	s, err := a.Feed.Subscribe(r.Context(), a.Policy.Sight(gate.From(r.Context())), since, false, feed.Interest{Table: "run"})
	if err != nil {
		fail(w, err)
		return
	}
	defer s.Close()
	e, seen := newEventWriter(w), map[string]bool{}
	for {
		if e.flush() != nil {
			return
		}
		b, err := s.Next(r.Context())
		if err != nil || b.Resync {
			return
		}
		for _, row := range b.Rows {
			if strings.HasPrefix(row.Key, prefix) && sendArgoEvent(&e.buf, row, seen) != nil {
				return
			}
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

// sendArgoEvent sends what happened to a run. Seen has the runs that go on and were told of before.
func sendArgoEvent(w io.Writer, row *feed.Row, seen map[string]bool) error {
	if row.Deleted {
		delete(seen, row.Key)
		return sendArgoDeleted(w, row.Key)
	}
	var run workflow.Run
	if err := json.Unmarshal(row.Body, &run); err != nil {
		return fmt.Errorf("decode run: %w", err)
	}
	kind := "ADDED"
	if seen[row.Key] {
		kind = "MODIFIED"
	}
	if seen[row.Key] = true; run.Phase.Done() {
		delete(seen, row.Key)
	}
	raw, err := json.Marshal(map[string]any{"result": map[string]any{"type": kind, "object": argoWorkflow(run)}})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "data: %s\n\n", raw)
	return err
}
