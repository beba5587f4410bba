//go:build !linux

package image

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/tiphys/tiphys/artifact/archive"
)

func unpackLayer(context.Context, io.Reader, string, archive.Limits) error {
	return errors.New("images are unpacked on Linux only; use --executor docker here")
}

func syncFiles(string) error { return nil }

func tryLock(*os.File) (bool, error) { return true, nil }
