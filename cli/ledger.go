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
With --since and a head that "tiphys ledger head" printed before, what came after that head is walked, and rewriting of
the whole chain and a cut tail are found, which no ledger shows by itself.
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
			return fmt.Errorf("the ledger is not whole: %d faults in %d entries", len(rep.Faults), rep.Entries)
		}
		fmt.Fprintf(std.Out, "whole: %d entries checked (%d pruned), up to %d %.16s\n", rep.Entries, rep.Pruned, rep.Head.Seq, rep.Head.Hash)
		return nil
	}
	return c
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
	rep, err := l.Verify(ctx, since)
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
