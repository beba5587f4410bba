package definitions

import (
	"context"
	"encoding/json"

	"github.com/tiphys/tiphys/control/runs"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/workflow"
)

// Memory is a set of objects that lives as long as the process: the other objects in the files of `tiphys run`.
type Memory map[string]json.RawMessage

// NewMemory returns the objects by name; later ones win.
func NewMemory(objects []manifest.Object) Memory {
	m := Memory{}
	for _, o := range objects {
		d := define(o, OriginFolder)
		m[d.Key()] = d.Object
	}
	return m
}

// Object implements runs.Objects.
func (m Memory) Object(_ context.Context, ref workflow.Ref) (json.RawMessage, error) {
	raw, ok := m[key(ref.Kind, ref.Namespace, ref.Name)]
	if !ok {
		return nil, runs.ErrNoObject
	}
	return raw, nil
}
