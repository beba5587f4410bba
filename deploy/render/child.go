package render

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tiphys/tiphys/confine"
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

// maxAnswer is the most that a child may answer, in bytes.
const maxAnswer = 128 << 20

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
	var got answer
	child := confine.Child{Command: c.Command, Timeout: c.Timeout, Memory: c.Memory, Answer: maxAnswer}
	isolated, err := child.Run(ctx, s.Root, s, &got)
	if err != nil {
		return Result{}, fmt.Errorf("render: %w", err)
	}
	if got.Refused {
		return Result{}, fmt.Errorf("%s: %w", strings.TrimSuffix(got.Error, ": "+errRefused.Error()), errRefused)
	}
	if got.Error != "" {
		return Result{}, errors.New(got.Error)
	}
	if !isolated {
		// The child still refuses remote sources and has no PATH.
		got.Result.Problems = append(got.Result.Problems, manifest.Diagnostic{Severity: manifest.SeverityWarning,
			Message: "rendered without a network namespace, which this machine does not allow"})
	}
	return got.Result, nil
}

// Main is the child: it renders the checkout that it is given. The error is for a process that cannot answer at all.
func Main(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	return confine.Main(stdin, stdout, func(root *os.Root, body []byte) (any, error) {
		var s Source
		if err := json.Unmarshal(body, &s); err != nil {
			return nil, fmt.Errorf("read render request: %w", err)
		}
		var a answer
		var err error
		a.Result, err = renderRoot(ctx, root, s)
		if err != nil {
			a.Error, a.Refused = err.Error(), Refused(err)
		}
		return a, nil
	})
}
