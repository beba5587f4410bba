package cli

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func newRepos(std IO) *cobra.Command {
	c := &cobra.Command{Use: "repos", Short: "Repositories of the built-in Git remote"}
	c.AddCommand(newReposList(std), newReposCreate(std))
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
