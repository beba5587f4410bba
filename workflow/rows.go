package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tiphys/tiphys/ledger"
)

// Subject is the ledger's subject of a run's entries: "run/NAMESPACE/NAME".
func Subject(namespace, name string) string { return "run/" + namespace + "/" + name }

// Projection turns a run's entries into rows: one of table "run" (key namespace/name), one of table "node" for each
// node (key namespace/name/id), and one of table "attempt" for each attempt that its node no longer shows.
type Projection struct{}

// Tables implements ledger.Projection.
func (Projection) Tables() []string { return []string{"run", "node", "attempt"} }

// Version implements ledger.Projection.
func (Projection) Version() int { return 2 }

// Wants implements ledger.Projection.
func (Projection) Wants(kind string) bool {
	return strings.HasPrefix(kind, "run.") || strings.HasPrefix(kind, "node.")
}

// Apply implements ledger.Projection. An entry changes the row of its node, or of its run, and no other.
func (Projection) Apply(e ledger.Entry, rows ledger.Rows) error {
	key, ok := strings.CutPrefix(e.Subject, "run/")
	if !ok || e.Pruned {
		return nil
	}
	entry, err := DecodeEntry(e.Kind, "", e.Body)
	if err != nil {
		return err
	}
	p := projector{rows: rows, key: key}
	switch b := entry.Body.(type) {
	case *submitted:
		return p.submitted(b)
	case *runChange:
		return p.run(e.Kind, b)
	case *nodeCreated:
		if b.Planned {
			return nil
		}
		return p.put(b.Node)
	case *nodeChange:
		return p.node(e.Kind, b)
	}
	return nil
}

type projector struct {
	rows ledger.Rows
	key  string
}

func (p projector) submitted(b *submitted) error {
	r := Run{
		UID: b.UID, Namespace: b.Namespace, Name: b.Name, CreatedAt: b.Time, Labels: b.Labels, Annotations: b.Annotations,
		Template: b.Template, Event: b.Event, ActsFor: b.actsFor(), Earlier: b.Earlier, Suspended: b.Suspended, Conditions: b.Conditions, Message: b.Message,
	}
	if b.Waiting != lockNone {
		r.Phase = Pending
	}
	return p.putRun(r)
}

func (p projector) putRun(r Run) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write row of run %s: %w", p.key, err)
	}
	return p.rows.Put(ledger.Row{Table: "run", Key: p.key, State: string(r.Phase), Time: r.CreatedAt, Labels: r.Labels, Body: body})
}

func (p projector) run(kind string, b *runChange) error {
	row, err := p.rows.Get("run", p.key)
	if err != nil {
		return fmt.Errorf("read row of run %s: %w", p.key, err)
	}
	s := NewState()
	if err := json.Unmarshal(row.Body, &s.run); err != nil {
		return fmt.Errorf("read row of run %s: %w", p.key, err)
	}
	if s.run.Outputs != nil {
		s.outputs = *s.run.Outputs
	}
	s.applyRun(kind, b)
	r := s.run
	if kind == kindRunEnd || b.Progress != "" {
		// None is progress, too: a manual retry may have taken all pods away that an earlier end had counted.
		r.Progress = b.Progress
	}
	if len(s.outputs.Parameters)+len(s.outputs.Artifacts) > 0 {
		r.Outputs = &s.outputs
	}
	return p.putRun(r)
}

func (p projector) put(n Node) error {
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write row of node %s: %w", n.ID, err)
	}
	row := ledger.Row{Table: "node", Key: p.key + "/" + n.ID, Owner: p.key, State: string(n.Phase), Body: body}
	if n.StartedAt != nil {
		row.Time = *n.StartedAt
	}
	return p.rows.Put(row)
}

// KindRemoved is the kind of entries that take a node away; [Removed] gives the key of its row.
const KindRemoved = kindRemoved

// Removed gives the key of the row of table "node" that an entry of [KindRemoved] takes away, and the run that had it.
func Removed(e ledger.Entry) (key, run string, err error) {
	var b struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return "", "", fmt.Errorf("decode %s: %w", e.Kind, err)
	}
	run = strings.TrimPrefix(e.Subject, "run/")
	return run + "/" + b.ID, run, nil
}

func (p projector) node(kind string, b *nodeChange) error {
	if b.Ended != nil {
		if err := p.attempt(b.Ended); err != nil {
			return err
		}
	}
	key := p.key + "/" + b.ID
	if kind == kindRemoved {
		return p.rows.Delete("node", key)
	}
	row, err := p.rows.Get("node", key)
	if errors.Is(err, ledger.ErrNotFound) {
		return p.appears(b)
	}
	if err != nil {
		return fmt.Errorf("read row of node %s: %w", b.ID, err)
	}
	var n Node
	if err := json.Unmarshal(row.Body, &n); err != nil {
		return fmt.Errorf("read row of node %s: %w", b.ID, err)
	}
	if kind == kindReopened {
		n.Phase, n.Message, n.FinishedAt, n.Outputs, n.Why = Running, "", nil, nil, ""
	}
	n.merge(b)
	return p.put(n)
}

// appears writes the row of a node that has waited for a place until now: its entry carries all of it.
func (p projector) appears(b *nodeChange) error {
	if b.Shown == nil {
		return nil
	}
	n := *b.Shown
	n.merge(b)
	return p.put(n)
}

func (p projector) attempt(a *Attempt) error {
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("write row of attempt %d at node %s: %w", a.Attempt, a.Node, err)
	}
	row := ledger.Row{
		Table: "attempt", Key: p.key + "/" + a.Node + "/" + strconv.Itoa(a.Attempt), Owner: p.key, State: string(a.Phase), Body: body,
	}
	if a.StartedAt != nil {
		row.Time = *a.StartedAt
	}
	return p.rows.Put(row)
}
