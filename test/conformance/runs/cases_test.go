package runs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"
)

// The cases are small inputs of others, one file for each fault, with the right value in words at its head. What those words
// ask for stands here as expressions that the output must match, or must not where one begins with "!".

// faultCase is what one file asks for.
type faultCase struct {
	// args are those of the command, FILE for the file; empty is "run FILE --executor host".
	args []string
	// code is the exit code; -1 is any.
	code int
	want []string
}

func lints(code int, want ...string) faultCase {
	return faultCase{[]string{"lint", "FILE"}, code, want}
}

func runs(code int, want ...string) faultCase { return faultCase{nil, code, want} }

// faultCases has a line for each file that one command can judge. Those that want a server, and the calendar, are tests of
// their rooms.
func faultCases() map[string]faultCase {
	return map[string]faultCase{
		"engine/absent-artifact-path.yaml":     runs(0, `: cold\n`),
		"engine/aggregate-failed-items.yaml":   runs(0, `: \["1","3"\]\n`),
		"engine/artifact-symlink.yaml":         runs(0),
		"engine/configmap-name-tag.yaml":       runs(0, `: blue\n`),
		"engine/container-set-dependents.yaml": runs(1, `✖ main  Failed`, `!Omitted`),
		"engine/daemon-address.yaml":           runs(0, `address=<127\.0\.0\.1>`),
		"engine/daemon-retry.yaml":             runs(-1, `server\(1\)`),
		"engine/empty-loop-reason.yaml":        runs(-1, `(?i)no items`, `!was skipped`),
		"engine/failures-without-pod.yaml":     runs(1, `displayName\\?":\\?"call`),
		"engine/hook-expression-error.yaml":    runs(1, `alarm`, `exitCode > 0`),
		"engine/init-container-phase.yaml":     runs(1, `phase\(1\)  Failed`, `!⚠`),
		"engine/item-line-break.yaml":          runs(0, `!\nsecond`),
		"engine/large-output-parameter.yaml":   runs(0),
		"engine/late-labels.yaml":              runs(0, `stage=canary`),
		"engine/missing-name-default.yaml":     runs(0, `: no tier\n`),
		"engine/node-progress.yaml":            {[]string{"run", "FILE", "--executor", "host", "-o", "json"}, 0, []string{`"progress": "1/1"[\s\S]*"progress": "1/1"`, `"progress": "2/2"[\s\S]*"progress": "2/2"`}},
		"engine/null-item.yaml":                runs(0, `word=<null>`),
		"engine/suspend-message.yaml":          runs(0, `!Succeeded.*waits`, `!✔.*waits until`),
		"engine/tag-in-step-name.yaml":         runs(0, `run-mon`, `mended`),
		"engine/volume-names-output.yaml":      runs(0, `: blue\n`),
		"lint/argument-value-from.yaml":        lints(2, `(?s)text.*text`),
		"lint/deployed-kinds.yaml":             lints(0),
		"lint/gauge-without-value.yaml":        lints(2, `missing gauge.value`),
		"lint/init-container-name.yaml":        lints(2, `initContainers must all have container name`),
		"lint/metric-tags.yaml":                lints(0, `!is not a tag`),
		"lint/misspelt-field.yaml":             lints(2, `comand`),
		"lint/step-name-skeleton.yaml":         lints(2, `run_`),
		"lint/templates-beside-ref.yaml":       lints(2, `[Tt]emplates is invalid field in spec`),
		"lint/unbalanced-tag.yaml":             lints(2, `workflow.parameters.message`),
	}
}

// TestConformanceCases runs the cases and says which of them pass.
func TestConformanceCases(t *testing.T) {
	skipUnlessScored(t)
	program := programToTest(t)
	root := os.Getenv("TIPHYS_FAULTS")
	if root == "" {
		root = "../../../../shared/cases"
	}
	if _, err := os.Stat(root); err != nil {
		t.Skipf("SKIPPED, NOTHING WAS TESTED: the cases are not at %s (set TIPHYS_FAULTS)", root)
	}
	only := regexp.MustCompile(os.Getenv("TIPHYS_CASES"))
	passed, counted := 0, 0
	var names []string
	for name := range faultCases() {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if !only.MatchString(name) {
			continue
		}
		counted++
		if err := runFaultCase(t.Context(), program, filepath.Join(root, name), faultCases()[name]); err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		passed++
	}
	t.Logf("SCORE cases: %d/%d", passed, counted)
	if passed < counted {
		t.Errorf("%d of %d cases pass", passed, counted)
	}
}

func runFaultCase(ctx context.Context, program, file string, c faultCase) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	args := []string{"run", "FILE", "--executor", "host"}
	if c.args != nil {
		args = append([]string(nil), c.args...)
	}
	for i := range args {
		if args[i] == "FILE" {
			args[i] = file
		}
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return errors.New("it did not end")
	}
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		return err
	}
	if c.code >= 0 && code != c.code {
		return fmt.Errorf("exit code %d, want %d: %s", code, c.code, lastLines(string(out)))
	}
	for _, want := range c.want {
		pattern, absent := strings.CutPrefix(want, "!")
		if regexp.MustCompile(pattern).Match(out) == absent {
			return fmt.Errorf("want %s: %s", want, lastLines(string(out)))
		}
	}
	return nil
}
