package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/control/audit"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

func newLedger(std IO) *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Prove that the record is whole"}
	c.AddCommand(newLedgerVerify(std), newLedgerHead(std), newLedgerBackup(std), newLedgerRepair(std), newLedgerErase(std))
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
	var request audit.Request
	c := &cobra.Command{
		Use: "verify", Short: "Check every entry's hash and place", Args: cobra.NoArgs,
		Long: `Verify walks the ledger and checks that no entry is missing and that every hash follows from the one before.
With --since and a head that "tiphys ledger head" printed before, the entry of that head is compared with it, too: rewriting of
the whole chain and a cut tail are found, which no ledger shows by itself.
With --new only what came since the last verification without faults is walked, which the server remembers; a change of older
entries is not found then. --storage has the pages and indexes of the file checked as well, which takes longest.
With --rows the lists that screens and commands read are made again from the entries, beside those that are in use, and compared with them row by row:
it is proved that what is shown is what was recorded.
The server verifies beside its work. This command shows how far it is, and may be ended and called again.
It asks a server, or reads a ledger file (--file), which must not be in use.

Exit status: 0 whole, 1 faults were found.`,
	}
	server := clientFlags(c, std)
	c.Flags().StringVar(&since, "since", "", "file with a head taken earlier")
	c.Flags().BoolVar(&request.Fresh, "new", false, "only what came since the last verification")
	c.Flags().BoolVar(&request.Storage, "storage", false, "check the pages and indexes of the file too")
	c.Flags().BoolVar(&request.Rows, "rows", false, "make all lists again from the entries and compare them with those in use")
	c.Flags().StringVar(&file, "file", "", "ledger file to read instead of asking a server")
	c.RunE = func(c *cobra.Command, _ []string) error {
		head, err := readHead(std.In, since)
		if err != nil {
			return usage(err)
		}
		request.Since = head
		if request.Rows && file != "" {
			return usage(errors.New("--rows compares the lists of a server: leave out --file"))
		}
		if request.Fresh && (file != "" || since != "") {
			return usage(errors.New("--new goes on from what the server remembers: leave out --file and --since"))
		}
		var rep ledger.Report
		var from ledger.Head
		if file == "" {
			rep, from, err = verifyServer(c.Context(), server(), request, std.Err)
		} else {
			rep, err = verifyFile(c.Context(), file, request, std.Err)
		}
		if err != nil {
			return err
		}
		for _, d := range rep.Damage {
			fmt.Fprintf(std.Out, "storage: %s\n", d)
		}
		for _, d := range rep.Differences {
			fmt.Fprintln(std.Out, d)
		}
		for _, f := range rep.Faults {
			fmt.Fprintf(std.Out, "entry %d: %s\n", f.Seq, f.What)
		}
		if !rep.Whole() {
			return fmt.Errorf("the ledger is not whole: %s", faults(rep))
		}
		fmt.Fprintln(std.Out, whole(rep, from, head))
		return nil
	}
	return c
}

func faults(rep ledger.Report) string {
	text := "1 fault"
	if n := len(rep.Faults) + len(rep.Damage) + len(rep.Differences); n > 1 {
		text = fmt.Sprintf("%d faults", n)
	}
	if rep.Entries > 0 {
		text += fmt.Sprintf(" in %d entries", rep.Entries)
	}
	return text
}

