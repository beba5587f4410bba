// Package podlog keeps a container's output: chunk files of line records with a sparse index from line numbers
// to places. The shim writes, the server reads, also while it is written. It imports the standard library only.
//
// A log named "main" in a folder is main.0000.log, main.0001.log… and main.index. A chunk starts with a header
// of 16 bytes: "tiphlog1" and the time of its first record in nanoseconds since 1970, big endian. A record is
// one byte of flags, the microseconds since the header's time (unsigned varint), the length (unsigned varint)
// and that many bytes, without the newline. An index entry is 16 bytes, big endian: the number of the line that
// starts there (8), the chunk (4), the offset (4).
package podlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

const (
	magic      = "tiphlog1"
	headerSize = 16
	entrySize  = 16

	flagStderr    = 1 // the line came from standard error
	flagContinues = 2 // the line goes on in the next record of its stream
	flagNotice    = 4 // the line is the shim's own, not the container's

	// ChunkSize is where a new chunk begins, in bytes.
	ChunkSize = 16 << 20
	// MaxLine is where a longer line is cut into several records, in bytes.
	MaxLine = 64 << 10

	indexEvery = 512 // lines
)

var errCorrupt = errors.New("log is damaged")

// Name gives the file-name stem for a container; anything that is not a plain name is escaped.
func Name(container string) string {
	var b strings.Builder
	for _, c := range []byte(container) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	if s := b.String(); len(s) <= 128 {
		return s
	}
	return b.String()[:128]
}

func chunkPath(dir, name string, n int) string {
	return filepath.Join(dir, fmt.Sprintf("%s.%04d.log", Name(name), n))
}

func indexPath(dir, name string) string { return filepath.Join(dir, Name(name)+".index") }
