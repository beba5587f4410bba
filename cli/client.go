package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/server"
	"github.com/tiphys/tiphys/server/gate"
)

// client speaks to a server.
type client struct {
	base  string
	token string
	http  *http.Client
	// notes takes what the server says of itself beside its answer, once.
	notes io.Writer
	noted bool
	// user says who acts, for a token that is nobody's own.
	user func(context.Context) string
	// unknown is why no token was found that should be there; nil otherwise.
	unknown error
}

// clientFlags adds the flags that every command which speaks to a server has.
func clientFlags(c *cobra.Command, std IO) func() *client {
	base := c.Flags().String("server", "", "address of the server (default $TIPHYS_SERVER, then http://"+defaultListen+")")
	return func() *client {
		b := *base
		if b == "" {
			b = std.Getenv("TIPHYS_SERVER")
		}
		if b == "" {
			b = defaultListen
		}
		if !strings.Contains(b, "://") {
			b = "http://" + b
		}
		c := &client{base: strings.TrimRight(b, "/"), token: std.Getenv("TIPHYS_TOKEN"), http: &http.Client{}, notes: std.Err,
			user: func(ctx context.Context) string { return committerName(ctx, std) }}
		if c.token == "" {
			c.token, c.unknown = knownToken(std, c.base)
		}
		return c
	}
}

// knownToken is what this user's keyring has for a server; empty if it has nothing.
func knownToken(std IO, base string) (string, error) {
	address, err := addressOf(base)
	if err != nil {
		return "", nil //nolint:nilerr // the request itself says what is wrong with the address
	}
	k, err := ownKeyring(std)
	if err != nil {
		return "", err
	}
	c, err := k.find(address)
	return c.Token, err
}

// committerName is who Git would say commits here, or else the user of this machine.
func committerName(ctx context.Context, std IO) string {
	name := std.Getenv("GIT_COMMITTER_NAME")
	if name == "" {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, "git", "config", "--get", "user.name").Output()
		if err == nil {
			name = string(out)
		}
	}
	if name = strings.Join(strings.Fields(name), " "); name == "" {
		return userName(std)
	}
	return name
}

// callTimeout bounds a request that does not stream.
const callTimeout = time.Minute

// call sends a request and decodes the answer into out, if out is not nil.
func (c *client) call(ctx context.Context, method, path string, body, out any) error {
	return c.callWithin(ctx, callTimeout, method, path, body, out)
}

// callWithin is call with a limit of its own, for what takes the server long.
func (c *client) callWithin(ctx context.Context, limit time.Duration, method, path string, body, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s: %w", c.base, err)
	}
	return nil
}

// send sends a request; an answer other than success is an error with the server's words.
func (c *client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return nil, usage(fmt.Errorf("server address %q: %w", c.base, err))
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.user != nil && method != http.MethodGet {
		req.Header.Set(gate.ClaimHeader, c.user(ctx))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the address of the request, which says less than the server's
		}
		return nil, fmt.Errorf("reach the server at %s: %w (start one with tiphys serve, or say where it is with --server or TIPHYS_SERVER)", c.base, err)
	}
	if held := resp.Header.Get(server.HeldHeader); held != "" && !c.noted && c.notes != nil && !strings.HasPrefix(path, restorePath) {
		c.noted = true
		fmt.Fprintf(c.notes, "the server is %s\n", held)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.serverError(resp)
}

func (c *client) serverError(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var e struct {
		Message string `json:"message"`
		Hint    string `json:"hint"`
	}
	if json.Unmarshal(raw, &e) != nil || e.Message == "" {
		e.Message = strings.TrimSpace(resp.Status + " " + string(raw))
	}
	if resp.StatusCode == http.StatusUnauthorized {
		e.Hint = "set TIPHYS_TOKEN to a token of yours, or on the server's machine run tiphys login --data FOLDER"
		if c.unknown != nil {
			e.Hint = c.unknown.Error()
		}
	}
	if e.Hint != "" {
		e.Message += " (" + e.Hint + ")"
	}
	return failure.New(failure.FromHTTP(resp.StatusCode), e.Message)
}

// stream copies a streaming answer to w until it ends.
func (c *client) stream(ctx context.Context, path string, w io.Writer) error {
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("read from the server: %w", err)
	}
	return nil
}

// path joins segments, escaped.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/api/v1")
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// items is a list's answer.
type items[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}
