package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/access/people"
	"github.com/tiphys/tiphys/secret"
)

func newUser(std IO) *cobra.Command {
	c := &cobra.Command{
		Use: "user", Short: "Say who may use the server, and what for",
		Long: `Users are persons, who log in and have tokens, and robots, which have tokens only. A role is viewer, developer or admin, and counts everywhere
(--role developer), in the namespaces of a pattern (--role developer@shop), or for the repositories of one, with their merge requests and
images (--role developer@repository:team/*). A user may have several; each is judged by itself.

A person logs in by a link that is good once, for ten minutes: an administrator makes the first ("tiphys user login-link NAME"), and
whoever has a token makes their own ("tiphys login").

Exit status: 0 success, 1 it could not be done, 2 a bad command line.`,
	}
	c.AddCommand(newUserAdd(std), newUserList(std), newUserRole(std), newUserLink(std))
	for _, v := range []struct{ verb, short, done string }{
		{"disable", "Have no credential of a user count, until they are enabled", "disabled"},
		{"enable", "Have a user's tokens count again", "enabled"},
		{"remove", "Remove a user with all credentials", "removed"},
	} {
		do := &cobra.Command{Use: v.verb + " NAME", Short: v.short, Args: cobra.ExactArgs(1)}
		server := clientFlags(do, std)
		do.RunE = func(c *cobra.Command, args []string) error {
			method, body := http.MethodPut, any(map[string]any{"disabled": v.verb == "disable"})
			if v.verb == "remove" {
				method, body = http.MethodDelete, nil
			}
			err := server().call(c.Context(), method, path("users", args[0]), body, nil)
			if err == nil {
				fmt.Fprintf(std.Out, "%s is %s\n", args[0], v.done)
			}
			return err
		}
		c.AddCommand(do)
	}
	return c
}

// roleHelp says what a role looks like.
const roleHelp = "viewer, developer or admin; with @NAMESPACE or @repository:NAME it counts there only (may be repeated)"

func newUserAdd(std IO) *cobra.Command {
	var roles []string
	var robot bool
	c := &cobra.Command{Use: "add NAME --role ROLE", Short: "Add a person, or with --robot a program", Args: cobra.ExactArgs(1)}
	server := clientFlags(c, std)
	c.Flags().StringArrayVar(&roles, "role", nil, roleHelp)
	c.Flags().BoolVar(&robot, "robot", false, "it is a program: it has tokens and does not log in")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := checkRoles(roles); err != nil {
			return usage(err)
		}
		err := server().call(c.Context(), http.MethodPost, path("users"), map[string]any{"name": args[0], "roles": roles, "robot": robot}, nil)
		if err != nil {
			return err
		}
		next := "tiphys user login-link " + args[0]
		if robot {
			next = "tiphys token create --user " + args[0]
		}
		fmt.Fprintf(std.Out, "%s is there; %s lets them in\n", args[0], next)
		return nil
	}
	return c
}

// checkRoles says what is wrong with roles before a server is asked.
func checkRoles(texts []string) error {
	all, err := access.ParseBindings(texts)
	if err != nil {
		return err
	}
	return access.CheckBindings(all)
}

func newUserRole(std IO) *cobra.Command {
	var roles []string
	c := &cobra.Command{Use: "role NAME --role ROLE", Short: "Give a user these roles, in the place of those of before", Args: cobra.ExactArgs(1)}
	server := clientFlags(c, std)
	c.Flags().StringArrayVar(&roles, "role", nil, roleHelp)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := checkRoles(roles); err != nil {
			return usage(err)
		}
		err := server().call(c.Context(), http.MethodPut, path("users", args[0]), map[string]any{"roles": roles}, nil)
		if err == nil {
			fmt.Fprintf(std.Out, "%s has the roles %s\n", args[0], strings.Join(roles, ", "))
		}
		return err
	}
	return c
}

func newUserList(std IO) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List persons and robots", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var all items[struct {
			Name     string
			Robot    bool
			Roles    []string
			Disabled bool
			Created  time.Time `json:"createdAt"`
		}]
		if err := server().call(c.Context(), http.MethodGet, path("users"), nil, &all); err != nil {
			return err
		}
		if len(all.Items) == 0 {
			fmt.Fprintln(std.Out, "nobody but the holders of the admin token; add somebody with tiphys user add")
			return nil
		}
		t := table(std.Out)
		fmt.Fprintln(t, "NAME\tKIND\tROLES\tSINCE\tSTATE")
		for _, u := range all.Items {
			kind, state := "person", "enabled"
			if u.Robot {
				kind = "robot"
			}
			if u.Disabled {
				state = "disabled"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", u.Name, kind, strings.Join(u.Roles, ", "), u.Created.Local().Format(time.DateTime), state)
		}
		return t.Flush()
	}
	return c
}

func newUserLink(std IO) *cobra.Command {
	c := &cobra.Command{Use: "login-link NAME", Short: "Print a link that logs a person's browser in, once, within ten minutes", Args: cobra.ExactArgs(1)}
	server := clientFlags(c, std)
	c.RunE = func(c *cobra.Command, args []string) error {
		return printLink(c.Context(), std, server(), args[0], "Give this to "+args[0])
	}
	return c
}

