package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Object is one document of a manifest: its envelope, and the rest as a tree.
type Object struct {
	APIVersion   string
	Kind         string
	Namespace    string
	Name         string
	GenerateName string
	// Tree is the whole document, envelope included.
	Tree *Tree
	// Position is where the document begins.
	Position Position
}

// Decode reads the documents of a YAML or JSON file with the default [Limits]. Lists (kind: List) are taken
// apart. What could be read is given even where diagnostics contain errors.
func Decode(file string, data []byte) ([]Object, []Diagnostic) {
	return DecodeLimited(file, data, Limits{})
}

// DecodeLimited is [Decode] with limits of the caller.
func DecodeLimited(file string, data []byte, limits Limits) ([]Object, []Diagnostic) {
	limits = limits.withDefaults()
	if len(data) > limits.Bytes {
		return nil, []Diagnostic{tooLarge(file, int64(len(data)), limits.Bytes)}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	p := &parser{src: newSource(file, data), limits: limits}
	trees, err := p.documents()
	var objects []Object
	diagnostics := p.warnings
	for _, tree := range trees {
		found, diags := envelope(tree)
		objects = append(objects, found...)
		diagnostics = append(diagnostics, diags...)
		if len(diagnostics) > maxDiagnostics {
			return objects, append(diagnostics, Diagnostic{Position: tree.Here(), Severity: SeverityError,
				Message: fmt.Sprintf("the rest of the file was not read: more than %d faults were found before", maxDiagnostics)})
		}
	}
	if err != nil {
		diagnostics = append(diagnostics, parseDiagnostic(file, err))
	}
	return objects, diagnostics
}

// maxDiagnostics is how many faults of a file are told, about.
const maxDiagnostics = 1000

func tooLarge(file string, size int64, limit int) Diagnostic {
	return Diagnostic{
		Position: Position{File: file}, Severity: SeverityError,
		Message: fmt.Sprintf("manifest is %d bytes, more than the %d allowed", size, limit),
		Hint:    "split it into several files",
	}
}

func parseDiagnostic(file string, err error) Diagnostic {
	d := Diagnostic{Position: Position{File: file}, Severity: SeverityError, Message: err.Error()}
	var fault *problem
	if errors.As(err, &fault) {
		d.Position.Line, d.Position.Column, d.Hint = int(fault.line), int(fault.column), fault.hint
	}
	return d
}

// envelope reads apiVersion, kind and metadata of a document.
func envelope(tree *Tree) ([]Object, []Diagnostic) {
	if tree.Kind() == KindNull {
		return nil, nil
	}
	if tree.Kind() != KindMap {
		return nil, []Diagnostic{{Position: tree.Here(), Severity: SeverityError,
			Message: fmt.Sprintf("a manifest must be a map with apiVersion and kind, got a %s", tree.Kind())}}
	}
	o := Object{Tree: tree, Position: tree.Here()}
	var diagnostics []Diagnostic
	for _, f := range []struct {
		path     string
		to       *string
		required bool
	}{
		{"kind", &o.Kind, true},
		{"apiVersion", &o.APIVersion, true},
		{"metadata.name", &o.Name, false},
		{"metadata.generateName", &o.GenerateName, false},
		{"metadata.namespace", &o.Namespace, false},
	} {
		value := tree.Lookup(f.path)
		switch {
		case value.Kind() == KindString:
			*f.to = value.text
		case value.Kind() != KindNull:
			diagnostics = append(diagnostics, mismatch(value, f.path, "string"))
		case f.required:
			diagnostics = append(diagnostics, Diagnostic{Position: tree.Here(), Severity: SeverityError,
				Path: f.path, Message: f.path + " is required"})
		}
	}
	if o.Kind != "List" || tree.Get("items").Kind() != KindList {
		return []Object{o}, diagnostics
	}
	var objects []Object
	for _, item := range tree.Get("items").Items() {
		found, diags := envelope(item)
		objects = append(objects, found...)
		diagnostics = append(diagnostics, diags...)
	}
	return objects, diagnostics
}

// Load decodes files and folders of a file system; in a folder every file that ends in .yaml, .yml or .json, in
// the order of their names. The error is one of reading, never of a manifest's content.
func Load(fsys fs.FS, paths ...string) ([]Object, []Diagnostic, error) {
	var objects []Object
	var diagnostics []Diagnostic
	limit := Limits{}.withDefaults().Bytes
	for _, start := range paths {
		files, err := manifestFiles(fsys, start)
		if err != nil {
			return nil, nil, fmt.Errorf("read manifests of %s: %w", start, err)
		}
		for _, file := range files {
			if info, err := fs.Stat(fsys, file); err == nil && info.Size() > int64(limit) {
				diagnostics = append(diagnostics, tooLarge(file, info.Size(), limit))
				continue
			}
			data, err := fs.ReadFile(fsys, file)
			if err != nil {
				return nil, nil, fmt.Errorf("read manifests of %s: %w", start, err)
			}
			found, diags := Decode(file, data)
			objects = append(objects, found...)
			diagnostics = append(diagnostics, diags...)
		}
	}
	return objects, diagnostics, nil
}

func manifestFiles(fsys fs.FS, start string) ([]string, error) {
	info, err := fs.Stat(fsys, start)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{start}, nil
	}
	var files []string
	err = fs.WalkDir(fsys, start, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != start && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if entry.Type().IsRegular() && slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)) {
			files = append(files, name)
		}
		return nil
	})
	return files, err
}

// Failed reports whether there is an error among the diagnostics.
func Failed(diagnostics []Diagnostic) bool {
	return slices.ContainsFunc(diagnostics, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// FirstError is the first error among the diagnostics, or nil.
func FirstError(diagnostics []Diagnostic) error {
	for _, d := range diagnostics {
		if d.Severity == SeverityError {
			return d
		}
	}
	return nil
}
