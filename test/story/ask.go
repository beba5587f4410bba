package story

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// answerLimit bounds what is read of an answer, in bytes.
const answerLimit = 32 << 20

// Request sends one request to the server's port; host chooses an application. What is for the server itself and says not who asks is the
// administrator's, but for deliveries: an empty Authorization leaves it to be nobody's.
func (w *World) Request(ctx context.Context, method, host, path string, header map[string]string, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Host = host
	if host == "" && !strings.HasPrefix(path, "/webhooks/") {
		token, err := w.Token()
		if err != nil {
			return 0, nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range header {
		req.Header.Set(k, v)
		if v == "" {
			req.Header.Del(k)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	return resp.StatusCode, data, err
}

// Get reads JSON, or text into a *string.
func (w *World) Get(ctx context.Context, host, path string, into any) error {
	code, data, err := w.Request(ctx, http.MethodGet, host, path, nil, nil)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("GET %s%s answered %d: %s", host, path, code, firstLine(data))
	}
	switch v := into.(type) {
	case nil:
		return nil
	case *string:
		*v = string(data)
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("GET %s%s: %w", host, path, err)
	}
	return nil
}

func firstLine(data []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	return line[:min(len(line), 300)]
}

// Tiphys runs a command against the server, and returns what it printed.
func (w *World) Tiphys(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.o.Tiphys, args...)
	cmd.Env = w.env("TIPHYS_SERVER="+w.URL, "NO_COLOR=1", "TIPHYS_TOKEN=", "GIT_COMMITTER_NAME=Ada")
	return output(cmd, "tiphys "+strings.Join(args, " "))
}

// Apply declares what a text says; name is that of a file in w.Dir.
func (w *World) Apply(ctx context.Context, name, text string) error {
	file := filepath.Join(w.Dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	_, err := w.Tiphys(ctx, "apply", file)
	return err
}

// Git runs the system's git as Ada.
func (w *World) Git(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = w.Clone
	cmd.Env = w.GitEnv("Ada", "ada@example.org")
	return output(cmd, "git "+strings.Join(args, " "))
}

func output(cmd *exec.Cmd, what string) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err != nil {
		said := strings.TrimSpace(errs.String())
		if said == "" {
			said = strings.TrimSpace(out.String())
		}
		err = &commandError{what: what, said: said, err: err}
	}
	return strings.TrimSpace(out.String()), err
}

// commandError is a command that did not succeed, with its words.
type commandError struct {
	what, said string
	err        error
}

func (e *commandError) Error() string { return fmt.Sprintf("%s: %v: %s", e.what, e.err, e.said) }
func (e *commandError) Unwrap() error { return e.err }

// said are a failed command's words.
func said(err error) string {
	var c *commandError
	if errors.As(err, &c) {
		return c.said
	}
	return ""
}

// gitPush pushes; while the server is being killed it is tried again.
func (w *World) gitPush(ctx context.Context, args ...string) error {
	return w.tried(ctx, "git push", func(ctx context.Context) error {
		_, err := w.Git(ctx, append([]string{"push", "-q"}, args...)...)
		return err
	})
}

// tried does something that succeeds at the first try, unless the server is being killed.
func (w *World) tried(ctx context.Context, what string, do func(context.Context) error) error {
	if !w.o.Rough {
		return do(ctx)
	}
	return w.Within(ctx, 20*time.Second, what, do)
}

// commit records a change of one file, and returns the commit.
func (w *World) commit(ctx context.Context, message string) (string, error) {
	if _, err := w.Git(ctx, "commit", "-q", "-a", "-m", message); err != nil {
		return "", err
	}
	return w.Git(ctx, "rev-parse", "HEAD")
}
