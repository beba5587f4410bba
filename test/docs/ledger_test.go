package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// kind matches the definition of an entry's kind in the code: kindDone = "run.finished".
var kind = regexp.MustCompile(`\b[kK]ind[A-Z]\w*\s*=\s*"([a-z]+\.[a-z]+)"`)

// TestEveryKindIsListed looks for the kinds of entries in the code of all rooms.
func TestEveryKindIsListed(t *testing.T) {
	page, err := os.ReadFile("../../docs/ledger.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, room := range []string{"ledger", "workflow", "event", "deploy", "server", "artifact", "control", "access"} {
		err := filepath.WalkDir(filepath.Join("../..", room), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "ledgertest") {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range kind.FindAllStringSubmatch(string(data), -1) {
				found++
				if !strings.Contains(string(page), "`"+m[1]+"`") {
					t.Errorf("docs/ledger.md does not list the kind %s of %s", m[1], path)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 30 {
		t.Errorf("found %d kinds only", found)
	}
}
