package sqlite_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// A copy that is made while the ledger is open and written is the ledger as of one commit; so is the copy of one whose process
// was killed, of which the log is left. Neither is changed by it.
func TestSnapshotOfAnOpenLedger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	l := open(t, sqlite.Options{Path: path})
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := note(l, "more"); err != nil {
				ended <- err
				return
			}
		}
	}()
	for n := range 3 {
		before, err := l.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, "copies", string(rune('a'+n)), "ledger.db")
		if err := os.MkdirAll(filepath.Dir(copied), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := sqlite.Snapshot(t.Context(), path, copied); err != nil {
			t.Fatal(err)
		}
		if head := wholeCopy(t, copied); head < before.Seq {
			t.Errorf("the copy ends with %d, and %d was durable before", head, before.Seq)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	head, err := l.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// As after a kill and a reboot: the file and its log, and nothing that was in memory.
	dead := filepath.Join(dir, "dead")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		copyFile(t, path+suffix, filepath.Join(dead, "ledger.db"+suffix))
	}
	log, err := os.Stat(filepath.Join(dead, "ledger.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Snapshot(t.Context(), filepath.Join(dead, "ledger.db"), filepath.Join(dir, "copy")); err != nil {
		t.Fatal(err)
	}
	if got := wholeCopy(t, filepath.Join(dir, "copy")); got != head.Seq {
		t.Errorf("the copy ends with %d, and the ledger with %d", got, head.Seq)
	}
	if now, err := os.Stat(filepath.Join(dead, "ledger.db-wal")); err != nil || now.Size() != log.Size() {
		t.Errorf("the log of the killed process was %d bytes and is %v, %v", log.Size(), now, err)
	}
	if err := sqlite.Snapshot(t.Context(), filepath.Join(dir, "none"), filepath.Join(dir, "x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a ledger that is not there: %v", err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}

// wholeCopy verifies a copy and gives its last sequence.
func wholeCopy(t *testing.T, path string) int64 {
	t.Helper()
	l := open(t, sqlite.Options{Path: path})
	defer l.Close()
	rep, err := l.Verify(t.Context(), ledger.Check{Storage: true})
	if err != nil || !rep.Whole() {
		t.Errorf("%s is not whole: %+v, %v", path, rep, err)
	}
	return rep.Head.Seq
}
