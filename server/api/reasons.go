package api

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// reason is the step that a list names for a run which failed or waits for somebody.
type reason struct {
	Node    string `json:"node"`
	Name    string `json:"name"`
	Message string `json:"message,omitempty"`
}

// listedRun is a run as lists show it.
type listedRun struct {
	workflow.Run
	// Failure is the step that failed the run.
	Failure *reason `json:"failure,omitempty"`
	// WaitsFor is the suspended step that waits to be resumed.
	WaitsFor *reason `json:"waitsFor,omitempty"`
}

// maxReasons bounds the runs of one answer whose steps are looked at: each costs a read.
const maxReasons = 100

// withReasons adds to runs what a person asks next: which step failed, or which waits.
func (a *API) withReasons(ctx context.Context, rows []ledger.Row) ([]listedRun, error) {
	out := make([]listedRun, len(rows))
	looks := 0
	for i, row := range rows {
		if err := json.Unmarshal(row.Body, &out[i].Run); err != nil {
			return nil, fmt.Errorf("decode run %s: %w", row.Key, err)
		}
		run := &out[i]
		failed := run.Phase == workflow.Failed || run.Phase == workflow.Error
		if looks == maxReasons || !failed && run.Phase != workflow.Running {
			continue
		}
		looks++
		states := []string{string(workflow.Running)}
		if failed {
			states = []string{string(workflow.Failed), string(workflow.Error)}
		}
		nodes, err := a.someNodes(ctx, row.Key, states)
		if err != nil {
			return nil, err
		}
		if failed {
			run.Failure = failureOf(nodes)
		} else {
			run.WaitsFor = gateOf(nodes)
		}
	}
	return out, nil
}

// someNodes reads the oldest nodes of a run in some states; enough of them to name one.
func (a *API) someNodes(ctx context.Context, run string, states []string) ([]workflow.Node, error) {
	rows, err := a.Ledger.List(ctx, ledger.Query{Table: "node", Owner: run, States: states, Oldest: true, Limit: 50})
	if err != nil {
		return nil, err
	}
	return runs.DecodeNodes(rows)
}

// failureOf chooses among failed nodes the step that failed the run: one with nothing failed inside, and no attempt of a
// retry that came through in the end. The retry is then not among the failed.
func failureOf(failed []workflow.Node) *reason {
	inside := map[string]bool{}
	for _, n := range failed {
		inside[n.ID] = true
	}
	parents := map[string]bool{}
	kept := slices.DeleteFunc(slices.Clone(failed), func(n workflow.Node) bool {
		return n.NodeFlag != nil && n.NodeFlag.Retried && !inside[n.Parent]
	})
	for _, n := range kept {
		parents[n.Parent], parents[n.BoundaryID] = true, true
	}
	for _, n := range kept {
		if !parents[n.ID] {
			return &reason{n.ID, n.DisplayName, n.Message}
		}
	}
	return nil
}

// gateOf finds the step that waits for a person.
func gateOf(running []workflow.Node) *reason {
	for _, n := range running {
		if n.Type == workflow.NodeSuspend {
			return &reason{n.ID, n.DisplayName, n.Message}
		}
	}
	return nil
}
