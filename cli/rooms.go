package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 4, 2, ' ', 0) }

func newEvents(std IO) *cobra.Command {
	var limit int
	var output string
	c := &cobra.Command{Use: "events", Short: "List the events that were received, newest first", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	c.Flags().IntVar(&limit, "limit", 30, "how many")
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var out items[event.EventRow]
		if err := server().call(c.Context(), http.MethodGet, "/api/v1/events?limit="+strconv.Itoa(limit), nil, &out); err != nil {
			return err
		}
		if output == "json" {
			return printJSON(std.Out, out.Items)
		}
		t := table(std.Out)
		fmt.Fprintln(t, "SEQ\tTIME\tFROM\tWHAT\tACTOR\tVERIFIED\tFIRED")
		for _, e := range out.Items {
			fmt.Fprintf(t, "%d\t%s\t%s/%s\t%s\t%s\t%s\t%d\n", e.Seq, e.Time.Local().Format(time.DateTime), e.Source, e.Subject, what(e.Event), e.Actor, e.Verified, e.Firings)
		}
		return t.Flush()
	}
	return c
}

// what says in a few words what an event is about.
func what(e event.Event) string {
	g := e.Git
	if g == nil {
		return e.Type
	}
	s := strings.TrimSpace(g.Kind + " " + g.Action)
	switch {
	case g.PR != nil:
		s += fmt.Sprintf(" !%d %s", g.PR.Number, g.PR.Title)
	case g.Branch != "":
		s += " " + g.Branch
	case g.Tag != "":
		s += " " + g.Tag
	}
	if len(g.SHA) >= 8 {
		s += " " + g.SHA[:8]
	}
	return g.Repo.FullName + " " + s
}

func newWhy(std IO) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "why EVENT", Short: "Say what every sensor made of an event, and why", Args: cobra.ExactArgs(1),
		Long: "Why shows each sensor's decision on an event (its id, or its number in the ledger) with the reason, and what was fired.",
	}
	server := clientFlags(c, std)
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		var raw json.RawMessage
		if err := server().call(c.Context(), http.MethodGet, path("events", args[0]), nil, &raw); err != nil {
			return err
		}
		if output == "json" {
			return printJSON(std.Out, raw)
		}
		var out struct {
			Event     event.Event       `json:"event"`
			Decisions []event.Decision  `json:"decisions"`
			Unheard   []event.Decision  `json:"unheard"`
			Firings   []event.FiringRow `json:"firings"`
		}
		if err := json.Unmarshal(raw, &out); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		fmt.Fprintf(std.Out, "%d %s/%s: %s (%s, %s)\n", out.Event.Seq, out.Event.Source, out.Event.Subject, what(out.Event), out.Event.Actor, out.Event.Verified)
		for _, d := range append(out.Decisions, out.Unheard...) {
			printDecision(std.Out, d)
		}
		for _, f := range out.Firings {
			fmt.Fprintf(std.Out, "  firing %s %s: %s%s\n", f.Sensor, f.Trigger, f.Result, f.Error)
		}
		return nil
	}
	return c
}

func printDecision(w io.Writer, d event.Decision) {
	name := strings.TrimSpace(d.Sensor + " " + d.Trigger)
	if name == "" {
		name = "no sensor"
	}
	fmt.Fprintf(w, "  %s: %s: %s\n", name, d.Outcome, d.Reason)
	if len(d.Missing) > 0 {
		fmt.Fprintf(w, "    has %s, waits for %s\n", strings.Join(d.Satisfied, ", "), strings.Join(d.Missing, ", "))
	}
}

func newReplay(std IO) *cobra.Command {
	var dry bool
	c := &cobra.Command{Use: "replay EVENT", Short: "Let an event happen once more, or see what would be decided", Args: cobra.ExactArgs(1)}
	server := clientFlags(c, std)
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what the sensors would decide now")
	c.RunE = func(c *cobra.Command, args []string) error {
		to := path("events", args[0], "replay")
		if dry {
			var out struct {
				Decisions []event.Decision `json:"decisions"`
			}
			if err := server().call(c.Context(), http.MethodPost, to+"?dryRun=1", nil, &out); err != nil {
				return err
			}
			for _, d := range out.Decisions {
				printDecision(std.Out, d)
			}
			return nil
		}
		var e event.Event
		if err := server().call(c.Context(), http.MethodPost, to, nil, &e); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "replayed as event %d (%s)\n", e.Seq, e.ID)
		return nil
	}
	return c
}

