//go:build !linux

package archive

import (
	"errors"
	"os"

	"github.com/tiphys/tiphys/artifact"
)

const nonBlocking = 0

// openBeneath opens name beneath root. Absolute links are refused here, where Linux can follow them within root.
func openBeneath(as artifact.Opener, root, name string) (*os.File, error) {
	if as != nil {
		return nil, errors.ErrUnsupported
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if name == "" {
		name = "."
	}
	return r.Open(name)
}

func rootOf(f *os.File) (*os.Root, error) { return os.OpenRoot(f.Name()) }

func openWithin(artifact.Opener, *os.File, string, bool) (*os.File, error) {
	return nil, errors.ErrUnsupported
}
