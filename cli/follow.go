package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/workflow"
)

// source is what a follower reads from: this process's machine.
type source interface {
	Nodes(ctx context.Context, namespace, name string, changedAfter int64) ([]workflow.Node, int64, error)
	Run(ctx context.Context, namespace, name string) (workflow.Run, error)
	Changed() <-chan struct{}
	Log(ctx context.Context, run workflow.Run, n workflow.Node, container string, o executor.LogOptions) (io.ReadCloser, error)
}

// follower prints a run as it goes: a line when a node's phase changes, every line of log with its step's name
// before it, and the whole tree at the end.
type follower struct {
	out   io.Writer
	src   source
	quiet bool

	mu    sync.Mutex
	nodes map[string]workflow.Node
	order []string
	logs  sync.WaitGroup
}

func newFollower(out io.Writer, src source, quiet bool) *follower {
	return &follower{out: out, src: src, quiet: quiet, nodes: map[string]workflow.Node{}}
}

// follow returns when the run has ended and everything has been printed.
func (f *follower) follow(ctx context.Context, run workflow.Run) (workflow.Run, error) {
	if !f.quiet {
		fmt.Fprintf(f.out, "Name:  %s\n", run.Name)
	}
	var seq int64
	waits := ""
	for {
		if !f.quiet && run.Phase == workflow.Pending && run.Message != "" && run.Message != waits {
			waits = run.Message
			f.line("%s %s  %s", glyph(run.Phase), run.Name, oneLine(string(run.Phase)+" "+waits))
		}
		changed, over := f.src.Changed(), run.Phase.Done()
		nodes, last, err := f.src.Nodes(ctx, run.Namespace, run.Name, seq)
		if err != nil {
			return run, err
		}
		seq = max(seq, last)
		for _, n := range nodes {
			f.node(ctx, run, n)
		}
		if over {
			break // these were read after the end
		}
		if run, err = f.src.Run(ctx, run.Namespace, run.Name); err != nil {
			return run, err
		}
		if run.Phase.Done() {
			continue
		}
		select {
		case <-ctx.Done():
			return run, context.Cause(ctx)
		case <-changed:
		}
	}
	f.logs.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.link()
	printTree(f.out, run, f.nodes, f.order)
	return run, nil
}

// link completes nodes that came one after another with their children, and orders them by their creation.
func (f *follower) link() {
	nodes := make([]workflow.Node, 0, len(f.order))
	for _, id := range f.order {
		nodes = append(nodes, f.nodes[id])
	}
	for i, n := range workflow.Link(nodes) {
		f.nodes[n.ID], f.order[i] = n, n.ID
	}
}

func (f *follower) node(ctx context.Context, run workflow.Run, n workflow.Node) {
	f.mu.Lock()
	old, seen := f.nodes[n.ID]
	f.nodes[n.ID] = n
	if !seen {
		f.order = append(f.order, n.ID)
	}
	f.mu.Unlock()
	if f.quiet {
		return
	}
	switch {
	case n.Phase == workflow.Pending && n.Message != "" && n.Message != old.Message, n.Phase != old.Phase && n.Phase != workflow.Pending:
		f.line("%s %s  %s", glyph(n.Phase), shownName(n.DisplayName), oneLine(strings.TrimSpace(string(n.Phase)+" "+n.Message)))
	}
	started := n.Phase == workflow.Running || n.Phase.Done()
	if n.Type == workflow.NodePod && started && !(seen && (old.Phase == workflow.Running || old.Phase.Done())) && n.StartedAt != nil {
		f.logs.Go(func() { f.log(ctx, run, n) })
	}
}

// logWait bounds how long the end of a run waits for the rest of a log.
const logWait = 5 * time.Minute

func (f *follower) log(ctx context.Context, run workflow.Run, n workflow.Node) {
	ctx, cancel := context.WithTimeout(ctx, logWait)
	defer cancel()
	r, err := f.src.Log(ctx, run, n, "main", executor.LogOptions{Follow: true})
	if err != nil {
		return // a step that never started has no log; its node says why
	}
	defer r.Close()
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, _, err := in.ReadLine() // a longer line comes in pieces
		if err != nil {
			return
		}
		f.line("%s: %s", shownName(n.DisplayName), line)
	}
}

func (f *follower) line(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(f.out, format+"\n", args...)
}
