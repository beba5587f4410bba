package builtin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Environment of a hook, set by the server for git and handed on by git.
const (
	envSocket = "TIPHYS_HOOK_SOCKET"
	envPush   = "TIPHYS_HOOK_PUSH"
	envToken  = "TIPHYS_HOOK_TOKEN"
	envRepo   = "TIPHYS_HOOK_REPO"
)

// hookTimeout is the longest that a hook waits for the server.
const hookTimeout = 5 * time.Minute

// maxHookInput limits what a hook hands over: about 100,000 ref changes.
const maxHookInput = 16 << 20

// hookRequest is what a hook tells the server.
type hookRequest struct {
	Hook       string   `json:"hook"` // pre-receive or post-receive
	Repo       string   `json:"repo"`
	Push       string   `json:"push"`
	Token      string   `json:"token"`
	Changes    string   `json:"changes"` // git's lines: old, new, ref
	Options    []string `json:"options,omitempty"`
	Objects    string   `json:"objects,omitempty"`    // GIT_OBJECT_DIRECTORY: the quarantine
	Alternates string   `json:"alternates,omitempty"` // GIT_ALTERNATE_OBJECT_DIRECTORIES
}

// hookAnswer is what the server says.
type hookAnswer struct {
	Refuse   bool     `json:"refuse,omitempty"`
	Messages []string `json:"messages,omitempty"`
}

// HookName reports whether a program was called as one of the remote's hooks, and as which: pass os.Args[0].
func HookName(argv0 string) (string, bool) {
	name := filepath.Base(argv0)
	return name, name == "pre-receive" || name == "post-receive"
}

// HookMain is the main function of the hook executable: it hands what git says to the server and prints what
// the server answers for the person who pushes. env is os.Environ(). It returns the exit code; a pre-receive
// that cannot reach the server refuses the push.
func HookMain(name string, stdin io.Reader, stdout, stderr io.Writer, env []string) int {
	answer, err := callServer(name, stdin, env)
	if err != nil {
		if name == "post-receive" {
			// The refs have changed already; the server finds the change by comparing refs.
			fmt.Fprintf(stderr, "tiphys: the push is stored, but could not be announced yet: %v\n", err)
			return 0
		}
		fmt.Fprintf(stderr, "tiphys: %v; push again when the server is up\n", err)
		return 1
	}
	for _, m := range answer.Messages {
		fmt.Fprintln(stderr, m)
	}
	if answer.Refuse {
		return 1
	}
	return 0
}

func callServer(name string, stdin io.Reader, environ []string) (hookAnswer, error) {
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	if env[envSocket] == "" {
		return hookAnswer{}, fmt.Errorf("%s is not set: push through the server's address", envSocket)
	}
	changes, err := io.ReadAll(io.LimitReader(stdin, maxHookInput+1))
	if err != nil {
		return hookAnswer{}, fmt.Errorf("read the changes of the push: %w", err)
	}
	if len(changes) > maxHookInput {
		return hookAnswer{}, fmt.Errorf("the push changes too many refs; push them in several steps")
	}
	req := hookRequest{
		Hook: name, Repo: env[envRepo], Push: env[envPush], Token: env[envToken], Changes: string(changes),
		Objects: env["GIT_OBJECT_DIRECTORY"], Alternates: env["GIT_ALTERNATE_OBJECT_DIRECTORIES"],
	}
	n, _ := strconv.Atoi(env["GIT_PUSH_OPTION_COUNT"]) // absent means none
	for i := range n {
		req.Options = append(req.Options, env[fmt.Sprintf("GIT_PUSH_OPTION_%d", i)])
	}
	return exchange(env[envSocket], req)
}

// dialTimeout bounds how long a hook waits for a server that is starting.
const dialTimeout = 10 * time.Second

func exchange(socket string, req hookRequest) (hookAnswer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return hookAnswer{}, fmt.Errorf("reach the server: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(hookTimeout)); err != nil {
		return hookAnswer{}, fmt.Errorf("reach the server: %w", err)
	}
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return hookAnswer{}, fmt.Errorf("tell the server: %w", err)
	}
	var answer hookAnswer
	if err := json.NewDecoder(io.LimitReader(conn, maxHookInput)).Decode(&answer); err != nil {
		return hookAnswer{}, fmt.Errorf("wait for the server's answer: %w", err)
	}
	return answer, nil
}
