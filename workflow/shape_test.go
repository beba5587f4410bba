package workflow_test

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/workflowtest"
)

// checkShape judges every fixture's nodes by the rules of Argo's graph, written down here once more and apart from the
// engine's code: names and ids (workflow_types.go NodeID; reference 1.12.6), boundaries and children (steps.go, dag.go,
// operator.go addChildNode), outbound nodes (operator.go getOutboundNodes), phases of groups and retries, and messages.
// It works from the names of nodes and the manifest alone.
func checkShape(t *testing.T, r *workflowtest.Run, wf []byte) {
	t.Helper()
	var spec manifest.Workflow
	if root, ok := r.State.Node(r.State.Run().Name); ok && root.Inputs != nil {
		for _, p := range root.Inputs.Parameters { // the names of tasks may hold them
			wf = bytes.ReplaceAll(wf, []byte("{{inputs.parameters."+p.Name+"}}"), []byte(p.Value.Text()))
		}
	}
	objects, _ := manifest.Decode("wf.yaml", wf)
	if len(objects) == 0 || manifest.Failed(objects[0].Into(&spec)) {
		t.Fatal("the fixture's manifest cannot be read")
	}
	g := &argoGraph{t: t, run: r.State.Run().Name, byName: map[string]workflow.Node{}, status: workflow.Status(r.State), spec: spec.Spec}
	for _, n := range g.status.Nodes {
		g.byName[n.Name] = n
		g.names = append(g.names, n.Name)
	}
	g.below, g.last = map[string][]workflow.Node{}, map[string][]string{}
	sort.Slice(g.names, func(i, j int) bool { return g.byName[g.names[i]].Order < g.byName[g.names[j]].Order })
	for _, name := range g.names {
		if owner, kind, _ := g.place(name); kind != "root" && kind != "hook" {
			g.below[owner] = append(g.below[owner], g.byName[name])
		}
	}
	want := map[string][]string{}
	for _, name := range g.names {
		g.node(g.byName[name])
		for _, p := range g.parents(g.byName[name]) {
			want[p] = append(want[p], name)
		}
	}
	got := map[string][]string{}
	for _, n := range g.status.Nodes {
		for _, id := range n.Children {
			got[n.Name] = append(got[n.Name], g.status.Nodes[id].Name)
		}
	}
	sorted := cmp.Transformer("sort", func(l []string) map[string]int {
		m := map[string]int{}
		for _, s := range l {
			m[s]++
		}
		return m
	})
	if diff := cmp.Diff(want, got, sorted); diff != "" {
		t.Errorf("children (-Argo's rules +ours):\n%s", diff)
	}
}

type argoGraph struct {
	t      *testing.T
	run    string
	byName map[string]workflow.Node
	names  []string
	status workflow.StatusView
	spec   manifest.WorkflowSpec
	// below are the nodes that belong to a node, hooks left out, in order of creation; last are outbound nodes.
	below map[string][]workflow.Node
	last  map[string][]string
}

var (
	groupName = regexp.MustCompile(`^(.*)(\[\d+\])$`)
	itemName  = regexp.MustCompile(`^(.*)(\(\d+(:[^()]*)?\))$`)
	hookName  = regexp.MustCompile(`^(.*)\.(hooks\.[^.]+|onExit)$`)
)

// place takes a name apart: what it belongs to, what it is, and its own part.
func (g *argoGraph) place(name string) (owner, kind, own string) {
	if m := hookName.FindStringSubmatch(name); m != nil {
		return m[1], "hook", m[2]
	}
	if m := itemName.FindStringSubmatch(name); m != nil {
		if p, ok := g.byName[m[1]]; ok && p.Type == workflow.NodeRetry {
			return m[1], "attempt", m[2]
		}
		if p, ok := g.byName[m[1]]; ok && p.Type == workflow.NodeTaskGroup {
			return m[1], "item", m[2]
		}
	}
	if m := groupName.FindStringSubmatch(name); m != nil {
		return m[1], "group", m[2]
	}
	for i := len(name) - 1; i > 0; i-- { // an item's name may hold dots
		if name[i] == '.' {
			if _, ok := g.byName[name[:i]]; ok {
				return name[:i], "member", name[i+1:]
			}
		}
	}
	return "", "root", name
}

