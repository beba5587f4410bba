// Package cli is the command line: each command has a constructor, an options struct and a run function.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/failure"
)

// Version is set by the build.
var Version = "dev"

// Exit codes of every command.
const (
	ExitOK = failure.ExitSucceeded
	// ExitFailed: the run ended Failed or Error, or the command could not be carried out.
	ExitFailed = failure.ExitFailed
	// ExitUsage: the command line or a manifest is wrong.
	ExitUsage = failure.ExitWrong
)

// IO is where a command reads and writes.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
	// Getenv reads the environment.
	Getenv func(string) string
	// Fault is called at named points of the server in test builds; nil in every other.
	Fault func(point string)
	// args are those of the command line.
	args []string
}

// errRunFailed ends a command whose run failed: what there is to say was said while it ran, so that it prints nothing.
var errRunFailed = errors.New("")

// usage says that the command line or a manifest is wrong.
func usage(err error) error { return failure.Mark(failure.Invalid, err) }

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, args []string, std IO) int {
	std.args = args
	root := newRoot(std)
	root.SetArgs(args)
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	if msg := err.Error(); msg != "" {
		fmt.Fprintln(std.Err, "tiphys: "+msg)
	}
	if status := ended(0); errors.As(err, &status) {
		return int(status)
	}
	return failure.ExitCode(err)
}

func newRoot(std IO) *cobra.Command {
	root := &cobra.Command{
		Use:     "tiphys",
		Version: Version,
		Short:   "CI/CD in one program: Git event, workflow, deployment, preview, one ledger",
		Long: `Tiphys turns a change in Git into an event, the event into a workflow, the workflow into a deployment,
gives every merge request a preview, and keeps one ledger that ties the change to what runs.

Exit status: 0 success, 1 the run or the command failed, 2 the command line or a manifest is wrong.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(commands(std)...)
	strict(root)
	arrange(root)
	return root
}

// logger writes what the program says of itself to w.
func logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
