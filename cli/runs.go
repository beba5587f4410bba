package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

func namespaceFlag(c *cobra.Command) *string {
	return c.Flags().StringP("namespace", "n", "default", "namespace")
}

func newSubmit(std IO) *cobra.Command {
	var params, labels []string
	var from, entrypoint, name string
	var watch bool
	c := &cobra.Command{
		Use:   "submit [FILE] [--from KIND/NAME]",
		Short: "Start a run on the server, from a manifest or a template",
		Example: `  tiphys submit ci.yaml --watch
  tiphys submit --from workflowtemplate/build -p branch=main`,
		Args: cobra.MaximumNArgs(1),
	}
	server, ns := clientFlags(c, std), namespaceFlag(c)
	f := c.Flags()
	f.StringArrayVarP(&params, "parameter", "p", nil, "set a parameter, name=value (may be repeated)")
	f.StringArrayVarP(&labels, "labels", "l", nil, "add a label, key=value (may be repeated)")
	f.StringVar(&from, "from", "", "workflowtemplate/NAME, clusterworkflowtemplate/NAME or cronworkflow/NAME")
	f.StringVar(&entrypoint, "entrypoint", "", "start at this template")
	f.StringVar(&name, "name", "", "name of the run")
	f.BoolVarP(&watch, "watch", "w", false, "follow the run; the exit code tells how it ended")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl := server()
		var body map[string]any
		var made makers
		to := path("workflows", *ns)
		switch {
		case from != "" && len(args) == 0:
			kind, object, ok := strings.Cut(from, "/")
			if !ok {
				return usage(fmt.Errorf("--from %q is not of the form KIND/NAME", from))
			}
			to += "/submit"
			body = map[string]any{"resourceKind": kind, "resourceName": object}
		case from == "" && len(args) == 1:
			var err error
			if body, made, err = submissionOf(c.Context(), std, args[0]); err != nil {
				return usage(err)
			}
		default:
			return usage(errors.New("give a file, or --from KIND/NAME"))
		}
		body["submitOptions"] = map[string]any{
			"parameters": params, "entryPoint": entrypoint, "name": name, "labels": strings.Join(labels, ","),
		}
		var run submittedRun
		if err := cl.call(c.Context(), http.MethodPost, to, body, &run); err != nil {
			return made.placeError(err)
		}
		run.print(std, cl)
		if !watch {
			return nil
		}
		return followRemote(c.Context(), std, cl, run.Metadata.Namespace, run.Metadata.Name)
	}
	return c
}

// printWarnings says what a run's manifest was warned of, and what of it has no effect.
func printWarnings(to io.Writer, conditions []workflow.Condition) {
	for _, c := range conditions {
		if c.Type == "SpecWarning" || c.Type == "NoEffect" {
			fmt.Fprintln(to, "warning: "+oneLine(c.Message))
		}
	}
}

// submissionOf reads a file with one Workflow. The server gets it as it was written: what it finds wrong it says with
// the user's file, line and column. Of what a program makes, the makers know where in the program that was.
func submissionOf(ctx context.Context, std IO, file string) (map[string]any, makers, error) {
	m, err := makeManifest(ctx, std, file)
	if err != nil {
		return nil, nil, err
	}
	name, made := manifestName(file), makers{}
	made.add(file, m)
	objects, diags := manifest.Decode(name, m.Text)
	if err := manifest.FirstError(made.placeAll(diags)); err != nil {
		return nil, nil, err
	}
	found := 0
	for _, o := range objects {
		if o.Kind == "Workflow" {
			found++
			continue
		}
		fmt.Fprintf(std.Err, "warning: %s: %s %s is not declared by submit: use tiphys apply\n", o.Position, o.Kind, o.Name)
	}
	if found != 1 {
		return nil, nil, fmt.Errorf("%s has %d Workflows and one is wanted (declare templates with tiphys apply)", file, found)
	}
	return map[string]any{"manifest": string(m.Text), "file": name}, made, nil
}

// listedRun is a run as the API lists it: with the step that failed it, or that waits for somebody.
type listedRun struct {
	workflow.Run
	Failure  *listedStep `json:"failure,omitempty"`
	WaitsFor *listedStep `json:"waitsFor,omitempty"`
}

type listedStep struct {
	Node    string `json:"node"`
	Name    string `json:"name"`
	Message string `json:"message,omitempty"`
}

// words are what a person asks next of a run: a DAG that failed says nothing itself, its step does.
func (r listedRun) words() string {
	switch {
	case r.Message != "":
		return r.Message
	case r.Failure != nil && r.Failure.Message != "":
		return r.Failure.Name + ": " + r.Failure.Message
	case r.Failure != nil:
		return r.Failure.Name + " failed"
	case r.WaitsFor != nil:
		return strings.TrimRight("waits at "+r.WaitsFor.Name+": "+r.WaitsFor.Message, ": ")
	}
	return ""
}

