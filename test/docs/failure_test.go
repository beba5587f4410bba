package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tiphys/tiphys/artifact"
	"github.com/tiphys/tiphys/artifact/archive"
	"github.com/tiphys/tiphys/artifact/blob"
	"github.com/tiphys/tiphys/artifact/image"
	"github.com/tiphys/tiphys/artifact/mover"
	"github.com/tiphys/tiphys/backup"
	"github.com/tiphys/tiphys/budget"
	"github.com/tiphys/tiphys/confine"
	"github.com/tiphys/tiphys/control/actor"
	"github.com/tiphys/tiphys/control/apps"
	"github.com/tiphys/tiphys/control/audit"
	"github.com/tiphys/tiphys/control/definitions"
	"github.com/tiphys/tiphys/control/hold"
	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/datafolder"
	"github.com/tiphys/tiphys/deploy"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/forge/builtin"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/executor/initbin"
	"github.com/tiphys/tiphys/executor/podlog"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/repo"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/server/feed"
	"github.com/tiphys/tiphys/workflow"
	"github.com/tiphys/tiphys/workflow/expression"
)

// TestErrorsHaveMeaning: what each exported error of the rooms answers and how a command ends with it. An exported error
// without a line here fails the test, so that nobody forgets to say what it means.
func TestErrorsHaveMeaning(t *testing.T) {
	type answer struct {
		err    error
		status int
		exit   int
	}
	table := map[string]answer{
		"artifact.ErrBadKey":                {artifact.ErrBadKey, 400, 2},
		"artifact.ErrNotFound":              {artifact.ErrNotFound, 404, 1},
		"artifact.ErrTooLarge":              {artifact.ErrTooLarge, 413, 1},
		"artifact/archive.ErrUnsafe":        {archive.ErrUnsafe, 400, 2},
		"artifact/archive.ErrTooMuch":       {archive.ErrTooMuch, 413, 1},
		"artifact/blob.ErrMismatch":         {blob.ErrMismatch, 400, 2},
		"artifact/mover.ErrUnsupported":     {mover.ErrUnsupported, 400, 2},
		"artifact/image.ErrUnauthenticated": {image.ErrUnauthenticated, 401, 1},
		"budget.ErrExceeded":                {budget.ErrExceeded, 413, 1},
		"backup.ErrDamaged":                 {backup.ErrDamaged, 400, 2},
		"backup.ErrIdentity":                {backup.ErrIdentity, 400, 2},
		"confine.ErrTooLarge":               {confine.ErrTooLarge, 413, 1},
		"confine.ErrTooLong":                {confine.ErrTooLong, 504, 1},
		"control/actor.ErrStopped":          {actor.ErrStopped, 503, 1},
		"control/apps.ErrNotFound":          {apps.ErrNotFound, 404, 1},
		"control/audit.ErrBusy":             {audit.ErrBusy, 409, 1},
		"control/definitions.ErrOrigin":     {definitions.ErrOrigin, 409, 1},
		"control/hold.ErrHeld":              {hold.ErrHeld, 503, 1},
		"datafolder.ErrCopied":              {datafolder.ErrCopied, 503, 1},
		"control/runs.ErrNoObject":          {runs.ErrNoObject, 404, 1},
		"control/runs.ErrNotFound":          {runs.ErrNotFound, 404, 1},
		"control/runs.ErrRunning":           {runs.ErrRunning, 409, 1},
		"deploy.ErrNotFound":                {deploy.ErrNotFound, 404, 1},
		"deploy.ErrLeaving":                 {deploy.ErrLeaving, 503, 1},
		"deploy.ErrUnknownCluster":          {deploy.ErrUnknownCluster, 404, 1},
		"event/forge.ErrNotFound":           {forge.ErrNotFound, 404, 1},
		"event/forge.ErrPayload":            {forge.ErrPayload, 400, 2},
		"event/forge.ErrSignature":          {forge.ErrSignature, 401, 1},
		"event/forge/builtin.ErrConflict":   {builtin.ErrConflict, 409, 1},
		"event/forge/builtin.ErrName":       {builtin.ErrName, 400, 2},
		"event/forge/builtin.ErrRefused":    {builtin.ErrRefused, 409, 1},
		"egress.ErrRefused":                 {egress.ErrRefused, 403, 1},
		"repo.ErrNotFound":                  {repo.ErrNotFound, 404, 1},
		"repo.ErrTooLarge":                  {repo.ErrTooLarge, 413, 1},
		"repo.ErrUnsafe":                    {repo.ErrUnsafe, 400, 2},
		"executor.ErrNotFound":              {executor.ErrNotFound, 404, 1},
		"executor/initbin.ErrMissing":       {initbin.ErrMissing, 409, 1},
		"executor/podlog.ErrStopped":        {podlog.ErrStopped, 500, 1}, // shared with tiphys-init, which imports no room
		"ledger.ErrBadSignature":            {ledger.ErrBadSignature, 400, 2},
		"ledger.ErrClosed":                  {ledger.ErrClosed, 503, 1},
		"ledger.ErrConflict":                {ledger.ErrConflict, 409, 1},
		"ledger.ErrCrossing":                {ledger.ErrCrossing, 500, 1}, // a fault of the program
		"ledger.ErrFenced":                  {ledger.ErrFenced, 503, 1},
		"ledger.ErrWithinWrite":             {ledger.ErrWithinWrite, 500, 1}, // a fault of the program
		"ledger.ErrExists":                  {ledger.ErrExists, 409, 1},
		"ledger.ErrNoSpace":                 {ledger.ErrNoSpace, 507, 1},
		"ledger.ErrNotFound":                {ledger.ErrNotFound, 404, 1},
		"secret.ErrSealed":                  {secret.ErrSealed, 409, 1},
		"workflow/expression.ErrTooLarge":   {expression.ErrTooLarge, 413, 1},
		"server/feed.ErrClosed":             {feed.ErrClosed, 503, 1},
		"server/feed.ErrTooMany":            {feed.ErrTooMany, 503, 1},
	}
	for name, want := range table {
		if status, exit := failure.HTTPStatus(want.err), failure.ExitCode(want.err); status != want.status || exit != want.exit {
			t.Errorf("%s: status %d, exit code %d; want %d and %d", name, status, exit, want.status, want.exit)
		}
	}
	for name, err := range map[string]error{
		"manifest.Diagnostic": manifest.Diagnostic{Message: "x"}, "workflow.InvalidError": &workflow.InvalidError{}, "workflow.MissingError": &workflow.MissingError{},
	} {
		if failure.KindOf(err) != failure.Invalid {
			t.Errorf("%s is %s, want invalid", name, failure.KindOf(err))
		}
	}
	if kind := failure.KindOf(&ledger.ExistsError{}); kind != failure.Conflict {
		t.Errorf("ledger.ExistsError is %s, want conflict", kind)
	}
	found := map[string]bool{}
	for _, name := range exportedErrors(t, "../..") {
		found[name] = true
		if _, ok := table[name]; !ok {
			t.Errorf("%s has no line in the table of this test: what does it mean?", name)
		}
	}
	for name := range table {
		if !found[name] {
			t.Errorf("the table names %s, which there is not", name)
		}
	}
}

// exportedErrors are the exported variables of the tree whose name begins with Err, as folder.Name.
func exportedErrors(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == "test") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			vars, ok := decl.(*ast.GenDecl)
			if !ok || vars.Tok != token.VAR {
				continue
			}
			for _, spec := range vars.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, filepath.ToSlash(folder)+"."+name.Name)
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestKindsAreDocumented: docs/api.md has the table of kinds as the code has it.
func TestKindsAreDocumented(t *testing.T) {
	var want []string
	for _, kind := range failure.Kinds() {
		want = append(want, kind.String())
	}
	var got []string
	for _, line := range strings.Split(section(read(t, "../../docs/api.md"), "## Errors"), "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 3 && strings.Contains(cells[1], "`") {
			got = append(got, strings.Trim(cells[1], " `"))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/api.md, Errors: %s", diff)
	}
}

// section is the text of a heading up to the next.
func section(page, heading string) string {
	_, rest, _ := strings.Cut(page, heading+"\n")
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}
