package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tiphys/tiphys/confine"
)

// Limits of a program that is evaluated in a process of its own.
const (
	confinedTime   = 15 * time.Second // the program's own time, MaxTime, and what it takes to start and to bundle
	confinedMemory = 384 << 20
	// maxAnswer bounds the process's answer: a manifest whose every byte is escaped.
	maxAnswer = 6*MaxOutput + 64<<10
	// maxMessages bounds how many mistakes of a program are told.
	maxMessages = 20
)

// Confined evaluates programs of others, each in a confined process of this same program, whose hidden command calls [Main]. The
// process is given a folder and can read nothing else.
type Confined struct {
	// Command starts the process: this program's path and the name of its hidden command. Empty means "/proc/self/exe __evaluate".
	Command []string
	// Timeout ends an evaluation; 0 means 15 s. Memory is the most data memory in bytes; 0 means 384 MiB.
	Timeout time.Duration
	Memory  uint64
}

type confinedRequest struct {
	File string `json:"file"`
	// Time is how long the program itself may run: it ends before the process does, so that it is known where it was.
	Time  time.Duration  `json:"time"`
	Input map[string]any `json:"input,omitempty"`
}

type confinedAnswer struct {
	Manifest string `json:"manifest,omitempty"`
	// Mistakes are the program's, Failure is ours.
	Mistakes []*Error `json:"mistakes,omitempty"`
	Failure  string   `json:"failure,omitempty"`
}

// Evaluate evaluates the program file of the folder root, as the function [Evaluate] does. What is wrong with the program, limits that
// it met included, is an *Error or several joined; any other error is not the program's fault, and may be gone at the next try.
func (c Confined) Evaluate(ctx context.Context, root, file string, input map[string]any) ([]byte, error) {
	if c.Timeout <= 0 {
		c.Timeout = confinedTime
	}
	if c.Memory == 0 {
		c.Memory = confinedMemory
	}
	if len(c.Command) == 0 {
		c.Command = []string{"/proc/self/exe", "__evaluate"}
	}
	if err := Evaluable(file); err != nil {
		return nil, err
	}
	var got confinedAnswer
	child := confine.Child{Command: c.Command, Timeout: c.Timeout, Memory: c.Memory, Answer: maxAnswer, Jail: true}
	_, err := child.Run(ctx, root, confinedRequest{File: file, Input: input, Time: c.Timeout * 2 / 3}, &got)
	var ended *confine.EndedError
	switch {
	case errors.As(err, &ended):
		return nil, &Error{File: file, Message: "the program was stopped: " + ended.Reason}
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return nil, &Error{File: file, Message: fmt.Sprintf("the program was stopped: it took longer than %s", c.Timeout)}
	case errors.Is(err, confine.ErrTooLarge):
		return nil, &Error{File: file, Message: fmt.Sprintf("the manifest has more than %d bytes: make it smaller", MaxOutput)}
	case err != nil:
		return nil, fmt.Errorf("evaluate %s: %w", file, err)
	case got.Failure != "":
		return nil, fmt.Errorf("evaluate %s: %s", file, got.Failure)
	case len(got.Mistakes) > 0:
		errs := make([]error, len(got.Mistakes))
		for i, m := range got.Mistakes {
			errs[i] = m
		}
		return nil, errors.Join(errs...)
	}
	return []byte(got.Manifest), nil
}

// IsProgram tells by a file's name whether it is a program, in a language that is evaluated or in another.
func IsProgram(file string) bool {
	return slices.Contains(strings.Fields(".ts .js .mts .cts .mjs .cjs .tsx .jsx .py .go .rb .sh .bash .rs .java .kt .cs .php .pl .lua .exs"), path.Ext(file))
}

// Evaluable tells whether a file of a repository is a program that is evaluated, by its name; if not, the *Error says what to do instead.
func Evaluable(file string) error {
	switch ext := path.Ext(file); ext {
	case ".ts", ".js":
		return nil
	default:
		return &Error{File: file, Message: fmt.Sprintf("programs in %s are not run by the server, which evaluates TypeScript and JavaScript only: "+
			"commit the manifest that it prints, or let a step run it and submit what it prints", ext)}
	}
}

// Main is the process: it evaluates the program that it is asked for. The error is for a process that cannot answer at all.
func Main(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	return confine.Main(stdin, stdout, func(root *os.Root, body []byte) (any, error) {
		var r confinedRequest
		if err := json.Unmarshal(body, &r); err != nil {
			return nil, fmt.Errorf("read request: %w", err)
		}
		var a confinedAnswer
		made, err := evaluateIn(ctx, root, r)
		if err == nil {
			a.Manifest = string(made)
			return a, nil
		}
		a.Mistakes = mistakesOf(err)
		if len(a.Mistakes) == 0 {
			a.Failure = confine.Shortened(err.Error())
		}
		return a, nil
	})
}

func evaluateIn(ctx context.Context, root *os.Root, r confinedRequest) ([]byte, error) {
	file := path.Clean(r.File)
	info, err := root.Stat(file)
	if err != nil {
		return nil, &Error{File: file, Message: "the program cannot be read: " + plainError(err)}
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{File: file, Message: "the program cannot be read: it is not a file"}
	}
	code, err := read(root.FS(), file)
	if err != nil {
		return nil, &Error{File: file, Message: plainError(err)}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.Time, tooLong(r.Time))
	defer cancel()
	return Evaluate(ctx, Source{File: file, Code: code, FS: root.FS(), Input: r.Input})
}

// plainError takes the system call and the path off an error, which says them anyway.
func plainError(err error) string {
	var p *os.PathError
	if !errors.As(err, &p) {
		return err.Error()
	}
	if strings.Contains(p.Err.Error(), "escapes") {
		return "it leads outside of the repository"
	}
	return p.Err.Error()
}

// mistakesOf finds the mistakes in an error, the first of them.
func mistakesOf(err error) []*Error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Error
		for _, e := range several.Unwrap() {
			all = append(all, mistakesOf(e)...)
		}
		return all[:min(len(all), maxMessages)]
	}
	var one *Error
	if !errors.As(err, &one) {
		return nil
	}
	cut := *one
	cut.Message = confine.Shortened(cut.Message)
	return []*Error{&cut}
}
