package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

func newLedger(std IO) *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Prove that the record is whole"}
	c.AddCommand(newLedgerVerify(std), newLedgerHead(std), newLedgerBackup(std))
	return c
}

func newLedgerHead(std IO) *cobra.Command {
	c := &cobra.Command{Use: "head", Short: "Print the signed end of the ledger; keep it elsewhere, to give to verify --since later", Args: cobra.NoArgs}
	server := clientFlags(c, std)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var h ledger.Head
		if err := server().call(c.Context(), http.MethodGet, "/api/v1/ledger/head", nil, &h); err != nil {
			return err
		}
		return printJSON(std.Out, h)
	}
	return c
}

func newLedgerVerify(std IO) *cobra.Command {
	var since, file string
	c := &cobra.Command{
		Use: "verify", Short: "Check every entry's hash and place", Args: cobra.NoArgs,
		Long: `Verify walks the ledger and checks that no entry is missing and that every hash follows from the one before.
With --since and a head that "tiphys ledger head" printed before, the entry of that head is compared with it and what
came after is walked: rewriting of the whole chain and a cut tail are found, which no ledger shows by itself. Bodies of
entries before that head are not read again: leave --since out for that.
It asks a server, or reads a ledger file (--file), which must not be in use.

Exit status: 0 whole, 1 faults were found.`,
	}
	server := clientFlags(c, std)
	c.Flags().StringVar(&since, "since", "", "file with a head taken earlier")
	c.Flags().StringVar(&file, "file", "", "ledger file to read instead of asking a server")
	c.RunE = func(c *cobra.Command, _ []string) error {
		head, err := readHead(std.In, since)
		if err != nil {
			return usage(err)
		}
		var rep ledger.Report
		if file == "" {
			err = server().call(c.Context(), http.MethodPost, "/api/v1/ledger/verify", map[string]any{"since": head}, &rep)
		} else {
			rep, err = verifyFile(c.Context(), file, head)
		}
		if err != nil {
			return err
		}
		for _, f := range rep.Faults {
			fmt.Fprintf(std.Out, "entry %d: %s\n", f.Seq, f.What)
		}
		if len(rep.Faults) > 0 {
			return fmt.Errorf("the ledger is not whole: %s", faults(rep))
		}
		fmt.Fprintln(std.Out, whole(rep, head))
		return nil
	}
	return c
}

func faults(rep ledger.Report) string {
	text := "1 fault"
	if n := len(rep.Faults); n > 1 {
		text = fmt.Sprintf("%d faults", n)
	}
	if rep.Entries > 0 {
		text += fmt.Sprintf(" in %d entries", rep.Entries)
	}
	return text
}

// whole says what a verification without faults has shown, which with an earlier head is two things.
func whole(rep ledger.Report, since ledger.Head) string {
	end := fmt.Sprintf("up to %d %.16s", rep.Head.Seq, rep.Head.Hash)
	if since.Seq == 0 {
		return fmt.Sprintf("whole: %d entries checked (%d pruned), %s", rep.Entries, rep.Pruned, end)
	}
	was := fmt.Sprintf("whole: entry %d is the one of the given head, so the ledger was neither cut nor written anew before it", since.Seq)
	if rep.Entries == 0 {
		return was + "; nothing was recorded since"
	}
	return fmt.Sprintf("%s; %d entries since then checked (%d pruned), %s", was, rep.Entries, rep.Pruned, end)
}

func readHead(in io.Reader, file string) (ledger.Head, error) {
	var h ledger.Head
	if file == "" {
		return h, nil
	}
	raw, err := readFile(in, file)
	if err == nil {
		err = json.Unmarshal(raw, &h)
	}
	if err == nil && h.Signature != "" {
		err = ledger.VerifyHead(h, nil)
	}
	if err != nil {
		return h, fmt.Errorf("head in %s: %w", file, err)
	}
	return h, nil
}

func verifyFile(ctx context.Context, file string, since ledger.Head) (ledger.Report, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return ledger.Report{}, err
	}
	l, err := sqlite.Open(ctx, sqlite.Options{Path: path})
	if err != nil {
		return ledger.Report{}, err
	}
	rep, err := l.Verify(ctx, ledger.Check{Since: since})
	return rep, errors.Join(err, l.Close())
}

func newLedgerBackup(std IO) *cobra.Command {
	c := &cobra.Command{Use: "backup FILE DEST", Short: "Write a consistent copy of a ledger file that is not in use", Args: cobra.ExactArgs(2)}
	c.RunE = func(c *cobra.Command, args []string) error {
		l, err := sqlite.Open(c.Context(), sqlite.Options{Path: args[0]})
		if err != nil {
			return err
		}
		err = l.Backup(c.Context(), args[1])
		if err = errors.Join(err, l.Close()); err == nil {
			fmt.Fprintln(std.Out, "written to", args[1])
		}
		return err
	}
	return c
}
