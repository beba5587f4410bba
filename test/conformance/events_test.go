package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiphys/tiphys/manifest"
)

// eventCorpus finds the folder with the expectations taken from upstream, or skips loudly.
func eventCorpus(t *testing.T, folder string) string {
	t.Helper()
	root := os.Getenv("TIPHYS_CONFORMANCE")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "conformance")
	}
	dir := filepath.Join(root, "events", folder)
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		t.Skipf("SKIPPED: no conformance corpus at %s; set TIPHYS_CONFORMANCE to its folder", dir)
	}
	return dir
}

func readCases[T any](t *testing.T, dir string) []T {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []T
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

type manifestCase struct {
	ID     string `json:"id"`
	File   string `json:"file"`
	Expect struct {
		Valid         bool   `json:"valid"`
		ErrorContains string `json:"errorContains"`
	} `json:"expect"`
}

// TestEventManifests: Sensors and EventSources that argo-events accepts or refuses.
func TestEventManifests(t *testing.T) {
	dir := eventCorpus(t, "manifests")
	cases := readCases[manifestCase](t, dir)
	passed := 0
	for _, c := range cases {
		data, err := os.ReadFile(filepath.Join(dir, c.File))
		if err != nil {
			t.Fatal(err)
		}
		objects, diagnostics := manifest.Decode(c.File, data)
		for _, o := range objects {
			var found []manifest.Diagnostic
			switch o.Kind {
			case "Sensor":
				_, found = manifest.LoadSensor(o)
			case "EventSource":
				_, found = manifest.LoadEventSource(o)
			}
			diagnostics = append(diagnostics, found...)
		}
		first := manifest.FirstError(diagnostics)
		switch {
		case c.Expect.Valid && first != nil:
			t.Errorf("%s: refused: %v", c.ID, first)
		case !c.Expect.Valid && first == nil:
			t.Errorf("%s: accepted, want refused", c.ID)
		case !c.Expect.Valid && !anyContains(diagnostics, c.Expect.ErrorContains):
			t.Errorf("%s: %v does not contain %q", c.ID, first, c.Expect.ErrorContains)
		default:
			passed++
		}
	}
	t.Logf("events/manifests: %d/%d", passed, len(cases))
}

func anyContains(diagnostics []manifest.Diagnostic, text string) bool {
	for _, d := range diagnostics {
		if d.Severity == manifest.SeverityError && strings.Contains(d.Error(), text) {
			return true
		}
	}
	return false
}
