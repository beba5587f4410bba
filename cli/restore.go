package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/backup/folder"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/wire"
)

type restoreOptions struct {
	data, keys, identity string
	skip                 []string
	withoutKeys          bool
	plan, release        bool
}

func newRestore(std IO) *cobra.Command {
	o := restoreOptions{}
	c := &cobra.Command{
		Use: "restore FILE (--keys FILE | --identity FILE | --without-keys) | --plan | --release", Short: "Make a data folder of a backup, and release its server", Args: cobra.MaximumNArgs(1),
		Long: `Restore makes a data folder of a backup. The folder must not be there, or be empty; it comes to be whole or not at all.

A server on it is held: it can be looked at and cloned from, and it does nothing. What the first server did after the backup is not on record,
and would be done again by going on. --plan asks the held server what would happen if it was released, and --release
releases it. Leave out of that what must not be done twice with --skip: an item of the plan (--skip run/default/hello-x7k2p), or all
items of a kind (--skip run). A run that is left out is terminated, an application stays at what it has on record.

While the server is held deliveries, pushes and whatever else changes something is refused with 503 and Retry-After. That it is held
outlasts a restart. Make sure that the first server does not run any more before you release the second.

Exit status: 0 success, 1 it could not be done, 2 a bad command line or backup.`,
	}
	server := clientFlags(c, std)
	f := c.Flags()
	f.StringVar(&o.data, "data", "tiphys-data", "folder to make")
	f.StringVar(&o.keys, "keys", "", "file with the keys of the backup")
	f.StringVar(&o.identity, "identity", "", "file with an identity of age that opens the keys in the backup")
	f.BoolVar(&o.withoutKeys, "without-keys", false, "do without the keys: Secrets cannot be read")
	f.BoolVar(&o.plan, "plan", false, "ask the held server what would happen if it was released")
	f.BoolVar(&o.release, "release", false, "release the held server")
	f.StringArrayVar(&o.skip, "skip", nil, "leave out an item of the plan, or all of a kind, with --release (may be repeated)")
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case o.plan && o.release:
			return usage(errors.New("use --plan or --release"))
		case (o.plan || o.release) && len(args) > 0:
			return usage(errors.New("--plan and --release speak to a server: leave out the backup"))
		case len(o.skip) > 0 && !o.release:
			return usage(errors.New("--skip goes with --release"))
		case o.plan:
			return runPlan(c.Context(), server(), std.Out)
		case o.release:
			return runRelease(c.Context(), server(), std.Out, o.skip)
		case len(args) == 0:
			return usage(errors.New("name the backup"))
		}
		return runRestore(c.Context(), std, args[0], o)
	}
	return c
}

func runRestore(ctx context.Context, std IO, file string, o restoreOptions) error {
	ways := 0
	for _, given := range []bool{o.keys != "", o.identity != "", o.withoutKeys} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		return usage(errors.New("use one of --keys, --identity and --without-keys"))
	}
	done, err := wire.Restore(ctx, folder.RestoreOptions{
		File: file, Data: o.data, KeysFile: o.keys, Identity: o.identity, WithoutKeys: o.withoutKeys, Actor: "user:" + userName(std), Now: time.Now, Fault: std.Fault,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "%s has %s\n", o.data, told(done.Summary))
	if done.WithoutKeys {
		fmt.Fprintln(std.Out, "without the keys: Secrets in definitions and deployed objects cannot be read, tokens and digests made before count for nothing, and "+
			"signatures of forgotten entries cannot be checked; apply the Secrets again once the server is released")
	}
	fmt.Fprintf(std.Out, "its epoch is %d. A server on it is held: start it with tiphys serve --data %s, look at tiphys restore --plan, then tiphys restore --release\n",
		done.State.Epoch, o.data)
	return nil
}

// restorePath is where a server tells of its restore.
const restorePath = "/api/v1/restore"

// planned is what the server answers about a plan.
type planned struct {
	hold.State
	Kinds []string    `json:"kinds"`
	Items []hold.Item `json:"items"`
	Next  string      `json:"next"`
}

func runPlan(ctx context.Context, c *client, out io.Writer) error {
	var now planned
	if err := c.call(ctx, http.MethodGet, restorePath, nil, &now); err != nil {
		return err
	}
	if !now.Held {
		fmt.Fprintln(out, "the server is not held")
		return nil
	}
	fmt.Fprintf(out, "held since %s, restored to the state of %s (entry %d), epoch %d\nif it is released:\n",
		now.Since.UTC().Format(time.RFC3339), now.Restored.Made.UTC().Format(time.RFC3339), now.Restored.Head.Seq, now.Epoch)
	count := 0
	for _, kind := range now.Kinds {
		for after := ""; ; {
			var page planned
			if err := c.call(ctx, http.MethodGet, restorePath+"?"+url.Values{"kind": {kind}, "after": {after}}.Encode(), nil, &page); err != nil {
				return err
			}
			for _, item := range page.Items {
				count++
				fmt.Fprintf(out, "  %s: %s\n", item.ID, item.What)
			}
			if after = page.Next; after == "" {
				break
			}
		}
	}
	if count == 0 {
		fmt.Fprintln(out, "  nothing happens at once")
	}
	fmt.Fprintln(out, "leave out what must not happen with: tiphys restore --release --skip ITEM (or a kind for all of it)")
	return nil
}

func runRelease(ctx context.Context, c *client, out io.Writer, skip []string) error {
	// It takes as long as what is left out takes to be recorded; the server bounds it.
	resp, err := c.send(ctx, http.MethodPost, restorePath, map[string]any{"skip": skip})
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("read answer of %s: %w", c.base, err)
	}
	fmt.Fprintln(out, "released: the server acts again")
	return nil
}
