package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func newMR(std IO) *cobra.Command {
	c := &cobra.Command{Use: "mr", Short: "Merge requests of the built-in Git remote"}
	c.AddCommand(newMRList(std), newMRShow(std), newMRCreate(std))
	for _, verb := range []string{"merge", "approve", "close", "reopen", "ready", "draft"} {
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
	c.Flags().StringVar(&state, "state", "open", "open, closed, merged or all")
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch state {
		case "all":
			state = ""
		case "", "open", "closed", "merged":
		default:
			return usage(fmt.Errorf("--state %s is not known: use open, closed, merged or all", state))
		}
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
			fmt.Fprintf(t, "%s!%d\t%s\t%s\t%s → %s\t%s\t%s\t%s\n", m.Repo, m.Number, m.state(), m.Title, m.Source, m.Target, strings.Join(m.Labels, ","), m.Author, preview)
		}
		if len(list) == 0 {
			fmt.Fprintln(std.Err, "no merge request is like that: push a branch with -o merge_request.create, or see --state all")
		}
		return t.Flush()
	}
	return c
}

// state is the one word for a merge request.
func (m mergeRequest) state() string {
	if m.State == "open" && m.Draft {
		return "draft"
	}
	return m.State
}

// mrRef reads NUMBER or REPO!NUMBER; a bare number is looked up among the repositories if there is only one.
func mrRef(ctx context.Context, cl *client, repo, arg string) (string, string, error) {
	if r, n, ok := strings.Cut(arg, "!"); ok && r != "" {
		return r, n, nil
	}
	arg = strings.TrimPrefix(arg, "!")
	if _, err := strconv.Atoi(arg); err != nil {
		return "", "", usage(fmt.Errorf("%q is not a merge request: give its number, or REPO!NUMBER", arg))
	}
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
	fmt.Fprintf(w, "%s!%d %s\n%s → %s, %s, by %s, head %.8s", m.Repo, m.Number, m.Title, m.Source, m.Target, m.state(), m.Author, m.HeadSHA)
	if len(m.Labels) > 0 {
		fmt.Fprintf(w, ", labels %s", strings.Join(m.Labels, ", "))
	}
	if m.Reason != "" && m.State == "open" {
		fmt.Fprintf(w, "\nnot mergeable: %s", m.Reason)
	}
	fmt.Fprintln(w)
	for _, s := range d.Statuses {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  status %s: %s %s %s", s.Context, s.State, s.Description, s.URL), " "))
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
	var repo, method, override string
	c := &cobra.Command{Use: verb + " NUMBER", Short: map[string]string{
		"merge": "Merge a merge request", "approve": "Approve its newest commit", "close": "Close it without merging", "reopen": "Open it again", "ready": "Mark it as ready", "draft": "Mark it as a draft",
	}[verb], Args: cobra.ExactArgs(1)}
	server := clientFlags(c, std)
	c.Flags().StringVar(&repo, "repo", "", "repository (default the only one)")
	if verb == "merge" {
		c.Flags().StringVar(&method, "method", "merge", "merge, squash or fast-forward")
		c.Flags().StringVar(&override, "override", "", "why it is merged though a check is red or an approval is missing; for administrators, and recorded")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		cl := server()
		r, n, err := mrRef(c.Context(), cl, repo, args[0])
		if err != nil {
			return err
		}
		var m mergeRequest
		if err := cl.call(c.Context(), http.MethodPost, path("mrs", r, n, verb), map[string]any{"method": method, "override": override}, &m); err != nil {
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
