package pipeline_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tiphys/tiphys/pipeline"
)

func executable(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPrint gives what a program prints, and what it says beside it.
func TestPrint(t *testing.T) {
	var said bytes.Buffer
	p := pipeline.Printer{Env: []string{"WORD=hello", "PATH=" + os.Getenv("PATH")}, Said: &said}
	out, err := p.Print(t.Context(), executable(t, `echo "kind: $WORD"; echo a word >&2`))
	if err != nil || string(out.Text) != "kind: hello\n" || said.String() != "a word\n" {
		t.Errorf("got %q, %q, %v", out.Text, said.String(), err)
	}
}

// TestPrintEnds has programs that do not end well: each is told with what it said, and nothing of it is left.
func TestPrintEnds(t *testing.T) {
	left := filepath.Join(t.TempDir(), "pid")
	for name, c := range map[string]struct{ text, want string }{
		"failure":       {"echo no branch >&2; exit 3", "program: exit status 3; it said:\nno branch"},
		"silence":       {"exit 1", "it said nothing"},
		"much on error": {"head -c 1000000 /dev/zero | tr '\\0' x >&2; echo last >&2; exit 1", "xlast"},
		"nothing":       {"echo", "printed nothing"},
		"too much":      {"yes", "printed more than 8388608 bytes"},
		"too long":      {"echo waiting >&2; sleep 600 & echo $! > " + left + "; wait", "ran longer than 1s; it said:\nwaiting"},
		"no program":    {"", "missing/program"},
	} {
		t.Run(name, func(t *testing.T) {
			file := executable(t, c.text)
			if name == "no program" {
				file = "missing/program"
			}
			started, limit := time.Now(), time.Second
			if name == "too much" {
				limit = 10 * time.Second // a busy machine prints slowly
			}
			out, err := pipeline.Printer{Env: os.Environ(), Time: limit}.Print(t.Context(), file)
			var place *pipeline.Error
			if !errors.As(err, &place) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %.100q, %.300v; want an error with %q", out.Text, err, c.want)
			}
			if len(err.Error()) > 20<<10 || time.Since(started) > 10*time.Second {
				t.Errorf("%d bytes after %s", len(err.Error()), time.Since(started))
			}
		})
	}
	raw, err := os.ReadFile(left)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	// The one who inherits it may not have waited for it yet: gone or a zombie.
	if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") && syscall.Kill(pid, 0) == nil {
		t.Errorf("process %d, which the program started, is left: %s", pid, stat)
	}
}

func TestKinds(t *testing.T) {
	for name, c := range map[string]struct {
		mode os.FileMode
		want pipeline.Kind
	}{
		"a.ts": {0o644, pipeline.Evaluated}, "a.js": {0o755, pipeline.Evaluated}, "a.py": {0o644, pipeline.Printed}, "a.go": {0, pipeline.Printed},
		"a.yaml": {0o755, pipeline.Manifest}, "a.json": {0o755, pipeline.Manifest}, "a": {0o755, pipeline.Printed}, "b": {0o644, pipeline.Manifest},
		"a.rb": {0o700, pipeline.Printed}, "dir": {os.ModeDir | 0o755, pipeline.Manifest},
	} {
		if got := pipeline.KindOf(name, c.mode); got != c.want {
			t.Errorf("%s with mode %v is %v, want %v", name, c.mode, got, c.want)
		}
	}
}