func (g *argoGraph) errorf(n workflow.Node, format string, args ...any) {
	g.t.Errorf("node %s: %s", n.Name, fmt.Sprintf(format, args...))
}

// node checks what a node says of itself.
func (g *argoGraph) node(n workflow.Node) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.Name))
	id := fmt.Sprintf("%s-%d", g.run, h.Sum32())
	if n.Name == g.run {
		id = g.run
	}
	if n.ID != id {
		g.errorf(n, "id %s, want %s", n.ID, id)
	}
	owner, kind, own := g.place(n.Name)
	display, boundary := own, ""
	parent := g.byName[owner]
	switch kind {
	case "hook":
		display = parent.DisplayName + "." + own
		boundary = parent.BoundaryID
	case "attempt", "item":
		display, boundary = parent.DisplayName+own, parent.BoundaryID
	case "group":
		boundary = parent.ID
	case "member":
		boundary = parent.ID
		if parent.Type == workflow.NodeStepGroup {
			boundary = parent.BoundaryID
		}
	}
	if kind == "hook" && owner == g.run && g.byName[owner].BoundaryID == "" {
		display = n.Name // of the run: its whole name
	}
	if n.DisplayName != display {
		g.errorf(n, "display name %q, want %q", n.DisplayName, display)
	}
	if n.BoundaryID != boundary && n.Type != workflow.NodeContainer {
		g.errorf(n, "boundary %q, want %q", n.BoundaryID, boundary)
	}
	g.phase(n)
	if (n.Type == workflow.NodeSteps || n.Type == workflow.NodeDAG) && n.Phase.Done() {
		if want := g.outbound(n); !slices.Equal(sortedCopy(want), sortedCopy(n.OutboundNodes)) {
			g.errorf(n, "outbound nodes %v, want %v", n.OutboundNodes, want)
		}
	}
}

func sortedCopy(l []string) []string { l = slices.Clone(l); slices.Sort(l); return slices.Compact(l) }

// phase checks phases and messages against each other.
func (g *argoGraph) phase(n workflow.Node) {
	switch {
	case n.Phase == workflow.Omitted && n.Type != workflow.NodeContainer && n.Message != "omitted: depends condition not met":
		g.errorf(n, "omitted with the message %q", n.Message)
	case n.Phase == workflow.Skipped && !strings.HasPrefix(n.Message, "when '") && n.Message != "Skipped, empty params":
		g.errorf(n, "skipped with the message %q", n.Message)
	case n.Phase == workflow.Succeeded && n.Type == workflow.NodeStepGroup && n.Message != "":
		g.errorf(n, "succeeded with the message %q", n.Message)
	case n.Phase.Done() && (n.FinishedAt == nil || n.StartedAt == nil || n.FinishedAt.Before(*n.StartedAt)):
		g.errorf(n, "has ended from %v to %v", n.StartedAt, n.FinishedAt)
	}
	if m := regexp.MustCompile(`^child '([^']+)' failed$`).FindStringSubmatch(n.Message); m != nil {
		if c, ok := g.status.Nodes[m[1]]; !ok || c.Phase != workflow.Failed && c.Phase != workflow.Error {
			g.errorf(n, "the message %q names no failed node", n.Message)
		}
	}
	if n.Type == workflow.NodeRetry && n.Phase == workflow.Succeeded {
		if last := g.below[n.Name]; len(last) > 0 && last[len(last)-1].Phase != workflow.Succeeded {
			g.errorf(n, "succeeded, and its last attempt is %s", last[len(last)-1].Phase)
		}
	}
}

