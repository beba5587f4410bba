package egress_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// may lists the places outside of this room that reach other addresses, each with what it reaches.
func may() map[string]string {
	return map[string]string{
		"cli/client.go":                     "the server, for who types the command",
		"cmd/tiphys-init/client":            "the server, from a step",
		"deploy/target/local/probe.go":      "pods of this machine, whose addresses the server gave",
		"deploy/target/local/probe_grpc.go": "pods of this machine, whose addresses the server gave",
		"event/forge/builtin/hookclient.go": "the server, from git's hook",
		"event/forge/forgetest":             "a server of the test's own",
		"executor/local/attempt.go":         "the shim of a pod",
		"executor/local/claim.go":           "another server of this machine",
		"keeper":                            "the server and pods of this machine",
		"examples":                          "programs that are deployed, not the server",
		"sdk":                               "programs of users",
		"test":                              "servers under test",
		"tools":                             "tools of developers",
		"egress":                            "this room",
	}
}

// Nobody but this room makes what connects on behalf of a manifest.
func TestWall(t *testing.T) {
	forbidden := map[string][]string{
		"net/http":   {"DefaultClient", "DefaultTransport", "Get", "Head", "Post", "PostForm", "Transport", "ProxyFromEnvironment"},
		"net":        {"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialIP", "Dialer"},
		"crypto/tls": {"Dial", "DialWithDialer", "Dialer"},
	}
	allowed := map[string]bool{"wire/egress.go http.ProxyFromEnvironment": true} // it hands the operator's proxy to this room
	root := ".."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		for place := range may() {
			if name == place || strings.HasPrefix(name, place+"/") {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "node_modules" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		imports := map[string][]string{} // by the name in this file
		for _, i := range file.Imports {
			full, _ := strconv.Unquote(i.Path.Value)
			local := full[strings.LastIndexByte(full, '/')+1:]
			if i.Name != nil {
				local = i.Name.Name
			}
			imports[local] = forbidden[full]
		}
		complain := func(at ast.Node, what string) {
			if !allowed[name+" "+what] {
				t.Errorf("%s: %s reaches other hosts past the room egress: ask for an egress.Client, or list the place here with its reason", files.Position(at.Pos()), what)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok {
					for _, no := range imports[x.Name] {
						if n.Sel.Name == no {
							complain(n, x.Name+"."+no)
						}
					}
				}
			case *ast.CompositeLit:
				s, ok := n.Type.(*ast.SelectorExpr)
				if !ok || s.Sel.Name != "Client" {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && imports[x.Name] != nil && x.Name == "http" && !hasTransport(n) {
					complain(n, "http.Client without a Transport")
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func hasTransport(lit *ast.CompositeLit) bool {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Transport" {
				return true
			}
		}
	}
	return false
}
