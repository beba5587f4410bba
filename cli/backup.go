package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/backup"
	"github.com/tiphys/tiphys/backup/folder"
	"github.com/tiphys/tiphys/wire"
)

type backupOptions struct {
	data, out, keys, verify string
	recipients              []string
	withoutKeys             bool
}

func newBackup(std IO) *cobra.Command {
	o := backupOptions{}
	c := &cobra.Command{
		Use: "backup -o FILE (--keys FILE | --recipient KEY | --without-keys)", Short: "Write everything that a server keeps to one file, while it runs", Args: cobra.NoArgs,
		Long: `Backup writes the ledger, the repositories of the built-in remote, artifacts and images of a data folder to one file. It is called on the
server's machine, by its user, and the server goes on meanwhile; it need not run. What is written is read back and compared, and the
chain of the ledger is verified, before the file gets its name.

The key files, which open the Secrets in the ledger, are not in it: they go to a file of their own (--keys, readable by its owner
only), or are encrypted in it to public keys of age (--recipient age1…, may be repeated), or are left out (--without-keys).
Keep the two apart.

Not in a backup are pods and their logs, volumes of claims, and the folder and file that --config and --server-config name.

--verify FILE reads a backup instead of writing one, and checks every digest in it and the chain of its ledger.

Exit status: 0 the backup is whole, 1 it could not be made, 2 a bad command line or a damaged backup.`,
		RunE: func(c *cobra.Command, _ []string) error { return runBackup(c.Context(), std, o) },
	}
	f := c.Flags()
	f.StringVar(&o.data, "data", "tiphys-data", "folder that the server keeps everything in")
	f.StringVarP(&o.out, "out", "o", "", "file to write; it must not be there")
	f.StringVar(&o.keys, "keys", "", "file to write the keys to")
	f.StringArrayVar(&o.recipients, "recipient", nil, "public key of age that the keys are encrypted to in the backup (may be repeated)")
	f.BoolVar(&o.withoutKeys, "without-keys", false, "keep the keys nowhere: Secrets of a restored server cannot be read")
	f.StringVar(&o.verify, "verify", "", "backup to check instead of writing one")
	return c
}

func runBackup(ctx context.Context, std IO, o backupOptions) error {
	if o.verify != "" {
		if o.out != "" || o.keys != "" || len(o.recipients) > 0 || o.withoutKeys {
			return usage(errors.New("--verify only reads: leave out the other flags"))
		}
		sum, err := wire.VerifyBackup(ctx, o.verify)
		if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "%s is whole: %s\n", o.verify, told(sum))
		return nil
	}
	ways := 0
	for _, given := range []bool{o.keys != "", len(o.recipients) > 0, o.withoutKeys} {
		if given {
			ways++
		}
	}
	switch {
	case o.out == "":
		return usage(errors.New("name the file to write: -o FILE"))
	case ways != 1:
		return usage(errors.New("say where the keys go, in one way: --keys FILE, --recipient KEY, or --without-keys"))
	}
	to, err := backup.Recipients(o.recipients)
	if err != nil {
		return err
	}
	sum, err := wire.Backup(ctx, folder.BackupOptions{
		Data: o.data, File: o.out, KeysFile: o.keys, Recipients: to, WithoutKeys: o.withoutKeys, Version: Version, Now: time.Now, Fault: std.Fault,
	})
	if err != nil {
		return err
	}
	size := int64(0)
	if st, err := os.Stat(o.out); err == nil {
		size = st.Size()
	}
	fmt.Fprintf(std.Out, "%s is written, %d bytes, and whole: %s\n", o.out, size, told(sum))
	switch sum.Manifest.Keys {
	case backup.KeysApart:
		fmt.Fprintf(std.Out, "the keys are in %s: keep it apart from the backup\n", o.keys)
	case backup.KeysEncrypted:
		fmt.Fprintln(std.Out, "the keys are in it, encrypted")
	}
	return nil
}

// told says for people what is in a backup.
func told(sum backup.Summary) string {
	return fmt.Sprintf("%d files, %d bytes, the ledger up to entry %d %.16s of %s", sum.Members, sum.Bytes, sum.Manifest.Head.Seq, sum.Manifest.Head.Hash,
		sum.Manifest.Made.UTC().Format(time.RFC3339))
}
