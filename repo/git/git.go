// Package git runs the system's git with nothing of the machine's or a user's configuration, with a deadline, and with
// its output bounded.
package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Zero is how Git writes the absence of an object in a change of a ref.
const Zero = "0000000000000000000000000000000000000000"

// Timeout ends a command that only reads or writes a few objects.
const Timeout = time.Minute

// maxOutput is the most that is kept of a command's output in memory, in bytes.
const maxOutput = 64 << 20

// maxStderr is the most that is kept of what a command complains about, in bytes.
const maxStderr = 4 << 10

// Setting is one setting of Git's configuration.
type Setting struct{ Key, Value string }

// Runner runs git. Create it with New; methods are safe for concurrent use.
type Runner struct {
	path     string
	settings []Setting
	env      []string
}

// always are the settings of every runner; a later setting of the same key takes the place of one.
func always() []Setting {
	return []Setting{
		{Key: "core.hooksPath", Value: os.DevNull}, // a repository's own hooks are somebody else's programs
		{Key: "core.quotePath", Value: "false"},
		{Key: "gc.auto", Value: "0"},
		{Key: "safe.directory", Value: "*"},
	}
}

// New returns a runner of the git at path (empty: the one of the PATH), whose commands have these settings beside those that all have, and no
// others.
func New(path string, settings ...Setting) *Runner { return with(path, append(always(), settings...)) }

func with(path string, settings []Setting) *Runner {
	if path == "" {
		path = "git"
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"LC_ALL=C",
		"HOME=/nonexistent",
		"XDG_CONFIG_HOME=/nonexistent",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_LITERAL_PATHSPECS=1",
		"GIT_NO_REPLACE_OBJECTS=1",
		"GIT_CONFIG_COUNT=" + strconv.Itoa(len(settings)),
	}
	for i, s := range settings {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s.Key), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s.Value))
	}
	return &Runner{path: path, settings: settings, env: env}
}

// With returns a runner with more settings. They are in the environment of its commands, which other users cannot read.
func (g *Runner) With(settings ...Setting) *Runner {
	return with(g.path, append(slices.Clone(g.settings), settings...))
}

// Error is a command that ended with a code other than 0.
type Error struct {
	// Command is git's own: "fetch".
	Command string
	Code    int
	// Stderr is the beginning of what it complained about.
	Stderr string
}

func (e *Error) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("git %s: exit code %d", e.Command, e.Code)
	}
	return fmt.Sprintf("git %s: %s", e.Command, e.Stderr)
}

// ExitCode is the exit code of a failed git command; -1 if the error is of another kind.
func ExitCode(err error) int {
	var ge *Error
	if errors.As(err, &ge) {
		return ge.Code
	}
	return -1
}

// Call is one command.
type Call struct {
	// Dir is the bare repository; empty for commands without one.
	Dir   string
	Args  []string
	Stdin []byte
	// Env is the command's environment in addition to the runner's.
	Env []string
	// Within bounds the command; 0 means Timeout.
	Within time.Duration
}

// Run runs a command to its end and returns what it printed; the output is returned with an error too, because some
// commands say with an exit code what they found.
func (g *Runner) Run(ctx context.Context, c Call) (string, error) {
	within := c.Within
	if within == 0 {
		within = Timeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("it took longer than %s", within))
	defer cancel()
	cmd := g.Command(ctx, c)
	cmd.Stdin = bytes.NewReader(c.Stdin)
	out, stderr := NewBuffer(maxOutput), NewBuffer(maxStderr)
	cmd.Stdout, cmd.Stderr = out, stderr
	err := cmd.Run()
	if err == nil && out.overflow {
		err = fmt.Errorf("git %s: output is larger than %d bytes", c.Args[0], maxOutput)
	}
	return out.String(), Describe(ctx, c.Args[0], err, stderr.String())
}

// Read is Run for a command without input.
func (g *Runner) Read(ctx context.Context, dir string, args ...string) (string, error) {
	return g.Run(ctx, Call{Dir: dir, Args: args})
}

// Command prepares a command in a process group of its own, so that ending it ends its children. The context bounds it.
func (g *Runner) Command(ctx context.Context, c Call) *exec.Cmd {
	cmd := exec.CommandContext(ctx, g.path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(append([]string{}, g.env...), c.Env...)
	if c.Dir != "" {
		cmd.Env = append(cmd.Env, "GIT_DIR="+c.Dir)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// SIGTERM lets git remove its quarantine; WaitDelay ends what does not listen.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Describe says what became of a command that was started with Command: an [Error] with what it complained about, or the
// context's cause if that ended it.
func Describe(ctx context.Context, name string, err error, stderr string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("git %s: %w", name, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &Error{Command: name, Code: exit.ExitCode(), Stderr: strings.TrimSpace(stderr)}
	}
	return fmt.Errorf("git %s: %w", name, err)
}

// CheckVersion says what to do if git is missing or older than 2.38, the first with merge-tree --write-tree.
func (g *Runner) CheckVersion(ctx context.Context) error {
	out, err := g.Read(ctx, "", "version")
	if err != nil {
		return fmt.Errorf("git cannot be run; install git 2.38 or newer: %w", err)
	}
	major, minor, ok := parseVersion(out)
	if !ok {
		return fmt.Errorf("git says %q instead of a version; install git 2.38 or newer", strings.TrimSpace(out))
	}
	if major < 2 || major == 2 && minor < 38 {
		return fmt.Errorf("git %d.%d is too old; install git 2.38 or newer", major, minor)
	}
	return nil
}

// parseVersion reads "git version 2.39.5 (Apple Git-154)".
func parseVersion(s string) (major, minor int, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), "git version ")
	if !ok {
		return 0, 0, false
	}
	parts := strings.SplitN(rest, ".", 3)
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(strings.TrimRight(parts[1], " -abcdefghijklmnopqrstuvwxyz"))
	return major, minor, err1 == nil && err2 == nil
}

// Buffer keeps the first bytes of what is written to it and swallows the rest.
type Buffer struct {
	buf      bytes.Buffer
	most     int
	overflow bool
}

// NewBuffer returns a buffer that keeps at most so many bytes.
func NewBuffer(most int) *Buffer { return &Buffer{most: most} }

// String is what was kept.
func (b *Buffer) String() string { return b.buf.String() }

// Write implements io.Writer. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	if room := b.most - b.buf.Len(); len(p) > room {
		b.overflow = true
		b.buf.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return b.buf.Write(p)
}
