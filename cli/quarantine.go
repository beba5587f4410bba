package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/control/quarantine"
)

func newQuarantine(std IO) *cobra.Command {
	c := &cobra.Command{
		Use: "quarantine", Short: "List what ended the server and is left out, try it again or drop it",
		Long: `An item (an event before a sensor, a firing, a run, a schedule's slot, an application, a definition) that was in hand when the server ended by a
fault of its own is tried alone after the next start. If it ends the server twice that way it is quarantined: left out, while
everything else goes on. A kill, by a person or by a machine without memory or power, quarantines nothing.

Items are named KIND/KEY, as list shows them. Retry has an item tried once more, alone: a newer version may bear it. Drop leaves it for good: an
event is not decided on by that sensor, a firing stays a dead letter, a run is deleted. An application or a definition is dropped when
another version of it is declared, or none.

Exit status: 0 success, 1 it could not be done, 2 a bad command line.`,
		Args: cobra.NoArgs,
	}
	list := &cobra.Command{Use: "list", Short: "List what is quarantined, with the reason", Args: cobra.NoArgs}
	lists := clientFlags(list, std)
	list.RunE = func(c *cobra.Command, _ []string) error { return runQuarantine(c.Context(), lists(), std.Out) }
	c.AddCommand(list)
	for verb, short := range map[string]string{"retry": "Have an item tried again, alone", "drop": "Leave an item for good"} {
		do := &cobra.Command{Use: verb + " KIND/KEY", Short: short, Args: cobra.ExactArgs(1)}
		server := clientFlags(do, std)
		do.RunE = func(c *cobra.Command, args []string) error {
			err := server().call(c.Context(), http.MethodPost, "/api/v1/quarantine/"+verb, map[string]string{"item": args[0]}, nil)
			if err == nil {
				fmt.Fprintf(std.Out, "%s: %s\n", args[0], map[string]string{"retry": "tried again", "drop": "dropped"}[verb])
			}
			return err
		}
		c.AddCommand(do)
	}
	return c
}

func runQuarantine(ctx context.Context, c *client, out io.Writer) error {
	var all items[quarantine.Quarantined]
	if err := c.call(ctx, http.MethodGet, "/api/v1/quarantine", nil, &all); err != nil {
		return err
	}
	if len(all.Items) == 0 {
		fmt.Fprintln(out, "nothing is quarantined")
		return nil
	}
	t := table(out)
	fmt.Fprintln(t, "ITEM\tSINCE\tDEATHS\tWHY")
	for _, q := range all.Items {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", q.Item, q.Since.Local().Format(time.DateTime), q.Deaths, oneLine(q.Why))
	}
	return t.Flush()
}
