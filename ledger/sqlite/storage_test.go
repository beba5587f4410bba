package sqlite_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/ledger/sqlite"
)

// here is what the tests' transactions are about.
var here = ledger.On("object/here")

func note(l *sqlite.Ledger, body string) error {
	return l.Write(context.Background(), here, func(tx ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Actor: "a", Kind: "thing.noted", Subject: "object/1", Body: body})
		return err
	})
}

func TestOpenIsExclusive(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "data", "ledger.db")
	l := open(t, sqlite.Options{Path: path})
	_, err := sqlite.Open(context.Background(), sqlite.Options{Path: path})
	var locked *sqlite.LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Fatalf("second open: %v, want an error that names process %d", err, os.Getpid())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, sqlite.Options{Path: path})
	for _, name := range []string{path, path + ".lock"} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want mode 600", name, info.Mode(), err)
		}
	}
}

func TestThrowAwayLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	left := filepath.Join(os.TempDir(), "tiphys-ledger-left") // by a process that was killed
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "ledger.db.lock"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, sqlite.Options{})
	if err := note(l, "x"); err != nil {
		t.Fatal(err)
	}
	other := open(t, sqlite.Options{})
	if err := errors.Join(note(l, "y"), note(other, "x"), l.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	if found, err := os.ReadDir(os.TempDir()); err != nil || len(found) > 0 {
		t.Fatalf("left behind: %v %v", found, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	if err := open(t, sqlite.Options{Path: newer}).Close(); err != nil {
		t.Fatal(err)
	}
	tamper(t, newer, "PRAGMA user_version = 999")
	for path, want := range map[string]string{garbage: "not a ledger", newer: "newer program", "/proc/none/ledger.db": "open ledger"} {
		l, err := sqlite.Open(context.Background(), sqlite.Options{Path: path})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("open %s: %v, want an error with %q", path, err, want)
		}
		if err == nil {
			_ = l.Close()
		}
	}
	if _, err := sqlite.Open(context.Background(), sqlite.Options{Synchronous: "SOMETIMES"}); err == nil {
		t.Error("a synchronous that is none was taken")
	}
}

// TestFullDisk fills a small file system: the writers are told, reads go on, and when there is room again so do writes.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("SKIPPED: a small file system cannot be mounted here (%v): the full disk is not tested", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	l := open(t, sqlite.Options{Path: filepath.Join(dir, "ledger.db")})
	if err := note(l, "first"); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	var refused, taken atomic.Int64
	concurrently(8, func() {
		for range 20 {
			err := note(l, strings.Repeat("x", 20_000))
			switch {
			case err == nil:
				taken.Add(1)
			case errors.Is(err, ledger.ErrNoSpace) && strings.Contains(err.Error(), dir):
				refused.Add(1)
			default:
				t.Errorf("error on a full disk: %v", err)
			}
		}
	})
	if refused.Load() == 0 {
		t.Fatal("the disk never was full")
	}
	e, err := l.Entry(context.Background(), 1)
	if err != nil || string(e.Body) != `"first"` {
		t.Fatalf("read on a full disk: %s %v", e.Body, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := note(l, "after"); err != nil {
		t.Fatalf("write after there is room again: %v", err)
	}
	report, err := l.Verify(context.Background(), ledger.Check{})
	if err != nil || len(report.Faults) > 0 || report.Entries != taken.Load()+2 {
		t.Fatalf("verify: %v %+v, want %d entries", err, report, taken.Load()+2)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// fill writes until nothing fits.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
}

// TestEraseLeavesNoBytes looks for an erased secret in every file of the ledger.
func TestEraseLeavesNoBytes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, sqlite.Options{Path: path, Projections: []ledger.Projection{bodies{}}})
	short, long := "short-s3cret", strings.Repeat("long-s3cret", 1000)
	for i := range 30 {
		body := fmt.Sprint("harmless ", i)
		switch i {
		case 10:
			body = short
		case 20:
			body = long
		case 25:
			body = long + long // in contents
		}
		if err := note(l, body); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	if !inFiles(t, path, "s3cret") {
		t.Fatal("the secret is not in the files to begin with: the test shows nothing")
	}
	for _, seq := range []int64{11, 21, 26} {
		if _, err := l.Erase(ctx, seq, "user:ada", "leaked"); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Rebuild(ctx); err != nil {
		t.Fatal(err)
	}
	if inFiles(t, path, "s3cret") {
		t.Fatal("the erased secret is still in the files")
	}
}

// bodies copies every body into a row.
type bodies struct{}

func (bodies) Tables() []string { return []string{"body"} }

func (bodies) Version() int { return 1 }

func (bodies) Wants(string) bool { return true }

func (bodies) Apply(e ledger.Entry, rows ledger.Rows) error {
	return rows.Put(ledger.Row{Table: "body", Key: fmt.Sprintf("%x", sha256.Sum256(e.Body)), Time: e.Time, Body: e.Body})
}

func inFiles(t *testing.T, path, text string) bool {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(text)) {
			return true
		}
	}
	return false
}

// TestLogIsBounded writes more than the log may hold.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, sqlite.Options{Path: path, Synchronous: sqlite.Off})
	for i := range 60 {
		if err := note(l, fmt.Sprint(i, strings.Repeat("x", 1<<20))); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path + "-wal")
	if err != nil || info.Size() > 40<<20 {
		t.Fatalf("the log has %d MiB after 60 MiB of writes (%v)", info.Size()>>20, err)
	}
}

