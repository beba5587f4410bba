//go:build !linux

package archive

import "os"

const nonBlocking = 0

// openBeneath opens name beneath root. Absolute links are refused here, where Linux can follow them within root.
func openBeneath(root, name string) (*os.File, error) {
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
