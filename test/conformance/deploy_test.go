package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tiphys/tiphys/deploy/health"
)

// deployCorpus finds the corpus beside the checkout, or where TIPHYS_CONFORMANCE says.
func deployCorpus(t *testing.T, folder string) string {
	t.Helper()
	root := os.Getenv("TIPHYS_CONFORMANCE")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "conformance")
	}
	dir := filepath.Join(root, folder)
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		t.Skipf("SKIPPED: no conformance corpus at %s; set TIPHYS_CONFORMANCE", dir)
	}
	return dir
}

type healthCase struct {
	ID, Kind, File, By string
	Expect             struct {
		Status  *string
		Message *string
	}
}

func TestDeployHealth(t *testing.T) {
	dir := deployCorpus(t, "deploy/health")
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []healthCase
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	passed, total := map[string]int{}, map[string]int{}
	for _, c := range cases {
		total[c.By]++
		problem := judgeHealth(t, filepath.Join(dir, c.File), c)
		if problem == "" {
			passed[c.By]++
			continue
		}
		if c.By == "core" {
			t.Errorf("%s: %s", c.ID, problem)
		}
	}
	t.Logf("deploy/health core: %d/%d", passed["core"], total["core"])
	t.Logf("deploy/health custom: %d/%d (rules for custom resources are not built in yet)", passed["custom"], total["custom"])
}

func judgeHealth(t *testing.T, file string, c healthCase) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var o unstructured.Unstructured
	if err := yaml.Unmarshal(raw, &o.Object); err != nil {
		return "cannot be read: " + err.Error()
	}
	got, known := health.Of(&o)
	switch {
	case c.Expect.Status == nil && !known:
		return ""
	case c.Expect.Status == nil:
		return "has health " + got.Status + ", expected none"
	case got.Status != *c.Expect.Status:
		return "got " + got.Status + " (" + got.Message + "), expected " + *c.Expect.Status
	case c.Expect.Message != nil && got.Message != *c.Expect.Message:
		return "got message " + got.Message + ", expected " + *c.Expect.Message
	}
	return ""
}