// application is one line of `tiphys apps`.
type application struct {
	Namespace, Name, Sync, Version, Commit, Actor string
	MR                                            int
	Health                                        struct{ Status, Message string }
	Release                                       *struct {
		Name   string
		Number int64
	}
	Images  map[string]string
	URLs    []string
	Since   time.Time
	Deleted bool
}

func newApps(std IO) *cobra.Command {
	var at, output string
	c := &cobra.Command{
		Use: "apps", Short: "List what is deployed: version, commit, merge request, digests, since when", Args: cobra.NoArgs,
		Example: "  tiphys apps\n  tiphys apps --at 2026-11-22T12:00:00Z",
	}
	server := clientFlags(c, std)
	c.Flags().StringVar(&at, "at", "", "at this past moment (RFC 3339), deleted applications too")
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var raw struct {
			Items json.RawMessage `json:"items"`
		}
		if err := server().call(c.Context(), http.MethodGet, "/api/v1/apps?limit=1000&at="+url.QueryEscape(at), nil, &raw); err != nil {
			return err
		}
		if output == "json" {
			return printJSON(std.Out, raw.Items)
		}
		var list []application
		if err := json.Unmarshal(raw.Items, &list); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		t := table(std.Out)
		fmt.Fprintln(t, "APPLICATION\tHEALTH\tSYNC\tVERSION\tCOMMIT\tMR\tSINCE\tURL\tIMAGES")
		for _, a := range list {
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%s\t%.8s\t%s\t%s\t%s\t%s\n", a.Namespace, a.Name, a.Health.Status, a.Sync, version(a), a.Commit, mrText(a.MR),
				a.Since.Local().Format(time.DateTime), strings.Join(a.URLs, " "), digests(a.Images))
		}
		return t.Flush()
	}
	return c
}

func version(a application) string {
	if a.Version != "" {
		return a.Version
	}
	if a.Release != nil {
		return fmt.Sprintf("%s#%d", a.Release.Name, a.Release.Number)
	}
	return ""
}

func mrText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("!%d", n)
}

func digests(images map[string]string) string {
	var out []string
	for service, ref := range images {
		_, digest, _ := strings.Cut(ref, "@")
		out = append(out, fmt.Sprintf("%s=%.19s", service, digest))
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func newApp(std IO) *cobra.Command {
	c := &cobra.Command{Use: "app", Short: "Work on one application: sync, rollback, refresh, logs"}
	for _, verb := range []string{"sync", "rollback", "refresh"} {
		c.AddCommand(newAppVerb(std, verb))
	}
	return c
}

func newAppVerb(std IO, verb string) *cobra.Command {
	short := map[string]string{
		"sync": "Deploy what Git says, now", "refresh": "Look at Git and the machine again", "rollback": "Deploy an earlier release and stay there; without --to go back to the newest",
	}[verb]
	c := &cobra.Command{Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1)}
	server, ns := clientFlags(c, std), namespaceFlag(c)
	to, prune := new(string), new(bool)
	switch verb {
	case "rollback":
		to = c.Flags().String("to", "", "release (harbour#7) or commit")
	case "sync":
		prune = c.Flags().Bool("prune", false, "remove what Git no longer has")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		return server().call(c.Context(), http.MethodPost, path("apps", *ns, args[0], verb), map[string]any{"to": *to, "prune": *prune}, nil)
	}
	return c
}

func newTrail(std IO) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "trail OF", Short: "Print the chain of causes of anything, back to the push and the person", Args: cobra.ExactArgs(1),
		Long: `Trail prints how something came to be, from the event that began it, and what it led to. OF is a number in the
ledger, or run/NAMESPACE/NAME, app/NAMESPACE/NAME, pod/NAMESPACE/NAME, event/…, mr/REPO/NUMBER, release/NAMESPACE/NAME/NUMBER, image/NAME@DIGEST.`,
	}
	server := clientFlags(c, std)
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		q := url.Values{"of": {args[0]}}
		if _, err := strconv.Atoi(args[0]); err == nil {
			q = url.Values{"seq": {args[0]}}
		}
		var raw json.RawMessage
		if err := server().call(c.Context(), http.MethodGet, "/api/v1/trail?"+q.Encode(), nil, &raw); err != nil {
			return err
		}
		if output == "json" {
			return printJSON(std.Out, raw)
		}
		var t ledger.Trail
		if err := json.Unmarshal(raw, &t); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		printTrail(std.Out, t)
		return nil
	}
	return c
}

