package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/ledger"
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
		if len(out.Items) == 0 {
			fmt.Fprintln(std.Err, "no event yet: push to a repository of the built-in remote, or let a forge call /webhooks/…")
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
			// Conditions are what is wrong with the definitions of sources and sensors now.
			Conditions []struct{ Definition, Problem, Digest string } `json:"conditions"`
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
		for _, w := range out.Conditions {
			goes := "nothing of it counts"
			if w.Digest != "" {
				goes = fmt.Sprintf("an earlier version counts, %.19s", w.Digest)
			}
			fmt.Fprintf(std.Out, "  now %s cannot be used, and %s: %s\n", w.Definition, goes, w.Problem)
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

func newApprove(std IO) *cobra.Command {
	c := &cobra.Command{
		Use: "approve EVENT", Short: "Let the merge request of somebody run who may not write to the repository", Args: cobra.ExactArgs(1),
		Long: "Events about merge requests of people who may not write to the repository wait until somebody has approved the commit that they are about:\n" +
			"here, or by the comment /ok-to-test on the merge request. An approval is for one commit; a push needs a new one.",
	}
	server := clientFlags(c, std)
	c.RunE = func(c *cobra.Command, args []string) error {
		var e event.Event
		if err := server().call(c.Context(), http.MethodPost, path("events", args[0], "approve"), nil, &e); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "approved; decided on as event %d (%s)\n", e.Seq, e.ID)
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
	c.Flags().StringVar(&at, "at", "", "at this past moment, deleted applications too: 2026-11-22T12:00:00Z, or as long ago as 30m")
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := moment(at, time.Now())
		if err != nil {
			return err
		}
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
		if len(list) == 0 {
			fmt.Fprintln(std.Err, "nothing is deployed"+map[bool]string{true: ": an Application says what to run and from where", false: " at that time"}[at == ""])
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

// moment reads a point in time, or how long ago it was; empty stays empty.
func moment(text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago).UTC().Format(time.RFC3339), nil
	}
	if _, err := time.Parse(time.RFC3339, text); err != nil {
		return "", usage(fmt.Errorf("--at %q is not a time: write it as 2026-11-22T12:00:00Z, or say how long ago as in 30m", text))
	}
	return text, nil
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
	c.AddCommand(newAppLogs(std))
	return c
}

func newAppVerb(std IO, verb string) *cobra.Command {
	short := map[string]string{
		"sync": "Deploy what Git says, now", "refresh": "Look at Git and the machine again", "rollback": "Deploy an earlier release and stay there; without --to go back to the newest",
	}[verb]
	c := &cobra.Command{Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1)}
	server, ns := clientFlags(c, std), namespaceFlag(c)
	to, prune, confirmed := new(string), new(bool), new(bool)
	switch verb {
	case "rollback":
		to = c.Flags().String("to", "", "release (harbour#7) or commit")
	case "sync":
		prune = c.Flags().Bool("prune", false, "remove what Git no longer has")
		confirmed = c.Flags().Bool("confirmed", false, "remove what asks for a confirmation (Prune=confirm), too")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		return server().call(c.Context(), http.MethodPost, path("apps", *ns, args[0], verb), map[string]any{"to": *to, "prune": *prune, "confirmed": *confirmed}, nil)
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

func newCron(std IO) *cobra.Command {
	c := &cobra.Command{Use: "cron", Short: "List schedules with their last and next time", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var out items[struct {
			Namespace, Name, Timezone, Outcome, Reason, Run, Problem string
			Schedules                                                []string
			Suspended                                                bool
			LastScheduled, Next                                      *time.Time
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
			next := when(s.Next)
			if s.Problem != "" {
				next = "never: " + oneLine(s.Problem)
			}
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%t\t%s\t%s\t%s\n", s.Namespace, s.Name, strings.Join(s.Schedules, "; "), s.Timezone, s.Suspended, when(s.LastScheduled), strings.TrimSpace(s.Outcome+" "+s.Reason), next)
		}
		return t.Flush()
	}
	return c
}
