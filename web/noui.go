//go:build noui

package web

import (
	"embed"
	"io/fs"
)

// files is empty: the program was built to have no screens.
func files() (fs.FS, error) { return embed.FS{}, nil }
