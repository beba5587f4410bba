//go:build !noui

package web

import (
	"embed"
	"io/fs"
)

// dist is what `npm run build` made. A fresh clone holds only an empty file there, so that the program compiles
// without Node; [Handler] then says how to build the screens.
//
//go:embed all:dist
var dist embed.FS

func files() (fs.FS, error) { return fs.Sub(dist, "dist") }
