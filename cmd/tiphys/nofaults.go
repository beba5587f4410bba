//go:build !faults

package main

// fault is nothing: only test builds, with the tag faults, have it.
func fault() func(point string) { return nil }
