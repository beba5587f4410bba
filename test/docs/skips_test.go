package docs

import (
	"bufio"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// skip finds a test that is left out with a reason; without one it is an input of a fuzz or property test that says nothing.
var skip = regexp.MustCompile(`\bt\.Skipf?\("([^"]*)"`)

// A test that is left out says so in capitals, so that nobody who reads its output takes it for a pass.
func TestSkipsAreLoud(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(bytes.NewReader(source))
		lines.Buffer(nil, 1<<20)
		for n := 1; lines.Scan(); n++ {
			m := skip.FindStringSubmatch(lines.Text())
			if m == nil {
				continue
			}
			found++
			if !strings.HasPrefix(m[1], "SKIPPED") {
				t.Errorf("%s:%d: %q: begin with SKIPPED, and say what is not tested", path, n, m[1])
			}
		}
		return lines.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 10 {
		t.Errorf("only %d places were found: does the pattern still fit?", found)
	}
}
