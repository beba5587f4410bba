// Package confine runs a part of this program in a process of its own that can compute and nothing else: no environment, no network, no
// descriptors but a folder's, limits on memory, processor time and files and, where this program runs as root, an unprivileged user.
//
// The one side is [Child.Run], the other [Main], which a hidden command of this same program calls: one process for each request. Where
// requests are many and small, a [Pool] keeps processes that answer one request after the other; their side is [Serve].
package confine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/failure"
)

// Child says how a process is confined.
type Child struct {
	// Command starts the process that calls [Main]: this program's path and the name of a hidden command.
	Command []string
	// Timeout ends the process.
	Timeout time.Duration
	// Memory is the most data memory in bytes, beyond what the program itself has when it starts.
	Memory uint64
	// Answer is the most that it may answer, in bytes.
	Answer int64
	// Jail makes the folder all that the process can name. It needs root; without it the process is another's no more than this one is.
	Jail bool
}

// ErrTooLarge is wrapped where the answer is larger than allowed.
var ErrTooLarge = failure.New(failure.TooLarge, "the result is too large")

// ErrTooLong is wrapped where a request took more processor time than it may.
var ErrTooLong = failure.New(failure.TimedOut, "it takes too long")

// EndedError says that the process ended without an answer: it met a limit, or a fault of this program.
type EndedError struct {
	// Reason is for a person.
	Reason string
	Err    error
}

func (e *EndedError) Error() string { return e.Reason }

// Unwrap gives what ended the process.
func (e *EndedError) Unwrap() error { return e.Err }