func newMR(std IO) *cobra.Command {
	c := &cobra.Command{Use: "mr", Short: "Merge requests of the built-in Git remote"}
	c.AddCommand(newMRList(std), newMRShow(std), newMRCreate(std))
	for _, verb := range []string{"merge", "close", "reopen", "ready", "draft"} {
		c.AddCommand(newMRVerb(std, verb))
	}
	return c
}

// mergeRequest is what the API tells of one.
type mergeRequest struct {
	Repo, Title, Description, State, Source, Target, HeadSHA, MergeSHA, Author, Reason string
	Number                                                                             int
	Draft, Mergeable, Conflicts                                                        bool
	Labels                                                                             []string
	Preview                                                                            *application
}

func newMRList(std IO) *cobra.Command {
	var repo, state, output string
	c := &cobra.Command{Use: "list", Short: "List merge requests", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	c.Flags().StringVar(&repo, "repo", "", "of this repository")
	c.Flags().StringVar(&state, "state", "open", "open, closed, merged; empty for all")
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var raw struct {
			Items json.RawMessage `json:"items"`
		}
		if err := server().call(c.Context(), http.MethodGet, "/api/v1/mrs?"+url.Values{"repo": {repo}, "state": {state}}.Encode(), nil, &raw); err != nil {
			return err
		}
		if output == "json" {
			return printJSON(std.Out, raw.Items)
		}
		var list []mergeRequest
		if err := json.Unmarshal(raw.Items, &list); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		t := table(std.Out)
		fmt.Fprintln(t, "MR\tSTATE\tTITLE\tBRANCHES\tLABELS\tAUTHOR\tPREVIEW")
		for _, m := range list {
			preview := ""
			if m.Preview != nil {
				preview = m.Preview.Health.Status + " " + strings.Join(m.Preview.URLs, " ")
			}
			fmt.Fprintf(t, "%s!%d\t%s\t%s\t%s → %s\t%s\t%s\t%s\n", m.Repo, m.Number, m.State, m.Title, m.Source, m.Target, strings.Join(m.Labels, ","), m.Author, preview)
		}
		return t.Flush()
	}
	return c
}

// mrRef reads NUMBER or REPO!NUMBER; a bare number is looked up among the repositories if there is only one.
func mrRef(ctx context.Context, cl *client, repo, arg string) (string, string, error) {
	if r, n, ok := strings.Cut(arg, "!"); ok && r != "" {
		return r, n, nil
	}
	arg = strings.TrimPrefix(arg, "!")
	if repo != "" {
		return repo, arg, nil
	}
	var out items[struct{ Name string }]
	if err := cl.call(ctx, http.MethodGet, "/api/v1/repos", nil, &out); err != nil {
		return "", "", err
	}
	if len(out.Items) != 1 {
		return "", "", usage(fmt.Errorf("there are %d repositories: say which with --repo, or REPO!%s", len(out.Items), arg))
	}
	return out.Items[0].Name, arg, nil
}

func newMRShow(std IO) *cobra.Command {
	var repo, output string
	c := &cobra.Command{Use: "show NUMBER", Short: "Show a merge request with commits, statuses, comments and its preview", Args: cobra.ExactArgs(1)}
	server := clientFlags(c, std)
	c.Flags().StringVar(&repo, "repo", "", "repository (default the only one)")
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl := server()
		r, n, err := mrRef(c.Context(), cl, repo, args[0])
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := cl.call(c.Context(), http.MethodGet, path("mrs", r, n), nil, &raw); err != nil {
			return err
		}
		if output == "json" {
			return printJSON(std.Out, raw)
		}
		return printMR(std.Out, raw)
	}
	return c
}

