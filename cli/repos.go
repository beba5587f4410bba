package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/failure"
)

func newRepos(std IO) *cobra.Command {
	c := &cobra.Command{Use: "repos", Short: "Repositories of the built-in Git remote"}
	c.AddCommand(newReposList(std), newReposCreate(std), newReposProtect(std))
	return c
}

// repository is what the API tells of one.
type repository struct{ Name, Description, DefaultBranch, CloneURL, Head string }

func newReposList(std IO) *cobra.Command {
	var output string
	c := &cobra.Command{Use: "list", Short: "List repositories with their addresses", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var raw struct {
			Items json.RawMessage `json:"items"`
		}
		if err := server().call(c.Context(), http.MethodGet, "/api/v1/repos", nil, &raw); err != nil {
			return err
		}
		if output == "json" {
			return printJSON(std.Out, raw.Items)
		}
		var list []repository
		if err := json.Unmarshal(raw.Items, &list); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		t := table(std.Out)
		fmt.Fprintln(t, "NAME\tBRANCH\tHEAD\tADDRESS\tDESCRIPTION")
		for _, r := range list {
			fmt.Fprintf(t, "%s\t%s\t%.8s\t%s\t%s\n", r.Name, r.DefaultBranch, r.Head, r.CloneURL, oneLine(r.Description))
		}
		if len(list) == 0 {
			fmt.Fprintln(std.Err, "there is no repository yet: make one with tiphys repos create NAME")
		}
		return t.Flush()
	}
	return c
}

func newReposCreate(std IO) *cobra.Command {
	var description, branch string
	c := &cobra.Command{Use: "create NAME", Short: "Make a repository and print its address", Args: cobra.ExactArgs(1)}
	server := clientFlags(c, std)
	c.Flags().StringVar(&description, "description", "", "what it is for")
	c.Flags().StringVar(&branch, "default-branch", "", "its default branch (default main)")
	c.RunE = func(c *cobra.Command, args []string) error {
		var made repository
		body := map[string]string{"name": args[0], "description": description, "defaultBranch": branch}
		if err := server().call(c.Context(), http.MethodPost, "/api/v1/repos", body, &made); err != nil {
			return err
		}
		fmt.Fprintln(std.Out, made.CloneURL)
		return nil
	}
	return c
}

// protection is a protected ref in the API's words.
type protection struct {
	Ref          string   `json:"ref"`
	Push         []string `json:"push,omitempty"`
	IgnoreChecks bool     `json:"ignoreChecks,omitempty"`
	Approvals    int      `json:"approvals,omitempty"`
}

func newReposProtect(std IO) *cobra.Command {
	var p protection
	var none, remove bool
	c := &cobra.Command{
		Use: "protect NAME [REF]", Args: cobra.RangeArgs(1, 2),
		Short: "Show or change who may push to a repository's refs, and what a merge needs",
		Long: "Without a REF, show the protected refs. A REF is a branch, or a full ref with a * at the end: refs/tags/v*.\n" +
			"Nobody deletes a protected ref or pushes to it by force. Only runs of protected refs record releases of the default branch.",
		Example: "  tiphys repos protect harbour main --approvals 1\n  tiphys repos protect harbour 'refs/tags/v*' --push user:ada",
	}
	server := clientFlags(c, std)
	c.Flags().StringArrayVar(&p.Push, "push", nil, "who may push beside the owner and administrators: user:NAME, or * (may be repeated)")
	c.Flags().BoolVar(&p.IgnoreChecks, "ignore-checks", false, "let what has a red or running check be merged")
	c.Flags().IntVar(&p.Approvals, "approvals", 0, "how many others than its author must approve")
	c.Flags().BoolVar(&remove, "remove", false, "protect REF no more")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl := server()
		list, err := protections(c.Context(), cl, args[0])
		if err != nil || len(args) == 1 {
			return errors.Join(err, printProtections(std.Out, list))
		}
		if p.Ref = args[1]; !strings.HasPrefix(p.Ref, "refs/") {
			p.Ref = "refs/heads/" + p.Ref
		}
		list = slices.DeleteFunc(list, func(old protection) bool { none = none || old.Ref == p.Ref; return old.Ref == p.Ref })
		switch {
		case !remove:
			list = append([]protection{p}, list...)
		case !none:
			return usage(fmt.Errorf("%s is not protected by a rule of its own: see tiphys repos protect %s", p.Ref, args[0]))
		}
		var made struct{ Protect []protection }
		if err := cl.call(c.Context(), http.MethodPatch, path("repos", args[0]), map[string]any{"protect": list}, &made); err != nil {
			return err
		}
		return printProtections(std.Out, made.Protect)
	}
	return c
}

// protections are those of a repository.
func protections(ctx context.Context, cl *client, name string) ([]protection, error) {
	var out items[struct {
		Name    string
		Protect []protection
	}]
	if err := cl.call(ctx, http.MethodGet, "/api/v1/repos", nil, &out); err != nil {
		return nil, err
	}
	for _, r := range out.Items {
		if r.Name == name {
			return append([]protection{}, r.Protect...), nil
		}
	}
	return nil, failure.NotFoundf("there is no repository %s", name)
}

func printProtections(w io.Writer, list []protection) error {
	t := table(w)
	fmt.Fprintln(t, "REF\tPUSH\tCHECKS\tAPPROVALS")
	for _, p := range list {
		checks := "must be green"
		if p.IgnoreChecks {
			checks = "ignored"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\n", p.Ref, strings.Join(append([]string{"owner"}, p.Push...), ", "), checks, p.Approvals)
	}
	return t.Flush()
}
