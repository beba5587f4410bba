package pipeline

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/tiphys/tiphys/sdk"
)

// Namespaces keep esbuild from the machine's files: it reads "file" only.
const (
	ofProgram = "program"
	ofModule  = "tiphys"
	// global is the variable that has the program's exports.
	global = "tiphysProgram"
)

// bundle makes one script of a program and what it imports, with its source map.
func bundle(src Source) (string, error) {
	result := api.Build(api.BuildOptions{
		EntryPoints: []string{src.File},
		Bundle:      true,
		Format:      api.FormatIIFE,
		GlobalName:  global,
		Platform:    api.PlatformNeutral,
		Target:      api.ES2017,
		Charset:     api.CharsetUTF8,
		Sourcemap:   api.SourceMapInline,
		TsconfigRaw: "{}",
		Outfile:     "program.js",
		LogLevel:    api.LogLevelSilent,
		Plugins:     []api.Plugin{{Name: "tiphys", Setup: func(b api.PluginBuild) { imports(b, src) }}},
	})
	var errs []error
	for _, m := range result.Errors {
		errs = append(errs, diagnostic(src.File, m))
	}
	if len(errs) > 0 {
		return "", errors.Join(errs...)
	}
	if len(result.OutputFiles) != 1 {
		return "", fmt.Errorf("bundle %s: %d files came out instead of one", src.File, len(result.OutputFiles))
	}
	return string(result.OutputFiles[0].Contents), nil
}

func diagnostic(file string, m api.Message) error {
	text := m.Text
	for _, n := range m.Notes {
		text += "; " + n.Text
	}
	if m.Location == nil {
		return &Error{File: file, Message: text}
	}
	return &Error{File: plain(m.Location.File), Line: m.Location.Line, Column: m.Location.Column + 1, Message: text}
}

// plain takes the namespace off a path.
func plain(file string) string {
	return strings.TrimPrefix(file, ofProgram+":")
}

func imports(b api.PluginBuild, src Source) {
	b.OnResolve(api.OnResolveOptions{Filter: ".*"}, func(a api.OnResolveArgs) (api.OnResolveResult, error) {
		if a.Kind == api.ResolveEntryPoint {
			return api.OnResolveResult{Path: src.File, Namespace: ofProgram}, nil
		}
		if a.Path == "tiphys" {
			return api.OnResolveResult{Path: "tiphys.ts", Namespace: ofModule}, nil
		}
		if err := refuse(a.Path); err != nil {
			return api.OnResolveResult{}, err
		}
		file, err := find(src, path.Join(path.Dir(a.Importer), a.Path))
		return api.OnResolveResult{Path: file, Namespace: ofProgram}, err
	})
	b.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: ofModule}, func(api.OnLoadArgs) (api.OnLoadResult, error) {
		code := sdk.TypeScript()
		return api.OnLoadResult{Contents: &code, Loader: api.LoaderTS}, nil
	})
	b.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: ofProgram}, func(a api.OnLoadArgs) (api.OnLoadResult, error) {
		code := src.Code
		if a.Path != src.File {
			var err error
			if code, err = read(src.FS, a.Path); err != nil {
				return api.OnLoadResult{}, err
			}
		}
		text := string(code)
		return api.OnLoadResult{Contents: &text, Loader: loader(a.Path)}, nil
	})
}

// refuse says why an import that is not relative is not possible.
func refuse(name string) error {
	base, _, _ := strings.Cut(name, "/")
	switch {
	case strings.HasPrefix(name, "./"), strings.HasPrefix(name, "../"):
		return nil
	case strings.HasPrefix(name, "node:"), slices.Contains(nodeModules(), base):
		return fmt.Errorf("%q is a module of Node, which is not here: a program computes a manifest from its input; do in a step what needs files, processes or the network", name)
	case strings.Contains(name, "://"), strings.HasPrefix(name, "data:"):
		return fmt.Errorf("%q is not imported, programs use no network: keep the file in the repository and import it by a relative path", name)
	case strings.HasPrefix(name, "/"):
		return fmt.Errorf("%q is an absolute path: import files by a relative path", name)
	}
	return fmt.Errorf("there is no package %q: only \"tiphys\" and relative paths are imported; keep its source in the repository", name)
}

// nodeModules are the names of Node's built-in modules that a program might ask for.
func nodeModules() []string {
	return []string{
		"assert", "async_hooks", "buffer", "child_process", "cluster", "console", "crypto", "dgram", "dns", "events", "fs", "http", "http2", "https",
		"inspector", "module", "net", "os", "path", "perf_hooks", "process", "querystring", "readline", "stream", "string_decoder", "timers", "tls",
		"tty", "url", "util", "v8", "vm", "wasi", "worker_threads", "zlib",
	}
}

// find gives the file that an import names, with or without its ending.
func find(src Source, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", fmt.Errorf("%s is outside of the folder that the program may read", name)
	}
	tries := []string{name, name + ".ts", name + ".js", name + "/index.ts", name + "/index.js"}
	if stem, ok := strings.CutSuffix(name, ".js"); ok {
		tries = append(tries, stem+".ts")
	}
	for _, file := range tries {
		if file == src.File {
			return file, nil
		}
		if src.FS == nil {
			continue
		}
		info, err := fs.Stat(src.FS, file)
		if err == nil && info.Mode().IsRegular() {
			return file, nil
		}
		if err != nil && strings.Contains(err.Error(), "escapes") { // os.Root has no name for it
			return "", fmt.Errorf("%s leads outside of the folder that the program may read", file)
		}
	}
	return "", fmt.Errorf("there is no file %s: tried %s", name, strings.Join(tries, ", "))
}

func read(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read import: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxCode+1))
	if err != nil {
		return nil, fmt.Errorf("read import: %w", err)
	}
	if len(data) > maxCode {
		return nil, fmt.Errorf("%s has more than %d bytes: import something smaller", name, maxCode)
	}
	return data, nil
}

func loader(name string) api.Loader {
	switch path.Ext(name) {
	case ".js", ".mjs":
		return api.LoaderJS
	case ".json":
		return api.LoaderJSON
	case ".txt", ".sh", ".py":
		return api.LoaderText
	}
	return api.LoaderTS
}
