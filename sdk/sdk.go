// Package sdk carries the modules by which pipelines are written as programs: one each for TypeScript, Python and Go, with the same
// words and, for the same pipeline, the same manifest. They import nothing.
package sdk

import (
	"embed"
	"io/fs"
)

//go:embed typescript/tiphys.ts
var typescript string

//go:embed typescript/tiphys.d.ts
var declarations string

//go:embed python/tiphys.py
var python string

//go:embed go/*.go
var golang embed.FS

// TypeScript is the source of the module "tiphys".
func TypeScript() string { return typescript }

// Declarations is the declaration file of the module "tiphys", for editors.
func Declarations() string { return declarations }

// Python is the module tiphys, one file of the standard library only.
func Python() string { return python }

// Go has the files of the package [GoPackage], tests too, in the folder go.
func Go() fs.FS { return golang }

// GoModule and GoPackage are the paths that a Go program imports.
const (
	GoModule  = "github.com/tiphys/tiphys"
	GoPackage = GoModule + "/sdk/go"
)
