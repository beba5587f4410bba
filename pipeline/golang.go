package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tiphys/tiphys/sdk"
)

// compile builds a Go program into a folder and gives the command that runs it. The program's own module, or workspace, counts; where
// it has none, or one that does not know the sdk, a workspace in the folder brings it along, so that nothing need be fetched.
func (p Printer) compile(ctx context.Context, file, dir string) ([]string, error) {
	source, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", file, err)
	}
	home := filepath.Dir(source)
	run := func(args ...string) ([]byte, error) {
		return Printer{Env: p.Env}.run(ctx, file, home, buildTime, append([]string{"go"}, args...)...)
	}
	raw, err := run("env", "-json", "GOMOD", "GOWORK", "GOVERSION")
	if err != nil {
		return nil, err
	}
	var env struct{ GOMOD, GOWORK, GOVERSION string }
	if err := json.Unmarshal(raw, &env); err != nil {
		return nil, fmt.Errorf("read go env: %w", err)
	}
	module := env.GOMOD != "" && env.GOMOD != os.DevNull
	known := env.GOWORK != "" && env.GOWORK != "off"
	if module && !known {
		_, err := run("list", sdk.GoPackage)
		known = err == nil
	}
	if !known {
		var own []string
		if module {
			own = []string{filepath.Dir(env.GOMOD)}
		}
		work, err := workspace(dir, strings.TrimPrefix(env.GOVERSION, "go"), own)
		if err != nil {
			return nil, err
		}
		p.Env = append(append([]string{}, p.Env...), "GOWORK="+work)
	}
	binary := filepath.Join(dir, "program")
	if _, err := run("build", "-o", binary, filepath.Base(source)); err != nil {
		return nil, err
	}
	return []string{binary}, nil
}

// workspace writes the sdk as a module, and a workspace of it and the modules that are there.
func workspace(dir, version string, modules []string) (string, error) {
	module := filepath.Join(dir, "tiphys")
	files := map[string][]byte{
		filepath.Join(module, "go.mod"): []byte("module " + sdk.GoModule + "\n\ngo 1.21\n"),
	}
	text := "go " + version + "\n\nuse (\n"
	for _, m := range append(modules, module) {
		text += fmt.Sprintf("\t%q\n", filepath.ToSlash(m))
	}
	work := filepath.Join(dir, "go.work")
	files[work] = []byte(text + ")\n")
	err := fs.WalkDir(sdk.Go(), "go", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, "_test.go") {
			return err
		}
		files[filepath.Join(module, "sdk", name)], err = fs.ReadFile(sdk.Go(), name)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the sdk: %w", err)
	}
	for name, data := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return "", fmt.Errorf("write the sdk: %w", err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return "", fmt.Errorf("write the sdk: %w", err)
		}
	}
	return work, nil
}
