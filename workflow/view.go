package workflow

import (
	"encoding/json"
	"errors"
	"sort"
	"strings"
	"time"

	"github.com/tiphys/tiphys/manifest"
)

// StatusView is Argo's Workflow.status.
type StatusView struct {
	Phase      Phase             `json:"phase,omitempty"`
	StartedAt  *time.Time        `json:"startedAt"`
	FinishedAt *time.Time        `json:"finishedAt"`
	Message    string            `json:"message,omitempty"`
	Progress   string            `json:"progress,omitempty"`
	Nodes      map[string]Node   `json:"nodes,omitempty"`
	Outputs    *manifest.Outputs `json:"outputs,omitempty"`
	Conditions []Condition       `json:"conditions,omitempty"`
}

// Status gives the run in the shape of Argo's Workflow.status, with Children and OutboundNodes. It costs as much
// as the run has nodes: it is for showing, not for deciding.
func Status(s *State) StatusView {
	var nodes []Node
	for n := range s.Nodes() {
		nodes = append(nodes, n)
	}
	return View(s.Run(), nodes)
}

// View is [Status] from the rows of the "run" and "node" tables.
func View(r Run, nodes []Node) StatusView {
	v := StatusView{
		Phase: r.Phase, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Message: r.Message, Progress: r.Progress,
		Outputs: r.Outputs, Conditions: r.Conditions,
	}
	if len(nodes) > 0 {
		v.Nodes = make(map[string]Node, len(nodes))
		for _, n := range Link(nodes) {
			v.Nodes[n.ID] = n
		}
	}
	if r.Phase.Done() {
		v.Conditions = append([]Condition{{Type: "Completed", Status: "True"}}, v.Conditions...)
	} else if r.Phase == Running {
		v.Conditions = append([]Condition{{Type: "PodRunning", Status: "True"}}, v.Conditions...)
	}
	return v
}

// Link fills in Children and OutboundNodes from Parent, After and Order, as Argo's graph has them, and each node's Progress. The nodes are
// those of one run, in any order; they are returned in order of creation.
func Link(nodes []Node) []Node {
	out := append([]Node(nil), nodes...)
	sort.SliceStable(out, func(i, j int) bool { return out[i].Order < out[j].Order })
	l := &linker{nodes: out, index: make(map[string]int, len(out)), names: map[string]int{}, below: map[string][]int{}, done: map[int][]string{}, counts: map[int][2]int{}}
	for i := range out {
		out[i].Children, out[i].OutboundNodes = nil, nil
		l.index[out[i].ID] = i
		if out[i].Parent == "" {
			l.names[out[i].Name] = i
		}
		if out[i].Parent != "" {
			l.below[out[i].Parent] = append(l.below[out[i].Parent], i)
		}
	}
	for i := range out {
		l.connect(i)
	}
	for i := range out {
		if t := out[i].Type; (t == NodeSteps || t == NodeDAG) && out[i].Phase.Done() {
			out[i].OutboundNodes = l.outbound(i)
		}
	}
	for i := range out {
		done, total := l.progressOf(i)
		out[i].Progress = itoa(done) + "/" + itoa(total)
	}
	return out
}

// progressOf counts the pieces of work that node i is or is made of, and how many of them have succeeded (docs/progress.md of Argo). The
// containers of a set are their pod's.
func (l *linker) progressOf(i int) (done, total int) {
	if c, ok := l.counts[i]; ok {
		return c[0], c[1]
	}
	switch n := l.nodes[i]; n.Type {
	case NodePod, NodeHTTP, NodeSuspend, NodeContainer, NodePlugin:
		total = 1
		if n.Phase == Succeeded {
			done = 1
		}
	default:
		for _, k := range l.below[n.ID] {
			d, t := l.progressOf(k)
			done, total = done+d, total+t
		}
	}
	l.counts[i] = [2]int{done, total}
	return done, total
}

// linker derives the edges of Argo's graph.
type linker struct {
	nodes []Node
	index map[string]int
	names map[string]int // of nodes that are part of no other
	below map[string][]int
	done  map[int][]string
	// counts are the progress of nodes, by their place.
	counts map[int][2]int
}