// outbound is getOutboundNodes of Argo's operator.go.
func (g *argoGraph) outbound(n workflow.Node) []string {
	if known, ok := g.last[n.Name]; ok {
		return known
	}
	members := g.below[n.Name]
	var out []string
	switch n.Type {
	case workflow.NodeRetry:
		if len(members) > 0 {
			return g.outbound(members[len(members)-1])
		}
	case workflow.NodeSteps:
		if len(members) > 0 {
			out = g.outbound(members[len(members)-1])
		}
	case workflow.NodeStepGroup, workflow.NodeTaskGroup:
		for _, m := range members {
			out = append(out, g.outbound(m)...)
		}
	case workflow.NodeDAG:
		targets := g.targets(n)
		for _, name := range targets {
			if _, made := g.byName[n.Name+"."+name]; !made {
				return n.OutboundNodes // of a graph that failed fast; Argo gives none at all, and what follows no parent
			}
		}
		for _, m := range members {
			if _, _, own := g.place(m.Name); slices.Contains(targets, own) {
				out = append(out, g.outbound(m)...)
			}
		}
	}
	if len(out) == 0 {
		out = []string{n.ID}
	}
	g.last[n.Name] = out
	return out
}

func (g *argoGraph) dag(n workflow.Node) *manifest.DAGTemplate {
	for i := range g.spec.Templates {
		if g.spec.Templates[i].Name == n.TemplateName && g.spec.Templates[i].DAG != nil {
			return g.spec.Templates[i].DAG
		}
	}
	g.t.Fatalf("node %s: no dag template %q in the fixture", n.Name, n.TemplateName)
	return nil
}

// targets are the tasks that a DAG is for: those named, or those that no other depends on.
func (g *argoGraph) targets(n workflow.Node) []string {
	dag := g.dag(n)
	if dag.Target != "" {
		return strings.Fields(strings.ReplaceAll(dag.Target, "{{workflow.name}}", g.run))
	}
	followed := map[string]bool{}
	for _, t := range dag.Tasks {
		for _, d := range dependenciesOf(t) {
			followed[d] = true
		}
	}
	var out []string
	for _, t := range dag.Tasks {
		if !followed[t.Name] {
			out = append(out, t.Name)
		}
	}
	return out
}

var taskName = regexp.MustCompile(`[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z]+)?`)

func dependenciesOf(t manifest.DAGTask) []string {
	out := slices.Clone(t.Dependencies)
	for _, m := range taskName.FindAllString(t.Depends, -1) {
		name, _, _ := strings.Cut(m, ".")
		out = append(out, name)
	}
	return sortedCopy(out)
}

// parents are the names of the nodes that have a node as their child.
func (g *argoGraph) parents(n workflow.Node) []string {
	owner, kind, own := g.place(n.Name)
	switch kind {
	case "root":
		return nil
	case "hook":
		if owner == g.run && own == "onExit" {
			return nil // the exit handler of the run stands by itself
		}
	case "group":
		var i int
		_, _ = fmt.Sscanf(own, "[%d]", &i)
		if i == 0 {
			return []string{owner}
		}
		return g.namesOf(g.outbound(g.byName[fmt.Sprintf("%s[%d]", owner, i-1)]))
	case "member":
		if n.Type == workflow.NodeContainer { // container_set_template.go
			for i := range g.spec.Templates {
				if tm := g.spec.Templates[i]; tm.Name == g.byName[owner].TemplateName && tm.ContainerSet != nil {
					return g.containersBefore(tm.ContainerSet, owner, own)
				}
			}
		}
		if parent := g.byName[owner]; parent.Type == workflow.NodeDAG {
			for _, t := range g.dag(parent).Tasks {
				if deps := dependenciesOf(t); t.Name == own && len(deps) > 0 {
					var ids []string
					for _, d := range deps {
						if dep, ok := g.byName[owner+"."+d]; ok {
							ids = append(ids, g.outbound(dep)...)
						}
					}
					return g.namesOf(sortedCopy(ids))
				}
			}
		}
	}
	return []string{owner}
}

func (g *argoGraph) containersBefore(set *manifest.ContainerSetTemplate, pod, name string) []string {
	var out []string
	for _, c := range set.Containers {
		if c.Name == name {
			for _, d := range c.Dependencies {
				out = append(out, pod+"."+d)
			}
		}
	}
	if len(out) == 0 {
		return []string{pod}
	}
	return out
}

func (g *argoGraph) namesOf(ids []string) []string {
	var out []string
	for _, id := range ids {
		out = append(out, g.status.Nodes[id].Name)
	}
	return out
}
