package docs_test

import (
	"encoding/json"
	"testing"
)

// packages gives the names of what a package.json requires.
func packages(t *testing.T, data []byte) []string {
	t.Helper()
	var p struct {
		Dependencies    map[string]string `json:"dependencies"`
		DevDependencies map[string]string `json:"devDependencies"`
	}
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatalf("read package.json: %v", err)
	}
	var names []string
	for name := range p.Dependencies {
		names = append(names, name)
	}
	for name := range p.DevDependencies {
		names = append(names, name)
	}
	return names
}
