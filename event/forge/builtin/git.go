package builtin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// zeroSHA is how Git writes the absence of an object in a ref change.
const zeroSHA = "0000000000000000000000000000000000000000"

// gitTimeout ends a git command that only reads or writes a few objects.
const gitTimeout = time.Minute

// maxGitOutput is the most that is kept of a command's output in memory.
const maxGitOutput = 64 << 20

// gitRunner runs the system's git with nothing of the machine's or a user's configuration.
type gitRunner struct {
	path string
	env  []string
}

func newGitRunner(path, hooks string, maxPush int64) *gitRunner {
	if path == "" {
		path = "git"
	}
	config := [][2]string{
		{"core.hooksPath", hooks},
		{"safe.directory", "*"},
		{"receive.advertisePushOptions", "true"},
		{"receive.autogc", "false"}, // gc would outlive the push; Maintain does it
		{"receive.maxInputSize", strconv.FormatInt(maxPush, 10)},
		{"receive.hideRefs", mrRefs},
		{"transfer.fsckObjects", "true"},
		{"transfer.hideRefs", "refs/tiphys"},
		{"transfer.advertiseSID", "false"},
		{"protocol.version", "2"},
		{"uploadpack.allowFilter", "true"},
		{"gc.auto", "0"},
		{"gc.autoDetach", "false"},
		{"core.quotePath", "false"},
		{"core.fsync", "committed,loose-object,reference"}, // a confirmed push must survive a power cut
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
		"GIT_CONFIG_COUNT=" + strconv.Itoa(len(config)),
	}
	for i, kv := range config {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, kv[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, kv[1]))
	}
	return &gitRunner{path: path, env: env}
}

// gitError is a git command that failed.
type gitError struct {
	command string
	code    int
	stderr  string
}

func (e *gitError) Error() string {
	if e.stderr == "" {
		return fmt.Sprintf("git %s: exit code %d", e.command, e.code)
	}
	return fmt.Sprintf("git %s: %s", e.command, e.stderr)
}

// exitCode is the exit code of a failed git command; -1 if the error is of another kind.
func exitCode(err error) int {
	var ge *gitError
	if errors.As(err, &ge) {
		return ge.code
	}
	return -1
}

// call is one git command.
type call struct {
	dir   string // the bare repository
	args  []string
	stdin []byte
	env   []string // in addition
}

// run runs a command to its end and returns what it printed; the output is returned with an error too,
// because merge-tree says with exit code 1 what conflicts.
func (g *gitRunner) run(ctx context.Context, c call) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	cmd := g.command(ctx, c)
	cmd.Stdin = bytes.NewReader(c.stdin)
	out, stderr := &limitedBuffer{max: maxGitOutput}, &limitedBuffer{max: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, stderr
	err := cmd.Run()
	if err == nil && out.overflow {
		err = fmt.Errorf("git %s: output is larger than %d bytes", c.args[0], maxGitOutput)
	}
	return out.String(), describeExit(ctx, c.args[0], err, stderr.String())
}

// read is run for a command without input.
func (g *gitRunner) read(ctx context.Context, dir string, args ...string) (string, error) {
	return g.run(ctx, call{dir: dir, args: args})
}

// command prepares a command in a process group of its own, so that ending it ends its children.
func (g *gitRunner) command(ctx context.Context, c call) *exec.Cmd {
	cmd := exec.CommandContext(ctx, g.path, c.args...)
	cmd.Dir = c.dir
	cmd.Env = append(append([]string{}, g.env...), c.env...)
	if c.dir != "" {
		cmd.Env = append(cmd.Env, "GIT_DIR="+c.dir)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// SIGTERM lets git remove its quarantine; WaitDelay ends what does not listen.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func describeExit(ctx context.Context, name string, err error, stderr string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("git %s: %w", name, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &gitError{command: name, code: exit.ExitCode(), stderr: strings.TrimSpace(stderr)}
	}
	return fmt.Errorf("git %s: %w", name, err)
}

// checkVersion says what to do if git is missing or older than 2.38, the first with merge-tree --write-tree.
func (g *gitRunner) checkVersion(ctx context.Context) error {
	out, err := g.read(ctx, "", "version")
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

// limitedBuffer keeps the first max bytes and swallows the rest.
type limitedBuffer struct {
	bytes.Buffer
	max      int
	overflow bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.max - b.Len(); len(p) > room {
		b.overflow = true
		b.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}
