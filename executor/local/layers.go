package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/executor/protocol"
)

// layersFile, among an attempt's working files, lists the layers that it is mounted from, one a line. It goes when the
// attempt is acknowledged. It need not outlive the machine: pods do not.
const layersFile = "layers"

// keepLayers notes what the pod is about to be mounted from.
func (a *attempt) keepLayers(spec *protocol.Spec) error {
	var layers []string
	for _, c := range spec.Containers {
		layers = append(layers, c.Layers...)
	}
	if len(layers) == 0 {
		return nil
	}
	slices.Sort(layers)
	text := strings.Join(slices.Compact(layers), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(a.workFolder(), layersFile), []byte(text), 0o600); err != nil {
		return fmt.Errorf("note layers: %w", err)
	}
	return nil
}

// Layers gives the folders of image layers that pods of this executor are mounted from. A pod that is still being
// prepared may not be among them.
func (e *Executor) Layers() (map[string]bool, error) {
	e.mu.Lock()
	var files []string
	for _, a := range e.attempts {
		files = append(files, filepath.Join(a.workFolder(), layersFile))
	}
	e.mu.Unlock()
	layers := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the pods' layers: %w", err)
		}
		for dir := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
			layers[dir] = true
		}
	}
	return layers, nil
}
