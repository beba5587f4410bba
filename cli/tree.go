package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/tiphys/tiphys/workflow"
)

// glyph is Argo's sign for a phase.
func glyph(p workflow.Phase) string {
	switch p {
	case workflow.Pending:
		return "◷"
	case workflow.Running:
		return "●"
	case workflow.Succeeded:
		return "✔"
	case workflow.Skipped, workflow.Omitted:
		return "○"
	case workflow.Failed:
		return "✖"
	case workflow.Error:
		return "⚠"
	}
	return "·"
}

// printTree prints a run as `argo get` does: the summary, then the nodes as a tree.
func printTree(w io.Writer, run workflow.Run, nodes map[string]workflow.Node, order []string) {
	fmt.Fprintf(w, "\n%-12s%s\n%-12s%s\n", "Name:", run.Name, "Status:", run.Phase)
	if run.Message != "" {
		fmt.Fprintf(w, "%-12s%s\n", "Message:", run.Message)
	}
	if run.StartedAt != nil && run.FinishedAt != nil {
		fmt.Fprintf(w, "%-12s%s\n", "Duration:", duration(run.FinishedAt.Sub(*run.StartedAt)))
	}
	if run.Progress != "" {
		fmt.Fprintf(w, "%-12s%s\n", "Progress:", run.Progress)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "STEP\tTEMPLATE\tDURATION\tMESSAGE")
	p := treePrinter{w: t, nodes: nodes, seen: map[string]bool{}}
	p.index(order)
	for _, id := range order {
		if !p.child[id] {
			p.print(id, "", "")
		}
	}
	_ = t.Flush()
}

// treePrinter walks the graph once from each root; a node with several parents is shown under the first.
type treePrinter struct {
	w     io.Writer
	nodes map[string]workflow.Node
	seen  map[string]bool
	child map[string]bool
	// boundary lists the nodes of each steps or dag node in order of appearance.
	boundary map[string][]string
}

func (p *treePrinter) index(order []string) {
	p.child, p.boundary = map[string]bool{}, map[string][]string{}
	for _, id := range order {
		n := p.nodes[id]
		for _, c := range n.Children {
			p.child[c] = true
		}
		if n.BoundaryID != "" {
			p.child[id] = true
			p.boundary[n.BoundaryID] = append(p.boundary[n.BoundaryID], id)
		}
	}
}

func (p *treePrinter) print(id, first, rest string) {
	n, ok := p.nodes[id]
	if !ok || p.seen[id] {
		return
	}
	p.seen[id] = true
	if n.Type != workflow.NodeStepGroup {
		message := n.Message
		if message == "" {
			message = n.Why
		}
		fmt.Fprintf(p.w, "%s%s %s\t%s\t%s\t%s\n", first, glyph(n.Phase), shownName(n.DisplayName), n.TemplateName, nodeDuration(n), oneLine(message))
	}
	kids := p.kids(n)
	for i, kid := range kids {
		branch, below := "├─", "│ "
		if i == len(kids)-1 {
			branch, below = "└─", "  "
		}
		p.print(kid, rest+branch, rest+below)
	}
}

// kids are what is shown beneath a node: the members of its boundary, or its children where it has none.
func (p *treePrinter) kids(n workflow.Node) []string {
	var out []string
	take := func(ids []string) {
		for _, id := range ids {
			c, ok := p.nodes[id]
			if !ok || p.seen[id] {
				continue
			}
			if c.Type == workflow.NodeStepGroup {
				p.seen[id] = true
				continue
			}
			out = append(out, id)
		}
	}
	switch n.Type {
	case workflow.NodeRetry, workflow.NodeTaskGroup:
		take(n.Children)
	default:
		take(p.members(n.ID))
	}
	return out
}

// members are the nodes of a boundary that no retry or loop among them holds.
func (p *treePrinter) members(id string) []string {
	held := map[string]bool{}
	for _, m := range p.boundary[id] {
		n := p.nodes[m]
		if n.Type == workflow.NodeRetry || n.Type == workflow.NodeTaskGroup {
			for _, c := range n.Children {
				held[c] = true
			}
		}
	}
	var out []string
	for _, m := range p.boundary[id] {
		if !held[m] {
			out = append(out, m)
		}
	}
	return out
}

func nodeDuration(n workflow.Node) string {
	if n.StartedAt == nil || n.FinishedAt == nil || n.Phase == workflow.Skipped || n.Phase == workflow.Omitted {
		return ""
	}
	return duration(n.FinishedAt.Sub(*n.StartedAt))
}

// duration is short and readable: 12ms, 3.4s, 2m3s.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

// shownName is a node's name as it can stand in a line: an item of a loop may hold anything. What cannot be shown is escaped, and
// what is too long for a line is cut.
func shownName(name string) string {
	const most = 120
	plain := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, name)
	if plain != name {
		name = strings.Trim(strconv.QuoteToGraphic(name), `"`)
	}
	if runes := []rune(name); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return name
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