func newList(std IO) *cobra.Command {
	var states, labels []string
	var output string
	var limit int
	c := &cobra.Command{Use: "list", Short: "List runs, newest first", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	ns := c.Flags().StringP("namespace", "n", "", "namespace (default all)")
	c.Flags().StringArrayVar(&states, "state", nil, "Pending, Running, Succeeded, Failed or Error (may be repeated)")
	c.Flags().StringArrayVarP(&labels, "labels", "l", nil, "label, key=value (may be repeated)")
	c.Flags().IntVar(&limit, "limit", 50, "how many")
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q := url.Values{"state": states, "label": labels, "limit": {fmt.Sprint(limit)}}
		if *ns != "" {
			q.Set("namespace", *ns)
		}
		var out items[listedRun]
		if err := server().call(c.Context(), http.MethodGet, "/api/v1/runs?"+q.Encode(), nil, &out); err != nil {
			return err
		}
		if output == "json" {
			return printJSON(std.Out, out.Items)
		}
		t := tabwriter.NewWriter(std.Out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "NAME\tSTATUS\tAGE\tPROGRESS\tREPO\tBRANCH\tMESSAGE")
		for _, r := range out.Items {
			fmt.Fprintf(t, "%s/%s\t%s %s\t%s\t%s\t%s\t%s\t%s\n", r.Namespace, r.Name, glyph(r.Phase), r.Phase, duration(time.Since(r.CreatedAt)),
				r.Progress, r.Labels["tiphys.dev/repo"], r.Labels["tiphys.dev/branch"], oneLine(r.words()))
		}
		switch {
		case len(out.Items) > 0:
		case len(states) > 0 || len(labels) > 0 || *ns != "":
			fmt.Fprintln(std.Err, "no run is like that: tiphys list without -n, -l and --state shows all")
		default:
			fmt.Fprintln(std.Err, "there is no run yet: start one with tiphys submit FILE, or let a sensor start it (tiphys get sensors)")
		}
		return t.Flush()
	}
	return c
}

// remote is a follower's source on a server.
type remote struct {
	c       *client
	changed chan struct{}
}

// runAnswer is a run with all of its nodes.
type runAnswer struct {
	Run      workflow.Run       `json:"run"`
	Nodes    []workflow.Node    `json:"nodes"`
	Attempts []workflow.Attempt `json:"attempts"`
	Seq      int64              `json:"seq"`
	// Next and AttemptsNext are where lists go on that are too long for one answer.
	Next         string `json:"next"`
	AttemptsNext string `json:"attemptsNext"`
}

// nodePage is a page of a run's nodes, or of those that changed after a sequence.
type nodePage struct {
	Items []workflow.Node `json:"items"`
	Next  string          `json:"next"`
	More  bool            `json:"more"`
	Seq   int64           `json:"seq"`
}

// readRun reads a run with all of its nodes, page by page.
func (c *client) readRun(ctx context.Context, namespace, name string) (a runAnswer, err error) {
	if err = c.call(ctx, http.MethodGet, path("runs", namespace, name), nil, &a); err != nil {
		return a, err
	}
	paged := a.Next != ""
	for a.Next != "" {
		var p nodePage
		if err := c.call(ctx, http.MethodGet, path("runs", namespace, name, "nodes")+"?after="+url.QueryEscape(a.Next), nil, &p); err != nil {
			return a, err
		}
		a.Nodes, a.Next = append(a.Nodes, p.Items...), p.Next
	}
	if paged {
		a.Nodes = workflow.Link(a.Nodes)
	}
	for a.AttemptsNext != "" {
		var p struct {
			Items []workflow.Attempt `json:"items"`
			Next  string             `json:"next"`
		}
		if err := c.call(ctx, http.MethodGet, path("runs", namespace, name, "attempts")+"?after="+url.QueryEscape(a.AttemptsNext), nil, &p); err != nil {
			return a, err
		}
		a.Attempts, a.AttemptsNext = append(a.Attempts, p.Items...), p.Next
	}
	return a, nil
}

func (r *remote) Nodes(ctx context.Context, namespace, name string, after int64) ([]workflow.Node, int64, error) {
	if after <= 0 {
		a, err := r.c.readRun(ctx, namespace, name)
		return a.Nodes, a.Seq, err
	}
	var nodes []workflow.Node
	for more := true; more; {
		var p nodePage
		if err := r.c.call(ctx, http.MethodGet, path("runs", namespace, name, "nodes")+"?since="+strconv.FormatInt(after, 10), nil, &p); err != nil {
			return nil, after, err
		}
		nodes, after, more = append(nodes, p.Items...), p.Seq, p.More
	}
	return nodes, after, nil
}

func (r *remote) Run(ctx context.Context, namespace, name string) (workflow.Run, error) {
	var a runAnswer
	err := r.c.call(ctx, http.MethodGet, path("runs", namespace, name)+"?brief=1&limit=1", nil, &a)
	return a.Run, err
}

func (r *remote) Changed() <-chan struct{} { return r.changed }

func (r *remote) Log(ctx context.Context, run workflow.Run, n workflow.Node, container string, o executor.LogOptions) (io.ReadCloser, error) {
	l := newRemoteLog(r.c, run.Namespace, run.Name, n.ID, container, o)
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	read, write := io.Pipe()
	go func() { _ = write.CloseWithError(l.copy(ctx, write)) }()
	return read, nil
}

