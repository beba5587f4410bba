package docs_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// patience bounds each command of a page, with the time until what it asks for is there.
const patience = 2 * time.Minute

// TestPagesWork does what the first pages tell a newcomer to do, and that on backups an operator, line by line, in a folder of its own.
func TestPagesWork(t *testing.T) {
	if os.Getenv("TIPHYS_E2E") == "" || os.Geteuid() != 0 {
		t.Skip("SKIPPED: the commands of README.md and docs/getting-started.md were not tried: this needs root and the built program; use make test-e2e")
	}
	for n, page := range []string{"README.md", "docs/getting-started.md", "docs/backup.md"} {
		t.Run(filepath.Base(page), func(t *testing.T) {
			w := newWalk(t, n)
			seen := 0
			for _, line := range shell(read(t, "../../"+page)) {
				if w.follow(t, line) {
					seen++
				}
			}
			if seen < 10 {
				t.Errorf("%d commands only", seen)
			}
		})
	}
}

// shell gives the lines of the blocks without a language, comments left out.
func shell(page string) []string {
	var lines []string
	inside := false
	for s := bufio.NewScanner(strings.NewReader(page)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		switch {
		case strings.HasPrefix(line, "```"):
			inside = !inside && line == "```"
		case inside && line != "":
			line, _, _ = strings.Cut(line, "  #")
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// walk is a newcomer in a folder that looks like the checkout.
type walk struct {
	dir, port, bridge, subnet string
	server                    *exec.Cmd
	said                      bytes.Buffer
}

func newWalk(t *testing.T, n int) *walk {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	w := &walk{dir: t.TempDir(), bridge: fmt.Sprintf("tiphysdoc%d", n), subnet: fmt.Sprintf("10.21%d.0.0/16", n)}
	for _, name := range []string{"bin", "examples"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, w.port, _ = net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	t.Cleanup(func() { w.leave(t) })
	return w
}

// leave takes the applications away and ends the runs, so that nothing of them outlives the server, and stops it.
func (w *walk) leave(t *testing.T) {
	if w.server == nil {
		return
	}
	for _, f := range []string{"applications.yaml", "sensors.yaml", "nightly.yaml", "tides.yaml"} {
		_ = os.Remove(filepath.Join(w.dir, "definitions", f))
	}
	gone := false
	for began := time.Now(); time.Since(began) < patience; {
		out, err := w.bash(context.Background(), "bin/tiphys apps; bin/tiphys list --state Running --state Pending | sed 1d | sed 's/^default.//; s/ .*//' | tee /dev/stderr | xargs -r bin/tiphys terminate")
		if gone = err == nil && !strings.Contains(out, "harbour-"); gone {
			break
		}
	}
	if !gone {
		t.Error("applications or runs are left, though their definitions are gone")
	}
	_ = w.server.Process.Signal(os.Interrupt)
	_ = w.server.Wait()
	if t.Failed() {
		t.Logf("the server said:\n%s", w.said.String())
	}
}

var placeholder = regexp.MustCompile(`\b(NAME|EVENT)\b`)

// follow does one line, and tells whether there was something to do.
func (w *walk) follow(t *testing.T, line string) bool {
	t.Helper()
	for from, to := range map[string]string{"localhost:2746": "localhost:" + w.port, "/tmp/": w.dir + "/", "curl ": "curl -fsS "} {
		line = strings.ReplaceAll(line, from, to)
	}
	switch {
	case strings.HasPrefix(line, "make "):
		return false // the line itself is what runs the tests
	case strings.HasPrefix(line, "bin/tiphys run") && !strings.Contains(line, "--executor host"):
		t.Logf("NOT TRIED, as it pulls from a registry: %s", line)
		return false
	case strings.HasPrefix(line, "bin/tiphys serve"):
		w.serve(t, line)
		return true
	}
	line = placeholder.ReplaceAllStringFunc(line, func(word string) string {
		list := map[string]string{"NAME": "bin/tiphys list --limit 1 2>/dev/null | tail -1 | sed 's/^default.//; s/ .*//'", "EVENT": "bin/tiphys events --limit 1 2>/dev/null | tail -1 | cut -d' ' -f1"}[word]
		for began := time.Now(); time.Since(began) < patience; {
			// The list has its heading only until the first is there.
			if out, err := w.bash(t.Context(), list); err == nil && strings.ToUpper(out) != out {
				return strings.TrimSpace(out)
			} else if n := strings.TrimSpace(out); err == nil && n != "" && n[0] >= '0' && n[0] <= '9' {
				return n
			}
		}
		t.Fatalf("%s: nothing is there", list)
		return ""
	})
	var out string
	var err error
	for began := time.Now(); time.Since(began) < patience; {
		if out, err = w.bash(t.Context(), line); err == nil {
			return true
		}
		// What was pushed a moment ago takes its time to answer; everything else works at once.
		if !strings.HasPrefix(line, "curl") && !strings.HasPrefix(line, "bin/tiphys app logs") {
			break
		}
	}
	t.Fatalf("%s\n%s%v", line, out, err)
	return false
}

func (w *walk) bash(ctx context.Context, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir = w.dir
	cmd.Env = w.env()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// env is that of somebody who has no settings yet.
func (w *walk) env() []string {
	return append(os.Environ(), "TIPHYS_SERVER=localhost:"+w.port, "TIPHYS_TOKEN=", "SUDO_UID=", "XDG_CONFIG_HOME="+filepath.Join(w.dir, "home"), "GIT_CONFIG_GLOBAL="+filepath.Join(w.dir, "gitconfig"),
		"GIT_TERMINAL_PROMPT=0", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
}

// serve starts the server as the page says, but on a port, a bridge and a copy of the definitions that nobody else has.
func (w *walk) serve(t *testing.T, line string) {
	t.Helper()
	prepare := "[ -d definitions ] || cp -r examples/harbour/tiphys definitions; sed 's#^config: .*#config: definitions#' examples/harbour-server.yaml > server.yaml; grep -q '^config: definitions' server.yaml"
	if out, err := w.bash(t.Context(), prepare); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	line = strings.NewReplacer("examples/harbour/tiphys", "definitions", "examples/harbour-server.yaml", "server.yaml").Replace(line)
	args := append(strings.Fields(line), "--listen", "127.0.0.1:"+w.port, "--bridge", w.bridge, "--subnet", w.subnet)
	w.server = exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...)
	w.server.Dir, w.server.Env, w.server.Stdout, w.server.Stderr = w.dir, w.env(), &w.said, &w.said
	if err := w.server.Start(); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < patience; {
		if _, err := w.bash(t.Context(), "curl -fsS http://localhost:"+w.port+"/readyz"); err == nil {
			return
		}
	}
	t.Fatalf("the server does not answer:\n%s", w.said.String())
}