// TestDriverVersions holds modernc.org/libc to the version that modernc.org/sqlite was built with: another one may
// corrupt memory.
func TestDriverVersions(t *testing.T) {
	t.Parallel()
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Skip("SKIPPED: which SQLite this is was not looked at: the test binary has no build information")
	}
	want := map[string]string{"modernc.org/sqlite": "v1.61.1", "modernc.org/libc": "v1.79.0"}
	for _, m := range info.Deps {
		if v, ok := want[m.Path]; ok && m.Version != v {
			t.Errorf("%s is %s, tested with %s: take the libc that go.mod of the new sqlite names, and change this test", m.Path, m.Version, v)
		}
	}
}

// TestSchema keeps what the suite and other programs rely on: the names of the tables.
func TestSchema(t *testing.T) {
	t.Parallel()
	l := open(t, sqlite.Options{})
	db, err := sql.Open("sqlite", l.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var names string
	err = db.QueryRow("SELECT group_concat(name) FROM (SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name)").Scan(&names)
	if want := "contents,counters,drops,entries,gaps,outbox,owners,partitions,projected,projected_labels,rebuilds,snapshots,tables,unique_keys"; err != nil || names != want {
		t.Errorf("tables are %s (%v), want %s", names, err, want)
	}
}

// TestPackedBodies: a body that says the same again and again takes less room, is read as it was written, and where its bytes were
// changed nobody takes something else for it.
func TestPackedBodies(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, sqlite.Options{Path: path})
	ctx := context.Background()
	chance := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 6000)
	for i := range noise {
		noise[i] = byte('a' + chance.IntN(26))
	}
	bodies := []string{"short", strings.Repeat("sensor/main filtered ", 300), string(noise), strings.Repeat("large ", 10_000), strings.Repeat("x", 1<<10)}
	for _, body := range bodies {
		if err := note(l, body); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range bodies {
		e, err := l.Entry(ctx, int64(i+1))
		var got string
		if err = errors.Join(err, json.Unmarshal(e.Body, &got)); err != nil || got != want {
			t.Errorf("entry %d is read as %.20q… (%v)", i+1, got, err)
		}
	}
	var places, size int
	query(t, path, "SELECT count(*) FROM entries WHERE place = 4", &places)
	query(t, path, "SELECT length(body) FROM entries WHERE seq = 2", &size)
	if places != 2 || size > 1000 {
		t.Errorf("%d bodies are packed, want 2; the second has %d bytes of %d", places, size, len(bodies[1]))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, path, "UPDATE entries SET body = substr(body, 1, length(body) - 1) WHERE seq = 2")
	l = open(t, sqlite.Options{Path: path})
	if _, err := l.Entry(ctx, 2); err == nil || !strings.Contains(err.Error(), "entry 2: the packed body is damaged") {
		t.Errorf("a damaged body is read: %v", err)
	}
	r, err := l.Verify(ctx, ledger.Check{})
	if err != nil || len(r.Faults) != 1 || r.Faults[0].Seq != 2 {
		t.Errorf("verification finds %v %v, want a fault in entry 2", r.Faults, err)
	}
}

func database(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func query(t *testing.T, path, text string, into any) {
	t.Helper()
	if err := database(t, path).QueryRowContext(t.Context(), text).Scan(into); err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, path, text string) {
	t.Helper()
	if _, err := database(t, path).ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}