func printMR(w io.Writer, raw json.RawMessage) error {
	var d struct {
		MR       mergeRequest
		Statuses []struct{ Context, State, Description, URL string }
		Comments []struct{ Author, Body string }
		Commits  []struct{ SHA, Subject, Message string }
		Diffstat string
		Preview  *application
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	m := d.MR
	fmt.Fprintf(w, "%s!%d %s\n%s → %s, %s, by %s, head %.8s", m.Repo, m.Number, m.Title, m.Source, m.Target, m.State, m.Author, m.HeadSHA)
	if len(m.Labels) > 0 {
		fmt.Fprintf(w, ", labels %s", strings.Join(m.Labels, ", "))
	}
	if m.Reason != "" {
		fmt.Fprintf(w, "\nnot mergeable: %s", m.Reason)
	}
	fmt.Fprintln(w)
	for _, s := range d.Statuses {
		fmt.Fprintf(w, "  status %s: %s %s\n", s.Context, s.State, s.Description)
	}
	if d.Preview != nil {
		fmt.Fprintf(w, "  preview %s: %s\n", d.Preview.Health.Status, strings.Join(d.Preview.URLs, " "))
	}
	for _, cm := range d.Comments {
		fmt.Fprintf(w, "  %s: %s\n", cm.Author, oneLine(cm.Body))
	}
	fmt.Fprint(w, d.Diffstat)
	return nil
}

func newMRCreate(std IO) *cobra.Command {
	var repo, source, target, title, description string
	var labels []string
	var draft bool
	c := &cobra.Command{Use: "create --source BRANCH", Short: "Open a merge request", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	f := c.Flags()
	f.StringVar(&repo, "repo", "", "repository (default the only one)")
	f.StringVar(&source, "source", "", "branch to merge")
	f.StringVar(&target, "target", "", "branch to merge into (default the default branch)")
	f.StringVar(&title, "title", "", "title (default the last commit's)")
	f.StringVar(&description, "description", "", "description")
	f.StringArrayVar(&labels, "label", nil, "label (may be repeated)")
	f.BoolVar(&draft, "draft", false, "not ready yet")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if source == "" {
			return usage(errors.New("say which branch: --source BRANCH"))
		}
		cl := server()
		r, _, err := mrRef(c.Context(), cl, repo, "0")
		if err != nil {
			return err
		}
		var m mergeRequest
		body := map[string]any{"source": source, "target": target, "title": title, "description": description, "labels": labels, "draft": draft}
		if err := cl.call(c.Context(), http.MethodPost, path("mrs", r), body, &m); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "%s!%d opened: %s/mrs/%s/%d\n", m.Repo, m.Number, cl.base, url.PathEscape(m.Repo), m.Number)
		return nil
	}
	return c
}

func newMRVerb(std IO, verb string) *cobra.Command {
	var repo, method string
	c := &cobra.Command{Use: verb + " NUMBER", Short: map[string]string{
		"merge": "Merge a merge request", "close": "Close it without merging", "reopen": "Open it again", "ready": "Mark it as ready", "draft": "Mark it as a draft",
	}[verb], Args: cobra.ExactArgs(1)}
	server := clientFlags(c, std)
	c.Flags().StringVar(&repo, "repo", "", "repository (default the only one)")
	if verb == "merge" {
		c.Flags().StringVar(&method, "method", "merge", "merge, squash or fast-forward")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		cl := server()
		r, n, err := mrRef(c.Context(), cl, repo, args[0])
		if err != nil {
			return err
		}
		var m mergeRequest
		if err := cl.call(c.Context(), http.MethodPost, path("mrs", r, n, verb), map[string]any{"method": method}, &m); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "%s!%d is %s", m.Repo, m.Number, m.State)
		if m.MergeSHA != "" {
			fmt.Fprintf(std.Out, " as %.12s", m.MergeSHA)
		}
		fmt.Fprintln(std.Out)
		return nil
	}
	return c
}

func newCron(std IO) *cobra.Command {
	c := &cobra.Command{Use: "cron", Short: "List schedules with their last and next time", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var out items[struct {
			Namespace, Name, Timezone, Outcome, Reason, Run string
			Schedules                                       []string
			Suspended                                       bool
			LastScheduled, Next                             *time.Time
		}]
		if err := server().call(c.Context(), http.MethodGet, "/api/v1/cron", nil, &out); err != nil {
			return err
		}
		t := table(std.Out)
		fmt.Fprintln(t, "NAME\tSCHEDULES\tTIMEZONE\tSUSPENDED\tLAST\tOUTCOME\tNEXT")
		when := func(at *time.Time) string {
			if at == nil {
				return ""
			}
			return at.Local().Format(time.DateTime)
		}
		for _, s := range out.Items {
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%t\t%s\t%s\t%s\n", s.Namespace, s.Name, strings.Join(s.Schedules, "; "), s.Timezone, s.Suspended, when(s.LastScheduled), strings.TrimSpace(s.Outcome+" "+s.Reason), when(s.Next))
		}
		return t.Flush()
	}
	return c
}

