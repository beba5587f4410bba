package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/executor/local"
	"github.com/tiphys/tiphys/wire"
)

type doctorOptions struct{ data, output string }

func newDoctor(std IO) *cobra.Command {
	o := doctorOptions{}
	c := &cobra.Command{
		Use: "doctor [--data DIR]", Short: "Say what this machine has of what steps need", Args: cobra.NoArgs,
		Long: `Doctor looks for what steps and applications want of the machine and says of each in a line what is there, what does not work
without it, and what to do. It changes nothing. What it finds is true for the user who calls it: call it as the one who runs the server.

Exit status: 0 steps can be executed here, 1 something is missing without which they cannot, 2 a bad command line.`,
		RunE: func(c *cobra.Command, _ []string) error { return runDoctor(c.Context(), std, o) },
	}
	c.Flags().StringVar(&o.data, "data", "tiphys-data", "folder that the server keeps everything in, which need not be there yet")
	c.Flags().StringVarP(&o.output, "output", "o", "", "json")
	return c
}

func runDoctor(ctx context.Context, std IO, o doctorOptions) error {
	list := wire.Examine(ctx, o.data)
	if err := printConditions(std.Out, o.output, list); err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(c local.Condition) bool { return c.State == local.StateMissing }) {
		return errors.New("steps cannot be executed here")
	}
	return nil
}

func printConditions(to io.Writer, output string, list []local.Condition) error {
	if output == "json" {
		return printJSON(to, list)
	}
	t := table(to)
	for _, c := range list {
		line := c.Found
		if c.Do != "" {
			line += ". To do: " + c.Do
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", c.State, c.Name, line)
	}
	return t.Flush()
}
