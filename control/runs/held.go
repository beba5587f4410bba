package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// planner tells which runs go on once a restored server is released.
type planner struct{ c *Controller }

// Planner implements what a plan asks of runs.
func (c *Controller) Planner() hold.Planner { return planner{c} }

// Kind implements hold.Planner.
func (planner) Kind() string { return "run" }

// Plan implements hold.Planner: every run that has not ended goes on.
func (p planner) Plan(ctx context.Context, after string, n int) (hold.Page, error) {
	return hold.Rows(ctx, p.c.o.Ledger, ledger.Query{Table: tableRun, States: unfinished}, after, n, func(row ledger.Row) (*hold.Item, error) {
		var run workflow.Run
		if err := json.Unmarshal(row.Body, &run); err != nil {
			return nil, fmt.Errorf("decode run %s: %w", row.Key, err)
		}
		// Not by the run's actor: nothing would have it leave memory while the server is held.
		found, err := p.c.replay(ctx, row.Key)
		if err != nil {
			return nil, err
		}
		return &hold.Item{ID: "run/" + row.Key, What: goesOn(found.state), Since: row.Time}, nil
	})
}

// terminated is Run.Shutdown of a run that is being terminated.
const terminated = "Terminate"

// named is how many nodes are named in a line for people.
const named = 5

// goesOn says what becomes of a run.
func goesOn(state *workflow.State) string {
	run := state.Run()
	ids := state.Attempts()
	if run.Shutdown == terminated {
		return "it is being terminated, and ends"
	}
	if len(ids) == 0 {
		return fmt.Sprintf("it goes on: it is %s and no step of it runs", strings.ToLower(first(string(run.Phase), string(workflow.Pending))))
	}
	var names []string
	for i, id := range ids {
		if i == named {
			names = append(names, fmt.Sprintf("%d others", len(ids)-named))
			break
		}
		name := id.Node
		if node, ok := state.Node(id.Node); ok {
			name = node.Name
		}
		names = append(names, name)
	}
	return "it goes on: these steps were under way and begin again: " + strings.Join(names, ", ")
}

// Leave implements hold.Planner: the run is terminated. Its steps are not started; it ends when the server is released.
func (p planner) Leave(ctx context.Context, id, actor string) error {
	namespace, name, ok := strings.Cut(strings.TrimPrefix(id, "run/"), "/")
	if !ok {
		return failure.Invalidf("%q: write it as run/NAMESPACE/NAME", id)
	}
	run, err := p.c.Summary(ctx, namespace, name)
	if err != nil || run.Phase.Done() || run.Shutdown == terminated {
		return err
	}
	err = p.c.Control(ctx, namespace, name, workflow.Control{Meta: workflow.Meta{Actor: actor}, Verb: workflow.Terminate})
	var over *workflow.RefusedError
	if errors.As(err, &over) {
		return nil // it ended
	}
	return err
}