// printLink has a server make a login link, and prints it: what is said of it goes elsewhere, so that the link alone can be passed on.
func printLink(ctx context.Context, std IO, c *client, user, say string) error {
	address, err := addressOf(c.base)
	if err != nil {
		return usage(err)
	}
	var link struct {
		Code  string    `json:"code"`
		Until time.Time `json:"until"`
		URL   string    `json:"url"`
	}
	if err := c.call(ctx, http.MethodPost, path("login-codes"), map[string]string{"user": user}, &link); err != nil {
		return err
	}
	if link.URL == "" {
		link.URL = people.LoginURL(address, secret.New(link.Code))
	}
	fmt.Fprintf(std.Err, "%s; it is good once, until %s:\n", say, link.Until.Local().Format(time.TimeOnly))
	fmt.Fprintln(std.Out, link.URL)
	return nil
}

func newToken(std IO) *cobra.Command {
	c := &cobra.Command{
		Use: "token", Short: "Make, list and revoke tokens of persons and robots",
		Long: `A token proves who sends a request. What it is worth of its owner's rights follows from its scopes:

  all       everything
  read      to see what the owner sees
  git       the Git remote, and nothing else
  images    the registry, and nothing else
  metrics   to read /metrics, and nothing else

The server keeps a hash of it, so that it is shown once. A token that is revoked, has expired or is of a user who is disabled
counts for nothing at once, and streams that it opened end within five seconds.

Exit status: 0 success, 1 it could not be done, 2 a bad command line.`,
	}
	c.AddCommand(newTokenCreate(std), newTokenList(std), newTokenRevoke(std))
	return c
}

func newTokenCreate(std IO) *cobra.Command {
	var user, expires string
	var scopes []string
	c := &cobra.Command{Use: "create [NOTE]", Short: "Print a new token", Args: cobra.MaximumNArgs(1)}
	server := clientFlags(c, std)
	c.Flags().StringVar(&user, "user", "", "whose it is (default your own)")
	c.Flags().StringArrayVar(&scopes, "scope", []string{string(access.ScopeAll)}, "what it is worth: all, read, git, images or metrics (may be repeated)")
	c.Flags().StringVar(&expires, "expires", "90d", "how long it is good: 12h, 90d, or never")
	c.RunE = func(c *cobra.Command, args []string) error {
		life, err := lifeOf(expires)
		if err != nil {
			return usage(err)
		}
		ask := map[string]any{"user": user, "scopes": scopes, "note": strings.Join(args, " ")}
		if life > 0 {
			ask["life"] = life.String()
		}
		var made struct{ ID, User, Token string }
		if err := server().call(c.Context(), http.MethodPost, path("tokens"), ask, &made); err != nil {
			return err
		}
		fmt.Fprintf(std.Err, "This is token %s of %s, which is not shown again:\n", made.ID, made.User)
		fmt.Fprintln(std.Out, made.Token)
		return nil
	}
	return c
}

// lifeOf reads how long something is good: a duration, with days, or never, which is 0.
func lifeOf(text string) (time.Duration, error) {
	if text == "never" {
		return 0, nil
	}
	life, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if n, err = strconv.Atoi(days); err == nil && (n > 36500 || n < 0) {
			err = errors.New("too long")
		}
		life = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || life <= 0 {
		return 0, fmt.Errorf("--expires %q: use a time such as 12h or 90d, or never", text)
	}
	return life, nil
}

func newTokenList(std IO) *cobra.Command {
	var user string
	var all bool
	c := &cobra.Command{Use: "list", Short: "List tokens; what they are worth, not what they are", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	c.Flags().StringVar(&user, "user", "", "whose (default your own)")
	c.Flags().BoolVar(&all, "all", false, "everybody's")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if all {
			user = "*"
		}
		return listTokens(c.Context(), server(), user, std.Out)
	}
	return c
}

func listTokens(ctx context.Context, c *client, user string, out io.Writer) error {
	var all items[struct {
		ID, User, Note string
		Scopes         []string
		Created        time.Time `json:"createdAt"`
		Until          time.Time
	}]
	if err := c.call(ctx, http.MethodGet, path("tokens")+"?user="+url.QueryEscape(user), nil, &all); err != nil {
		return err
	}
	t := table(out)
	fmt.Fprintln(t, "ID\tUSER\tSCOPES\tCREATED\tEXPIRES\tNOTE")
	for _, k := range all.Items {
		until := "never"
		if !k.Until.IsZero() {
			until = k.Until.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.User, strings.Join(k.Scopes, ", "), k.Created.Local().Format(time.DateTime), until, oneLine(k.Note))
	}
	return t.Flush()
}

func newTokenRevoke(std IO) *cobra.Command {
	c := &cobra.Command{Use: "revoke ID", Short: "Have a token count for nothing", Args: cobra.ExactArgs(1)}
	server := clientFlags(c, std)
	c.RunE = func(c *cobra.Command, args []string) error {
		err := server().call(c.Context(), http.MethodDelete, path("tokens", args[0]), nil, nil)
		if err == nil {
			fmt.Fprintf(std.Out, "%s is revoked\n", args[0])
		}
		return err
	}
	return c
}
