package cli_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tiphys/tiphys/cli"
	"github.com/tiphys/tiphys/executor/initbin"
)

// TestMain lets the scripts call this test's own binary as "tiphys", in a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tiphys": func() {
			os.Exit(cli.Main(context.Background(), os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}))
		},
	})
}

// exitCode is a script command: exitcode CODE ARGUMENT... runs tiphys and wants the code.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exitcode CODE ARGUMENT...")
	}
	err := ts.Exec("tiphys", args[1:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("tiphys ended with %s, want %s", got, args[0])
	}
}

func TestScripts(t *testing.T) {
	runs := os.Geteuid() == 0
	if !runs {
		t.Log("SKIPPED in part: the scripts that run steps need root for namespaces")
	}
	if _, err := initbin.Path(t.TempDir()); errors.Is(err, initbin.ErrMissing) {
		t.Log("SKIPPED in part: the scripts that run steps need tiphys-init: make init")
		runs = false
	}
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("EXAMPLES", examples)
			e.Setenv("USER", "ada")
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("SDK", filepath.Join(filepath.Dir(examples), "sdk"))
			if out, err := exec.Command("go", "env", "GOCACHE").Output(); err == nil {
				e.Setenv("GOCACHE", strings.TrimSpace(string(out))) // programs in Go are compiled once for all tests
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitCode},
		// [steps] holds where steps can be executed.
		Condition: func(name string) (bool, error) {
			if name == "steps" {
				return runs, nil
			}
			return false, errors.New("unknown condition " + name)
		},
	})
}
