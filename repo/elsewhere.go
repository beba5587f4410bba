package repo

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/repo/git"
)

// scpURL is user@host:path, which git takes for SSH.
var scpURL = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:[^:]`) })

// foray is git on its way to a repository elsewhere. Close its route.
type foray struct {
	git   *git.Runner
	url   string // without what is secret
	env   []string
	route *egress.Route
}

// leave prepares git for a URL: it goes by the checked way out, and takes along user and password of an http URL as a header, so that they are
// neither among the arguments of a process nor in a file.
func (s *Store) leave(ctx context.Context, raw string) (*foray, error) {
	if egress.Field(ctx) == "" {
		ctx = egress.For(ctx, "the repository's URL")
	}
	route, err := s.o.Egress.Route(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", Redact(raw), err)
	}
	ssh, err := route.SSH()
	if err != nil {
		route.Close()
		return nil, fmt.Errorf("fetch %s: %w", Redact(raw), err)
	}
	f := &foray{git: s.git, url: raw, env: append(route.Env(), "GIT_SSH_COMMAND="+ssh), route: route}
	if through := route.Proxy(); through != "" {
		f.git = f.git.With(git.Setting{Key: "http.proxy", Value: through}, git.Setting{Key: "http.proxyAuthMethod", Value: "basic"})
	}
	u, err := url.Parse(raw)
	if err != nil || u.User == nil || u.Scheme != "http" && u.Scheme != "https" {
		return f, nil //nolint:nilerr // user@host:path is no URL, and takes an SSH key
	}
	password, _ := u.User.Password()
	basic := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
	u.User = nil
	origin := url.URL{Scheme: u.Scheme, Host: u.Host}
	f.git = f.git.With(
		git.Setting{Key: "http." + origin.String() + "/.extraHeader", Value: "Authorization: Basic " + basic},
		git.Setting{Key: "http.followRedirects", Value: "false"}, // the header is for this host only
	)
	f.url = u.String()
	return f, nil
}

// run fetches, and keeps git's own remarks to itself.
func (f *foray) run(ctx context.Context, b Bare, within time.Duration, args ...string) (string, error) {
	return f.git.Run(ctx, git.Call{Dir: b.Dir, Within: within, Env: f.env,
		Args: append([]string{"fetch", "--quiet", "--no-auto-maintenance", "--update-head-ok", "--force"}, args...)})
}

// explain says what git could not do, without the password of the URL.
func (f *foray) explain(raw string, err error) error {
	if err = f.route.Explain(err); errors.Is(err, egress.ErrRefused) {
		return fmt.Errorf("fetch %s: %w", Redact(raw), err)
	}
	var failed *git.Error
	if !errors.As(err, &failed) {
		return fmt.Errorf("fetch %s: %w", Redact(raw), err)
	}
	text := failed.Error()
	if strings.Contains(text, "couldn't find remote ref") || strings.Contains(text, "not found") {
		return fmt.Errorf("fetch %s: %s: %w", Redact(raw), text, ErrNotFound)
	}
	return fmt.Errorf("fetch %s: %s", Redact(raw), text)
}

// Redact takes the password out of a URL, for people to read. What is no URL is cut short.
func Redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		if scpURL().MatchString(raw) {
			return raw
		}
		return "the repository"
	}
	return u.Redacted()
}

// checkURL allows what the system's git fetches over the network, and nothing that it would execute or read from a disk. Git's own
// protocol (git://) proves nothing about the host and cannot be sent through the checking proxy, so it is not among it.
func checkURL(raw string) error {
	const what = "is not a repository's http, https or ssh URL"
	if len(raw) > 4096 || strings.ContainsAny(raw, "\n\r\x00") {
		return fmt.Errorf("a URL of %d bytes or with line breaks %s", len(raw), what)
	}
	if scpURL().MatchString(raw) {
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("%s %s", Redact(raw), what)
	}
	switch u.Scheme {
	case "http", "https", "ssh":
		if u.Host != "" && !strings.HasPrefix(u.Host, "-") && !strings.HasPrefix(u.User.Username(), "-") {
			return nil
		}
	}
	return fmt.Errorf("%q %s", Redact(raw), what)
}
