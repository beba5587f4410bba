package protocol_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tiphys/tiphys/executor/protocol"
)

// Many write the same file at the same time, as a request and its repeat do: each write succeeds, and a reader sees one of them whole.
func TestWriteFileIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "value")
	var all sync.WaitGroup
	for i := range 8 {
		text := bytes.Repeat([]byte{'a' + byte(i)}, 64<<10)
		all.Go(func() {
			for range 20 {
				if err := protocol.WriteFile(path, text, false); err != nil {
					t.Error(err)
					return
				}
				got, err := os.ReadFile(path)
				if err != nil || len(got) != len(text) || len(bytes.Trim(got, string(got[:1]))) > 0 {
					t.Errorf("a reader saw %d bytes, not all of one write: %v", len(got), err)
					return
				}
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}
