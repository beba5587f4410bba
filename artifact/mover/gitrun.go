package mover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/artifact/blob"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/manifest"
)

// passedOn are the variables of this process that git gets to see.
var passedOn = []string{"PATH", "TMPDIR", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"}

// proxies are those that say which way git goes. They are passed on where no route says so.
var proxies = []string{"http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"}

// gitRunner runs git for one artifact, with a configuration of its own and none of the machine's.
type gitRunner struct {
	command string
	home    string // holds the configuration and the SSH key; removed at the end
	env     []string
	hidden  []string // secrets that git might repeat
}

// newGitRunner prepares to fetch by a route from a URL, or from a built-in repository's folder if local.
func (m *Mover) newGitRunner(ctx context.Context, a *manifest.GitArtifact, from string, local bool, route *egress.Route) (*gitRunner, error) {
	home, err := os.MkdirTemp(m.o.TempDir, "git-")
	if err != nil {
		return nil, fmt.Errorf("make folder for git: %w", blob.Explain(err, m.o.TempDir))
	}
	g := &gitRunner{command: m.o.GitCommand, home: home}
	if err := m.prepare(ctx, g, a, from, local, route); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// without returns a runner that may not use a transport.
func (g *gitRunner) without(transport string) *gitRunner {
	less := *g
	less.env = slices.Clone(g.env)
	for i, v := range less.env {
		if strings.HasPrefix(v, "GIT_ALLOW_PROTOCOL=") {
			less.env[i] = strings.ReplaceAll(v, ":"+transport, "")
		}
	}
	return &less
}

func (g *gitRunner) close() { _ = os.RemoveAll(g.home) }

// prepare writes git's configuration. Hooks and templates are off; only the transports that the artifact needs are
// allowed, so that a submodule cannot name a folder of this machine or a helper program.
func (m *Mover) prepare(ctx context.Context, g *gitRunner, a *manifest.GitArtifact, from string, local bool, route *egress.Route) error {
	transports := "http:https:ssh"
	if local {
		transports += ":file"
	}
	config := "[core]\n\thooksPath = /dev/null\n\tprotectHFS = true\n\tprotectNTFS = true\n\tfsmonitor = false\n" +
		"[init]\n\tdefaultBranch = main\n\ttemplateDir =\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n" +
		"[advice]\n\tdetachedHead = false\n[credential]\n\thelper =\n[protocol]\n\tversion = 2\n"
	if local {
		config += "[safe]\n\tdirectory = " + quoteConfig(from) + "\n"
	}
	if a.InsecureSkipTLS {
		config += "[http]\n\tsslVerify = false\n"
	}
	g.env = []string{
		"HOME=" + g.home, "XDG_CONFIG_HOME=" + g.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_ATTR_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + filepath.Join(g.home, "config"), "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false",
		"GIT_ALLOW_PROTOCOL=" + transports, "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C",
	}
	passed := passedOn
	if through := route.Proxy(); through != "" {
		config += "[http]\n\tproxy = " + quoteConfig(through) + "\n\tproxyAuthMethod = basic\n"
		g.env = append(g.env, route.Env()...)
	} else {
		passed = slices.Concat(passedOn, proxies)
	}
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok {
			g.env = append(g.env, name+"="+v)
		}
	}
	login, err := m.login(ctx, g, a)
	if err != nil {
		return err
	}
	if err := m.ssh(ctx, g, a, route); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(g.home, "config"), []byte(config+login), 0o600); err != nil {
		return fmt.Errorf("write git's configuration: %w", blob.Explain(err, g.home))
	}
	return nil
}

// login lets git ask for user and password of the artifact's own host, and no other: a submodule or a redirect
// elsewhere does not get them. They are in the environment, never among the arguments or in a file.
func (m *Mover) login(ctx context.Context, g *gitRunner, a *manifest.GitArtifact) (string, error) {
	user, err := m.secretOf(ctx, a.UsernameSecret)
	if err != nil {
		return "", err
	}
	password, err := m.secretOf(ctx, a.PasswordSecret)
	if err != nil {
		return "", err
	}
	name, word := strings.TrimRight(user.Reveal(), "\r\n"), strings.TrimRight(password.Reveal(), "\r\n")
	u, err := url.Parse(a.Repo)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return "", nil //nolint:nilerr // user@host:path is no URL, and takes an SSH key
	}
	if inURL, ok := u.User.Password(); ok && name == "" && word == "" {
		name, word = u.User.Username(), inURL
	}
	if name == "" && word == "" {
		return "", nil
	}
	if strings.ContainsAny(name+word, "\r\n\x00") {
		return "", errors.New("git: user or password has line breaks")
	}
	g.hidden = append(g.hidden, word)
	g.env = append(g.env, "TIPHYS_GIT_USERNAME="+name, "TIPHYS_GIT_PASSWORD="+word)
	helper := `!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$TIPHYS_GIT_USERNAME" "$TIPHYS_GIT_PASSWORD"; }; f`
	return "[credential " + quoteConfig(u.Scheme+"://"+u.Host) + "]\n\thelper = " + quoteConfig(helper) + "\n", nil
}

func quoteConfig(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// ssh lets git use the artifact's key and nothing else of this machine but its known hosts.
func (m *Mover) ssh(ctx context.Context, g *gitRunner, a *manifest.GitArtifact, route *egress.Route) error {
	key, err := m.secretOf(ctx, a.SSHPrivateKeySecret)
	if err != nil {
		return err
	}
	command, err := route.SSH()
	if err != nil {
		return err
	}
	command += " -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=30"
	if !key.IsZero() {
		file := filepath.Join(g.home, "key")
		body := strings.TrimRight(key.Reveal(), "\r\n") + "\n"
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			return fmt.Errorf("write SSH key: %w", blob.Explain(err, g.home))
		}
		command += " -i " + egress.Quote(file)
	}
	switch {
	case a.InsecureIgnoreHostKey:
		command += " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
	case m.o.KnownHosts != "":
		command += " -o StrictHostKeyChecking=yes -o UserKnownHostsFile=" + egress.Quote(m.o.KnownHosts)
	default:
		command += " -o StrictHostKeyChecking=yes"
	}
	g.env = append(g.env, "GIT_SSH_COMMAND="+command)
	return nil
}

// run runs git in dir and returns its output; its complaints are in the error.
func (g *gitRunner) run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, g.command, args...) //nolint:gosec // the arguments were checked
	cmd.Dir, cmd.Env = dir, g.env
	if dir == "" {
		cmd.Dir = g.home
	} else {
		cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &tail{b: &complaint, most: 4 << 10}
	ownGroup(cmd)
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case errors.Is(err, exec.ErrNotFound):
		return "", errNoGit
	case ctx.Err() != nil:
		return "", fmt.Errorf("git %s: %w", args[0], context.Cause(ctx))
	}
	text := strings.TrimSpace(complaint.String())
	for _, h := range g.hidden {
		if h != "" {
			text = strings.ReplaceAll(text, h, "******")
		}
	}
	if text == "" {
		text = err.Error()
	}
	return "", fmt.Errorf("git %s: %s", args[0], strings.ReplaceAll(text, "\n", "; "))
}

// tail keeps the last bytes of what is written.
type tail struct {
	b    *bytes.Buffer
	most int
}

func (t *tail) Write(p []byte) (int, error) {
	t.b.Write(p)
	if extra := t.b.Len() - t.most; extra > 0 {
		t.b.Next(extra)
	}
	return len(p), nil
}