// watch reads the server's feed of a run and wakes the follower at each change, until ctx ends.
func (r *remote) watch(ctx context.Context, namespace, name string) {
	q := url.Values{"tables": {"run,node"}, "owner": {namespace + "/" + name}, "brief": {"1"}}
	for ctx.Err() == nil {
		resp, err := r.c.send(ctx, http.MethodGet, "/api/v1/stream?"+q.Encode(), nil)
		if err == nil {
			s := bufio.NewScanner(resp.Body)
			s.Buffer(make([]byte, 0, 64<<10), 16<<20)
			for s.Scan() {
				if strings.HasPrefix(s.Text(), "event: at") || strings.HasPrefix(s.Text(), ": from") {
					r.wake()
				}
			}
			_ = resp.Body.Close()
		}
		t := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-t.C:
			r.wake()
		}
		t.Stop()
	}
}

func (r *remote) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func followRemote(ctx context.Context, std IO, c *client, namespace, name string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	src := &remote{c: c, changed: make(chan struct{}, 1)}
	go src.watch(ctx, namespace, name)
	run, err := src.Run(ctx, namespace, name)
	if err == nil {
		run, err = newFollower(std.Out, src, false).follow(ctx, run)
	}
	if err != nil {
		return err
	}
	if run.Phase != workflow.Succeeded {
		return errRunFailed
	}
	return nil
}

func newWatch(std IO) *cobra.Command {
	c := &cobra.Command{Use: "watch NAME", Short: "Follow a run until it ends; the exit code tells how", Args: cobra.ExactArgs(1)}
	server, ns := clientFlags(c, std), namespaceFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return followRemote(c.Context(), std, server(), *ns, args[0])
	}
	return c
}

func newLogs(std IO) *cobra.Command {
	var follow, stamps bool
	var container string
	var tail int
	c := &cobra.Command{
		Use: "logs RUN [NODE]", Short: "Print the logs of a run's steps", Args: cobra.RangeArgs(1, 2),
		Long: "Logs prints the log of one node (by id, name or display name), or of every pod of the run, one after another.",
	}
	server, ns := clientFlags(c, std), namespaceFlag(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the step has ended")
	c.Flags().BoolVar(&stamps, "timestamps", false, "begin each line with its time")
	c.Flags().StringVarP(&container, "container", "c", "main", "container")
	c.Flags().IntVar(&tail, "tail", 0, "only this many last lines")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl := server()
		a, err := cl.readRun(c.Context(), *ns, args[0])
		if err != nil {
			return err
		}
		o := executor.LogOptions{FromLine: -tail, Follow: follow, Timestamps: stamps}
		shown := 0
		for _, n := range a.Nodes {
			if n.Type != workflow.NodePod || len(args) == 2 && args[1] != n.ID && args[1] != n.Name && args[1] != n.DisplayName {
				continue
			}
			shown++
			l := newRemoteLog(cl, *ns, args[0], n.ID, container, o)
			if err = l.open(c.Context()); err == nil {
				err = l.copy(c.Context(), std.Out)
			}
			if err != nil && (len(args) == 2 || c.Context().Err() != nil) {
				return err
			}
		}
		if shown == 0 && len(args) == 2 {
			return fmt.Errorf("run %s has no pod %s", args[0], args[1])
		}
		return nil
	}
	return c
}

// newVerb makes the commands that tell a run something.
func newVerb(std IO, verb, short string, more func(c *cobra.Command) func(body map[string]any) error) *cobra.Command {
	c := &cobra.Command{Use: verb + " NAME...", Short: short, Args: cobra.MinimumNArgs(1)}
	server, ns := clientFlags(c, std), namespaceFlag(c)
	fill := func(map[string]any) error { return nil }
	if more != nil {
		fill = more(c)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		body := map[string]any{}
		if err := fill(body); err != nil {
			return usage(err)
		}
		for _, name := range args {
			if err := server().call(c.Context(), http.MethodPut, path("workflows", *ns, name, verb), body, nil); err != nil {
				return err
			}
			fmt.Fprintf(std.Out, "%s: %s\n", name, verb)
		}
		return nil
	}
	return c
}

// selector adds the flags of commands that can mean some nodes only.
func selector(c *cobra.Command) func(map[string]any) error {
	nodes := c.Flags().String("node-field-selector", "", "only nodes that match, e.g. displayName=approve")
	params := c.Flags().StringArrayP("parameter", "p", nil, "output parameter of a suspended node, or new argument of a retry, name=value")
	message := c.Flags().String("message", "", "why, for the record")
	return func(body map[string]any) error {
		body["nodeFieldSelector"], body["message"], body["parameters"] = *nodes, *message, *params
		return nil
	}
}

func newRetry(std IO) *cobra.Command {
	return newVerb(std, "retry", "Run the failed steps of a run again; what they left before stays on record", func(c *cobra.Command) func(map[string]any) error {
		fill := selector(c)
		again := c.Flags().Bool("restart-successful", false, "run the selected nodes again even if they succeeded")
		return func(body map[string]any) error {
			body["restartSuccessful"] = *again
			return fill(body)
		}
	})
}
