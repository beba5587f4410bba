package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/google/go-jsonnet"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/manifest"
)

// jsonnet evaluates a file to one object or a list of objects. What it takes is bounded by the process that it is in
// ([Child]); it reads nothing but the repository.
func (w *walker) jsonnet(name string) error {
	vm := jsonnet.MakeVM()
	vm.SetTraceOut(io.Discard)
	imports := &importer{t: w.t, seen: map[string]jsonnet.Contents{}, folders: []string{w.base}}
	if j := w.directory.Jsonnet; j != nil {
		set := func(vars []manifest.JsonnetVar, text, code func(name, value string)) {
			for _, v := range vars {
				put := text
				if v.Code {
					put = code
				}
				put(v.Name, substitute(v.Value, w.environment))
			}
		}
		set(j.ExtVars, vm.ExtVar, vm.ExtCode)
		set(j.TLAs, vm.TLAVar, vm.TLACode)
		for _, lib := range j.Libs {
			imports.folders = append(imports.folders, path.Clean(strings.TrimLeft(lib, "/")))
		}
	}
	vm.Importer(imports)
	text, err := vm.EvaluateFile(name)
	if refusal := w.t.refusal(); refusal != nil {
		return fmt.Errorf("evaluate %s: %w", name, refusal)
	}
	at := manifest.Position{File: name}
	if err != nil {
		w.fail(at, "", "evaluate: "+strings.TrimSpace(err.Error()))
		return nil
	}
	if int64(len(text)) > w.t.limits.TotalBytes {
		return w.t.refuse("%s makes more than the %d bytes allowed", name, w.t.limits.TotalBytes)
	}
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		list = []json.RawMessage{json.RawMessage(text)}
	}
	for _, raw := range list {
		if string(raw) == "null" {
			continue
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(raw); err != nil {
			w.fail(at, "", fmt.Sprintf("it makes something else than a resource or a list of resources: %v", err))
			return nil
		}
		w.add(at, o)
	}
	return nil
}

// importer reads what is imported: beside the file that imports it, or else in one of the folders, the last one first.
type importer struct {
	t       *tree
	folders []string
	seen    map[string]jsonnet.Contents
}

// Import implements jsonnet.Importer.
func (i *importer) Import(from, name string) (jsonnet.Contents, string, error) {
	if path.IsAbs(name) {
		return jsonnet.Contents{}, "", i.t.refuse("import %q is outside of the repository", name)
	}
	folders := append(slices.Clone(i.folders), path.Dir(from))
	slices.Reverse(folders)
	for _, folder := range folders {
		found := path.Join(folder, name)
		if escapes(found) {
			return jsonnet.Contents{}, "", i.t.refuse("import %q of %s is outside of the repository", name, from)
		}
		if have, ok := i.seen[found]; ok {
			return have, found, nil
		}
		resolved, err := i.t.resolve(found)
		if err != nil {
			return jsonnet.Contents{}, "", err
		}
		if !i.t.exists(resolved) {
			continue
		}
		data, err := i.t.read(found)
		if err != nil {
			return jsonnet.Contents{}, "", err
		}
		i.seen[found] = jsonnet.MakeContentsRaw(data)
		return i.seen[found], found, nil
	}
	return jsonnet.Contents{}, "", errors.New("couldn't open import " + fmt.Sprintf("%q", name) + ": no match locally or in the library folders")
}
