// Package conformance runs the corpus of Argo's own expectations, which is kept outside this repository.
package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow/validate"
)

// workflowCorpus is the folder of the corpus: TIPHYS_CONFORMANCE, or shared/conformance beside the checkout.
func workflowCorpus(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("TIPHYS_CONFORMANCE")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "conformance")
	}
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("SKIPPED: the conformance corpus is not at %s; set TIPHYS_CONFORMANCE to its folder", folder)
	}
	return folder
}

func readWorkflowCases(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

type lintCase struct {
	ID               string
	File             string
	Kind             string
	Mode             string
	With             []string
	WorkflowDefaults json.RawMessage
	Expect           struct {
		Valid         bool
		ErrorContains any
		ErrorIsWhole  bool
	}
}

func load(t *testing.T, path string) ([]manifest.Object, []manifest.Diagnostic) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Decode(filepath.Base(path), raw)
}

func (c lintCase) run(t *testing.T, folder string) []manifest.Diagnostic {
	t.Helper()
	known := map[string]manifest.Object{}
	for _, with := range c.With {
		objects, _ := load(t, filepath.Join(folder, with))
		for _, o := range objects {
			known[o.Kind+"/"+o.Name] = o
		}
	}
	options := validate.Options{Mode: validate.Mode(c.Mode), Find: func(kind, name string) (manifest.Object, bool) {
		o, ok := known[kind+"/"+name]
		return o, ok
	}}
	if len(c.WorkflowDefaults) > 0 {
		tree, err := manifest.ParseTree(c.WorkflowDefaults)
		if err != nil {
			t.Fatal(err)
		}
		options.Defaults = tree
	}
	objects, diagnostics := load(t, filepath.Join(folder, c.File))
	for _, o := range objects {
		o.Kind = c.Kind // some cases judge a Workflow's file as a WorkflowTemplate
		diagnostics = append(diagnostics, validate.Object(o, options)...)
	}
	return slices.DeleteFunc(diagnostics, func(d manifest.Diagnostic) bool { return d.Severity != manifest.SeverityError })
}

// worded tells whether the words of the expected error are there.
func (c lintCase) worded(errors []manifest.Diagnostic) bool {
	var wanted []string
	switch w := c.Expect.ErrorContains.(type) {
	case string:
		wanted = []string{w}
	case []any:
		for _, part := range w {
			wanted = append(wanted, fmt.Sprint(part))
		}
	}
	return slices.ContainsFunc(errors, func(d manifest.Diagnostic) bool {
		if c.Expect.ErrorIsWhole {
			return d.Message == wanted[0]
		}
		return !slices.ContainsFunc(wanted, func(part string) bool { return !strings.Contains(d.Message, part) })
	})
}

// TestLint judges workflows/lint: a manifest is accepted or refused; upstream's words are a second score. The test
// fails below the score that was reached.
func TestLint(t *testing.T) {
	const reached = 114
	folder := filepath.Join(workflowCorpus(t), "workflows", "lint")
	var cases []lintCase
	readWorkflowCases(t, filepath.Join(folder, "index.json"), &cases)
	right, worded, refusals := 0, 0, 0
	for _, c := range cases {
		errors := c.run(t, folder)
		if (len(errors) == 0) != c.Expect.Valid {
			t.Logf("%s: want valid=%v (%v), got %v", c.ID, c.Expect.Valid, c.Expect.ErrorContains, errors)
			continue
		}
		right++
		if c.Expect.Valid {
			continue
		}
		refusals++
		if c.worded(errors) {
			worded++
		} else {
			t.Logf("%s: want %v, got %v", c.ID, c.Expect.ErrorContains, errors)
		}
		for _, e := range errors {
			if e.Position.Line == 0 {
				t.Errorf("%s: %q has no position", c.ID, e.Message)
			}
		}
	}
	fmt.Printf("lint: %d/%d (upstream's words: %d/%d)\n", right, len(cases), worded, refusals)
	if right < reached {
		t.Errorf("lint: %d, want at least %d", right, reached)
	}
}

// TestManifestsAreAccepted judges the manifests of examples and e2e: each must be read and, before a run, accepted.
func TestManifestsAreAccepted(t *testing.T) {
	for _, name := range []string{"examples", "e2e"} {
		folder := filepath.Join(workflowCorpus(t), "workflows", name)
		var cases []struct {
			ID, File string
			With     []string
			Expect   struct {
				Phase   string
				Message string
			}
		}
		readWorkflowCases(t, filepath.Join(folder, "index.json"), &cases)
		accepted := 0
		for _, c := range cases {
			known := map[string]manifest.Object{}
			objects, errors := load(t, filepath.Join(folder, c.File))
			for _, with := range c.With {
				more, _ := load(t, filepath.Join(folder, with))
				for _, o := range more {
					known[o.Kind+"/"+o.Name] = o
				}
			}
			for _, o := range objects {
				known[o.Kind+"/"+o.Name] = o
			}
			for _, o := range objects {
				errors = append(errors, validate.Object(o, validate.Options{Mode: validate.Lint, Incomplete: true,
					Find: func(kind, name string) (manifest.Object, bool) { o, ok := known[kind+"/"+name]; return o, ok }})...)
			}
			if manifest.Failed(errors) && c.Expect.Phase != "Error" {
				t.Logf("%s/%s (%s): %v", name, c.ID, c.Expect.Phase, manifest.FirstError(errors))
				continue
			}
			accepted++
		}
		fmt.Printf("%s accepted: %d/%d\n", name, accepted, len(cases))
		if name == "examples" && accepted < len(cases) {
			t.Errorf("%s: %d refused", name, len(cases)-accepted)
		}
	}
}