func newLedger(std IO) *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Prove that the record is whole"}
	c.AddCommand(newLedgerVerify(std), newLedgerHead(std), newLedgerBackup(std))
	return c
}

func newLedgerHead(std IO) *cobra.Command {
	c := &cobra.Command{Use: "head", Short: "Print the signed end of the ledger; keep it elsewhere, to give to verify --since later", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var h ledger.Head
		if err := server().call(c.Context(), http.MethodGet, "/api/v1/ledger/head", nil, &h); err != nil {
			return err
		}
		return printJSON(std.Out, h)
	}
	return c
}

func newLedgerVerify(std IO) *cobra.Command {
	var since, file string
	c := &cobra.Command{
		Use: "verify", Short: "Check every entry's hash and place", Args: cobra.NoArgs,
		Long: `Verify walks the ledger and checks that no entry is missing and that every hash follows from the one before.
With --since and a head that "tiphys ledger head" printed before, what came after that head is walked, and rewriting of
the whole chain and a cut tail are found, which no ledger shows by itself.
It asks a server, or reads a ledger file (--file), which must not be in use.

Exit status: 0 whole, 1 faults were found.`,
	}
	server := clientFlags(c, std)
	c.Flags().StringVar(&since, "since", "", "file with a head taken earlier")
	c.Flags().StringVar(&file, "file", "", "ledger file to read instead of asking a server")
	c.RunE = func(c *cobra.Command, _ []string) error {
		head, err := readHead(std.In, since)
		if err != nil {
			return usage(err)
		}
		var rep ledger.Report
		if file == "" {
			err = server().call(c.Context(), http.MethodPost, "/api/v1/ledger/verify", map[string]any{"since": head}, &rep)
		} else {
			rep, err = verifyFile(c.Context(), file, head)
		}
		if err != nil {
			return err
		}
		for _, f := range rep.Faults {
			fmt.Fprintf(std.Out, "entry %d: %s\n", f.Seq, f.What)
		}
		if len(rep.Faults) > 0 {
			return fmt.Errorf("the ledger is not whole: %d faults in %d entries", len(rep.Faults), rep.Entries)
		}
		fmt.Fprintf(std.Out, "whole: %d entries checked (%d pruned), up to %d %.16s\n", rep.Entries, rep.Pruned, rep.Head.Seq, rep.Head.Hash)
		return nil
	}
	return c
}

func readHead(in io.Reader, file string) (ledger.Head, error) {
	var h ledger.Head
	if file == "" {
		return h, nil
	}
	raw, err := readFile(in, file)
	if err == nil {
		err = json.Unmarshal(raw, &h)
	}
	if err == nil && h.Signature != "" {
		err = ledger.VerifyHead(h, nil)
	}
	if err != nil {
		return h, fmt.Errorf("head in %s: %w", file, err)
	}
	return h, nil
}

func verifyFile(ctx context.Context, file string, since ledger.Head) (ledger.Report, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return ledger.Report{}, err
	}
	l, err := sqlite.Open(ctx, sqlite.Options{Path: path})
	if err != nil {
		return ledger.Report{}, err
	}
	rep, err := l.Verify(ctx, since)
	return rep, errors.Join(err, l.Close())
}

func newLedgerBackup(std IO) *cobra.Command {
	c := &cobra.Command{Use: "backup FILE DEST", Short: "Write a consistent copy of a ledger file that is not in use", Args: cobra.ExactArgs(2)}
	c.RunE = func(c *cobra.Command, args []string) error {
		l, err := sqlite.Open(c.Context(), sqlite.Options{Path: args[0]})
		if err != nil {
			return err
		}
		err = l.Backup(c.Context(), args[1])
		if err = errors.Join(err, l.Close()); err == nil {
			fmt.Fprintln(std.Out, "written to", args[1])
		}
		return err
	}
	return c
}