// whole says what a verification without faults has shown, which began behind one head and was held against another; either may be zero.
func whole(rep ledger.Report, from, since ledger.Head) string {
	text := fmt.Sprintf("whole: %d entries checked (%d pruned), up to %d %.16s", rep.Entries, rep.Pruned, rep.Head.Seq, rep.Head.Hash)
	if from.Seq > 0 && rep.Entries == 0 {
		text = "whole: nothing was recorded since the last verification"
	} else if from.Seq > 0 {
		text += fmt.Sprintf(", begun behind entry %d, where the last verification ended", from.Seq)
	}
	if since.Seq > 0 {
		text += fmt.Sprintf("; entry %d is the one of the given head, so the ledger was neither cut nor written anew", since.Seq)
	}
	if rep.Rows > 0 {
		text += fmt.Sprintf("; %d rows are what the entries make", rep.Rows)
	}
	return text
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

// verifyServer has the server verify its ledger and waits for the end. It gives the head that was begun at, too.
func verifyServer(ctx context.Context, c *client, request audit.Request, progress io.Writer) (ledger.Report, ledger.Head, error) {
	var state audit.State
	if err := c.call(ctx, http.MethodPost, "/api/v1/ledger/verify", request, &state); err != nil {
		return ledger.Report{}, ledger.Head{}, err
	}
	for state.Running {
		showProgress(progress, state.Progress)
		state = audit.State{}
		// The server answers after a moment, or at the end.
		if err := c.call(ctx, http.MethodGet, "/api/v1/ledger/verify", nil, &state); err != nil {
			return ledger.Report{}, ledger.Head{}, err
		}
	}
	switch {
	case state.Error != "":
		return ledger.Report{}, ledger.Head{}, errors.New(state.Error)
	case state.Report == nil:
		return ledger.Report{}, ledger.Head{}, errors.New("the server was started again meanwhile: ask once more")
	}
	return *state.Report, state.From, nil
}

// showProgress prints one line for people who wait.
func showProgress(w io.Writer, p ledger.Progress) {
	switch {
	case p.Rows:
		fmt.Fprintf(w, "the chain is checked; the rows of %d of %d entries are made again\n", p.Checked.Seq, p.Total)
	case p.Storage:
		fmt.Fprintln(w, "the chain is checked; checking the file's pages and indexes…")
	case p.Total > 0:
		fmt.Fprintf(w, "%d of %d entries checked (%d %%)\n", p.Checked.Seq, p.Total, p.Checked.Seq*100/p.Total)
	}
}

// progressEvery is how many entries of a file are checked between two lines of progress.
const progressEvery = 500_000

func verifyFile(ctx context.Context, file string, request audit.Request, progress io.Writer) (ledger.Report, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return ledger.Report{}, err
	}
	l, err := sqlite.Open(ctx, sqlite.Options{Path: path})
	if err != nil {
		return ledger.Report{}, err
	}
	told := int64(0)
	rep, err := l.Verify(ctx, ledger.Check{Since: request.Since, Storage: request.Storage, Progress: func(p ledger.Progress) {
		if p.Checked.Seq >= told+progressEvery {
			told = p.Checked.Seq
			showProgress(progress, p)
		}
	}})
	return rep, errors.Join(err, l.Close())
}

func newLedgerRepair(std IO) *cobra.Command {
	c := &cobra.Command{
		Use: "repair FILE DEST", Short: "Write a whole copy of a ledger file whose lists or indexes are damaged", Args: cobra.ExactArgs(2),
		Long: `Repair copies the entries and what is not derived from them to a new file, and leaves out the lists and all indexes, which are
made again from the entries when the copy is opened. Stop the server, repair DATA/ledger.db to a new file, and put that in its place.
If an entry itself cannot be read, it fails: restore a backup then.`,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := sqlite.Repair(c.Context(), args[0], args[1]); err != nil {
			return err
		}
		rep, err := verifyFile(c.Context(), args[1], audit.Request{Storage: true}, std.Err)
		if err != nil {
			return err
		}
		if !rep.Whole() {
			return fmt.Errorf("the copy %s is not whole: %s", args[1], faults(rep))
		}
		fmt.Fprintln(std.Out, "written to", args[1]+";", whole(rep, ledger.Head{}, ledger.Head{}))
		return nil
	}
	return c
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

// erasing is how long the erasure may take: every row of a large ledger is made anew.
const erasing = 30 * time.Minute

func newLedgerErase(std IO) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "erase ENTRY --reason TEXT", Short: "Take a leaked secret's body out of the record for good", Args: cobra.ExactArgs(1),
		Long: `Erase deletes the body of one entry, for a secret that has got into it. The bytes are overwritten in the ledger's file, and every row that was made of
them is made anew, while the server goes on. The entry stays in its place without its body, the chain stays whole, and an
entry says who erased it and why. It cannot be taken back.

Other entries with the same body keep it, and so do backups: erase those, too, and change the secret. A run that has not ended and has lost an
entry cannot go on and is shown as stalled.

Exit status: 0 success, 1 it could not be done, 2 a bad command line.`,
	}
	server := clientFlags(c, std)
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	c.RunE = func(c *cobra.Command, args []string) error {
		if reason == "" {
			return usage(errors.New("say why, with --reason: it is kept in the place of the body"))
		}
		var erased ledger.Entry
		if err := server().callWithin(c.Context(), erasing, http.MethodPost, "/api/v1/entries/"+url.PathEscape(args[0])+"/erase", map[string]string{"reason": reason}, &erased); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "the body of entry %s is erased, as entry %d says\n", args[0], erased.Seq)
		return nil
	}
	return c
}