// connect makes node i a child of what it follows, or of what it is part of.
func (l *linker) connect(i int) {
	n := l.nodes[i]
	linked := false
	for _, a := range n.After {
		p, ok := l.index[a]
		if !ok {
			continue
		}
		from := []string{a}
		if l.nodes[p].Type != NodeContainer {
			from = l.outbound(p)
		}
		for _, id := range from {
			if k, ok := l.index[id]; ok {
				l.nodes[k].Children = append(l.nodes[k].Children, n.ID)
				linked = true
			}
		}
	}
	if linked {
		return
	}
	p, ok := l.index[n.Parent]
	if !ok && n.NodeFlag != nil && n.NodeFlag.Hooked {
		// The run's own hooks, but for its exit handler, are children of its first node (hooks.go of Argo's controller).
		name, _, hook := strings.Cut(n.Name, ".hooks.")
		p, ok = l.names[name]
		ok = ok && hook
	}
	if ok {
		l.nodes[p].Children = append(l.nodes[p].Children, n.ID)
	}
}

// outbound is Argo's getOutboundNodes: the last nodes that run below a node.
func (l *linker) outbound(i int) []string {
	if ids, ok := l.done[i]; ok {
		return ids
	}
	n := l.nodes[i]
	l.done[i] = []string{n.ID}
	var ids []string
	switch n.Type {
	case NodeRetry:
		if last := l.members(i); len(last) > 0 {
			ids = l.outbound(last[len(last)-1])
		}
	case NodeSteps:
		if groups := l.members(i); len(groups) > 0 {
			ids = l.outbound(groups[len(groups)-1])
		}
	case NodeStepGroup, NodeTaskGroup:
		for _, c := range l.members(i) {
			ids = append(ids, l.outbound(c)...)
		}
	case NodeDAG:
		ids = l.sinks(i)
	}
	if len(ids) == 0 {
		ids = []string{n.ID}
	}
	l.done[i] = ids
	return ids
}

// members are the nodes that are part of node i, without hooks.
func (l *linker) members(i int) []int {
	var out []int
	for _, c := range l.below[l.nodes[i].ID] {
		if f := l.nodes[c].NodeFlag; f == nil || !f.Hooked {
			out = append(out, c)
		}
	}
	return out
}

// sinks are the outbound nodes of the tasks of a DAG that no other task follows.
func (l *linker) sinks(i int) []string {
	members := l.members(i)
	followed := map[string]bool{}
	for _, c := range members {
		for _, a := range l.nodes[c].After {
			followed[a] = true
		}
	}
	var ids []string
	for _, c := range members {
		if !followed[l.nodes[c].ID] {
			ids = append(ids, l.outbound(c)...)
		}
	}
	return ids
}

// Object gives the whole Workflow in Argo's shape: the manifest as it was run, and its status.
func Object(s *State) (map[string]any, error) {
	tree, err := decodeTree(s.start.Workflow)
	if err != nil {
		return nil, err
	}
	meta := withoutKeys(asMap(tree["metadata"]), "generateName")
	meta["name"], meta["namespace"], meta["uid"] = s.run.Name, s.run.Namespace, s.run.UID
	meta["creationTimestamp"] = s.run.CreatedAt.Format(time.RFC3339)
	labels := map[string]any{"workflows.argoproj.io/phase": string(s.run.Phase)}
	for k, v := range s.run.Labels {
		labels[k] = v
	}
	if s.run.Phase.Done() {
		labels["workflows.argoproj.io/completed"] = "true"
	}
	meta["labels"] = labels
	if len(s.run.Annotations) > 0 {
		meta["annotations"] = s.run.Annotations
	}
	out := map[string]any{"apiVersion": manifest.APIVersion, "kind": "Workflow", "metadata": meta, "spec": tree["spec"]}
	raw, err := json.Marshal(Status(s))
	if err := errors.Join(err, s.asleep.err); err != nil {
		return nil, err
	}
	out["status"] = json.RawMessage(raw)
	return out, nil
}
