package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/pipeline"
	"github.com/tiphys/tiphys/sdk"
)

func newRenderProgram(std IO) *cobra.Command {
	types := false
	c := &cobra.Command{
		Use:   "render FILE.ts",
		Short: "Print the Workflow that a TypeScript or JavaScript program makes",
		Long: `Render evaluates a program (.ts, .js) as run, lint and submit do, and prints the manifest as JSON. The program
sees no files, network or environment, its clock stands still in 1970, and the same program gives the same bytes.
It imports the module "tiphys" and, by relative paths, files below the current folder (below its own folder if it
is elsewhere). Types are not checked; an editor does so with what --types prints.

Exit status: 0 success, 2 a mistake in the program.`,
		Example: `  tiphys render ci.ts
  tiphys render --types > tiphys.ts`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if types {
				_, err := io.WriteString(std.Out, sdk.Declarations())
				return err
			}
			if len(args) != 1 || !pipeline.IsProgram(args[0]) {
				return usage(fmt.Errorf("render needs one file that ends in .ts or .js; other manifests are what they are"))
			}
			data, err := readManifest(c.Context(), std.In, args[0])
			if err != nil {
				return usage(err)
			}
			_, err = std.Out.Write(data)
			return err
		},
	}
	c.Flags().BoolVar(&types, "types", false, "print the source of the module \"tiphys\" with its types")
	return c
}

// readManifest reads a file; of a program, it gives what it makes, indented, so that a fault in it has a line.
func readManifest(ctx context.Context, in io.Reader, name string) ([]byte, error) {
	data, err := readFile(in, name)
	if err != nil || !pipeline.IsProgram(name) {
		return data, err
	}
	dir, file := ".", name
	if !filepath.IsLocal(name) {
		dir, file = filepath.Split(name)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the program's folder: %w", err)
	}
	defer root.Close()
	made, err := pipeline.Evaluate(ctx, pipeline.Source{File: filepath.ToSlash(file), Code: data, FS: root.FS()})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, made, "", "  "); err != nil {
		return nil, fmt.Errorf("indent manifest of %s: %w", name, err)
	}
	return b.Bytes(), nil
}