// request is what the process reads from its standard input.
type request struct {
	Memory uint64 `json:"memory"`
	// CPUSeconds is processor time.
	CPUSeconds uint64 `json:"cpuSeconds"`
	// Drop asks for an unprivileged user.
	Drop bool `json:"drop"`
	Jail bool `json:"jail"`
	// Each is the processor time of each request to a process of a pool, and Answer the most bytes of its answer.
	Each   time.Duration   `json:"each,omitempty"`
	Answer int64           `json:"answer,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
}

// nobody is the unprivileged user and group of the process.
const nobody = 65534

// unconfined is what a process says first that could not give up what it must.
const unconfined = "confine process"

const (
	// maxRequest bounds a request, maxComplaints what is kept of the process's complaints, in bytes.
	maxRequest    = 64 << 20
	maxComplaints = 8 << 10
)

// Run gives a request to a process that sees the folder root, which must be readable for others (git's default modes are), and decodes
// what it answers. isolated is false if this machine allows no network namespace: the process then runs without.
func (c Child) Run(ctx context.Context, root string, ask, answer any) (isolated bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	dir, err := os.Open(root)
	if err != nil {
		return false, fmt.Errorf("open checkout: %w", err)
	}
	defer func() { _ = dir.Close() }() // it was only read
	body, err := json.Marshal(ask)
	if err != nil {
		return false, fmt.Errorf("write request: %w", err)
	}
	r := c.limits()
	r.CPUSeconds, r.Body = uint64(c.Timeout/time.Second)+1, body
	input, err := json.Marshal(r)
	if err != nil {
		return false, fmt.Errorf("write request: %w", err)
	}
	raw, err := c.run(ctx, dir, input, true)
	isolated = true
	if errors.Is(err, os.ErrPermission) {
		// This machine lets us have no namespaces; what the process does must need none to be harmless.
		isolated = false
		raw, err = c.run(ctx, dir, input, false)
	}
	if err != nil {
		return isolated, err
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return isolated, fmt.Errorf("read answer: %w", err)
	}
	return isolated, nil
}

// limits are those of a request but for processor time.
func (c Child) limits() request {
	// Root of a user namespace without other users cannot become one, and nobody else's files are his anyway.
	root := os.Geteuid() == 0 && known(nobody)
	return request{Memory: c.Memory, Drop: root, Jail: root && c.Jail}
}

func (c Child) run(ctx context.Context, root *os.File, input []byte, isolate bool) ([]byte, error) {
	cmd, complaints := c.command(ctx, root, isolate)
	endWithParent(cmd.SysProcAttr)
	cmd.Stdin = bytes.NewReader(input)
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start process: %w", err)
	}
	raw, readErr := io.ReadAll(io.LimitReader(output, c.Answer+1))
	if int64(len(raw)) > c.Answer {
		_ = cmd.Process.Kill() // it may have ended
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("stopped after %s: %w", c.Timeout, ctx.Err())
	case int64(len(raw)) > c.Answer:
		return nil, fmt.Errorf("%w: more than %d MiB", ErrTooLarge, c.Answer>>20)
	case err != nil:
		return nil, c.ended(err, complaints.String())
	case readErr != nil:
		return nil, fmt.Errorf("read answer: %w", readErr)
	}
	return raw, nil
}

// command is the process, not yet started, and what it will complain of. It ends with ctx.
func (c Child) command(ctx context.Context, root *os.File, isolate bool) (*exec.Cmd, *bounded) {
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	// The collector works harder before the limit is met.
	cmd.Env = []string{"GOMAXPROCS=2", "GOMEMLIMIT=" + fmt.Sprint(c.Memory/2)}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{root}
	complaints := &bounded{limit: maxComplaints}
	cmd.Stderr = complaints
	cmd.SysProcAttr = attributes(isolate)
	cmd.WaitDelay = time.Second
	return cmd, complaints
}

// ended says why a process ended early, from what the Go runtime wrote last.
func (c Child) ended(err error, said string) error {
	first, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	if strings.Contains(first, unconfined) {
		return errors.New(first) // it did no work, so the work is not to blame
	}
	reason := fmt.Sprintf("the process ended early, most likely at its limit of %d MiB of memory: %s: %v", c.Memory>>20, first, err)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status, ok := exit.Sys().(syscall.WaitStatus)
		if ok && status.Signaled() && status.Signal() == syscall.SIGXCPU {
			reason = fmt.Sprintf("it met its limit of %d s of processor time", int(c.Timeout/time.Second)+1)
		}
	}
	switch {
	case metStack(said):
		reason = "something in it is nested too deeply"
	case metMemory(said):
		reason = fmt.Sprintf("it met its limit of %d MiB of memory", c.Memory>>20)
	}
	return &EndedError{Reason: reason, Err: err}
}

// metLimit tells by the runtime's last words whether a process ended at one of its limits.
func metLimit(said string) bool { return metStack(said) || metMemory(said) }

func metStack(said string) bool {
	return strings.Contains(said, "stack exceeds") || strings.Contains(said, "stack overflow")
}

// metMemory knows that parts of the runtime itself do not expect to be refused memory: the fault is then in no code of ours, which the
// runtime would call a panic.
func metMemory(said string) bool {
	return strings.HasPrefix(said, "SIGSEGV: segmentation violation") || strings.Contains(said, "unexpected signal during runtime execution") ||
		strings.Contains(said, "out of memory") || strings.Contains(said, "cannot allocate") || strings.Contains(said, "failed to reserve")
}

// Shortened bounds what a process says of its work, to 4 KiB: a program chooses what it throws.
func Shortened(text string) string {
	return failure.Clip(text, 4<<10)
}

// bounded keeps the first bytes written to it.
type bounded struct {
	bytes.Buffer
	limit int
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.limit - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// Main is the process: it reads a request from stdin, gives up for good what computing does not need, does the work on the folder that is
// open as descriptor 3, and writes the answer to stdout. The error is for a process that cannot answer at all.
func Main(stdin io.Reader, stdout io.Writer, work func(root *os.Root, body []byte) (any, error)) error {
	var r request
	if err := json.NewDecoder(io.LimitReader(stdin, maxRequest)).Decode(&r); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	root, err := os.OpenRoot("/proc/self/fd/3")
	if err != nil {
		return fmt.Errorf("open checkout: %w", err)
	}
	defer func() { _ = root.Close() }() // it was only read
	if err := confine(r); err != nil {
		return fmt.Errorf(unconfined+": %w", err)
	}
	answer, err := work(root, r.Body)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(answer); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}
