package render

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
	"time"

	"github.com/tiphys/tiphys/manifest"
)

// Child renders in a confined process of its own: no environment, no network, no descriptors but the checkout's,
// limits on memory, processor time and files, and, where this program runs as root, an unprivileged user. The
// checkout must be readable for others then (git's default modes are).
type Child struct {
	// Command starts the process that calls [Main]: this program's path and the name of its hidden command.
	// Empty means "/proc/self/exe __render".
	Command []string
	// Timeout ends a rendering; 0 means 60 s.
	Timeout time.Duration
	// Memory is the most data memory in bytes; 0 means 1 GiB.
	Memory uint64
}

// The most that a child may answer, and the most of its complaints that is kept.
const (
	maxAnswer     = 128 << 20
	maxComplaints = 8 << 10
)

type request struct {
	Source Source `json:"source"`
	Memory uint64 `json:"memory"`
	// CPUSeconds is processor time.
	CPUSeconds uint64 `json:"cpuSeconds"`
	// Drop asks for an unprivileged user.
	Drop bool `json:"drop"`
}

type answer struct {
	Result  Result `json:"result"`
	Error   string `json:"error,omitempty"`
	Refused bool   `json:"refused,omitempty"`
}

// Render renders the source in a child process.
func (c Child) Render(ctx context.Context, s Source) (Result, error) {
	if c.Timeout <= 0 {
		c.Timeout = time.Minute
	}
	if c.Memory == 0 {
		c.Memory = 1 << 30
	}
	if len(c.Command) == 0 {
		c.Command = []string{"/proc/self/exe", "__render"}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	root, err := os.Open(s.Root)
	if err != nil {
		return Result{}, fmt.Errorf("open checkout: %w", err)
	}
	defer func() { _ = root.Close() }()
	input, err := json.Marshal(request{Source: s, Memory: c.Memory, CPUSeconds: uint64(c.Timeout/time.Second) + 1, Drop: os.Geteuid() == 0})
	if err != nil {
		return Result{}, fmt.Errorf("write render request: %w", err)
	}
	var warning *manifest.Diagnostic
	got, err := c.run(ctx, root, input, true)
	if errors.Is(err, os.ErrPermission) {
		// This machine lets us have no namespaces; the child still refuses remote sources and has no PATH.
		warning = &manifest.Diagnostic{Severity: manifest.SeverityWarning,
			Message: "rendered without a network namespace, which this machine does not allow"}
		got, err = c.run(ctx, root, input, false)
	}
	if err != nil {
		return Result{}, err
	}
	if got.Refused {
		return Result{}, fmt.Errorf("%s: %w", strings.TrimSuffix(got.Error, ": "+errRefused.Error()), errRefused)
	}
	if got.Error != "" {
		return Result{}, errors.New(got.Error)
	}
	if warning != nil {
		got.Result.Problems = append(got.Result.Problems, *warning)
	}
	return got.Result, nil
}

func (c Child) run(ctx context.Context, root *os.File, input []byte, isolate bool) (answer, error) {
	var got answer
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	cmd.Env = []string{"GOMAXPROCS=2", "GOMEMLIMIT=" + fmt.Sprint(c.Memory/2)}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{root}
	cmd.Stdin = bytes.NewReader(input)
	complaints := &bounded{limit: maxComplaints}
	cmd.Stderr = complaints
	cmd.SysProcAttr = confinement(isolate)
	cmd.WaitDelay = time.Second
	output, err := cmd.StdoutPipe()
	if err != nil {
		return got, fmt.Errorf("render: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return got, fmt.Errorf("start renderer: %w", err)
	}
	raw, readErr := io.ReadAll(io.LimitReader(output, maxAnswer+1))
	if len(raw) > maxAnswer {
		_ = cmd.Process.Kill()
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return got, fmt.Errorf("render: stopped after %s: %w", c.Timeout, ctx.Err())
	case len(raw) > maxAnswer:
		return got, fmt.Errorf("render: the result is larger than %d MiB", maxAnswer>>20)
	case err != nil:
		return got, fmt.Errorf("render: the renderer ended early, most likely at its limit of %d MiB of memory: %s: %w", c.Memory>>20, complaints.first(), err)
	case readErr != nil:
		return got, fmt.Errorf("read rendered objects: %w", readErr)
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		return got, fmt.Errorf("read rendered objects: %w", err)
	}
	return got, nil
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

func (b *bounded) first() string {
	line, _, _ := strings.Cut(strings.TrimSpace(b.String()), "\n")
	return line
}

// Main is the child: it reads a request from stdin, gives up what it does not need, renders the checkout that is
// open as descriptor 3, and writes the answer to stdout. The error is for a process that cannot answer at all.
func Main(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var r request
	if err := json.NewDecoder(io.LimitReader(stdin, 16<<20)).Decode(&r); err != nil {
		return fmt.Errorf("read render request: %w", err)
	}
	root, err := os.OpenRoot("/proc/self/fd/3")
	if err != nil {
		return fmt.Errorf("open checkout: %w", err)
	}
	defer func() { _ = root.Close() }()
	if err := confine(r); err != nil {
		return fmt.Errorf("confine renderer: %w", err)
	}
	var a answer
	a.Result, err = renderRoot(ctx, root, r.Source)
	if err != nil {
		a.Error, a.Refused = err.Error(), Refused(err)
	}
	if err := json.NewEncoder(stdout).Encode(a); err != nil {
		return fmt.Errorf("write rendered objects: %w", err)
	}
	return nil
}
