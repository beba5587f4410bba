package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/server"
	"github.com/tiphys/tiphys/wire"
)

type loginOptions struct {
	data  string
	noGit bool
}

func newLogin(std IO) *cobra.Command {
	o := loginOptions{}
	c := &cobra.Command{
		Use: "login", Short: "Let this command line, git and a browser be you at a server", Args: cobra.NoArgs,
		Long: `Login proves to a server who you are, by TIPHYS_TOKEN, or by what this machine knows of you at that server, or, with --data, by the
admin token of a data folder that you may read. It keeps the token in ~/.config/tiphys for the other commands, sets git's credential
helper for exactly this server's scheme, host and port, with a token that is worth only Git, and prints a link that logs a browser in:
once, within ten minutes. The user of an administrator's choice gets such a link by "tiphys user login-link".

Exit status: 0 success, 1 the server does not know you or git could not be set, 2 a bad command line.`,
	}
	server := clientFlags(c, std)
	c.Flags().StringVar(&o.data, "data", "", "data folder of the server, to use its admin token")
	c.Flags().BoolVar(&o.noGit, "no-git", false, "leave git's settings as they are")
	c.RunE = func(c *cobra.Command, _ []string) error { return runLogin(c.Context(), std, server(), o) }
	return c
}

func runLogin(ctx context.Context, std IO, c *client, o loginOptions) error {
	address, err := addressOf(c.base)
	if err != nil {
		return usage(err)
	}
	known := credential{Server: address}
	if o.data != "" {
		if known.Data, err = filepath.Abs(o.data); err != nil {
			return usage(err)
		}
		if c.token, err = tokenOf(known.Data); err != nil {
			return usage(err)
		}
	}
	var who struct {
		User string `json:"user"`
	}
	if err := c.call(ctx, http.MethodGet, "/api/v1/userinfo", nil, &who); err != nil {
		return err
	}
	k, err := ownKeyring(std)
	if err != nil {
		return err
	}
	known.Token = c.token
	if err := k.learn(known); err != nil {
		return err
	}
	if !o.noGit {
		if err := loginGit(ctx, std, c, k, address); err != nil {
			return err
		}
	}
	return printLink(ctx, std, c, "", fmt.Sprintf("You are %s at %s. Open this in a browser", who.User, address))
}

// gitLife is how long git's token is good: whoever uses it longer logs in again.
const gitLife = 90 * 24 * time.Hour

// loginGit has git send a token of its own, in the place of the one before.
func loginGit(ctx context.Context, std IO, c *client, k keyring, address string) error {
	known, err := k.find(address)
	if err != nil {
		return err
	}
	host, _ := os.Hostname() // it only says in a list which token it is
	var made struct {
		ID    string `json:"id"`
		Token string `json:"token"`
	}
	ask := map[string]any{"note": "git of " + userName(std) + " on " + host, "scopes": []access.Scope{access.ScopeGit}, "life": gitLife.String()}
	if err := c.call(ctx, http.MethodPost, "/api/v1/tokens", ask, &made); err != nil {
		return fmt.Errorf("make a token for git: %w", err)
	}
	before := known.GitID
	known.Git, known.GitID = made.Token, made.ID
	if err := k.keep(known); err != nil {
		return err
	}
	if before != "" {
		// It may be gone already.
		if err := c.call(ctx, http.MethodDelete, path("tokens", before), nil, nil); err != nil && !failure.Is(err, failure.NotFound) {
			return fmt.Errorf("revoke git's token of before: %w", err)
		}
	}
	return setGitHelper(ctx, address)
}

// tokenOf reads the admin token that a server made for its data folder.
func tokenOf(data string) (string, error) {
	f, err := os.Open(filepath.Join(data, wire.AdminTokenFile))
	if err != nil {
		return "", fmt.Errorf("read admin token: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxCredential))
	if err != nil {
		return "", fmt.Errorf("read admin token: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// namesOf are the addresses under which git may be told of a server: all names of loopback lead to one.
func namesOf(address string) []string {
	before, port, _ := strings.Cut(address, "://localhost:")
	if port == "" {
		return []string{address}
	}
	var all []string
	for _, host := range []string{"localhost", "127.0.0.1", server.LocalName} {
		all = append(all, before+"://"+host+":"+port)
	}
	return all
}

// setGitHelper has git ask this program for what it sends to a server, and nobody else: another helper would keep the token.
func setGitHelper(ctx context.Context, address string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	helper := "!" + egress.Quote(self) + " git-credential"
	for _, url := range namesOf(address) {
		key := "credential." + url + ".helper"
		// An empty helper forgets those that are set for every address.
		for _, args := range [][]string{{"--replace-all", key, ""}, {"--add", key, helper}} {
			if err := git(ctx, append([]string{"config", "--global"}, args...)...); err != nil {
				return fmt.Errorf("set git's credential helper (leave it out with --no-git): %w", err)
			}
		}
	}
	return nil
}

// gitTimeout bounds a call of git that does not reach out.
const gitTimeout = 10 * time.Second

func git(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "git", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

// newGitCredential is what git asks for a password (gitcredentials(7)); "tiphys login" tells git so.
func newGitCredential(std IO) *cobra.Command {
	return &cobra.Command{
		Use: "git-credential OPERATION", Hidden: true, Args: cobra.ExactArgs(1), Short: "Answer git, which asks for the token of a server",
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] != "get" {
				return nil // what git wants kept or forgotten is the keyring's, which login keeps
			}
			return runGitCredential(c.Context(), std)
		},
	}
}

// maxQuestion bounds what git says, in bytes.
const maxQuestion = 64 << 10

func runGitCredential(ctx context.Context, std IO) error {
	asked := map[string]string{}
	lines := bufio.NewScanner(io.LimitReader(std.In, maxQuestion))
	for lines.Scan() && lines.Text() != "" {
		key, value, _ := strings.Cut(lines.Text(), "=")
		asked[key] = value
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read git's question: %w", err)
	}
	address, err := addressOf(asked["protocol"] + "://" + asked["host"])
	if err != nil {
		return usage(err)
	}
	k, err := ownKeyring(std)
	if err != nil {
		return err
	}
	c, err := k.find(address)
	if err != nil {
		return err
	}
	if c.Git == "" {
		return failure.WithHint(failure.NotFoundf("nothing is known of %s", address), "run tiphys login --server "+address)
	}
	if strings.ContainsAny(c.Git, "\r\n") {
		return errors.New("the token that is kept is damaged: run tiphys login")
	}
	if asked["username"] == "" {
		// A colon would end the name (RFC 7617).
		fmt.Fprintf(std.Out, "username=%s\n", strings.ReplaceAll(committerName(ctx, std), ":", " "))
	}
	fmt.Fprintf(std.Out, "password=%s\n", c.Git)
	return nil
}
