package runs

import (
	"context"
	"encoding/json"
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

// The examples are run through the program itself, as a user would: `tiphys run --executor host`. The cases of e2e,
// of which some act on a run that goes on, are driven in this process on the same parts. Both use stand-ins for
// programs of images that the cases need (argosay, whalesay, busybox' nc), written here from their description.

// workflowCase is a case of workflows/examples or workflows/e2e.
type workflowCase struct {
	ID        string            `json:"id"`
	File      string            `json:"file"`
	With      []string          `json:"with"`
	Class     string            `json:"class"`
	Why       string            `json:"why"`
	Needs     []string          `json:"needs"`
	Arguments map[string]string `json:"arguments"`
	Submit    struct {
		Name       string `json:"name"`
		Entrypoint string `json:"entrypoint"`
	} `json:"submit"`
	Steps  []json.RawMessage `json:"steps"`
	Expect expectation       `json:"expect"`
}

type expectation struct {
	Phase          *string          `json:"phase"`
	PhaseIn        []string         `json:"phaseIn"`
	Message        *string          `json:"message"`
	MessageHas     string           `json:"messageContains"`
	MessageMatches string           `json:"messageMatches"`
	Progress       string           `json:"progress"`
	NodeCount      *int             `json:"nodeCount"`
	Nodes          []map[string]any `json:"nodes"`
	OtherNodes     []map[string]any `json:"otherNodes"`
}

// finished is what `tiphys run -o json` prints, as far as cases look at it.
type finished struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Status struct {
		Phase    string                    `json:"phase"`
		Message  string                    `json:"message"`
		Progress string                    `json:"progress"`
		Nodes    map[string]map[string]any `json:"nodes"`
	} `json:"status"`
}

func TestConformanceExamples(t *testing.T) {
	skipUnlessScored(t)
	program := programToTest(t)
	runCorpus(t, "workflows/examples", 95, func(c workflowCase) bool {
		return c.Class == "local" && c.Expect.Phase != nil && *c.Expect.Phase == "Succeeded"
	}, func(t *testing.T, dir, standIns string, c workflowCase) error {
		return runCase(t.Context(), program, dir, standIns, c)
	})
}

func TestConformanceE2E(t *testing.T) {
	skipUnlessScored(t)
	runCorpus(t, "workflows/e2e", 95, func(c workflowCase) bool { return c.Class == "local" || len(c.Steps) > 0 }, driveCase)
}

func skipUnlessScored(t *testing.T) {
	t.Helper()
	if os.Getenv("TIPHYS_SCORES") == "" {
		t.Skip("SKIPPED: runs whole workflows; use make conformance")
	}
}

// caseTimeout bounds one case.
const caseTimeout = 90 * time.Second

// runCorpus runs the cases of a folder that are wanted, and asks for a share of them to pass.
func runCorpus(t *testing.T, folder string, percent int, want func(workflowCase) bool, run func(*testing.T, string, string, workflowCase) error) {
	dir := corpusFolder(t, folder)
	var cases []workflowCase
	readIndex(t, filepath.Join(dir, "index.json"), &cases)
	standIns := makeStandIns(t)
	var passed, counted int
	var failures []string
	only := regexp.MustCompile(os.Getenv("TIPHYS_CASES"))
	for _, c := range cases {
		if !want(c) || !only.MatchString(c.ID) {
			continue
		}
		counted++
		if err := run(t, dir, standIns, c); err != nil {
			failures = append(failures, fmt.Sprintf("%s: %v", c.ID, err))
			continue
		}
		passed++
	}
	sort.Strings(failures)
	for _, f := range failures {
		t.Log(f)
	}
	t.Logf("SCORE %s (class local): %d/%d", folder, passed, counted)
	if passed*100 < percent*counted {
		t.Errorf("%d of %d cases pass, %d %% are asked for", passed, counted, percent)
	}
}

// programToTest is bin/tiphys, or what TIPHYS_PROGRAM names.
func programToTest(t *testing.T) string {
	t.Helper()
	program := os.Getenv("TIPHYS_PROGRAM")
	if program == "" {
		program = "../../../bin/tiphys"
	}
	program, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("the program is not built: %v (run make build)", err)
	}
	return program
}

func runCase(ctx context.Context, program, dir, standIns string, c workflowCase) error {
	ctx, cancel := context.WithTimeout(ctx, caseTimeout)
	defer cancel()
	args := []string{"run", "--executor", "host", "-o", "json", "--host-images", standIns}
	for name, value := range c.Arguments {
		args = append(args, "-p", name+"="+value)
	}
	if c.Submit.Name != "" {
		args = append(args, "--name", c.Submit.Name)
	}
	if c.Submit.Entrypoint != "" {
		args = append(args, "--entrypoint", c.Submit.Entrypoint)
	}
	for _, f := range append(append([]string{}, c.With...), c.File) {
		args = append(args, filepath.Join(dir, f))
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, runErr := cmd.Output()
	var f finished
	if err := json.Unmarshal(out, &f); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("did not end within %s", caseTimeout)
		}
		return fmt.Errorf("no result: %v: %s", runErr, lastLines(stderr.String()))
	}
	return c.Expect.check(f)
}

func lastLines(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 600 {
		s = s[len(s)-600:]
	}
	return strings.ReplaceAll(s, "\n", " | ")
}
