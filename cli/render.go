package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/pipeline"
	"github.com/tiphys/tiphys/sdk"
)

func newRenderProgram(std IO) *cobra.Command {
	types := false
	c := &cobra.Command{
		Use:   "render FILE",
		Short: "Print the manifest that a program makes",
		Long: `Render evaluates a program as run, lint and submit do, and prints the manifest that it makes.

TypeScript and JavaScript (.ts, .js) are evaluated here: the program sees no files, network or environment, its clock
stands still in 1970, and the same program gives the same bytes. It imports the module "tiphys" and, by relative paths,
files below the current folder (below its own folder if it is elsewhere). Types are not checked; an editor does so with
what --types writes.

Python (.py, by python3), Go (.go, by go) and any other executable file are run as they are, with your rights, and print
the manifest as JSON or YAML, within a minute. The modules that they import from the sdk are brought along.

--types writes beside FILE.ts the declaration file tiphys.d.ts, and a tsconfig.json if there is none; beside FILE.py the
module tiphys.py. Without a FILE it prints the declaration file.

Exit status: 0 success, 2 a mistake in the program.`,
		Example: `  tiphys render ci.ts
  tiphys render ci.py
  tiphys render --types ci.ts`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case types:
				return writeTypes(std, args)
			case len(args) != 1:
				return usage(errors.New("render needs one file"))
			case kindOfFile(args[0]) == pipeline.Manifest:
				return usage(fmt.Errorf("%s is not a program (.ts, .js, .py, .go or an executable file): other manifests are what they are", args[0]))
			}
			data, err := readManifest(c.Context(), std, args[0])
			if err != nil {
				return usage(err)
			}
			_, err = std.Out.Write(data)
			return err
		},
	}
	c.Flags().BoolVar(&types, "types", false, "write what an editor needs to know of the module \"tiphys\" beside the file")
	return c
}

// tsconfig lets an editor find the module beside a program, with what the program can use and no more.
const tsconfig = `{
  "compilerOptions": {
    "strict": true,
    "noEmit": true,
    "target": "es2022",
    "lib": ["es2022"],
    "types": [],
    "module": "esnext",
    "moduleResolution": "bundler",
    "resolveJsonModule": true
  }
}
`

// writeTypes writes what an editor needs beside a program. A tsconfig.json that is there is the user's.
func writeTypes(std IO, args []string) error {
	if len(args) == 0 {
		_, err := fmt.Fprint(std.Out, sdk.Declarations())
		return err
	}
	dir := filepath.Dir(args[0])
	files := map[string]string{filepath.Join(dir, "tiphys.d.ts"): sdk.Declarations()}
	switch filepath.Ext(args[0]) {
	case ".ts", ".js":
		config := filepath.Join(dir, "tsconfig.json")
		if _, err := os.Lstat(config); errors.Is(err, fs.ErrNotExist) {
			files[config] = tsconfig
		}
	case ".py":
		files = map[string]string{filepath.Join(dir, "tiphys.py"): sdk.Python()}
	case ".go":
		return usage(fmt.Errorf("a Go program finds its types in the package: go get %s", sdk.GoPackage))
	default:
		return usage(fmt.Errorf("there are types for .ts, .js and .py files only, not for %s", args[0]))
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil { //nolint:gosec // a source file, as readable as the others
			return fmt.Errorf("write types: %w", err)
		}
		fmt.Fprintln(std.Err, "wrote "+name)
	}
	return nil
}

// kindOfFile tells what a file is; one that cannot be looked at is said to be a manifest, whose reading then fails.
func kindOfFile(name string) pipeline.Kind {
	if name == "-" {
		return pipeline.Manifest
	}
	info, err := os.Stat(name)
	if err != nil {
		return pipeline.KindOf(name, 0)
	}
	return pipeline.KindOf(name, info.Mode())
}

// readManifest reads a file; of a program, it gives what it makes.
func readManifest(ctx context.Context, std IO, name string) ([]byte, error) {
	made, err := makeManifest(ctx, std, name)
	return made.Text, err
}

// makeManifest reads a file; of a program, it gives what it makes and where in the program that was.
func makeManifest(ctx context.Context, std IO, name string) (pipeline.Made, error) {
	switch kindOfFile(name) {
	case pipeline.Evaluated:
		return evaluate(ctx, std, name)
	case pipeline.Printed:
		if _, err := os.Stat(name); err != nil {
			return pipeline.Made{}, fmt.Errorf("read program: %w", err)
		}
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		return pipeline.Printer{Env: os.Environ(), Said: std.Err}.Print(ctx, name)
	case pipeline.Manifest:
	}
	data, err := readFile(std.In, name)
	return pipeline.Made{Text: data}, err
}

// makers know where in their programs manifests were made, by the file names of the manifests' positions.
type makers map[string]pipeline.Made

// place gives a diagnostic the place in the program that made what is wrong, and keeps the line of what it made.
func (m makers) place(d manifest.Diagnostic) manifest.Diagnostic {
	made, ok := m[d.Position.File]
	if !ok {
		return d
	}
	file, at, ok := made.At(d.Position.Line)
	if !ok {
		return d
	}
	d.Message += fmt.Sprintf(" (line %d of what tiphys render prints)", d.Position.Line)
	d.Position = manifest.Position{File: file, Line: at[0], Column: max(at[1], 1)}
	return d
}

// add keeps what a file is, if a program made it.
func (m makers) add(file string, made pipeline.Made) {
	if name := manifestName(file); name != file {
		m[name] = made
	}
}

// placedError is an error of the server whose text names places in the user's program.
type placedError struct {
	text string
	error
}

func (e *placedError) Error() string { return e.text }

func (e *placedError) Unwrap() error { return e.error }

// placeError gives the places that an error of the server names their places in the program.
func (m makers) placeError(err error) error {
	text := err.Error()
	for name := range m {
		named := regexp.MustCompile(regexp.QuoteMeta(name) + `:([0-9]+):[0-9]+`)
		text = named.ReplaceAllStringFunc(text, func(found string) string {
			line, err := strconv.Atoi(named.FindStringSubmatch(found)[1])
			if err != nil {
				return found
			}
			d := m.place(manifest.Diagnostic{Position: manifest.Position{File: name, Line: line}})
			if d.Position.File == name {
				return found // it is not known
			}
			return d.Position.String()
		})
	}
	if text == err.Error() {
		return err
	}
	return &placedError{text: text, error: err}
}

func (m makers) placeAll(diags []manifest.Diagnostic) []manifest.Diagnostic {
	for i, d := range diags {
		diags[i] = m.place(d)
	}
	return diags
}

func evaluate(ctx context.Context, std IO, name string) (pipeline.Made, error) {
	data, err := readFile(std.In, name)
	if err != nil {
		return pipeline.Made{}, err
	}
	dir, file := ".", name
	if !filepath.IsLocal(name) {
		dir, file = filepath.Split(name)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return pipeline.Made{}, fmt.Errorf("open the program's folder: %w", err)
	}
	defer root.Close()
	return pipeline.Arrange(ctx, pipeline.Source{File: filepath.ToSlash(file), Code: data, FS: root.FS()})
}
