package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// named is a place in the code as docs/architecture.md names it: `FOLDER/FILE.go` `Type.Method`.
var named = regexp.MustCompile("`([a-z0-9/_-]+\\.go)` `([A-Za-z.]+)`") //nolint:gochecknoglobals // a constant

// TestWalkOfAPush: each function on the walk is where the drawing says, each room has something of its own, and none is met twice.
func TestWalkOfAPush(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, walk, found := strings.Cut(string(text), "## A push, room by room\n")
	walk, _, ends := strings.Cut(walk, "\n## ")
	if !found || !ends {
		t.Fatal("the walk is gone")
	}
	rooms, places := map[string]bool{}, 0
	for line := range strings.Lines(walk) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		room := strings.Trim(strings.TrimSpace(cells[1]), "`")
		if rooms[room] {
			t.Errorf("room %s is met twice", room)
		}
		rooms[room] = true
		if _, err := os.Stat(filepath.Join("../..", room)); err != nil {
			t.Errorf("room %s: %v", room, err)
		}
		if !strings.Contains(cells[3], "`"+room+"/") {
			t.Errorf("room %s has no place of its own", room)
		}
		for _, m := range named.FindAllStringSubmatch(line, -1) {
			places++
			if !declares(t, m[1], m[2]) {
				t.Errorf("%s has no %s", m[1], m[2])
			}
		}
	}
	if len(rooms) < 12 || places < 25 {
		t.Errorf("%d rooms with %d places were read: is the table another by now?", len(rooms), places)
	}
}

// declares tells whether a file declares a function, or a method by Type.Name.
func declares(t *testing.T, file, name string) bool {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../..", file), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return false
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		is := fn.Name.Name
		if fn.Recv != nil && len(fn.Recv.List) == 1 {
			of := fn.Recv.List[0].Type
			if star, ok := of.(*ast.StarExpr); ok {
				of = star.X
			}
			if id, ok := of.(*ast.Ident); ok {
				is = id.Name + "." + is
			}
		}
		if is == name {
			return true
		}
	}
	return false
}
