//go:build faults

package main

import (
	"fmt"
	"os"

	"github.com/tiphys/tiphys/test/faults"
)

// fault kills this process at the points that the environment names: this is a test build.
func fault() func(point string) {
	f, err := faults.FromEnviron(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return f
}
