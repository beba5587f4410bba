package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/executor/rootless"
	"github.com/tiphys/tiphys/keeper"
)

type downOptions struct {
	data string
	wait time.Duration
}

func newDown(std IO) *cobra.Command {
	o := downOptions{}
	c := &cobra.Command{
		Use: "down [--data DIR]", Short: "End the server of a data folder and its keeper", Args: cobra.NoArgs,
		Long: `Down ends the server that runs for a data folder, as SIGTERM does, and then its keeper, which a stopped server leaves
serving applications. Pods go on: take the definitions away first to end applications, and terminate runs to end their steps.

Exit status: 0 nothing runs any more, 1 something could not be ended, 2 a bad command line.`,
		RunE: func(c *cobra.Command, _ []string) error { return runDown(c.Context(), std, o) },
	}
	c.Flags().StringVar(&o.data, "data", "tiphys-data", "folder that the server keeps everything in")
	c.Flags().DurationVar(&o.wait, "wait", time.Minute, "how long the server may take to finish what it has begun")
	return c
}

// endingPatience is how long what has just ended may take to be gone.
const endingPatience = 2 * time.Second

func runDown(ctx context.Context, std IO, o downOptions) error {
	ctx, cancel := context.WithTimeout(ctx, o.wait)
	defer cancel()
	data, err := filepath.Abs(o.data)
	if err != nil {
		return usage(err)
	}
	if st, err := os.Stat(data); err != nil || !st.IsDir() {
		return usage(fmt.Errorf("--data %s: there is no such folder", o.data))
	}
	server, err := stopServer(ctx, data)
	if err != nil {
		return err
	}
	there, err := keeper.End(ctx, data)
	if err != nil {
		return err
	}
	if err := rootless.Leave(ctx, rootlessFolder(data), endingPatience); err != nil {
		return err
	}
	switch {
	case server != 0:
		fmt.Fprintf(std.Out, "the server (process %d) has ended\n", server)
	case there:
		fmt.Fprintln(std.Out, "the keeper has ended")
	default:
		fmt.Fprintln(std.Out, "nothing runs for "+data)
	}
	return nil
}

// stopServer asks the server of a data folder to stop and waits until it has. It gives the process, or 0 if there was none.
func stopServer(ctx context.Context, data string) (int, error) {
	first, err := datafolder.Holder(data)
	if err != nil || first == 0 {
		return 0, err
	}
	if err := syscall.Kill(first, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return first, fmt.Errorf("stop the server (process %d): %w", first, err)
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return first, fmt.Errorf("the server (process %d) has not ended: %w", first, context.Cause(ctx))
		case <-look.C:
		}
		if now, err := datafolder.Holder(data); err != nil || now != first {
			return first, err
		}
	}
}

// newKeeper is the process that owns the port and carries requests to applications; the server starts it.
func newKeeper() *cobra.Command {
	return &cobra.Command{
		Use: "__keeper", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM)
			defer stop()
			return keeper.Main(ctx, os.Stdin, os.Stdout, os.Stderr)
		},
	}
}
