package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tiphys/tiphys/sdk"
)

// How a file becomes a manifest.
const (
	// Manifest is a file that is one.
	Manifest Kind = iota
	// Evaluated is a program for [Evaluate].
	Evaluated
	// Printed is a program for [Printer.Print].
	Printed
)

// Kind says how a file becomes a manifest.
type Kind int

// KindOf tells by a file's name and mode what it is: TypeScript and JavaScript are evaluated; Python, Go and any other executable
// print. Files called .yaml, .yml or .json are manifests whatever their mode is.
func KindOf(name string, mode fs.FileMode) Kind {
	switch filepath.Ext(name) {
	case ".ts", ".js":
		return Evaluated
	case ".py", ".go":
		return Printed
	case ".yaml", ".yml", ".json":
		return Manifest
	}
	if mode.IsRegular() && mode.Perm()&0o111 != 0 {
		return Printed
	}
	return Manifest
}

// Limits of a program that prints.
const (
	// printTime is how long it may run, buildTime how long it may take to compile one.
	printTime, buildTime = time.Minute, 3 * time.Minute
	// maxSaid bounds what is kept of its standard error, in bytes: the last.
	maxSaid = 16 << 10
)

// Printer runs programs that print manifests. It does not confine them: they are the user's own, with the user's rights.
type Printer struct {
	// Env is the program's environment.
	Env []string
	// Said is where what a program writes to its standard error goes if it succeeds. In an error it is part of the message.
	Said io.Writer
	// Time is how long a program may run; 0 means a minute.
	Time time.Duration
}

// Print runs a program in the current folder and gives what it printed, JSON or YAML; JSON is written anew with a line for each value: a file that ends in .py by python3, with the
// module tiphys; one that ends in .go is compiled, with the package of the sdk if its module has no other; any other file is executed.
// What is wrong with the program is an *Error with what it said.
func (p Printer) Print(ctx context.Context, file string) (Made, error) {
	dir, err := os.MkdirTemp("", "tiphys-program-")
	if err != nil {
		return Made{}, fmt.Errorf("make a folder for the program: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left of it is in the folder for temporary files
	var command []string
	switch filepath.Ext(file) {
	case ".py":
		command = []string{"python3", file}
		if err := os.WriteFile(filepath.Join(dir, "tiphys.py"), []byte(sdk.Python()), 0o600); err != nil {
			return Made{}, fmt.Errorf("write the module tiphys: %w", err)
		}
		p.Env = with(p.Env, "PYTHONPATH", dir)
	case ".go":
		if command, err = p.compile(ctx, file, dir); err != nil {
			return Made{}, err
		}
	default:
		path, err := filepath.Abs(file)
		if err != nil {
			return Made{}, fmt.Errorf("find %s: %w", file, err)
		}
		command = []string{path}
	}
	if p.Time == 0 {
		p.Time = printTime
	}
	p.Env = append(append([]string{}, p.Env...), "TIPHYS_PLACES=1")
	out, err := p.run(ctx, file, "", p.Time, command...)
	if err == nil && len(bytes.TrimSpace(out)) == 0 {
		return Made{}, &Error{File: file, Message: "the program printed nothing: let it print its Workflow as JSON or YAML"}
	}
	return arranged(out), err
}

// with adds a folder to a list of folders in the environment, behind those that are there.
func with(env []string, name, dir string) []string {
	out := append([]string{}, env...)
	for i, kv := range out {
		if value, ok := strings.CutPrefix(kv, name+"="); ok && value != "" {
			out[i] = kv + string(os.PathListSeparator) + dir
			return out
		}
	}
	return append(out, name+"="+dir)
}

// run executes a command and gives what it printed.
func (p Printer) run(ctx context.Context, file, dir string, limit time.Duration, command ...string) ([]byte, error) {
	tooMuch := errors.New("too much")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, stop := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s ran longer than %s", filepath.Base(command[0]), limit))
	defer stop()
	out := &bytes.Buffer{}
	said := &tail{}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, p.Env, said
	cmd.Stdout = writer(func(b []byte) (int, error) {
		if out.Len()+len(b) > MaxOutput {
			cancel(tooMuch)
			return 0, tooMuch
		}
		return out.Write(b)
	})
	cmd.WaitDelay = 2 * time.Second
	group(cmd)
	err := cmd.Run()
	switch cause := context.Cause(ctx); {
	case errors.Is(err, exec.ErrNotFound):
		return nil, &Error{File: file, Message: fmt.Sprintf("it needs %s, which is not installed here: install it, or run the program elsewhere and give what it prints to tiphys run -", command[0])}
	case errors.Is(cause, tooMuch) || errors.Is(err, tooMuch):
		return nil, &Error{File: file, Message: fmt.Sprintf("the program printed more than %d bytes: make the manifest smaller", MaxOutput)}
	case cause != nil:
		return nil, &Error{File: file, Message: cause.Error() + said.after()}
	case err != nil:
		return nil, &Error{File: file, Message: fmt.Sprintf("%s: %v%s", filepath.Base(command[0]), err, said.after())}
	}
	if p.Said != nil && len(said.kept) > 0 {
		fmt.Fprint(p.Said, string(said.kept))
	}
	return out.Bytes(), nil
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// tail keeps the last of what is written to it.
type tail struct {
	kept []byte
	cut  bool
}

func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - maxSaid; over > 0 {
		t.kept, t.cut = append([]byte{}, t.kept[over:]...), true
	}
	return len(b), nil
}

// after is what was said, to stand behind a message.
func (t *tail) after() string {
	text := strings.TrimRight(string(t.kept), "\n")
	if text == "" {
		return "; it said nothing on its standard error"
	}
	if t.cut {
		text = "…" + text
	}
	return "; it said:\n" + text
}
