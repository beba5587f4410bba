package pack

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// checkStatic refuses a binary that needs a dynamic loader, which an image with nothing else does not have: it would
// fail to start with a message that says "no such file", and nobody would know which.
func checkStatic(name string) error {
	f, err := os.Open(name) //nolint:gosec // the user names it
	if err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	defer func() { _ = f.Close() }()
	if !wantsLoader(f) {
		return nil
	}
	return fmt.Errorf("pack image: %s is not a static binary, so it cannot run in an image with nothing else; "+
		"build it statically (Go: CGO_ENABLED=0), or pack a folder with all that it needs", name)
}

// wantsLoader reports whether a file is an ELF binary that names an interpreter. The offsets are those of the System V
// ABI, chapter 4; debug/elf would bring half a megabyte of debug formats into the steps' client.
func wantsLoader(r io.ReaderAt) bool {
	var head [64]byte
	if n, _ := r.ReadAt(head[:], 0); n < 52 || string(head[:4]) != "\x7fELF" {
		return false // a script or data
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[5] == 2 {
		order = binary.BigEndian
	}
	var at int64
	var size, count int64
	if head[4] == 2 { // 64 bits
		at = int64(order.Uint64(head[32:])) //nolint:gosec // a wild offset reads nothing
		size, count = int64(order.Uint16(head[54:])), int64(order.Uint16(head[56:]))
	} else {
		at = int64(order.Uint32(head[28:]))
		size, count = int64(order.Uint16(head[42:])), int64(order.Uint16(head[44:]))
	}
	const interpreter = 3
	for i := range count {
		var kind [4]byte
		if _, err := r.ReadAt(kind[:], at+i*size); err != nil {
			return false
		}
		if order.Uint32(kind[:]) == interpreter {
			return true
		}
	}
	return false
}
